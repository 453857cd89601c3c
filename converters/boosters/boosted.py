"""A trained booster of any library: trees, what they start from, and a last function."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from converters.graph.forest import Mode, Tree

Link = Literal["identity", "sigmoid", "softmax", "exp", "log1p exp", "signed square", "positive", "argmax"]


@dataclass(frozen=True)
class Linear:
    """A linear booster's ``weights``, shape (features, scores); a missing value counts for nothing."""

    weights: Any


@dataclass(frozen=True)
class Part:
    """One index of a ``Lookup``: the code in ``column``, or 1 where a number is above ``border`` or a code ``equal``.

    A missing number is above if ``missing_above``; a missing code has no place in the table.
    """

    column: int
    size: int
    border: float | None = None
    equal: int | None = None
    missing_above: bool = False


@dataclass(frozen=True)
class Lookup:
    """A column that trees compare and that a row does not have: a value for each combination of what ``parts`` hold.

    The last part's index is the fastest; one more value, the last, is for a code that is missing.
    """

    parts: Sequence[Part]
    values: Sequence[float]


@dataclass(frozen=True)
class Boosted:
    """A booster's function from a row to its prediction.

    ``single_values`` says that values are cast to float32 before they are compared. The scores are ``base`` (float64,
    one a score) and ``scale`` times the sum of the trees' values, or what ``linear`` gives where that is set;
    ``single_scores`` says that they are float32, added up tree by tree from ``base`` on, and so is what ``link`` makes
    of them. ``slope`` multiplies what a sigmoid takes.

    ``missing`` is a number that means a missing value, as NaN does; in the columns of ``zero_missing`` zero does
    too. Numbers not above ``flush`` in size count as zero. In ``categorical`` columns a value counts as a whole
    number, rounded as ``rounding`` says. ``classes`` says that the predictions are probabilities of classes; only
    readers of models without an estimator set it. Trees count the ``lookups`` as columns behind the row's own.
    """

    features: int
    single_values: bool
    single_scores: bool
    base: Any
    trees: Sequence[Tree] = ()
    linear: Linear | None = None
    scale: float = 1.0
    link: Link = "identity"
    slope: float = 1.0
    missing: float | None = None
    zero_missing: Sequence[int] = ()
    flush: float | None = None
    categorical: Sequence[int] = ()
    rounding: Literal["down", "to zero"] = "down"
    classes: bool = False
    lookups: Sequence[Lookup] = ()

    @property
    def width(self) -> int:
        """How many scores a row has."""
        return len(self.base)

    def splits(self) -> Iterator[tuple[int, float]]:
        """Every feature and threshold that a value of the row is compared with."""
        import numpy as np

        for tree in self.trees:
            compares = (np.asarray(tree.true) >= 0) & (np.broadcast_to(tree.mode, np.shape(tree.true)) != Mode.MEMBER)
            compares &= np.asarray(tree.feature) < self.features
            yield from zip(tree.feature[compares].tolist(), tree.threshold[compares].tolist(), strict=True)

    def categories(self) -> dict[int, tuple[int, ...]]:
        """For every categorical column the whole numbers that some node compares with, sorted."""
        found: dict[int, set[int]] = {}
        for tree in self.trees:
            for node, members in tree.members.items():
                found.setdefault(int(tree.feature[node]), set()).update(members)
        return {column: tuple(sorted(values)) for column, values in sorted(found.items())}
