"""Values for models whose inputs are named tensors of any rank: plausible, unusual, and the user's own.

Neutral to frameworks. ``converters.proof.comparison.prove`` compares with these values. Runs inside the sandbox only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from converters.proof import sample_text, samples
from converters.proof.specs import WORDS, Spec
from edgepack.errors import UsageError

SEED = 20_240_517
# For axes of any length, where nothing else is known.
USUAL_LENGTH = 12
HUGE = 1e39  # finite as float64, not as float32
SHORT_ROW = 32  # halves up to 8 of both signs
_UNUSUAL = {
    ("nan", "f"): float("nan"),
    ("infinity", "f"): float("inf"),
    ("huge", "f"): HUGE,
    ("negative", "i"): -1,
}


def random_feeds(specs: Sequence[Spec], rows: int, seed: int = SEED, length: int = USUAL_LENGTH) -> dict[str, Any]:
    """Random values, the same for the same arguments: by input name an array with ``rows`` rows.

    Floats are standard normal, one row in eight ten times as large; whole numbers lie within the range, its ends
    among them; half of the cells of an input with ``values`` are such a value (for floats, or one ulp beside it).
    """
    import numpy as np

    random = np.random.default_rng([seed, rows, length])
    return {spec.name: _draw(spec, spec.sized(rows, length), random) for spec in specs}


def _draw(spec: Spec, shape: tuple[int, ...], random: Any) -> Any:
    import numpy as np

    cells: Any
    if spec.kind == "bool":
        cells = random.random(shape) < 0.5
    elif spec.kind == "string":
        cells = np.array(WORDS, dtype=object)[random.integers(0, len(WORDS), shape)]
    elif spec.kind == "int":
        cells = _whole_numbers(spec, shape, random)
    else:
        cells = random.standard_normal(shape)
        if shape:
            cells[7::8] *= 10
    if spec.values:
        dtype = object if spec.kind == "string" else spec.dtype
        chosen = np.array(spec.values, dtype=dtype)[random.integers(0, len(spec.values), shape)]
        if spec.kind == "float":
            aside = np.array([-np.inf, np.inf, 0], dtype=spec.dtype)[random.integers(0, 3, shape)]
            beside = np.where(aside == 0, chosen, np.nextafter(chosen, aside))
            # Beside 0 the least normal number: frameworks differ in whether they flush smaller ones.
            tiny = np.finfo(spec.dtype).tiny
            chosen = np.where((beside != 0) & (np.abs(beside) < tiny), np.copysign(tiny, beside), beside)
        cells = chosen if spec.closed else np.where(random.random(shape) < 0.5, chosen, cells)
    return np.asarray(cells, dtype=object) if spec.kind == "string" else np.asarray(cells).astype(spec.dtype)


def _whole_numbers(spec: Spec, shape: tuple[int, ...], random: Any) -> Any:
    """Mostly small ones, which are common in every use: classes, counts, frequent words; of both signs if allowed."""
    import numpy as np

    low = 0 if spec.low is None else spec.low
    high = max(low, 1 if spec.high is None else spec.high)
    least = max(low, 0)
    tops = np.minimum(np.array([least + 2, least + 10, high, high]), high)[random.integers(0, 4, shape)]
    cells = least + np.floor(random.random(shape) * (tops - least + 1)).astype(np.int64)
    if low < 0:
        cells = np.where(random.random(shape) < 0.25, np.maximum(low, -cells), cells)
    ends = random.random(shape)
    return np.where(ends < 0.03, low, np.where(ends > 0.97, high, cells))


def unusual(values: Mapping[str, Any], kind: str, specs: Sequence[Spec] = ()) -> dict[str, Any] | None:
    """A copy of the feeds with unusual values in about a tenth of the cells; None where no input can hold them.

    ``kind`` is ``nan``, ``infinity``, ``huge`` (1e39, float64 only), ``zeros`` (everywhere), ``halves`` (multiples of
    a half everywhere, which are whole, in the middle, and each other's multiples), ``masked`` (True everywhere in the
    flags of the first row, False in those of the second), ``empty`` (no rows), ``negative`` (a whole number below 0),
    or ``unknown`` (what ``specs`` say that the original was not found to take).
    """
    import numpy as np

    if kind == "empty":
        return {name: array[:0] for name, array in values.items()} if all(map(np.ndim, values.values())) else None
    if kind == "zeros":
        return {name: np.full_like(array, "" if array.dtype == object else 0) for name, array in values.items()}
    if kind == "masked":
        flags = {name: array.copy() for name, array in values.items() if array.dtype == np.bool_ and array.size}
        for array in flags.values():
            array[(slice(0, 1),) if array.ndim else ()] = True
            if array.ndim:
                array[1:2] = False
        return {**values, **flags} if flags else None
    if kind == "halves":
        return _halves(values)
    outside = {spec.name: spec.unknown for spec in specs if kind == "unknown" and spec.unknown is not None}
    random = np.random.default_rng(SEED)
    changed = {}
    for name, array in values.items():
        value = outside.get(name, _UNUSUAL.get((kind, array.dtype.kind)))
        if value is None or not array.size or (kind == "huge" and array.dtype != np.float64):
            continue
        cells = random.random(array.shape) < 0.1
        cells.reshape(len(array) if array.ndim else 1, -1)[:, 0] = True
        changed[name] = np.where(cells, np.array(value, dtype=array.dtype), array)
    return {**values, **changed} if changed else None


def _halves(values: Mapping[str, Any]) -> dict[str, Any] | None:
    """The feeds with multiples of a half in the place of fractions, in a short row each only once."""
    import numpy as np

    random = np.random.default_rng(SEED)
    changed = {}
    for name, array in values.items():
        if array.dtype.kind != "f" or not array.size:
            continue
        rows = array.reshape(len(array) if array.ndim else 1, -1)
        width = rows.shape[1]
        once = np.tile(np.arange(SHORT_ROW), (len(rows), 1)) if width <= SHORT_ROW else None
        cells = random.integers(0, SHORT_ROW, rows.shape) if once is None else random.permuted(once, axis=1)[:, :width]
        changed[name] = ((cells - SHORT_ROW // 2) / 2).reshape(array.shape).astype(array.dtype)
    return {**values, **changed} if changed else None


def sample_feeds(specs: Sequence[Spec], path: Path) -> dict[str, Any]:
    """The rows of a user's file as feeds; see ``samples.arrays`` for its forms.

    Arrays are matched by the inputs' names; a model with one input also takes all columns of a table as its one.
    Raises ``UsageError`` where the file does not fit.
    """
    given = samples.arrays(path)
    if given is None:
        given = _from_table(specs, samples.read(path))
        _require_numbers(specs, given, path)
    missing = [spec.name for spec in specs if spec.name not in given]
    if missing and len(specs) == 1 and len(given) == 1:
        given = {specs[0].name: next(iter(given.values()))}
    elif missing:
        raise UsageError(
            f"the sample lacks the model's input {missing[0]!r} (it has {', '.join(map(repr, given)) or 'none'})",
            hint="give a .npz file with an array for each input, by its name",
        )
    return {spec.name: _fitted(spec, given[spec.name]) for spec in specs}


def _from_table(specs: Sequence[Spec], table: samples.Table) -> dict[str, Any]:
    if len(specs) == 1 and specs[0].name not in table.names and table.numeric:
        return {specs[0].name: table.matrix()}
    return dict(zip(table.names, table.columns, strict=True))


def _require_numbers(specs: Sequence[Spec], given: Mapping[str, Any], path: Path) -> None:
    """Raise ``UsageError`` for a cell of text among the numbers that an input takes."""
    numeric = {spec.name for spec in specs if spec.dtype != "string"}
    whole = len(specs) == 1 and bool(numeric) and specs[0].name not in given  # all columns are one input
    for cell in sample_text.text_cells(path):
        if whole or cell.column in numeric:
            raise cell.error(path.name)


def _fitted(spec: Spec, array: Any) -> Any:
    """The array in the input's dtype and rank."""
    import numpy as np

    inner = [axis for axis in spec.shape[1:] if axis is not None]
    array = np.asarray(array)
    fixed = len(inner) == len(spec.shape) - 1
    if array.ndim != len(spec.shape) and fixed and array.size % max(1, int(np.prod(inner, dtype=np.int64))) == 0:
        array = array.reshape(-1, *inner)
    pairs = zip(array.shape, spec.shape, strict=False)
    if array.ndim != len(spec.shape) or any(want is not None and have != want for have, want in pairs):
        raise UsageError(
            f"the sample's {spec.name!r} has shape {array.shape}, the model takes {_written(spec.shape)}",
            hint="give rows in the shape that the model takes",
        )
    if spec.dtype == "string":
        return array.astype(str).astype(object)
    kinds = {"float": "fiub", "int": "fiub", "bool": "b"}[spec.kind]
    whole = array.dtype.kind in "iub" or spec.kind != "int"
    if array.dtype.kind not in kinds or not (whole or (array == np.floor(array)).all()):
        raise UsageError(
            f"the sample's {spec.name!r} holds {'text' if array.dtype.kind == 'O' else array.dtype}, the model takes "
            f"{spec.dtype}",
            hint="give values of that type",
        )
    return array.astype(spec.dtype)


def _written(shape: Sequence[int | None]) -> str:
    return f"({', '.join('any' if axis is None else str(axis) for axis in shape)})"
