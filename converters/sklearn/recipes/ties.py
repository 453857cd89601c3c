"""Training rows that are equally far from a row, of which a search for the nearest takes some and not others.

scikit-learn takes those that its search meets first, in an order of its tree or its threads that no graph follows. A
model where that can change an answer is refused: where equal training rows disagree, or where among the nearest of a
training row, or of one of its values column by column, the last one taken and the first one left out are equally far.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

from edgepack.errors import ConversionError

SEED = 20_240_917
# Rows to look at, at most so many, and so many that their distances take about a second.
ROWS = 4096
WORK = 500_000_000
# Distances calculated at once, as doubles 32 MB.
CELLS = 4_000_000
# Distances this near to each other, relative to the larger, may be equal but for the order of their sums.
NEAR = 1e-12
Distances = Callable[[Any], Any]
# Whether the user has accepted that some answers differ: then the comparison decides alone.
ACCEPTED: ContextVar[bool] = ContextVar("ties_accepted", default=False)
HINT = "or accept some such rows by name (--tolerance label=0.01)"


def refuse(name: str, points: Any, targets: Any, count: int, distances: Distances, near: float = NEAR) -> None:
    """Raise ``ConversionError`` where equally far training rows can change what a search for ``count`` rows answers.

    ``points`` are the training rows, shape (rows, features), ``targets`` what each contributes to an answer, shape
    (rows,) or (rows, outputs); ``distances`` gives those of a matrix to all training rows, shape (rows, rows).
    Those that differ by no more than ``near`` of their size count as equal.
    """
    import numpy as np

    targets = np.asarray(targets).reshape(len(targets), -1)
    if count >= len(points) or ACCEPTED.get():
        return
    disagreeing = _equal_rows_that_differ(points, targets)
    if disagreeing:
        raise ConversionError(
            f"{disagreeing} training rows of the {name} equal another and have another target; which of them is among "
            f"the {count} nearest depends on the order of the original's search",
            hint=f"train on rows that are all different, for instance with the mean or most frequent target, {HINT}",
        )
    rows = like(points, int(max(1, min(ROWS, WORK // (2 * points.size)))))
    step = max(1, CELLS // len(points))
    for start in range(0, len(rows), step):
        looked_at = rows[start : start + step]
        split = splits(distances(looked_at), targets, count, near)
        if not split:
            continue
        raise ConversionError(
            f"for {split} of {len(looked_at)} rows like the training rows of the {name}, training rows that are "
            f"equally far and differ in their targets compete for the last of the {count} places; which of them the "
            "original takes depends on the order of its search",
            hint=f"choose another n_neighbors or metric, or scale the columns, so that distances differ, {HINT}",
        )


def like(points: Any, count: int) -> Any:
    """``count`` training rows or all, and ``count`` others whose columns are drawn from them each on its own."""
    import numpy as np

    random = np.random.default_rng(SEED)
    own = points if len(points) <= count else points[np.sort(random.choice(len(points), count, replace=False))]
    drawn = random.integers(0, len(points), (count, points.shape[1]))
    return np.vstack([own, points[drawn, np.arange(points.shape[1])]])


def splits(away: Any, targets: Any, count: int, near: float = NEAR) -> int:
    """For how many rows of ``away`` (rows, training rows) equally far rows with unlike targets are at the last place.

    ``targets`` have the shape (training rows, outputs). Infinite distances do not count.
    """
    import numpy as np

    if count >= away.shape[1]:
        return 0
    ordered = np.partition(away, [count - 1, count], axis=1)
    last, next_one = ordered[:, count - 1], ordered[:, count]
    with np.errstate(invalid="ignore"):
        suspicious = np.flatnonzero(np.isfinite(next_one) & (next_one - last <= near * next_one))
    found = 0
    for row in suspicious.tolist():
        tied = targets[np.abs(away[row] - last[row]) <= near * last[row]]
        found += bool(_differ(tied, tied[:1]).any())
    return found


def _equal_rows_that_differ(points: Any, targets: Any) -> int:
    import numpy as np

    rows = np.ascontiguousarray(points, dtype=np.float64) + 0.0  # + 0.0: no negative zeros
    whole = rows.view(np.dtype((np.void, rows.itemsize * rows.shape[1])))[:, 0]
    _, first, group = np.unique(whole, return_index=True, return_inverse=True)
    return int(_differ(targets, targets[first[group]]).any(axis=1).sum())


def _differ(left: Any, right: Any) -> Any:
    """Where targets differ by more than rounding."""
    import numpy as np

    if left.dtype.kind not in "fc":
        return left != right
    return ~np.isclose(left, right, rtol=1e-9, atol=1e-12)
