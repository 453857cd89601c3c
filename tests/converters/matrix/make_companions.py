"""``python make_companions.py OUT_DIR``: imbalanced-learn, category_encoders and feature_engine, for the matrix.

Trained and asked as their users do it, on data frames and arrays that the training did not see. Runs in the
environment of the companions.
"""

from __future__ import annotations

import itertools
import sys
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[3]))

from tests.converters.matrix import used

ENCODERS = (
    "BaseN", "Binary", "CatBoost", "Count", "Helmert", "JamesStein", "LeaveOneOut", "MEstimate", "OneHot", "Ordinal",
    "Quantile", "Sum", "Target", "WOE",
)  # fmt: skip
FEW = {"n_estimators": 5, "random_state": 0}


def main(arguments: list[str]) -> int:
    """Write the models."""
    warnings.simplefilter("ignore")
    made = itertools.chain.from_iterable(make() for make in (sampled, sampled_ensembles, encoded, stepped))
    used.write(Path(arguments[0]), made)
    return 0


def frames() -> tuple[Any, Any, Any]:
    """A data frame to train on, its classes, and one to ask, with towns that were not there and missing ones."""
    import pandas as pd

    random = np.random.default_rng(used.SEED)

    def frame(towns: tuple[str | None, ...]) -> Any:
        return pd.DataFrame(
            {
                "town": random.choice(np.array(towns, dtype=object), used.ROWS),
                "kind": random.choice(["plain", "fancy"], used.ROWS),
                "age": random.lognormal(3, 0.5, used.ROWS),
                "pay": random.lognormal(7, 1, used.ROWS),
                "hour": random.integers(0, 24, used.ROWS).astype(float),
            }
        )

    table = frame(used.TOWNS)
    classes = ((table["age"] > 20) ^ (table["town"] == "Gouda")).astype(int)
    return table, classes, frame((*used.TOWNS, "Utrecht", None))


def sampled() -> Iterator[used.Used]:
    """Samplers of imbalanced-learn in pipelines: they change what is trained on."""
    from imblearn import combine, over_sampling, under_sampling
    from imblearn.pipeline import Pipeline, make_pipeline
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.ensemble import VotingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import GridSearchCV
    from sklearn.naive_bayes import GaussianNB
    from sklearn.preprocessing import StandardScaler
    from sklearn.tree import DecisionTreeClassifier

    x, _, classes = used.matrix()
    asked = np.random.default_rng(1).normal(size=x.shape)

    def behind_scaled(sampler: Any) -> Any:
        return make_pipeline(StandardScaler(), sampler, LogisticRegression())

    samplers = {
        "SMOTE": over_sampling.SMOTE(random_state=0),
        "ADASYN": over_sampling.ADASYN(random_state=0, sampling_strategy="minority"),
        "BorderlineSMOTE": over_sampling.BorderlineSMOTE(random_state=0),
        "RandomOverSampler": over_sampling.RandomOverSampler(random_state=0),
        "RandomUnderSampler": under_sampling.RandomUnderSampler(random_state=0),
        "NearMiss": under_sampling.NearMiss(),
        "TomekLinks": under_sampling.TomekLinks(),
        "SMOTEENN": combine.SMOTEENN(random_state=0),
        "SMOTETomek": combine.SMOTETomek(random_state=0),
    }
    for name, sampler in samplers.items():
        yield used.of(f"imblearn {name} in a pipeline", behind_scaled(sampler).fit(x, classes), asked, asked)
    smote = samplers["SMOTE"]
    ways = {
        "first, and two of them": Pipeline(
            [("under", samplers["RandomUnderSampler"]), ("over", smote), ("model", DecisionTreeClassifier())]
        ),
        "in a search": GridSearchCV(behind_scaled(smote), {"logisticregression__C": [0.1, 1]}, cv=2),
        "calibrated": CalibratedClassifierCV(behind_scaled(smote), cv=2),
        "in a vote": VotingClassifier([("a", behind_scaled(smote)), ("b", GaussianNB())], voting="soft"),
    }
    for way, model in ways.items():
        yield used.of(f"imblearn SMOTE, {way}", model.fit(x, classes), asked, asked)


def sampled_ensembles() -> Iterator[used.Used]:
    """The ensembles of imbalanced-learn, of two classes and of three."""
    from imblearn import ensemble

    x, _, classes = used.matrix()
    asked = np.random.default_rng(2).normal(size=x.shape)
    makers: dict[str, Callable[[], Any]] = {
        "BalancedBaggingClassifier": lambda: ensemble.BalancedBaggingClassifier(**FEW),
        "BalancedRandomForestClassifier": lambda: ensemble.BalancedRandomForestClassifier(
            **FEW, sampling_strategy="all", replacement=True, bootstrap=False
        ),
        "EasyEnsembleClassifier": lambda: ensemble.EasyEnsembleClassifier(n_estimators=3, random_state=0),
        "RUSBoostClassifier": lambda: ensemble.RUSBoostClassifier(**FEW),
    }
    for name, maker in makers.items():
        for count, target in (("two classes", (classes > 0).astype(int)), ("three classes", classes)):
            yield used.of(f"imblearn {name}, {count}", maker().fit(x, target), asked, asked)


