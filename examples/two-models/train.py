"""Train two models on the iris data set that scikit-learn ships: writes species.joblib and width.joblib."""

import joblib
from sklearn.datasets import load_iris
from sklearn.linear_model import LinearRegression
from sklearn.tree import DecisionTreeClassifier

data, target = load_iris(return_X_y=True)
joblib.dump(DecisionTreeClassifier(max_depth=3, random_state=0).fit(data, target), "species.joblib")
joblib.dump(LinearRegression().fit(data[:, :3], data[:, 3]), "width.joblib")
