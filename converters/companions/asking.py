"""What an encoder makes of a column's values, found by asking the fitted encoder itself.

It is given every value that it has learnt, a value that it has not, and a missing one. So the answers are its own,
whatever its options and its version. What it makes of a value must depend on that column alone.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from converters.companions import frame_steps
from edgepack.errors import ConversionError

UNKNOWN_TEXTS = ("\ue000 unknown", "\ue001 unknown as well")
# Cells of the answers that are asked for at most: an encoder of n categories into n columns gives n squared.
MOST_CELLS = 30_000_000


@dataclass(frozen=True)
class Lookup:
    """What becomes of one column: by output a value for each of ``known`` and, last, for an unknown one.

    The last of ``known`` is NaN. ``refuses_unknown`` and ``refuses_missing``: there is no answer then, and the output
    has any value there. ``rounds``: whole numbers beyond 2**53 are looked up as float64 holds them.
    """

    place: int
    known: tuple[Any, ...]
    outputs: Mapping[int, tuple[Any, ...]]
    refuses_unknown: bool
    refuses_missing: bool
    rounds: bool = False


@dataclass(frozen=True)
class Asked:
    """All columns that an encoder gives: those passed on by their place, those looked up, and those of one value."""

    count: int
    passed: Mapping[int, int]
    lookups: tuple[Lookup, ...]
    constants: Mapping[int, Any]


def ask(part: Any) -> Asked:
    """Ask an encoder. Raises ``ConversionError`` where an output depends on several columns, or on the values' text."""
    names, known = frame_steps.labels(part), frame_steps.known(part)
    base = {place: _base(known.get(place, [0.0])) for place in range(len(names))}
    first = _answer(part, names, known, [base])
    outputs = _outputs(part)
    if sum(map(len, known.values())) * len(outputs) > MOST_CELLS:
        raise ConversionError(
            f"{type(part).__name__} has so many categories that a table of their codes would be too large",
            hint="use an encoder of one column for each, such as OrdinalEncoder or TargetEncoder",
        )
    passed = {
        place: names.index(name)
        for place, name in enumerate(outputs)
        if name in names and names.index(name) not in known
    }
    owner: dict[int, int] = {}
    found = []
    for place, values in known.items():
        lookup = _lookup(part, names, known, base, place, values)
        changing = {
            output: column
            for output, column in lookup.outputs.items()
            if output not in passed and any(not _same(value, first[0][output]) for value in column)
        }
        for output in changing:
            if output in owner:
                raise ConversionError(
                    f"{type(part).__name__} makes a column of several columns at once, which is not converted",
                    hint="encode each column by itself",
                )
            owner[output] = place
        found.append(replace(lookup, outputs=changing))
    constants = {
        output: first[0][output] for output in range(len(outputs)) if output not in passed and output not in owner
    }
    return Asked(len(outputs), passed, tuple(found), constants)


def lookups(part: Any) -> dict[int, Lookup]:
    """By column what an encoder makes of it; none of one that cannot be asked."""
    try:
        return {found.place: found for found in ask(part).lookups}
    except Exception:  # noqa: BLE001 - its converter will say so
        return {}


def _lookup(
    part: Any,
    names: Sequence[Any],
    known: Mapping[int, list[Any]],
    base: Mapping[int, Any],
    place: int,
    values: list[Any],
) -> Lookup:
    present = [value for value in values if not frame_steps.is_missing(value)]
    rows = _answer(part, names, known, [{**base, place: value} for value in present]) if present else []
    missing = _tried(part, names, known, {**base, place: float("nan")})
    one, other = (_tried(part, names, known, {**base, place: value}) for value in _unknown(present))
    if one is not None and other is not None and not all(map(_same, one, other)):
        raise ConversionError(
            f"{type(part).__name__} answers a category that it has not learnt by its text, which is not converted",
            hint="use an encoder that takes all unknown categories alike",
        )
    refuses_unknown, refuses_missing = one is None or other is None, missing is None
    fallback = rows[0] if rows else missing or one
    if fallback is None:
        raise ConversionError(f"{type(part).__name__} answers no value of a column", hint="leave that column out")
    table = [*rows, missing or fallback, (None if refuses_unknown else one) or fallback]
    columns = {output: tuple(row[output] for row in table) for output in range(len(fallback))}
    rounds = False
    if wide := [value for value in present if isinstance(value, int) and abs(value) > frame_steps.EXACT]:
        near = _tried(part, names, known, {**base, place: wide[0] + (1 if wide[0] + 1 not in present else -1)})
        rounds = near is not None and all(map(_same, near, rows[present.index(wide[0])]))
    return Lookup(place, (*present, float("nan")), columns, refuses_unknown, refuses_missing, rounds)


def _answer(
    part: Any, names: Sequence[Any], known: Mapping[int, list[Any]], rows: Sequence[Mapping[int, Any]]
) -> list[list[Any]]:
    """What the encoder gives for rows of values by column; raises whatever it raises."""
    import numpy as np
    import pandas as pd  # type: ignore[import-untyped, unused-ignore]

    table = {name: _column([row[place] for row in rows]) for place, name in enumerate(names)}
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        answer = part.transform(pd.DataFrame(table, columns=list(names)))
    cells = answer.to_numpy(dtype=object) if hasattr(answer, "to_numpy") else np.asarray(answer, dtype=object)
    return [list(row) for row in cells]


def _tried(part: Any, names: Sequence[Any], known: Mapping[int, list[Any]], row: Mapping[int, Any]) -> list[Any] | None:
    try:
        return _answer(part, names, known, [row])[0]
    except Exception:  # noqa: BLE001 - a library refuses in any way, and each means the same here
        return None


def _outputs(part: Any) -> list[Any]:
    return list(part.get_feature_names_out())


def _base(values: Sequence[Any]) -> Any:
    return next((value for value in values if not frame_steps.is_missing(value)), float("nan"))


def _column(values: list[Any]) -> Any:
    """A column of a frame: of text, of whole numbers, of flags, or of numbers."""
    import numpy as np

    present = [value for value in values if not frame_steps.is_missing(value)]
    if any(isinstance(value, str) for value in present):
        return np.array(values, dtype=object)
    if present and len(present) == len(values) and all(isinstance(value, bool) for value in present):
        return np.array(values, dtype=bool)
    if present and len(present) == len(values) and all(isinstance(value, int) for value in present):
        return np.array(values, dtype=np.int64)
    return np.array(values, dtype=np.float64)


def _unknown(present: Sequence[Any]) -> tuple[Any, Any]:
    if all(isinstance(value, str) for value in present):
        return UNKNOWN_TEXTS
    numbers = {float(value) for value in present}
    start = int(max(0.0, *(value for value in numbers if value < frame_steps.EXACT))) if numbers else 0
    one, other, *_ = [value for value in range(start + 1, start + 4 + len(numbers)) if float(value) not in numbers]
    return one, other


def _same(left: Any, right: Any) -> bool:
    return bool(left == right) or (frame_steps.is_missing(left) and frame_steps.is_missing(right))
