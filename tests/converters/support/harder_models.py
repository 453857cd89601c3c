"""Models that show what a recipe is for, where skl2onnx is as good on the plain ones; by estimator how to fit them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tests.converters.matrix.case import numbers, with_missing
from tests.converters.matrix.estimators import make


def _whole_numbers() -> Any:
    """A table of whole numbers that float32 does not hold, and of a fraction."""
    import pandas as pd

    random = np.random.default_rng(0)
    columns = {"id": random.integers(1 << 24, 1 << 30, 200), "count": random.integers(0, 9, 200)}
    return pd.DataFrame({**columns, "part": random.random(200)})


def _on_whole_numbers(dotted: str, **parameters: Any) -> Any:
    frame = _whole_numbers()
    return make(dotted, **parameters).fit(frame, frame["part"] + 0.5)


def _far(dotted: str, **parameters: Any) -> Any:
    """Rows whose values are large beside their spread, as timestamps are."""
    data = numbers()
    return make(dotted, **parameters).fit(data.train[:60] + 1e6, data.number[:60])


def _classifier(model: Any) -> Any:
    return model.fit(numbers().train, numbers().classes)


def _regressor(model: Any) -> Any:
    return model.fit(numbers().train, numbers().number)


def _pipeline(*steps: Any) -> Any:
    from sklearn.pipeline import make_pipeline

    return make_pipeline(*steps)


def _union() -> Any:
    parts = [("p", "passthrough"), ("d", "drop"), ("s", make("preprocessing.StandardScaler"))]
    return make("pipeline.FeatureUnion", transformer_list=parts, transformer_weights={"s": 3.0}).fit(numbers().train)


def _columns() -> Any:
    """A part whose first output in skl2onnx is its prediction, not its transform."""
    parts = [("distances", make("cluster.KMeans", n_clusters=3, n_init=1), [0, 1])]
    return make("compose.ColumnTransformer", transformers=parts).fit(numbers().train)


def _missing_category() -> Any:
    encoder = make("preprocessing.OrdinalEncoder", handle_unknown="use_encoded_value", unknown_value=-1)
    return encoder.fit(np.array([[1.0], [2.0], [np.nan]] * 10))


def _behind_counts(dotted: str) -> Any:
    """A classifier behind a step whose counts are float32 in skl2onnx."""
    texts = ["a bb cc", "bb dd", "cc cc dd", "ee bb"] * 5
    return _pipeline(make("feature_extraction.text.CountVectorizer"), make(dotted)).fit(texts, [0, 1, 0, 1] * 5)


def _words(dotted: str, **parameters: Any) -> Any:
    import pandas as pd

    random = np.random.default_rng(0)
    words = random.choice(["a", "b", "é", "dd"], 100, p=[0.5, 0.3, 0.15, 0.05]).astype(object)
    words[::7] = np.nan
    return make(dotted, **parameters).fit(pd.DataFrame({"word": words, "other": random.choice(["x", "y"], 100)}))


def _iterative() -> Any:
    from sklearn.experimental import enable_iterative_imputer  # noqa: F401 - makes it there

    return make("impute.IterativeImputer").fit(with_missing().train)


def _frozen() -> Any:
    return _pipeline("passthrough", make("frozen.FrozenEstimator", estimator=_classifier(_logistic())))


def _logistic() -> Any:
    return make("linear_model.LogisticRegression")


def _search() -> Any:
    return make("model_selection.GridSearchCV", estimator=_logistic(), param_grid={"C": [0.1, 1.0]}, cv=2)


def _halving() -> Any:
    """A search by successive halving behind a step, which skl2onnx does not know."""
    from sklearn.experimental import enable_halving_search_cv  # noqa: F401  makes the class known

    search = make(
        "model_selection.HalvingGridSearchCV", estimator=_logistic(), param_grid={"C": [0.1, 1.0]}, random_state=0
    )
    return _classifier(_pipeline(make("preprocessing.StandardScaler"), search))


def _matern() -> Any:
    return make("gaussian_process.kernels.Matern", nu=2.5) + make("gaussian_process.kernels.WhiteKernel")


def _behind(scaler: str, **parameters: Any) -> Any:
    """A tree behind a scaler: what moves by one unit in the last place falls on the other side of a threshold."""
    return _regressor(_pipeline(make(scaler, **parameters), make("tree.DecisionTreeRegressor", random_state=0)))


def _ridge() -> Any:
    return make("linear_model.Ridge")


def _steps() -> Any:
    """A part with a step that passes its input through."""
    return _pipeline(make("preprocessing.StandardScaler"), "passthrough", _ridge())


HARDER: dict[str, list[Callable[[], Any]]] = {
    "HalvingGridSearchCV": [_halving],
    "BaggingClassifier": [
        lambda: _classifier(
            make("ensemble.BaggingClassifier", estimator=make("svm.LinearSVC"), bootstrap_features=True)
        )
    ],
    "BaggingRegressor": [lambda: _regressor(make("ensemble.BaggingRegressor", estimator=_ridge(), max_features=0.5))],
    "AdaBoostRegressor": [lambda: _regressor(make("ensemble.AdaBoostRegressor", estimator=_steps(), n_estimators=5))],
    "Pipeline": [lambda: _classifier(_pipeline(make("cluster.KMeans", n_clusters=3, n_init=1), _logistic()))],
    "FeatureUnion": [_union],
    "ColumnTransformer": [_columns],
    "OneHotEncoder": [
        partial(_words, "preprocessing.OneHotEncoder", min_frequency=20, handle_unknown="infrequent_if_exist")
    ],
    "OrdinalEncoder": [_missing_category],
    "IterativeImputer": [_iterative],
    "GaussianProcessRegressor": [
        lambda: _regressor(make("gaussian_process.GaussianProcessRegressor", kernel=_matern(), normalize_y=True)),
        partial(_far, "gaussian_process.GaussianProcessRegressor"),
    ],
    "KernelPCA": [partial(_far, "decomposition.KernelPCA", kernel="rbf", n_components=2)],
    "RANSACRegressor": [
        lambda: _regressor(make("linear_model.RANSACRegressor", estimator=_steps(), min_samples=30, random_state=0))
    ],
    "SGDClassifier": [
        lambda: _classifier(make("linear_model.SGDClassifier", loss="modified_huber")),
        lambda: _classifier(make("linear_model.SGDClassifier", loss="log_loss")),
    ],
    "MultiOutputRegressor": [
        lambda: make("multioutput.MultiOutputRegressor", estimator=_steps()).fit(
            numbers().train, numbers().several_numbers
        )
    ],
    "MultinomialNB": [partial(_behind_counts, "naive_bayes.MultinomialNB")],
    "ComplementNB": [partial(_behind_counts, "naive_bayes.ComplementNB")],
    "KNeighborsRegressor": [
        partial(_on_whole_numbers, "neighbors.KNeighborsRegressor", weights="distance"),
        partial(_far, "neighbors.KNeighborsRegressor"),
    ],
    "Normalizer": [partial(_on_whole_numbers, "preprocessing.Normalizer", norm="max")],
    "QuantileTransformer": [
        lambda: make("preprocessing.QuantileTransformer", n_quantiles=50, output_distribution="normal").fit(
            numbers().train
        )
    ],
    "StandardScaler": [partial(_behind, "preprocessing.StandardScaler")],
    "MinMaxScaler": [partial(_behind, "preprocessing.MinMaxScaler")],
    "MaxAbsScaler": [partial(_behind, "preprocessing.MaxAbsScaler")],
    "RobustScaler": [partial(_behind, "preprocessing.RobustScaler")],
    "TfidfTransformer": [partial(_on_whole_numbers, "feature_extraction.text.TfidfTransformer", sublinear_tf=True)],
    "GridSearchCV": [lambda: _classifier(_pipeline("passthrough", _search()))],
    "FrozenEstimator": [lambda: _classifier(_frozen())],
}
