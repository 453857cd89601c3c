"""A case for each estimator of scikit-learn that predicts or transforms: how to fit it with nearly its defaults.

The rule of the count: of ``sklearn.utils.all_estimators()`` those whose class has ``predict``, ``transform`` or
``score_samples``, without the four that take no table of rows (``NOT_ROWS``): 184 of 208 in scikit-learn 1.9.1.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tests.converters.matrix.boundary import boundary_rows, only_answered
from tests.converters.matrix.case import (
    Case,
    Data,
    Fitted,
    categories,
    counts,
    numbers,
    positives,
    texts,
    with_missing,
    words_table,
)

NOT_ROWS = {
    "DictVectorizer": "takes dictionaries",
    "FeatureHasher": "takes dictionaries or lists of words",
    "KernelCenterer": "takes a kernel matrix against the training rows",
    "MultiLabelBinarizer": "takes lists of labels, a target and no input",
}
METHODS = ("predict", "transform", "score_samples")
FAMILIES = {
    "classifier": "Classifiers",
    "regressor": "Regressors",
    "cluster": "Clusterers",
    "outlier": "Outlier detectors",
    "transformer": "Transformers",
    "other": "Others",
}


def capable() -> dict[str, type]:
    """The estimators that the matrix counts, by name."""
    return {
        name: estimator
        for name, estimator in every_estimator().items()
        if any(hasattr(estimator, method) for method in METHODS) and name not in NOT_ROWS
    }


def every_estimator() -> dict[str, type]:
    """All of scikit-learn's estimators by name."""
    from sklearn.utils import all_estimators

    return dict(all_estimators())


def cases() -> Iterator[Case]:
    """One case for each estimator that counts."""
    for name, estimator in capable().items():
        kind = _kind(name, estimator)
        yield Case(name, FAMILIES[kind], partial(fit, name), estimator=name, kind=kind)


def _kind(name: str, estimator: type) -> str:
    from sklearn.base import ClassifierMixin, ClusterMixin, OutlierMixin, RegressorMixin, TransformerMixin

    if name in ("FeatureAgglomeration",):
        return "transformer"
    mixins = {
        "outlier": OutlierMixin,
        "classifier": ClassifierMixin,
        "regressor": RegressorMixin,
        "cluster": ClusterMixin,
        "transformer": TransformerMixin,
    }
    return next((kind for kind, mixin in mixins.items() if issubclass(estimator, mixin)), "other")


