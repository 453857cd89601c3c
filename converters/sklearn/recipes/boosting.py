"""Gradient boosting and AdaBoost: every tree in one ensemble, added to the first guess in double."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

from converters.graph import forest
from converters.graph.forest import Forest
from converters.sklearn.recipes.trees import node_shares, rounded, tree_of
from converters.sklearn.recipes.writing.inner_estimators import pick
from converters.sklearn.recipes.writing.ops import ML, Ops, classes
from converters.sklearn.recipes.writing.registry import Recipe
from edgepack.errors import ConversionError

_CONSTANT = ("DummyClassifier", "DummyRegressor")
_RANDOM = ("stratified", "uniform")


def gradient_regressor(ops: Ops) -> None:
    """The first guess and the sum of the trees."""
    ops.answer(0, ops.cast(_raw(ops)))


def gradient_classifier(ops: Ops) -> None:
    """The class by the sum of the trees: by its sign, where zero is the second of two, or the largest."""
    raw, loss = _raw(ops), ops.model._loss
    if hasattr(loss, "link"):
        answer_scores(ops, loss, raw, second_at_zero=True)
    else:
        _answer_old_loss(ops, loss, raw)


def _answer_old_loss(ops: Ops, loss: Any, raw: str) -> None:
    """As ``sklearn.ensemble._gb_losses`` of scikit-learn up to 1.3 answers: by the larger probability, rounded."""
    import numpy as np

    if type(loss).__name__ == "MultinomialDeviance":
        probabilities = ops.add("Softmax", raw, axis=1)
        _answer_classes(ops, ops.first_maximum(probabilities), probabilities, raw)
        return
    exponential = type(loss).__name__ == "ExponentialLoss"
    doubled = ops.add("Mul", raw, ops.constant(2.0, np.float64)) if exponential else raw
    second = ops.sigmoid(doubled, np.float64)
    both = ops.add("Concat", ops.add("Sub", ops.constant(1.0, np.float64), second), second, axis=1)
    index = _is_above(ops, raw, or_equal=True) if exponential else ops.first_maximum(both)
    _answer_classes(ops, index, both, raw)


def ada_regressor(ops: Ops) -> None:
    """The median of the parts' predictions, weighted: the first from below that has half of the weight."""
    import numpy as np

    model = ops.model
    weights = np.asarray(model.estimator_weights_, dtype=np.float64)[: len(model.estimators_)]
    if _are_trees(model.estimators_):
        trees = [
            tree_of(part, part.tree_.value[:, 0, 0], target=position) for position, part in enumerate(model.estimators_)
        ]
        predictions = forest.emit(ops, rounded(ops), Forest(trees, len(trees)))
    else:
        x = ops.matrix()
        found = [ops.reshape(ops.methods(part, x)["predict"], [-1, 1]) for part in model.estimators_]
        predictions = _double(ops, ops.add("Concat", *found, axis=1))
    ordered, order = ops.add_many("TopK", predictions, [len(weights)], outputs=2, axis=1, largest=0, sorted=1)
    sums = ops.add("CumSum", ops.add("Gather", ops.constant(weights, np.float64), order, axis=0), np.int64(1))
    half = ops.add("Mul", ops.columns(sums, [len(weights) - 1]), ops.constant(0.5, np.float64))
    reached = ops.cast(ops.add("GreaterOrEqual", sums, half), 6)  # int32
    position = ops.add("ArgMax", reached, axis=1, keepdims=1, select_last_index=0)
    ops.answer(0, ops.cast(ops.add("GatherElements", ordered, position, axis=1)))


def ada_classifier(ops: Ops) -> None:
    """Each part's class gains its weight, the others lose a share of it."""
    import numpy as np

    model = ops.model
    count = len(model.classes_)
    if count < 2:
        raise ConversionError("AdaBoostClassifier has learnt a single class", hint="train it on two classes or more")
    if getattr(model, "algorithm", "") == "SAMME.R":
        _answer_total(ops, _log_probabilities(ops, count), count)
        return
    weights = np.asarray(model.estimator_weights_, dtype=np.float64)[: len(model.estimators_)]
    gains = [np.where(np.eye(count, dtype=bool), weight, -1 / (count - 1) * weight) for weight in weights]
    if _are_trees(model.estimators_):
        trees = [
            tree_of(
                part, gain[np.searchsorted(model.classes_, part.classes_)[part.tree_.value[:, 0, :].argmax(axis=1)]]
            )
            for part, gain in zip(model.estimators_, gains, strict=True)
        ]
        total = forest.emit(ops, rounded(ops), Forest(trees, count))
    else:
        x, total = ops.matrix(), ""
        for part, gain in zip(model.estimators_, gains, strict=True):
            number = _class_number(ops, ops.methods(part, x)["predict"])
            added = ops.add("Gather", ops.constant(gain, np.float64), number, axis=0)
            total = ops.add("Add", total, added) if total else added
    _answer_total(ops, total, count)


