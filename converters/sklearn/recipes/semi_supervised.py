"""Label propagation and spreading: skl2onnx has no converter for them. (Self-training is in ``search``.)"""

from __future__ import annotations

import numpy as np

from converters.sklearn.recipes import neighbors
from converters.sklearn.recipes.writing import class_scores, kernels
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe
from edgepack.errors import ConversionError


def propagation(ops: Ops) -> None:
    """The labels' shares among the training rows, weighted by the kernel, or of the nearest."""
    model, x = ops.model, ops.matrix()
    shares = np.asarray(model.label_distributions_, dtype=np.float64)
    if model.kernel == "rbf":
        weighted = ops.add("MatMul", kernels.pairwise(ops, x, model.X_, "rbf", {"gamma": model.gamma}), shares)
    elif model.kernel == "knn":
        neighbors.refuse_ties(model.nn_fit, model.nn_fit.n_neighbors, shares)
        _, nearest = neighbors.nearest(ops, x, model.nn_fit, model.nn_fit.n_neighbors)
        weighted = ops.sum(ops.add("Gather", shares, nearest, axis=0), 1)
    else:
        raise ConversionError(
            "label propagation with a kernel that is a Python function has no ONNX form", hint="use 'rbf' or 'knn'"
        )
    proba = class_scores.shares(ops, weighted)
    ops.answer(0, ops.class_of(ops.first_maximum(proba)))
    ops.answer(1, proba)


RECIPES = (
    Recipe(
        ("sklearn.semi_supervised.LabelPropagation", "sklearn.semi_supervised.LabelSpreading"),
        "classifier",
        propagation,
    ),
)
