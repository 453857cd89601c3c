"""What the original finds by iterating, and small systems of equations, written out as a graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from converters.sklearn.recipes.writing.body import Body
from converters.sklearn.recipes.writing.ops import Ops

Step = Callable[[Body, str, list[str]], tuple[str, list[str]]]


def iterate(ops: Ops, limit: int, states: Sequence[str], step: Step) -> tuple[str, ...]:
    """Repeat ``step`` until it says stop, at most ``limit`` times; the states' last values.

    ``step`` is handed the loop's body, the number of the round (int64, from 0) and the states (matrices of the type of
    the arithmetic), and returns whether to go on (a bool tensor without axes) and the new states.
    """
    body = Body(ops.dtype)
    names = [f"state_{number}" for number in range(len(states))]
    go_on, results = step(body, "round", names)
    graph = body.graph(
        [("round", np.int64, 0), ("goes_on", np.bool_, 0), *((name, ops.dtype, 2) for name in names)],
        [(go_on, np.bool_, 0), *((name, ops.dtype, 2) for name in results)],
    )
    start = ops.constant(np.array(True))
    return ops.add_many(
        "Loop", ops.constant(np.array(limit, dtype=np.int64)), start, *states, outputs=len(states), body=graph
    )


def solve_positive(ops: Ops, matrices: str, right: str, size: int) -> str:
    """Solutions of (rows, size, size) positive definite systems for right sides (rows, size), by elimination."""
    system = ops.add("Concat", matrices, ops.add("Unsqueeze", right, [2]), axis=2)
    for pivot in range(size):
        row = ops.add("Gather", system, np.array([pivot]), axis=1)
        row = ops.add("Div", row, ops.add("Gather", row, np.array([pivot]), axis=2))
        column = ops.add("Gather", system, np.array([pivot]), axis=2)
        others = (np.arange(size) != pivot).astype(float).reshape(1, size, 1)
        cleared = ops.add("Sub", system, ops.add("Mul", ops.add("Mul", column, row), others))
        # The pivot's own row is replaced by itself over the pivot.
        system = ops.add("Where", (others == 0.0), row, cleared)
    return ops.add("Squeeze", ops.add("Gather", system, np.array([size]), axis=2), [2])
