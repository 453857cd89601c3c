"""A booster's function written into a graph, in double, with what is float32 in the original rounded to it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from converters.boosters.boosted import Boosted, Lookup
from converters.graph import forest
from converters.sklearn.recipes.writing.ops import Ops
from edgepack.errors import ConversionError

FLOAT, INT64, DOUBLE = 1, 7, 11  # onnx.TensorProto
# Trees whose values a row holds side by side; 1000 rows then take 2 MB.
ADDED_AT_ONCE = 256


def scores(ops: Ops, boosted: Boosted) -> str:
    """The scores before the link: double, shape (rows, width)."""
    import numpy as np

    x = _prepared(ops, boosted)
    if boosted.linear is not None:
        present = ops.add("Where", ops.add("IsNaN", x), _double(ops, 0), x)
        total = ops.add("MatMul", present, ops.constant(boosted.linear.weights, np.float64))
        return rounded(ops, boosted, ops.add("Add", total, ops.constant(boosted.base[None], np.float64)))
    if boosted.single_scores:
        each = [_added_in_turn(ops, x, boosted, number) for number in range(boosted.width)]
        return ops.cast(each[0] if len(each) == 1 else ops.add("Concat", *each, axis=1), DOUBLE)
    trees = list(boosted.trees) or [_leaf(0.0)]
    total = forest.emit(ops, x, forest.Forest(trees, outputs=boosted.width))
    if boosted.scale != 1:
        total = ops.add("Mul", total, _double(ops, boosted.scale))
    return ops.add("Add", total, ops.constant(boosted.base[None], np.float64)) if boosted.base.any() else total


def _added_in_turn(ops: Ops, x: str, boosted: Boosted, number: int) -> str:
    """One score as the original adds it, rounded to float32 after every tree: float32, shape (rows, 1).

    In double the sum would be better, and not the same: where large values cancel, by more than is allowed. Every tree
    answers a column of its own; their running sum is taken in float32.
    """
    import numpy as np

    chosen = [
        tree if np.ndim(tree.value) == 1 else replace(tree, value=tree.value[:, number])
        for tree in boosted.trees
        if np.ndim(tree.value) == 2 or tree.target == number
    ]
    trees = [_leaf(float(boosted.base[number])), *chosen]
    total = ""
    for start in range(0, len(trees), ADDED_AT_ONCE):
        part = [replace(tree, target=position) for position, tree in enumerate(trees[start : start + ADDED_AT_ONCE])]
        added = ops.cast(forest.emit(ops, x, forest.Forest(part, outputs=len(part))), FLOAT)
        if total:
            added = ops.add("Concat", total, added, axis=1)
        running = ops.add("CumSum", added, np.array(1))
        total = ops.add("Gather", running, np.array([len(part) - 1 + bool(total)]), axis=1)
    return total


def _leaf(value: float) -> forest.Tree:
    import numpy as np

    return forest.Tree(np.zeros(1, int), np.zeros(1), np.full(1, -1), np.full(1, -1), np.full(1, value))


def linked(ops: Ops, boosted: Boosted, total: str) -> str:
    """What the booster predicts of its scores: double, shape (rows, width), for ``argmax`` (rows, 1)."""
    link = boosted.link
    if link == "sigmoid":
        steep = total if boosted.slope == 1 else ops.add("Mul", total, _double(ops, boosted.slope))
        # onnxruntime's own Sigmoid is a polynomial, good to seven digits of the whole and not of a small value.
        one = _double(ops, 1)
        total = ops.add("Div", one, ops.add("Add", one, ops.add("Exp", ops.add("Neg", steep))))
    elif link == "softmax":
        shifted = ops.add("Exp", ops.add("Sub", total, ops.add("ReduceMax", total, [1], keepdims=1)))
        total = ops.add("Div", shifted, ops.sum(shifted, 1, keepdims=True))
    elif link == "exp":
        total = ops.add("Exp", total)
    elif link == "log1p exp":
        # onnxruntime has Softplus for float32 only.
        total = ops.add("Log", ops.add("Add", _double(ops, 1), ops.add("Exp", total)))
    elif link == "signed square":
        total = ops.add("Mul", total, ops.add("Abs", total))
    elif link == "positive":
        total = ops.cast(ops.add("Greater", total, _double(ops, 0)), DOUBLE)
    elif link == "argmax":
        total = ops.cast(ops.add("ArgMax", total, axis=1, keepdims=1, select_last_index=0), DOUBLE)
    return rounded(ops, boosted, total)


def rounded(ops: Ops, boosted: Boosted, name: str) -> str:
    """As float32 holds it where the original keeps it so; double all the same."""
    return ops.cast(ops.cast(name, FLOAT), DOUBLE) if boosted.single_scores else name


def regressor(ops: Ops, boosted: Boosted) -> None:
    """Write an estimator that answers what its booster predicts."""
    ops.answer(0, ops.cast(linked(ops, boosted, scores(ops, boosted))))


def classifier(ops: Ops, boosted: Boosted, *, by_score: float | None = None) -> None:
    """Write an estimator that answers the class whose probability is largest, the first of equal ones.

    Of two classes the second needs a probability above one half, or a score above ``by_score`` where that is given.
    Raises ``ConversionError`` for a booster that predicts no probabilities.
    """
    total = scores(ops, boosted)
    probabilities = linked(ops, boosted, total)
    if boosted.link not in ("sigmoid", "softmax", "positive"):
        raise ConversionError(
            f"the {type(ops.model).__name__} was trained with an objective that gives no probabilities",
            hint="use the library's regressor, or an objective for classes",
        )
    if boosted.width > 1:
        index = ops.first_maximum(total if by_score is not None else probabilities)
    else:
        index = above(ops, probabilities, 0.5) if by_score is None else above(ops, total, by_score)
        probabilities = two_classes(ops, boosted, probabilities)
    ops.answer(0, ops.class_of(index))
    ops.answer(1, ops.cast(probabilities))
    ops.answer_method("decision_function", ops.cast(total))


def two_classes(ops: Ops, boosted: Boosted, probability: str) -> str:
    """The probabilities of both classes from that of the second: double, (rows, 2)."""
    other = rounded(ops, boosted, ops.add("Sub", _double(ops, 1), probability))
    return ops.add("Concat", other, probability, axis=1)


def above(ops: Ops, name: str, threshold: float) -> str:
    """Whether a score is above the threshold, as the index of a class, shape (rows,)."""
    return ops.reshape(ops.cast(ops.add("Greater", name, _double(ops, threshold)), INT64), [-1])


def _prepared(ops: Ops, boosted: Boosted) -> str:
    """The estimator's matrix as its trees are to compare it: double."""
    import numpy as np

    x = ops.cast(ops.matrix(), DOUBLE)
    if boosted.single_values and ops.dtype.itemsize == 8:
        x = ops.cast(ops.cast(x, FLOAT), DOUBLE)
    nan = float("nan")
    if boosted.missing is not None:
        x = ops.add("Where", ops.add("Equal", x, _double(ops, boosted.missing)), _double(ops, nan), x)
    if boosted.flush is not None and (_meets(boosted, boosted.flush) or boosted.zero_missing):
        small = ops.add("LessOrEqual", ops.add("Abs", x), _double(ops, boosted.flush))
        x = ops.add("Where", small, _double(ops, 0), x)
    if boosted.zero_missing:
        chosen = np.isin(np.arange(boosted.features), boosted.zero_missing)[None]
        x = ops.add("Where", ops.add("And", ops.add("Equal", x, _double(ops, 0)), chosen), _double(ops, nan), x)
    if boosted.categorical:
        chosen = np.isin(np.arange(boosted.features), boosted.categorical)[None]
        whole = ops.add("Floor", x)
        if boosted.rounding == "to zero":
            whole = ops.add("Mul", ops.add("Sign", x), ops.add("Floor", ops.add("Abs", x)))
        x = ops.add("Where", chosen, whole, x)
    return (
        ops.add("Concat", x, *(_looked_up(ops, x, lookup) for lookup in boosted.lookups), axis=1)
        if boosted.lookups
        else x
    )


