"""How a step of a data frame is written: the columns that it gives, and when it refuses rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from converters.companions import frame_steps
from converters.sklearn.inputs import MISSING_TEXT
from converters.sklearn.recipes.writing.columns import Column
from converters.sklearn.recipes.writing.ops import ML, Ops
from edgepack.errors import ConversionError

ColumnKind = Literal["text", "whole", "number"]
Columns = Sequence[Column]


@dataclass(frozen=True)
class Given:
    """A column that a step gives: ``place`` of the one that it passes on, or how a text or a number is written.

    ``write`` returns a tensor of shape (rows, 1).
    """

    place: int | None = None
    write: Callable[[Ops, Columns], str] | None = None
    text: bool = False


@dataclass(frozen=True)
class Plan:
    """The columns that a step gives, and flags without axes: where one is set, the step refuses the rows."""

    columns: Sequence[Given]
    faults: Sequence[Callable[[Ops, Columns], str]] = ()


def any_row(ops: Ops, flags: str) -> str:
    """One flag without axes: whether any of them is set."""
    return ops.add("Greater", ops.add("ReduceSum", ops.cast(flags, _INT64), keepdims=0), 0)


def is_missing_text(ops: Ops, column: Column) -> str:
    """Per row whether a text is missing, shape (rows, 1)."""
    found = ops.add(
        "LabelEncoder", column.name, domain=ML, keys_strings=[MISSING_TEXT], values_int64s=[1], default_int64=0
    )
    return ops.cast(found, _BOOL)


Kinds = Sequence[ColumnKind]
# Of a number: what becomes of it, as a tensor's name.
Change = Callable[[Ops, str], str]


def number(ops: Ops, columns: Columns, place: int) -> str:
    """A column as numbers of the arithmetic, shape (rows, 1)."""
    column = columns[place]
    return ops.cast(column.name) if column.kind == "whole" else column.name


def of_column(change: Change, place: int) -> Given:
    return Given(write=lambda ops, columns: change(ops, number(ops, columns, place)))


def _require_number(part: Any, label: Any, kind: ColumnKind) -> None:
    if kind == "text":
        raise ConversionError(
            f"{type(part).__name__} takes numbers, and its column {label!r} holds text here",
            hint="give a sample whose columns hold what the model was trained on",
        )


def changed(part: Any, kinds: Kinds, changes: Mapping[Any, Change]) -> list[Given]:
    """All columns in their places, those of ``changes`` changed."""
    columns = []
    for place, label in enumerate(frame_steps.labels(part)):
        if label in changes:
            _require_number(part, label, kinds[place])
            columns.append(of_column(changes[label], place))
        else:
            columns.append(Given(place))
    return columns


def faulty(part: Any, labels: Sequence[Any], wrong: Callable[[Ops, str], str]) -> list[Callable[[Ops, Columns], str]]:
    """For each column a flag whether any of its numbers is ``wrong``."""
    places = [frame_steps.labels(part).index(label) for label in labels]
    return [
        lambda ops, columns, place=place: any_row(ops, wrong(ops, number(ops, columns, place)))  # type: ignore[misc]
        for place in places
    ]


def _not_finite(ops: Ops, x: str) -> str:
    return ops.add("IsNaN", ops.add("Mul", x, 0.0))


def finite(part: Any, labels: Sequence[Any], kinds: Kinds) -> list[Callable[[Ops, Columns], str]]:
    names = frame_steps.labels(part)
    for label in labels:
        _require_number(part, label, kinds[names.index(label)])
    return faulty(part, [label for label in labels if kinds[names.index(label)] == "number"], _not_finite)


def dotted(part: Any) -> str:
    """A class as its users import it: ``category_encoders.TargetEncoder``, ``feature_engine.encoding.MeanEncoder``."""
    parts = type(part).__module__.split(".")
    return ".".join([*parts[: 1 if parts[0] == "category_encoders" else 2], type(part).__name__])


_INT64, _BOOL = 7, 9  # TensorProto's