def fit(name: str) -> Fitted:
    """Fit the estimator of that name on data that suits it."""
    recipe = SPECIAL.get(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if recipe is not None:
            return recipe()
        estimator = every_estimator()[name]
        kind = _kind(name, estimator)
        return plain(estimator(), numbers(), {"classifier": "classes", "regressor": "number"}.get(kind))


def plain(model: Any, data: Data, target: str | None, **boundary: Any) -> Fitted:
    """Fit ``model`` on a matrix and a named target of ``data``; the boundary rows follow from what it has learnt."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted = model.fit(data.train, *([] if target is None else [getattr(data, target)]))
        return Fitted(fitted, data.test, boundary_rows(fitted, data.train, data.test, **boundary))


def make(dotted: str, **parameters: Any) -> Any:
    import importlib

    module, _, name = dotted.rpartition(".")
    kind = getattr(importlib.import_module(f"sklearn.{module}"), name)
    if "estimator" in parameters and "estimator" not in inspect.signature(kind).parameters:
        parameters["base_estimator"] = parameters.pop("estimator")  # in older series
    return kind(**parameters)


def _logistic() -> Any:
    return make("linear_model.LogisticRegression")


def _ridge() -> Any:
    return make("linear_model.Ridge")


def _tree() -> Any:
    return make("tree.DecisionTreeClassifier", max_depth=4, random_state=0)


def _spec(dotted: str, data: Callable[[], Data] = numbers, target: str | None = None, **parameters: Any) -> Any:
    def build() -> Fitted:
        made = {key: value() if callable(value) and key in INNER else value for key, value in parameters.items()}
        return plain(make(dotted, **made), data(), target)

    return build


INNER = ("estimator", "estimators", "regressor", "transformers", "transformer_list", "steps", "base_estimator")


def _text(dotted: str, **parameters: Any) -> Any:
    def build() -> Fitted:
        train, test, _ = texts()
        return Fitted(
            make(dotted, **parameters).fit(train), test, ["", "unseen", "red", "RED green", "a b c", "42 - !"]
        )

    return build


def _words(dotted: str, target: str | None = None, **parameters: Any) -> Any:
    """An encoder of text categories; unseen ones are boundary rows where it takes them."""

    def build() -> Fitted:
        train = words_table(300)
        answers = [] if target is None else [getattr(numbers(), target)]
        model = make(dotted, **parameters).fit(train, *answers)
        known = np.array([["red", "Bonn", "S"], ["blue", "Köln", "L"]], dtype=object)
        unseen = np.array([["violet", "Bonn", "S"], ["", "Ulm", "M"], ["red", "KÖLN", "nan"]], dtype=object)
        return Fitted(model, words_table(400, 5), only_answered(model, np.vstack([known, unseen])))

    return build


def _labels(dotted: str) -> Any:
    """A transformer of a target: one column of text."""

    def build() -> Fitted:
        test = words_table(400, 5)[:, 1].astype(str)
        return Fitted(make(dotted).fit(words_table(300)[:, 1].astype(str)), test, test[:4])

    return build


def _isotonic() -> Fitted:
    data = numbers()
    model = make("isotonic.IsotonicRegression").fit(data.train[:, 0], data.number)
    knots = model.X_thresholds_
    edges = np.concatenate([knots, np.nextafter(knots, np.inf), np.nextafter(knots, -np.inf)])
    outside = np.array([knots[0] - 1.0, knots[-1] + 1.0])
    return Fitted(model, data.test[:, :1], np.concatenate([edges, outside])[:, None])


def _partly_labelled() -> Fitted:
    data = numbers()
    target = data.classes.copy()
    target[::3] = -1
    model = make("semi_supervised.SelfTrainingClassifier", estimator=_logistic()).fit(data.train, target)
    return Fitted(model, data.test, boundary_rows(model, data.train, data.test))


def _within_unit() -> Data:
    data = numbers()
    low, high = data.train.min(axis=0), data.train.max(axis=0)
    train, test = ((matrix - low) / (high - low) for matrix in (data.train, data.test))
    return Data(train, test.clip(0, 1), data.classes, data.binary, data.number, data.positive)


def few() -> Data:
    data = numbers()
    return Data(data.train[:90], data.test, data.classes[:90], data.binary[:90], data.number[:90], data.positive[:90])


def _patches() -> Fitted:
    images = np.random.default_rng(0).random((20, 8, 8))
    model = make("feature_extraction.image.PatchExtractor", patch_size=(3, 3), random_state=0).fit(images)
    return Fitted(model, images, images[:1])


def _dictionary() -> Fitted:
    data = numbers()
    atoms = np.random.default_rng(0).standard_normal((8, data.train.shape[1]))
    atoms /= np.linalg.norm(atoms, axis=1, keepdims=True)
    return plain(make("decomposition.SparseCoder", dictionary=atoms), data, None)


def _two(dotted: str) -> Any:
    """Data of two target columns for the partial-least-squares family."""

    def build() -> Fitted:
        data = numbers()
        model = make(dotted).fit(data.train, data.several_numbers)
        return Fitted(model, data.test, boundary_rows(model, data.train, data.test))

    return build


def _pair(kind: str) -> list[tuple[str, Any]]:
    if kind == "classifier":
        return [("logistic", _logistic()), ("tree", _tree())]
    return [("ridge", _ridge()), ("tree", make("tree.DecisionTreeRegressor", max_depth=4, random_state=0))]


def _scale_some() -> list[tuple[str, Any, list[int]]]:
    return [("scale", make("preprocessing.StandardScaler"), [0, 1, 2]), ("rest", "passthrough", [3, 4, 5])]


def _union() -> list[tuple[str, Any]]:
    return [("axes", make("decomposition.PCA", n_components=2)), ("scale", make("preprocessing.StandardScaler"))]


def _steps() -> list[tuple[str, Any]]:
    return [("scale", make("preprocessing.StandardScaler")), ("model", _logistic())]


def _classify(dotted: str, **parameters: Any) -> Any:
    return _spec(dotted, target="classes", **parameters)


def _regress(dotted: str, **parameters: Any) -> Any:
    return _spec(dotted, target="number", **parameters)


_SELECT = "feature_selection."
_TREES = {"n_estimators": 30, "random_state": 0}

SPECIAL: dict[str, Callable[[], Fitted]] = {
    # Classifiers
    "AdaBoostClassifier": _classify("ensemble.AdaBoostClassifier", random_state=0),
    "BaggingClassifier": _classify("ensemble.BaggingClassifier", random_state=0),
    "CategoricalNB": _classify("naive_bayes.CategoricalNB", data=categories),
    "ComplementNB": _classify("naive_bayes.ComplementNB", data=counts),
    "MultinomialNB": _classify("naive_bayes.MultinomialNB", data=counts),
    "ClassifierChain": _spec("multioutput.ClassifierChain", target="several_flags", estimator=_logistic),
    "DecisionTreeClassifier": _classify("tree.DecisionTreeClassifier", random_state=0),
    "ExtraTreeClassifier": _classify("tree.ExtraTreeClassifier", random_state=0),
    "ExtraTreesClassifier": _classify("ensemble.ExtraTreesClassifier", **_TREES),
    "FixedThresholdClassifier": _spec(
        "model_selection.FixedThresholdClassifier", target="binary", estimator=_logistic, threshold=0.3
    ),
    "GaussianProcessClassifier": _spec(
        "gaussian_process.GaussianProcessClassifier", data=few, target="classes", random_state=0
    ),
    "GradientBoostingClassifier": _classify("ensemble.GradientBoostingClassifier", **_TREES),
    "GridSearchCV": _classify("model_selection.GridSearchCV", estimator=_logistic, param_grid={"C": [0.1, 1.0]}),
    "HistGradientBoostingClassifier": _classify("ensemble.HistGradientBoostingClassifier", max_iter=30),
    "MLPClassifier": _classify("neural_network.MLPClassifier", max_iter=80, random_state=0),
    "MultiOutputClassifier": _spec("multioutput.MultiOutputClassifier", target="several_classes", estimator=_logistic),
    "NuSVC": _classify("svm.NuSVC", nu=0.2),
    "OneVsOneClassifier": _classify("multiclass.OneVsOneClassifier", estimator=_logistic),
    "OneVsRestClassifier": _classify("multiclass.OneVsRestClassifier", estimator=_logistic),
    "OutputCodeClassifier": _classify("multiclass.OutputCodeClassifier", estimator=_logistic, random_state=0),
    "RFE": _classify("feature_selection.RFE", estimator=_logistic),
    "RFECV": _classify("feature_selection.RFECV", estimator=_logistic, cv=3),
    "RadiusNeighborsClassifier": _classify("neighbors.RadiusNeighborsClassifier", radius=12.0),
    "RandomForestClassifier": _classify("ensemble.RandomForestClassifier", **_TREES),
    "RandomizedSearchCV": _classify(
        "model_selection.RandomizedSearchCV",
        estimator=_tree,
        param_distributions={"max_depth": [2, 3, 4]},
        n_iter=2,
        random_state=0,
    ),
    "SelfTrainingClassifier": _partly_labelled,
    "StackingClassifier": _classify("ensemble.StackingClassifier", estimators=partial(_pair, "classifier")),
    "TunedThresholdClassifierCV": _spec(
        "model_selection.TunedThresholdClassifierCV", target="binary", estimator=_logistic
    ),
    "VotingClassifier": _classify("ensemble.VotingClassifier", estimators=partial(_pair, "classifier")),
    # Regressors
    "AdaBoostRegressor": _regress("ensemble.AdaBoostRegressor", random_state=0),
    "BaggingRegressor": _regress("ensemble.BaggingRegressor", random_state=0),
    "CCA": _two("cross_decomposition.CCA"),
    "DecisionTreeRegressor": _regress("tree.DecisionTreeRegressor", random_state=0),
    "ExtraTreeRegressor": _regress("tree.ExtraTreeRegressor", random_state=0),
    "ExtraTreesRegressor": _regress("ensemble.ExtraTreesRegressor", **_TREES),
    "GammaRegressor": _spec("linear_model.GammaRegressor", target="positive"),
    "GaussianProcessRegressor": _spec(
        "gaussian_process.GaussianProcessRegressor", data=few, target="number", alpha=1e-2, random_state=0
    ),
    "GradientBoostingRegressor": _regress("ensemble.GradientBoostingRegressor", **_TREES),
    "HistGradientBoostingRegressor": _regress("ensemble.HistGradientBoostingRegressor", max_iter=30),
    "IsotonicRegression": _isotonic,
    "MLPRegressor": _regress("neural_network.MLPRegressor", max_iter=80, random_state=0),
    "MultiOutputRegressor": _spec("multioutput.MultiOutputRegressor", target="several_numbers", estimator=_ridge),
    "MultiTaskElasticNet": _spec("linear_model.MultiTaskElasticNet", target="several_numbers"),
    "MultiTaskElasticNetCV": _spec("linear_model.MultiTaskElasticNetCV", target="several_numbers"),
    "MultiTaskLasso": _spec("linear_model.MultiTaskLasso", target="several_numbers"),
    "MultiTaskLassoCV": _spec("linear_model.MultiTaskLassoCV", target="several_numbers"),
    "PLSCanonical": _two("cross_decomposition.PLSCanonical"),
    "PLSRegression": _two("cross_decomposition.PLSRegression"),
    "PLSSVD": _two("cross_decomposition.PLSSVD"),
    "PoissonRegressor": _spec("linear_model.PoissonRegressor", target="positive"),
    "RANSACRegressor": _regress("linear_model.RANSACRegressor", random_state=0),
    "RadiusNeighborsRegressor": _regress("neighbors.RadiusNeighborsRegressor", radius=12.0),
    "RandomForestRegressor": _regress("ensemble.RandomForestRegressor", **_TREES),
    "QuantileRegressor": _spec("linear_model.QuantileRegressor", target="number", solver="highs"),
    "RegressorChain": _spec("multioutput.RegressorChain", target="several_numbers", estimator=_ridge),
    "StackingRegressor": _regress("ensemble.StackingRegressor", estimators=partial(_pair, "regressor")),
    "TheilSenRegressor": _regress("linear_model.TheilSenRegressor", max_subpopulation=500, random_state=0),
    "TransformedTargetRegressor": _spec(
        "compose.TransformedTargetRegressor",
        target="positive",
        regressor=_ridge,
        func=np.log1p,
        inverse_func=np.expm1,
    ),
    "TweedieRegressor": _spec("linear_model.TweedieRegressor", target="positive", power=1.5),
    "VotingRegressor": _regress("ensemble.VotingRegressor", estimators=partial(_pair, "regressor")),
    # Clusterers and outlier detectors
    "AffinityPropagation": _spec("cluster.AffinityPropagation", random_state=0),
    "BayesianGaussianMixture": _spec("mixture.BayesianGaussianMixture", n_components=3, random_state=0),
    "BisectingKMeans": _spec("cluster.BisectingKMeans", random_state=0),
    "GaussianMixture": _spec("mixture.GaussianMixture", n_components=3, random_state=0),
    "IsolationForest": _spec("ensemble.IsolationForest", random_state=0, n_estimators=50),
    "KMeans": _spec("cluster.KMeans", random_state=0, n_init=2),
    "LocalOutlierFactor": _spec("neighbors.LocalOutlierFactor", novelty=True),
    "MiniBatchKMeans": _spec("cluster.MiniBatchKMeans", random_state=0),
    # Transformers
    "AdditiveChi2Sampler": _spec("kernel_approximation.AdditiveChi2Sampler", data=positives),
    "BernoulliRBM": _spec("neural_network.BernoulliRBM", data=_within_unit, n_components=8, random_state=0),
    "ColumnTransformer": _spec("compose.ColumnTransformer", transformers=_scale_some),
    "CountVectorizer": _text("feature_extraction.text.CountVectorizer"),
    "DictionaryLearning": _spec("decomposition.DictionaryLearning", n_components=4, max_iter=50, random_state=0),
    "FactorAnalysis": _spec("decomposition.FactorAnalysis", n_components=3),
    "FastICA": _spec("decomposition.FastICA", n_components=3, random_state=0),
    "FeatureUnion": _spec("pipeline.FeatureUnion", transformer_list=_union),
    "FunctionTransformer": _spec("preprocessing.FunctionTransformer", data=positives, func=np.log1p),
    "GaussianRandomProjection": _spec("random_projection.GaussianRandomProjection", n_components=3, random_state=0),
    "GenericUnivariateSelect": _classify(_SELECT + "GenericUnivariateSelect", mode="k_best", param=3),
    "HashingVectorizer": _text("feature_extraction.text.HashingVectorizer", n_features=64),
    "KBinsDiscretizer": _spec("preprocessing.KBinsDiscretizer"),
    "KNNImputer": _spec("impute.KNNImputer", data=with_missing),
    "KernelPCA": _spec("decomposition.KernelPCA", n_components=3),
    "LabelBinarizer": _labels("preprocessing.LabelBinarizer"),
    "LabelEncoder": _labels("preprocessing.LabelEncoder"),
    "LatentDirichletAllocation": _spec("decomposition.LatentDirichletAllocation", data=counts, n_components=4),
    "MiniBatchDictionaryLearning": _spec("decomposition.MiniBatchDictionaryLearning", n_components=4, random_state=0),
    "MiniBatchNMF": _spec("decomposition.MiniBatchNMF", data=positives, n_components=3, random_state=0),
    "MiniBatchSparsePCA": _spec("decomposition.MiniBatchSparsePCA", n_components=3, random_state=0),
    "MissingIndicator": _spec("impute.MissingIndicator", data=with_missing),
    "NMF": _spec("decomposition.NMF", data=positives, n_components=3, random_state=0),
    "NeighborhoodComponentsAnalysis": _classify("neighbors.NeighborhoodComponentsAnalysis", random_state=0),
    "Nystroem": _spec("kernel_approximation.Nystroem", n_components=20, random_state=0),
    "OneHotEncoder": _words("preprocessing.OneHotEncoder", handle_unknown="ignore"),
    "OrdinalEncoder": _words("preprocessing.OrdinalEncoder", handle_unknown="use_encoded_value", unknown_value=-1),
    "PatchExtractor": _patches,
    "Pipeline": _classify("pipeline.Pipeline", steps=_steps),
    "PolynomialCountSketch": _spec("kernel_approximation.PolynomialCountSketch", n_components=20, random_state=0),
    "QuantileTransformer": _spec("preprocessing.QuantileTransformer", n_quantiles=100),
    "RBFSampler": _spec("kernel_approximation.RBFSampler", random_state=0),
    "RadiusNeighborsTransformer": _spec("neighbors.RadiusNeighborsTransformer", radius=6.0),
    "RandomTreesEmbedding": _spec("ensemble.RandomTreesEmbedding", n_estimators=10, random_state=0),
    "SelectFdr": _classify(_SELECT + "SelectFdr"),
    "SelectFpr": _classify(_SELECT + "SelectFpr"),
    "SelectFromModel": _classify(_SELECT + "SelectFromModel", estimator=_logistic),
    "SelectFwe": _classify(_SELECT + "SelectFwe"),
    "SelectKBest": _classify(_SELECT + "SelectKBest", k=3),
    "SelectPercentile": _classify(_SELECT + "SelectPercentile", percentile=50),
    "SequentialFeatureSelector": _classify(
        _SELECT + "SequentialFeatureSelector", estimator=_logistic, n_features_to_select=2, cv=2
    ),
    "SimpleImputer": _spec("impute.SimpleImputer", data=with_missing),
    "SkewedChi2Sampler": _spec("kernel_approximation.SkewedChi2Sampler", data=positives, random_state=0),
    "SparseCoder": _dictionary,
    "SparsePCA": _spec("decomposition.SparsePCA", n_components=3, random_state=0),
    "SparseRandomProjection": _spec("random_projection.SparseRandomProjection", n_components=3, random_state=0),
    "TargetEncoder": _words("preprocessing.TargetEncoder", target="number", random_state=0),
    "TfidfTransformer": _spec("feature_extraction.text.TfidfTransformer", data=counts),
    "TfidfVectorizer": _text("feature_extraction.text.TfidfVectorizer"),
}