def _looked_up(ops: Ops, x: str, lookup: Lookup) -> str:
    """A column of a table's values: double, shape (rows, 1)."""
    import numpy as np

    index = _double(ops, 0)
    for part in lookup.parts:
        cell = ops.add("Gather", x, np.array([part.column]), axis=1)
        if part.border is not None:
            above = ops.add("Greater", cell, _double(ops, part.border))
            cell = ops.cast(ops.add("Or", above, ops.add("IsNaN", cell)) if part.missing_above else above, DOUBLE)
        elif part.equal is not None:
            cell = ops.cast(ops.add("Equal", cell, _double(ops, part.equal)), DOUBLE)
        index = ops.add("Add", ops.add("Mul", index, _double(ops, part.size)), cell)
    missing = _double(ops, len(lookup.values) - 1)
    place = ops.cast(ops.add("Where", ops.add("IsNaN", index), missing, index), INT64)
    return ops.add("Gather", ops.constant(np.array(lookup.values), np.float64), place, axis=0)


def _meets(boosted: Boosted, size: float) -> bool:
    """Whether a threshold is so near zero that it matters to take small numbers for zero."""
    return any(threshold != 0 and abs(threshold) <= 2 * size for _, threshold in boosted.splits())


def _double(ops: Ops, value: Any) -> str:
    import numpy as np

    return ops.constant(np.float64(value), np.float64)
