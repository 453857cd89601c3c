"""KBinsDiscretizer in all its encodings; skl2onnx refuses its default, ``onehot``, and compares in float32."""

from __future__ import annotations

from typing import Any

from converters.sklearn.recipes.writing.arithmetic import count_at_most
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def k_bins_discretizer(ops: Ops) -> None:
    """Per column the number of inner edges that are at most the value, as it is or one-hot."""
    import numpy as np

    model, x = ops.model, ops.matrix()
    blocks = []
    for index, edges in enumerate(model.bin_edges_):
        column = ops.columns(x, [index])
        inner = np.asarray(edges, dtype=float)[1:-1]
        if len(inner):
            place = count_at_most(ops, column, inner)
        else:
            place = ops.reshape(ops.cast(ops.add("Mul", column, 0.0), _INT64), [-1])
        if model.encode == "ordinal":
            blocks.append(ops.reshape(ops.cast(place), [-1, 1]))
        else:
            blocks.append(ops.add("Gather", np.eye(int(model.n_bins_[index])), place, axis=0))
    ops.answer(0, blocks[0] if len(blocks) == 1 else ops.add("Concat", *blocks, axis=1))


def _width(model: Any) -> int:
    return len(model.n_bins_) if model.encode == "ordinal" else int(sum(model.n_bins_))


_INT64 = 7  # TensorProto.INT64

RECIPES = (Recipe(("sklearn.preprocessing.KBinsDiscretizer",), "transformer", k_bins_discretizer, width=_width),)
