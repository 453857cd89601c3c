"""imblearn: a sampler changes what is trained on and nothing that is predicted, wherever it is in a model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from imblearn import FunctionSampler
from imblearn.combine import SMOTETomek
from imblearn.ensemble import (
    BalancedBaggingClassifier,
    BalancedRandomForestClassifier,
    EasyEnsembleClassifier,
    RUSBoostClassifier,
)
from imblearn.over_sampling import SMOTE, RandomOverSampler
from imblearn.pipeline import Pipeline, make_pipeline
from imblearn.under_sampling import RandomUnderSampler
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_classification
from sklearn.ensemble import VotingClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.naive_bayes import GaussianNB
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from tests.converters.support.as_served import require_same
from tests.converters.support.booster_models import make, require

NAMES = list("abcdef")
X, Y = make_classification(400, 6, n_informative=4, weights=[0.8], random_state=1)
ROWS = np.random.default_rng(3).normal(size=(200, 6)) * 1.5
FEW = {"n_estimators": 5, "random_state": 0}


def _scaled() -> Any:
    return make_pipeline(StandardScaler(), SMOTE(random_state=0), LogisticRegression())


MODELS: dict[str, Any] = {
    "in the middle": _scaled,
    "first, and two of them": lambda: Pipeline(
        [("u", RandomUnderSampler(random_state=0)), ("o", RandomOverSampler()), ("m", DecisionTreeClassifier())]
    ),
    "combined, before nothing": lambda: make_pipeline(SMOTETomek(random_state=0), "passthrough", GaussianNB()),
    "of a function": lambda: make_pipeline(FunctionSampler(), GaussianNB()),
    "in a search": lambda: GridSearchCV(_scaled(), {"logisticregression__C": [0.1, 1]}, cv=2),
    "in calibrated parts": lambda: CalibratedClassifierCV(_scaled(), cv=2),
    "in votes": lambda: VotingClassifier([("a", _scaled()), ("b", GaussianNB())], voting="soft"),
    "a balanced forest": lambda: BalancedRandomForestClassifier(
        **FEW, sampling_strategy="all", replacement=True, bootstrap=False
    ),
    "balanced bags": lambda: BalancedBaggingClassifier(**FEW),
    "balanced bags of columns": lambda: BalancedBaggingClassifier(GaussianNB(), **FEW, max_features=0.5),
    "boosts of samples": lambda: RUSBoostClassifier(**FEW),
    "an ensemble of boosts": lambda: EasyEnsembleClassifier(n_estimators=3, random_state=0),
}


LONG = ("combined, before nothing", "in a search", "in votes", "balanced bags", "an ensemble of boosts")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.whole if name in LONG else ()) for name in MODELS]
)
def test_samplers_do_nothing_at_prediction(name: str, tmp_path: Path) -> None:
    require_same(MODELS[name]().fit(X, Y), ROWS, tmp_path)


@pytest.mark.whole
@pytest.mark.filterwarnings("ignore")
def test_sampled_ensembles_of_several_named_classes(tmp_path: Path) -> None:
    target = np.array(["no", "some", "more"])[Y + (X[:, 0] > 1.5)]
    for model in (RUSBoostClassifier(**FEW), EasyEnsembleClassifier(n_estimators=3, random_state=0)):
        require_same(model.fit(X, target), ROWS, tmp_path)


def test_sampler_behind_columns_of_a_table(tmp_path: Path) -> None:
    import pandas as pd

    random = np.random.default_rng(0)
    frame = pd.DataFrame(X, columns=NAMES).assign(town=random.choice(["Delft", "Gouda"], len(X)))
    columns = ColumnTransformer(
        [("t", OneHotEncoder(handle_unknown="ignore"), ["town"]), ("s", StandardScaler(), NAMES)]
    )
    model = Pipeline([("c", columns), ("o", SMOTE(random_state=0)), ("m", LogisticRegression())]).fit(frame, Y)
    rows = pd.DataFrame(ROWS, columns=NAMES).assign(town=random.choice(["Delft", "Gouda", "Leiden"], len(ROWS)))
    require_same(model, rows, tmp_path)


def test_sampler_behind_texts_before_a_booster_that_takes_sparse_rows(tmp_path: Path) -> None:
    """A sampler keeps sparse rows sparse, in which XGBoost takes a zero for a missing value."""
    require("xgboost")
    texts = ["red cat", "blue dog", "green cat", "red dog dog"] * 20
    model = make_pipeline(TfidfVectorizer(), RandomOverSampler(random_state=0), make("xgboost", "Classifier"))
    model.fit(texts, [0, 1, 1, 1] * 20)
    require_same(model, ["red", "dog", "a blue cat", ""], tmp_path)
