"""Everything linear: one product with the coefficients, then each model's link.

skl2onnx's own have no decision function beside the probabilities, and its operators answer in float32 only.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing import class_scores
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Kind, Recipe, delegating
from edgepack.errors import ConversionError


def linear_scores(ops: Ops, x: str) -> str:
    """``x @ coef_.T + intercept_``, shape (rows, targets)."""
    coefficients = ops.model.coef_
    coefficients = coefficients.toarray() if hasattr(coefficients, "toarray") else np.asarray(coefficients)
    product = ops.add("MatMul", x, np.atleast_2d(coefficients).astype(np.float64).T)
    intercept = np.atleast_1d(np.asarray(ops.model.intercept_, dtype=np.float64))
    return ops.add("Add", product, intercept) if intercept.any() else product


def targets(model: Any) -> int:
    """How many targets a linear regressor predicts."""
    return int(model.coef_.shape[0]) if len(model.coef_.shape) == 2 else 1


def regressor(ops: Ops) -> None:
    """The prediction itself."""
    ops.answer(0, linear_scores(ops, ops.matrix()))


def generalized(ops: Ops) -> None:
    """Poisson, Gamma and Tweedie: through the inverse of the link."""
    scores = linear_scores(ops, ops.matrix())
    link = type(ops.model._base_loss.link).__name__
    if link not in ("LogLink", "IdentityLink"):
        raise ConversionError(f"the link {link} has no ONNX form", hint="use link='log' or 'identity'")
    ops.answer(0, ops.add("Exp", scores) if link == "LogLink" else scores)


def logistic(ops: Ops) -> None:
    """Logistic regression: a sigmoid of two classes, softmax of more, one class against the rest where fitted so."""
    model = ops.model
    scores = linear_scores(ops, ops.matrix())
    # Before scikit-learn 1.8 a parameter said how several classes are told apart.
    mode = getattr(model, "multi_class", "deprecated")
    one_vs_rest = mode == "ovr" or (mode == "auto" and model.solver == "liblinear")
    if class_scores.is_binary(model):
        doubled = ops.add("Mul", scores, np.float64(2.0)) if mode == "multinomial" else scores
        proba = class_scores.both(ops, ops.sigmoid(doubled))
    elif one_vs_rest:
        proba = class_scores.shares(ops, ops.sigmoid(scores), len(model.classes_))
    else:
        proba = class_scores.softmax(ops, scores)
    class_scores.answer_classifier(ops, class_scores.choose(ops, scores), proba, scores)


def discriminant(ops: Ops) -> None:
    """Linear discriminant analysis: classes, and the projection as a further method."""
    model, x = ops.model, ops.matrix()
    scores = linear_scores(ops, x)
    binary = class_scores.is_binary(model)
    proba = class_scores.both(ops, ops.sigmoid(scores)) if binary else class_scores.softmax(ops, scores)
    class_scores.answer_classifier(ops, class_scores.choose(ops, scores), proba, scores)
    if ops.wants("transform"):
        centred = ops.add("Sub", x, model.xbar_) if model.solver == "svd" else x
        projected = ops.add(
            "MatMul", centred, np.asarray(model.scalings_, dtype=np.float64)[:, : model._max_components]
        )
        ops.answer_method("transform", projected)


def stochastic(ops: Ops) -> None:
    """Gradient descent of any loss: probabilities for the logarithmic and the modified Huber loss."""
    model = ops.model
    scores = linear_scores(ops, ops.matrix())
    loss = model.loss if hasattr(model, "predict_proba") else None
    proba = None
    if loss == "modified_huber":
        clipped = ops.add("Clip", scores, np.float64(-1.0), np.float64(1.0))
        proba = ops.add("Mul", ops.add("Add", clipped, np.float64(1.0)), np.float64(0.5))
    elif loss is not None:
        proba = ops.sigmoid(scores)
    if proba is not None:
        binary = class_scores.is_binary(model)
        proba = class_scores.both(ops, proba) if binary else class_scores.shares(ops, proba, len(model.classes_))
    class_scores.answer_classifier(ops, class_scores.choose(ops, scores), proba, scores)


def scored(ops: Ops) -> None:
    """Classifiers that have a decision function only; ridge also takes several labels at once."""
    scores = linear_scores(ops, ops.matrix())
    if _kind(ops.model) == "multilabel":
        from onnx import TensorProto

        positive = ops.cast(ops.add("Greater", scores, np.float64(0.0)), int(TensorProto.INT64))
        ops.answer(0, positive)
        ops.answer_method("decision_function", scores)
    else:
        class_scores.answer_classifier(ops, class_scores.choose(ops, scores), None, scores)


def one_class(ops: Ops) -> None:
    """Inside (1) where the decision function is not negative, else outside (-1)."""
    from onnx import TensorProto

    model, x = ops.model, ops.matrix()
    samples = ops.add("MatMul", x, np.asarray(model.coef_, dtype=np.float64).reshape(-1, 1))
    scores = ops.add("Sub", samples, np.asarray(model.offset_, dtype=np.float64).reshape(1))
    inside = ops.add("GreaterOrEqual", scores, np.float64(0.0))
    label = ops.add("Where", inside, ops.constant(1), ops.constant(-1))
    ops.answer(0, ops.reshape(ops.cast(label, int(TensorProto.INT64)), [-1]))
    ops.answer(1, scores)
    ops.answer_method("score_samples", samples)


def _kind(model: Any) -> Kind:
    binarizer = getattr(model, "_label_binarizer", None)
    several = binarizer is not None and str(binarizer.y_type_).startswith("multilabel")
    return "multilabel" if several else "classifier"


def _scored_extra(model: Any) -> tuple[str, ...]:
    return ("decision_function",) if _kind(model) == "multilabel" else ()


def _discriminant_extra(model: Any) -> tuple[str, ...]:
    # Solver 'lsqr' has no projection.
    return ("decision_function", "transform") if model.solver != "lsqr" else ("decision_function",)


_REGRESSORS = (
    "ARDRegression", "BayesianRidge", "ElasticNet", "ElasticNetCV", "HuberRegressor", "Lars", "LarsCV", "Lasso",
    "LassoCV", "LassoLars", "LassoLarsCV", "LassoLarsIC", "LinearRegression", "MultiTaskElasticNet",
    "MultiTaskElasticNetCV", "MultiTaskLasso", "MultiTaskLassoCV", "OrthogonalMatchingPursuit",
    "OrthogonalMatchingPursuitCV", "PassiveAggressiveRegressor", "QuantileRegressor", "Ridge", "RidgeCV",
    "SGDRegressor", "TheilSenRegressor",
)  # fmt: skip
_MODULE = "sklearn.linear_model."

RECIPES = (
    Recipe((*(_MODULE + name for name in _REGRESSORS), "sklearn.svm.LinearSVR"), "regressor", regressor, width=targets),
    Recipe(
        tuple(_MODULE + name for name in ("GammaRegressor", "PoissonRegressor", "TweedieRegressor")),
        "regressor",
        generalized,
    ),
    delegating((_MODULE + "RANSACRegressor",), lambda model: model.estimator_),
    Recipe(
        (_MODULE + "LogisticRegression", _MODULE + "LogisticRegressionCV"),
        "classifier",
        logistic,
        extra=class_scores.has_both,
    ),
    Recipe(
        ("sklearn.discriminant_analysis.LinearDiscriminantAnalysis",),
        "classifier",
        discriminant,
        extra=_discriminant_extra,
    ),
    Recipe((_MODULE + "SGDClassifier",), "classifier", stochastic, extra=class_scores.has_both),
    Recipe(
        (
            _MODULE + "RidgeClassifier",
            _MODULE + "RidgeClassifierCV",
            _MODULE + "Perceptron",
            _MODULE + "PassiveAggressiveClassifier",
            "sklearn.svm.LinearSVC",
        ),
        _kind,
        scored,
        extra=_scored_extra,
    ),
    Recipe((_MODULE + "SGDOneClassSVM",), "outlier", one_class, extra=lambda model: ("score_samples",)),
)
