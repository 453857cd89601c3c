"""Naive Bayes: logarithms of the joint likelihood, all in double."""

from __future__ import annotations

import numpy as np

from converters.sklearn.recipes.writing import class_scores
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def gaussian(ops: Ops) -> None:
    """A normal distribution of each feature for each class."""
    model, x = ops.model, ops.matrix()
    variance = np.asarray(getattr(model, "var_", None) if hasattr(model, "var_") else model.sigma_, dtype=np.float64)
    difference = ops.add("Sub", ops.add("Unsqueeze", x, [1]), np.asarray(model.theta_, dtype=np.float64)[None])
    scaled = ops.add("Div", ops.add("Mul", difference, difference), variance[None])
    constant = np.log(model.class_prior_) - 0.5 * np.log(2.0 * np.pi * variance).sum(axis=1)
    _answer(ops, ops.add("Add", ops.add("Mul", ops.sum(scaled, 2), np.float64(-0.5)), constant))


def multinomial(ops: Ops) -> None:
    """Counts weighted by the logarithm of each feature's share."""
    model = ops.model
    product = ops.add("MatMul", ops.matrix(), np.asarray(model.feature_log_prob_, dtype=np.float64).T)
    _answer(ops, ops.add("Add", product, np.asarray(model.class_log_prior_, dtype=np.float64)))


def complement(ops: Ops) -> None:
    """The same by the classes' complements; the prior counts only where there is one class."""
    model = ops.model
    product = ops.add("MatMul", ops.matrix(), np.asarray(model.feature_log_prob_, dtype=np.float64).T)
    if len(model.classes_) == 1:
        product = ops.add("Add", product, np.asarray(model.class_log_prior_, dtype=np.float64))
    _answer(ops, product)


def bernoulli(ops: Ops) -> None:
    """Features that are present or absent, by the threshold ``binarize``."""
    model, x = ops.model, ops.matrix()
    if model.binarize is not None:
        x = ops.cast(ops.add("Greater", x, np.float64(model.binarize)))
    absent = np.log(1.0 - np.exp(model.feature_log_prob_))
    product = ops.add("MatMul", x, (model.feature_log_prob_ - absent).T)
    _answer(ops, ops.add("Add", product, model.class_log_prior_ + absent.sum(axis=1)))


def categorical(ops: Ops) -> None:
    """Each feature's category looked up; one that was never seen fails, as it does in the original."""
    from onnx import TensorProto

    model = ops.model
    codes = ops.cast(ops.matrix(), int(TensorProto.INT64))
    terms = [ops.constant(np.asarray(model.class_log_prior_, dtype=np.float64)[None])]
    for number, table in enumerate(model.feature_log_prob_):
        code = ops.reshape(ops.columns(codes, [number]), [-1])
        terms.append(ops.add("Gather", np.asarray(table, dtype=np.float64).T, code, axis=0))
    _answer(ops, class_scores.added(ops, terms))


def _answer(ops: Ops, joint: str) -> None:
    ops.answer(0, ops.class_of(ops.first_maximum(joint)))
    ops.answer(1, class_scores.from_log_joint(ops, joint))


_MODULE = "sklearn.naive_bayes."

RECIPES = (
    Recipe((_MODULE + "GaussianNB",), "classifier", gaussian),
    Recipe((_MODULE + "MultinomialNB",), "classifier", multinomial),
    Recipe((_MODULE + "ComplementNB",), "classifier", complement),
    Recipe((_MODULE + "BernoulliNB",), "classifier", bernoulli),
    Recipe((_MODULE + "CategoricalNB",), "classifier", categorical),
)
