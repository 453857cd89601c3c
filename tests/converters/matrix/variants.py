"""Further cases of the estimators: other targets, missing values, and every tree model on hard data."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from tests.converters.matrix import estimators
from tests.converters.matrix.boundary import boundary_rows
from tests.converters.matrix.case import (
    Case,
    Data,
    Fitted,
    categories,
    counts,
    fine,
    numbers,
    rounded,
    with_missing,
)
from tests.converters.matrix.estimators import few, fit, plain

NAMES = np.array(["ash", "birch", "Zürich"])
# The data on which the matrix fits a classifier, where it is not the plain one.
DATA: dict[str, Callable[[], Data]] = {
    "CategoricalNB": categories,
    "ComplementNB": counts,
    "MultinomialNB": counts,
    "GaussianProcessClassifier": few,
}
# Take no text labels, or only with more parameters; or have a target of several columns.
NO_TEXT_LABELS = ("ClassifierChain", "MultiOutputClassifier", "SelfTrainingClassifier", "TunedThresholdClassifierCV")
BINARY_ALREADY = ("FixedThresholdClassifier", "TunedThresholdClassifierCV")
SEVERAL_NUMBERS = [
    "DecisionTreeRegressor",
    "DummyRegressor",
    "ElasticNet",
    "ExtraTreeRegressor",
    "ExtraTreesRegressor",
    "GaussianProcessRegressor",
    "KNeighborsRegressor",
    "KernelRidge",
    "Lasso",
    "LinearRegression",
    "MLPRegressor",
    "PLSRegression",
    "RadiusNeighborsRegressor",
    "RandomForestRegressor",
    "Ridge",
    "RidgeCV",
]
SEVERAL_CLASSES = [
    "DecisionTreeClassifier",
    "DummyClassifier",
    "ExtraTreeClassifier",
    "ExtraTreesClassifier",
    "KNeighborsClassifier",
    "RadiusNeighborsClassifier",
    "RandomForestClassifier",
]
SEVERAL_FLAGS = [
    "KNeighborsClassifier",
    "MLPClassifier",
    "OneVsRestClassifier",
    "RandomForestClassifier",
    "RidgeClassifier",
]
MISSING = {
    "classes": "BaggingClassifier DecisionTreeClassifier ExtraTreeClassifier ExtraTreesClassifier "
    "HistGradientBoostingClassifier RandomForestClassifier",
    "number": "BaggingRegressor DecisionTreeRegressor ExtraTreeRegressor ExtraTreesRegressor "
    "HistGradientBoostingRegressor RandomForestRegressor",
    "": "MaxAbsScaler MinMaxScaler PowerTransformer QuantileTransformer RobustScaler StandardScaler VarianceThreshold",
}
BOOLS = ["LogisticRegression", "RandomForestClassifier", "HistGradientBoostingClassifier", "GaussianNB", "SVC"]

_TREES = {
    "DecisionTree": ("tree.DecisionTree{}", {"random_state": 0}, True),
    "RandomForest": ("ensemble.RandomForest{}", {"n_estimators": 30, "random_state": 0}, True),
    "ExtraTrees": ("ensemble.ExtraTrees{}", {"n_estimators": 30, "random_state": 0}, True),
    "GradientBoosting": ("ensemble.GradientBoosting{}", {"n_estimators": 30, "random_state": 0}, False),
    "HistGradientBoosting": ("ensemble.HistGradientBoosting{}", {"max_iter": 30, "random_state": 0}, True),
}


def cases() -> Iterator[Case]:
    """Labels of text and of two classes, several targets, missing values; then all trees."""
    yield from _labels()
    for name in SEVERAL_NUMBERS:
        yield Case(f"{name}, several targets", "Several targets", partial(_refit, name, "several_numbers"))
    for name in SEVERAL_CLASSES:
        yield Case(f"{name}, several targets", "Several targets", partial(_refit, name, "several_classes"))
    for name in SEVERAL_FLAGS:
        yield Case(f"{name}, several flags", "Several targets", partial(_refit, name, "several_flags"))
    for target, names in MISSING.items():
        for name in names.split():
            yield Case(f"{name}, missing values", "Missing values", partial(_refit, name, target, data=with_missing))
    for name in ("SimpleImputer", "KNNImputer"):
        yield Case(f"{name}, with indicator", "Missing values", partial(_indicator, name))
    yield from _trees()


def _labels() -> Iterator[Case]:
    for case in estimators.cases():
        if case.kind != "classifier":
            continue
        if case.name not in NO_TEXT_LABELS:
            yield Case(f"{case.name}, text labels", "Text labels", partial(_text_labels, case.name))
        if case.name not in (*BINARY_ALREADY, "ClassifierChain", "MultiOutputClassifier"):
            yield Case(f"{case.name}, two classes", "Two classes", partial(_refit, case.name, "binary"))
    for name in BOOLS:
        yield Case(f"{name}, true and false", "Two classes", partial(_relabelled, name, lambda y: y == 1))


def _refit(name: str, target: str, data: Callable[[], Data] | None = None) -> Fitted:
    return plain(_again(name), (data or DATA.get(name, numbers))(), target or None)


def _again(name: str) -> Any:
    from sklearn.base import clone

    return clone(fit(name).model)


def _text_labels(name: str) -> Fitted:
    if name == "FixedThresholdClassifier":
        return _relabelled(name, lambda y: NAMES[y % 2], pos_label="birch")
    return _relabelled(name, lambda y: NAMES[y])


def _relabelled(name: str, change: Callable[[Any], Any], **parameters: Any) -> Fitted:
    data = DATA.get(name, numbers)()
    model = _again(name).set_params(**parameters)
    target = data.binary if name in BOOLS and not isinstance(change(data.binary)[0], str) else data.classes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model.fit(data.train, change(target))
        return Fitted(model, data.test, boundary_rows(model, data.train, data.test))


def _indicator(name: str) -> Fitted:
    return plain(_again(name).set_params(add_indicator=True), with_missing(), None)


def _trees() -> Iterator[Case]:
    datasets: dict[str, Callable[[], Data]] = {"float32 data": lambda: rounded(numbers()), "float64 data": fine}
    for name, (dotted, parameters, takes_missing) in _TREES.items():
        for kind, target in (("Classifier", "classes"), ("Regressor", "number")):
            for missing in (False, True) if takes_missing else (False,):
                for title, data in datasets.items():
                    for scaled in (False, True):
                        words = [name + kind, title, *(["missing values"] if missing else [])]
                        words += ["behind a scaler"] if scaled else []
                        yield Case(
                            ", ".join(words),
                            "Trees, forests and boosting",
                            partial(_tree, dotted.format(kind), parameters, data, target, missing, scaled),
                        )


def _tree(dotted: str, parameters: Any, data: Callable[[], Data], target: str, missing: bool, scaled: bool) -> Fitted:
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = estimators.make(dotted, **parameters)
    given = _with_holes(data()) if missing else data()
    return plain(make_pipeline(StandardScaler(), model) if scaled else model, given, target)


def _with_holes(data: Data) -> Data:
    random = np.random.default_rng(3)
    train, test = data.train.copy(), data.test.copy()
    for matrix in (train, test):
        matrix[random.random(matrix.shape) < 0.08] = np.nan
    return Data(train, test, data.classes, data.binary, data.number, data.positive)