def encoded() -> Iterator[used.Used]:
    """The encoders of category_encoders before a model, and in the columns of a table."""
    import category_encoders
    from sklearn.compose import ColumnTransformer
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table, classes, asked = frames()
    for name in ENCODERS:
        encoder = getattr(category_encoders, f"{name}Encoder")
        model = make_pipeline(encoder(), StandardScaler(), LogisticRegression()).fit(table, classes)
        yield used.of(f"category_encoders {name}Encoder", model, asked, asked)
        columns = ColumnTransformer([("code", encoder(), ["town", "kind"])], remainder="passthrough")
        model = make_pipeline(columns, HistGradientBoostingClassifier(max_iter=5)).fit(table, classes)
        yield used.of(f"category_encoders {name}Encoder in columns", model, asked, asked)


def stepped() -> Iterator[used.Used]:
    """The transformers of feature_engine before a model."""
    from feature_engine import (
        creation,
        discretisation,
        encoding,
        imputation,
        outliers,
        scaling,
        selection,
        transformation,
    )
    from feature_engine.wrappers import SklearnTransformerWrapper
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    table, classes, asked = frames()
    holed = table.assign(age=table["age"].mask(table.index % 7 == 0), town=table["town"].mask(table.index % 9 == 3))
    known = asked.assign(town=asked["town"].where(asked["town"].isin(used.TOWNS), "Delft"))
    age, pay, town = ["age"], ["pay"], ["town"]
    # Those of numbers, before a model that gets the numbers alone.
    numeric: dict[str, Any] = {
        "LogTransformer": transformation.LogTransformer(variables=pay),
        "LogCpTransformer": transformation.LogCpTransformer(variables=age),
        "PowerTransformer": transformation.PowerTransformer(variables=age, exp=0.3),
        "ReciprocalTransformer": transformation.ReciprocalTransformer(variables=pay),
        "ArcSinhTransformer": transformation.ArcSinhTransformer(variables=age),
        "BoxCoxTransformer": transformation.BoxCoxTransformer(variables=age),
        "YeoJohnsonTransformer": transformation.YeoJohnsonTransformer(variables=pay),
        "EqualWidthDiscretiser": discretisation.EqualWidthDiscretiser(variables=age, bins=4),
        "EqualFrequencyDiscretiser": discretisation.EqualFrequencyDiscretiser(variables=pay, q=5),
        "ArbitraryDiscretiser": discretisation.ArbitraryDiscretiser({"age": [0, 10, 20, 10_000]}),
        "DecisionTreeDiscretiser": discretisation.DecisionTreeDiscretiser(variables=age, regression=False),
        "Winsorizer": outliers.Winsorizer(variables=age, tail="both"),
        "ArbitraryOutlierCapper": outliers.ArbitraryOutlierCapper(max_capping_dict={"pay": 2000}),
        "CyclicalFeatures": creation.CyclicalFeatures(["hour"], drop_original=True),
        "MathFeatures": creation.MathFeatures([*age, *pay], ["sum", "mean", "std", "min", "max", "prod"]),
        "RelativeFeatures": creation.RelativeFeatures(age, pay, ["add", "sub", "mul", "div"]),
        "MeanNormalizationScaler": scaling.MeanNormalizationScaler(variables=age),
        "SklearnTransformerWrapper": SklearnTransformerWrapper(StandardScaler(), variables=[*age, *pay]),
    }
    for name, step in numeric.items():
        numbers = selection.DropFeatures(["town", "kind"])
        model = make_pipeline(step, numbers, StandardScaler(), LogisticRegression()).fit(table, classes)
        yield used.of(f"feature_engine {name}", model, asked, asked)
    ready = imputation.CategoricalImputer()
    coded = encoding.OrdinalEncoder(encoding_method="arbitrary", unseen="encode")
    others: dict[str, tuple[list[Any], Any]] = {
        "MeanMedianImputer": ([imputation.MeanMedianImputer(), ready, coded], asked),
        "ArbitraryNumberImputer": ([imputation.ArbitraryNumberImputer(-1), ready, coded], asked),
        "EndTailImputer": ([imputation.EndTailImputer(), ready, coded], asked),
        "AddMissingIndicator": (
            [imputation.AddMissingIndicator(), imputation.ArbitraryNumberImputer(0), ready, coded], asked,
        ),
        "CategoricalImputer, most frequent": (
            [
                imputation.ArbitraryNumberImputer(0),
                imputation.CategoricalImputer(imputation_method="frequent", variables=town), coded,
            ],
            asked,
        ),
        "RareLabelEncoder, OneHotEncoder": (
            [
                imputation.ArbitraryNumberImputer(0), ready, encoding.RareLabelEncoder(tol=0.05, n_categories=2),
                encoding.OneHotEncoder(),
            ],
            asked,
        ),
        "OneHotEncoder of the most frequent": (
            [imputation.ArbitraryNumberImputer(0), ready, encoding.OneHotEncoder(top_categories=2)], asked,
        ),
        "MeanEncoder": ([imputation.ArbitraryNumberImputer(0), ready, encoding.MeanEncoder(unseen="encode")], asked),
        "CountFrequencyEncoder": (
            [imputation.ArbitraryNumberImputer(0), ready, encoding.CountFrequencyEncoder(unseen="encode")], asked,
        ),
        "OrdinalEncoder, ordered": (
            [imputation.ArbitraryNumberImputer(0), ready, encoding.OrdinalEncoder(unseen="encode")], asked,
        ),
        "DecisionTreeEncoder": (
            [imputation.ArbitraryNumberImputer(0), ready, encoding.DecisionTreeEncoder(regression=False)], known,
        ),
    }  # fmt: skip
    for name, (steps, rows) in others.items():
        model = make_pipeline(*steps, StandardScaler(), LogisticRegression()).fit(holed, classes)
        yield used.of(f"feature_engine {name}", model, rows, rows)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