def _log_probabilities(ops: Ops, count: int) -> str:
    """The sum of the parts' displaced logarithms of probabilities: SAMME.R, the default up to scikit-learn 1.5."""
    import numpy as np

    model, least = ops.model, np.finfo(np.float64).eps
    if _are_trees(model.estimators_):
        trees = []
        for part in model.estimators_:
            logs = np.log(np.maximum(node_shares(part.tree_)[:, 0, :], least))
            trees.append(tree_of(part, (count - 1) * (logs - (1.0 / count) * logs.sum(axis=1, keepdims=True))))
        return forest.emit(ops, rounded(ops), Forest(trees, count))
    x, total = ops.matrix(), ""
    for part in model.estimators_:
        found = _double(ops, pick(ops.methods(part, x), part, "predict_proba"))
        logged = ops.add("Log", ops.add("Max", found, ops.constant(least, np.float64)))
        mean = ops.add("Mul", ops.sum(logged, 1, keepdims=True), ops.constant(1.0 / count, np.float64))
        gain = ops.add("Mul", ops.add("Sub", logged, mean), ops.constant(float(count - 1), np.float64))
        total = ops.add("Add", total, gain) if total else gain
    return total


def _answer_total(ops: Ops, total: str, count: int) -> None:
    """The outputs of AdaBoost from the sum of what its parts gave each class."""
    import numpy as np

    total = ops.add("Div", total, ops.constant(ops.model.estimator_weights_.sum(), np.float64))
    if count == 2:
        score = ops.add("Sub", ops.columns(total, [1]), ops.columns(total, [0]))
        both = ops.add("Concat", ops.add("Neg", score), score, axis=1)
        halved = ops.add("Div", both, ops.constant(2.0, np.float64))
        _answer_classes(ops, _is_above(ops, score), ops.add("Softmax", halved, axis=1), score)
    else:
        shared = ops.add("Div", total, ops.constant(float(count - 1), np.float64))
        _answer_classes(ops, ops.first_maximum(total), ops.add("Softmax", shared, axis=1), total)


def answer_scores(ops: Ops, loss: Any, raw: str, *, second_at_zero: bool) -> None:
    """A boosted classifier's outputs from its raw scores, double, shape (rows, 1) for two classes or (rows, classes).

    ``second_at_zero`` says to which of two classes a score of zero belongs.
    """
    import numpy as np

    if loss.is_multiclass:
        _answer_classes(ops, ops.first_maximum(raw), ops.add("Softmax", raw, axis=1), raw)
        return
    second = inverse_link(ops, loss, raw)
    first = ops.add("Sub", ops.constant(1.0, np.float64), second)
    index = _is_above(ops, raw, or_equal=second_at_zero)
    _answer_classes(ops, index, ops.add("Concat", first, second, axis=1), raw)


def inverse_link(ops: Ops, loss: Any, raw: str) -> str:
    """Predictions from raw scores, both double. Raises ``ConversionError`` for an unsupported link."""
    import numpy as np

    link = type(loss.link).__name__
    if link == "IdentityLink":
        return raw
    if link == "LogLink":
        return ops.add("Exp", raw)
    if link == "LogitLink":
        return ops.sigmoid(raw, np.float64)
    if link == "HalfLogitLink":
        return ops.sigmoid(ops.add("Mul", raw, ops.constant(2.0, np.float64)), np.float64)
    raise ConversionError(f"the link {link} of a loss has no ONNX form here", hint="train with another loss")


def _answer_classes(ops: Ops, index: str, probabilities: str, scores: str) -> None:
    ops.answer(0, ops.class_of(index))
    ops.answer(1, ops.cast(probabilities))
    ops.answer_method("decision_function", ops.cast(scores))


