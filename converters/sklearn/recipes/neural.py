"""Multilayer perceptrons, all in double."""

from __future__ import annotations

from typing import Any

import numpy as np

from converters.sklearn.recipes.writing import class_scores
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Kind, Recipe
from edgepack.errors import ConversionError

_ACTIVATIONS = {"relu": "Relu", "logistic": "Sigmoid", "tanh": "Tanh", "exp": "Exp"}


def classifier(ops: Ops) -> None:
    """Two classes or several labels by sigmoids, more classes by softmax."""
    from onnx import TensorProto

    model = ops.model
    proba = _forward(ops)
    if _kind(model) == "multilabel":
        ops.answer(0, ops.cast(ops.add("Greater", proba, np.float64(0.5)), int(TensorProto.INT64)))
        ops.answer_method("predict_proba", proba)
    elif model.out_activation_ == "logistic":
        ops.answer(0, ops.class_of(class_scores.above(ops, proba, 0.5)))
        ops.answer(1, class_scores.both(ops, proba))
    else:
        ops.answer(0, ops.class_of(ops.first_maximum(proba)))
        ops.answer(1, proba)


def regressor(ops: Ops) -> None:
    """The last layer, through the inverse link of its loss."""
    ops.answer(0, _forward(ops))


def _forward(ops: Ops) -> str:
    model, x = ops.model, ops.matrix()
    for number, (weights, bias) in enumerate(zip(model.coefs_, model.intercepts_, strict=True)):
        x = ops.add("Add", ops.add("MatMul", x, np.asarray(weights)), np.asarray(bias))
        last = number == len(model.coefs_) - 1
        activation = model.out_activation_ if last else model.activation
        if activation == "softmax":
            x = class_scores.softmax(ops, x)
        elif activation in _ACTIVATIONS:
            x = ops.add(_ACTIVATIONS[activation], x)
        elif activation != "identity":
            raise ConversionError(f"the activation {activation!r} has no ONNX form", hint="use 'relu' or 'tanh'")
    return x


def _kind(model: Any) -> Kind:
    several = str(model._label_binarizer.y_type_).startswith("multilabel")
    return "multilabel" if several else "classifier"


RECIPES = (
    Recipe(
        ("sklearn.neural_network.MLPClassifier",),
        _kind,
        classifier,
        extra=lambda model: ("predict_proba",) if _kind(model) == "multilabel" else (),
    ),
    Recipe(("sklearn.neural_network.MLPRegressor",), "regressor", regressor, width=lambda model: int(model.n_outputs_)),
)
