"""Train a pipeline on made-up customers: writes churn.joblib and rows.csv, some rows without the answer."""

import joblib
import numpy as np
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

random = np.random.default_rng(7)
count = 2000
rows = pd.DataFrame(
    {
        "months": random.integers(1, 72, count).astype(float),
        "monthly_fee": random.uniform(10, 120, count).round(2),
        "contract": random.choice(["monthly", "yearly", "two years"], count),
    }
)
risk = 0.03 * rows.monthly_fee - 0.08 * rows.months + 2 * (rows.contract == "monthly")
left = np.where(risk + random.logistic(size=count) > 0, "leaves", "stays")
rows.loc[::50, "monthly_fee"] = np.nan  # customers whose fee is unknown

numbers = make_pipeline(SimpleImputer(strategy="median"), StandardScaler())
columns = make_column_transformer((numbers, ["months", "monthly_fee"]), (OneHotEncoder(), ["contract"]))
model = make_pipeline(columns, LogisticRegression()).fit(rows, left)

joblib.dump(model, "churn.joblib")
rows.head(200).to_csv("rows.csv", index=False)
print(f"accuracy {model.score(rows, left):.2f}")