def _is_above(ops: Ops, score: str, *, or_equal: bool = False) -> str:
    """1 where a score of shape (rows, 1) is above zero, else 0; int64, (rows,)."""
    import numpy as np

    above = ops.add("GreaterOrEqual" if or_equal else "Greater", score, ops.constant(0.0, np.float64))
    return ops.reshape(ops.cast(above, 7), [-1])  # int64


def _raw(ops: Ops) -> str:
    """The raw scores of gradient boosting, double, shape (rows, trees per round)."""
    import numpy as np

    model, x = ops.model, rounded(ops)
    rate = model.learning_rate
    trees = [
        tree_of(part, rate * part.tree_.value[:, 0, 0], target=target)
        for stage in model.estimators_
        for target, part in enumerate(stage)
    ]
    count = model.estimators_.shape[1]
    if isinstance(model.init_, str) or type(model.init_).__name__ in _CONSTANT:
        if getattr(model.init_, "strategy", None) in _RANDOM:
            raise ConversionError(
                f"the first guess of {type(model).__name__} is random", hint="train it with another init"
            )
        base = model._raw_predict_init(np.zeros((1, model.n_features_in_), dtype=np.float32))[0]
        return forest.emit(ops, x, Forest(trees, count, base=base))
    return ops.add("Add", _first_guess(ops, x), forest.emit(ops, x, Forest(trees, count)))


def _first_guess(ops: Ops, x: str) -> str:
    """The link of what the init estimator predicts, as ``_init_raw_predictions`` of scikit-learn has it."""
    import numpy as np

    model, loss = ops.model, ops.model._loss
    inner = copy.copy(ops)
    inner.dtype = np.dtype(np.float64)  # a logarithm follows, which shows what float32 rounds off
    found = inner.methods(model.init_, x)
    if not hasattr(model, "classes_"):
        return ops.reshape(_double(ops, found["predict"]), [-1, 1])
    probabilities = _double(ops, found["predict_proba"])
    old = not hasattr(loss, "link")  # up to scikit-learn 1.3
    several = type(loss).__name__ == "MultinomialDeviance" if old else loss.is_multiclass
    if not several:
        probabilities = ops.columns(probabilities, [1])
    eps = float(np.finfo(np.float32 if old else np.float64).eps)
    inside = ops.add("Clip", probabilities, ops.constant(eps, np.float64), ops.constant(1 - eps, np.float64))
    logs = ops.add("Log", inside)
    if several:
        return logs if old else ops.add("Sub", logs, ops.add("ReduceMean", logs, [1], keepdims=1))
    others = ops.add("Log", ops.add("Sub", ops.constant(1.0, np.float64), inside))
    logit = ops.add("Sub", logs, others)
    half = type(loss).__name__ == "ExponentialLoss" if old else type(loss.link).__name__ == "HalfLogitLink"
    return ops.add("Mul", logit, ops.constant(0.5, np.float64)) if half else logit


def _class_number(ops: Ops, label: str) -> str:
    """The position of each label among the model's classes, int64, shape (rows,)."""
    import numpy as np

    known = classes(ops.model)
    label = ops.reshape(label, [-1])
    if known.dtype.kind in "OUS":
        keys = [str(name) for name in known]
        return ops.add("LabelEncoder", label, domain=ML, keys_strings=keys, values_int64s=list(range(len(keys))))
    equal = ops.add("Equal", ops.add("Unsqueeze", label, [1]), np.asarray(known)[None, :])
    return ops.first_maximum(ops.cast(equal, 6))  # int32


def _double(ops: Ops, name: str) -> str:
    from onnx import TensorProto

    return ops.cast(name, int(TensorProto.DOUBLE))


def _are_trees(parts: Sequence[Any]) -> bool:
    return all(hasattr(part, "tree_") for part in parts)


def _extra(model: Any) -> Sequence[str]:
    return ("decision_function",)


_GRADIENT, _ADA = "sklearn.ensemble.GradientBoosting", "sklearn.ensemble.AdaBoost"

RECIPES = (
    Recipe((f"{_GRADIENT}Classifier",), "classifier", gradient_classifier, extra=_extra),
    Recipe((f"{_GRADIENT}Regressor",), "regressor", gradient_regressor),
    # imblearn's balances the rows of each round of the training, and predicts as its base does.
    Recipe((f"{_ADA}Classifier", "imblearn.ensemble.RUSBoostClassifier"), "classifier", ada_classifier, extra=_extra),
    Recipe((f"{_ADA}Regressor",), "regressor", ada_regressor),
)
