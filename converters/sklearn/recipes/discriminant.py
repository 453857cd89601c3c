"""Quadratic discriminant analysis: skl2onnx's label has a wrong shape. (The linear one is in ``linear``.)"""

from __future__ import annotations

import numpy as np

from converters.sklearn.recipes.writing import class_scores
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def quadratic(ops: Ops) -> None:
    """Each class's log posterior, up to a constant."""
    model, x = ops.model, ops.matrix()
    norms = []
    for mean, rotation, scaling in zip(model.means_, model.rotations_, model.scalings_, strict=True):
        turned = ops.add("MatMul", ops.add("Sub", x, mean), rotation * scaling ** (-0.5))
        norms.append(ops.sum(ops.add("Mul", turned, turned), 1, keepdims=True))
    spread = np.array([np.log(scaling).sum() for scaling in model.scalings_])
    norm = ops.add("Mul", ops.add("Concat", *norms, axis=1), np.float64(-0.5))
    posterior = ops.add("Add", norm, np.log(model.priors_) - 0.5 * spread)
    scores = class_scores.one_sided(ops, posterior) if len(model.classes_) == 2 else posterior
    label = ops.class_of(ops.first_maximum(posterior))
    class_scores.answer_classifier(ops, label, class_scores.from_log_joint(ops, posterior), scores)


RECIPES = (
    Recipe(
        ("sklearn.discriminant_analysis.QuadraticDiscriminantAnalysis",),
        "classifier",
        quadratic,
        extra=class_scores.has_both,
    ),
)
