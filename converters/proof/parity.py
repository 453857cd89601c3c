"""Are two arrays of answers equal, and if not by how much: the gate that every conversion passes or fails."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from converters.package.manifest import ATOL, RTOL
from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError

# For the report's plots: how many pairs of answers it shows, and the decades of the differences that it counts.
POINTS = 200
DECADES = range(-16, 3)
# How many differing rows are shown.
EXAMPLES = 5
# The largest differences that a user is told how to accept: of values, relative, and of labels, the share of rows.
ACCEPTABLE_DIFFERENCE = 0.1
ACCEPTABLE_SHARE = 0.01


class MismatchError(ConversionError):
    """The graph was made and runs, and an output of it differs from the original's, as ``parity`` says."""

    def __init__(self, what: str, *, hint: str, parity: OutputParity) -> None:
        self.parity = parity
        super().__init__(what, hint=hint)


@dataclass(frozen=True)
class OutputParity:
    """How one output of the ONNX model compares with the original's method, over ``rows`` rows.

    ``max_rel`` is relative to the original, over values larger than ``ATOL``. ``differing`` rows are outside of
    the tolerance; of these, ``ties`` are labels whose lead in the original is too small for the ONNX model's numbers.
    ``tolerance`` is the relative difference that was allowed, for labels the share of rows; ``accepted`` says that
    the user asked for it, ``needed`` is the least that every row would be within: None where all are within, or where
    none would do. ``sketch`` is for plots, and has some of the rows that differ.
    """

    name: str
    method: str
    rows: int
    max_abs: float
    max_rel: float
    label_agreement: float | None
    differing: int
    ties: int
    first_row: int | None
    tolerance: float = RTOL
    accepted: bool = False
    needed: float | None = None
    sketch: dict[str, Any] = field(default_factory=dict, repr=False)

    @property
    def passed(self) -> bool:
        """Every row is within the tolerance, or such a tie."""
        allowed = self.tolerance * self.rows if self.label_agreement is not None and self.accepted else 0
        return self.differing - self.ties <= allowed

    def to_json(self) -> dict[str, Any]:
        """The report's entry."""
        return asdict(self) | {"passed": self.passed}

    def refusal(self) -> MismatchError:
        """Why a model with this output is not delivered."""
        if self.label_agreement is not None:
            numbers = f"labels agree on {self.label_agreement:.2%} of {self.rows} rows"
        else:
            numbers = (
                f"{self.differing} of {self.rows} rows differ, by up to {self.max_abs:.3g} "
                f"(relative {self.max_rel:.3g}, allowed {self.tolerance:g})"
            )
        return MismatchError(
            f'output "{self.name}" of the ONNX model does not match {self.method} of the original: {numbers}',
            hint=self._way_out(),
            parity=self,
        )

    def _way_out(self) -> str:
        """A tolerance is named where it is small, and where it would do for the rows that were compared."""
        most = ACCEPTABLE_SHARE if self.label_agreement is not None else ACCEPTABLE_DIFFERENCE
        if self.needed is None or self.needed > most:
            return SCRIPT
        kind = "such rows are" if self.label_agreement is not None else "such a difference is"
        return f"if {kind} acceptable, --tolerance {self.name}={_rounded_up(self.needed)}, else {SCRIPT}"


def compare_values(
    name: str, method: str, original: Any, converted: Any, accepted: float | None = None
) -> OutputParity:
    """Compare numbers, row by row; NaN equals NaN, and an infinity itself.

    ``accepted`` is the relative difference that the user allows in place of ``RTOL``. Raises ``ConversionError`` where
    the shapes differ.
    """
    import numpy as np

    left, right = _same_shape(name, method, original, converted)
    tolerance = RTOL if accepted is None else accepted
    left, right = left.astype(np.float64), right.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.where(same, 0.0, np.abs(left - right))
        allowed = ATOL + tolerance * np.abs(left)
        off = ~(same | (distance <= allowed))
        large = np.abs(left) > ATOL
        relative = np.where(large & ~same, distance / np.where(large, np.abs(left), 1.0), 0.0)
    bad = off.any(axis=tuple(range(1, off.ndim)))
    return OutputParity(
        name=name,
        method=method,
        rows=len(left),
        max_abs=_largest(distance),
        max_rel=_largest(relative),
        label_agreement=None,
        differing=int(bad.sum()),
        ties=0,
        first_row=int(bad.argmax()) if bad.any() else None,
        tolerance=tolerance,
        accepted=accepted is not None,
        needed=_tolerance_needed(left, distance, off),
        sketch=_sketch(left, right, distance) | _examples(left, right, bad),
    )


def compare_labels(
    name: str,
    method: str,
    original: Any,
    converted: Any,
    margin: Any | None = None,
    resolution: float = 0.0,
    accepted: float | None = None,
) -> OutputParity:
    """Compare labels; ``margin`` is, for each row, how far the original's best class is ahead of the next.

    A lead of at most ``resolution`` is one that the ONNX model's numbers cannot hold, and may be lost. An exact tie is
    none: there the original's choice is a rule, which the ONNX model has to keep. ``accepted`` is the share of rows
    whose label may differ, where the user allows some.
    """
    import numpy as np

    left, right = _same_shape(name, method, original, converted)
    if left.dtype.kind in "fiub" and right.dtype.kind in "fiub":
        bad = left != right
    else:
        bad = left.astype(str) != right.astype(str)
    bad = bad.any(axis=tuple(range(1, bad.ndim)))
    ties = 0
    if margin is not None:
        lead = np.abs(margin)
        ties = int((bad & (lead > 0) & (lead <= resolution)).sum())
    return OutputParity(
        name=name,
        method=method,
        rows=len(left),
        max_abs=0.0,
        max_rel=0.0,
        label_agreement=float(1.0 - bad.mean()) if bad.size else 1.0,
        differing=int(bad.sum()),
        ties=ties,
        first_row=int(bad.argmax()) if bad.any() else None,
        tolerance=0.0 if accepted is None else accepted,
        accepted=accepted is not None,
        needed=float(bad.sum() - ties) / len(left) if bad.sum() > ties else None,
        sketch=_examples(left, right, bad),
    )


def _tolerance_needed(left: Any, distance: Any, off: Any) -> float | None:
    """The least relative difference that all values would be within; None where none are off, or none would do."""
    import numpy as np

    if not off.any():
        return None
    with np.errstate(all="ignore"):
        needed = float(np.max((distance[off] - ATOL) / np.abs(left[off])))
    return needed if np.isfinite(needed) else None


def _rounded_up(number: float) -> str:
    """A number of one digit that is not smaller."""
    import math

    unit = 10.0 ** math.floor(math.log10(number))
    return f"{math.ceil(number / unit * 1.0001) * unit:.0e}".replace("e-0", "e-")


def _examples(left: Any, right: Any, bad: Any) -> dict[str, Any]:
    """Some of the rows that differ, with both answers; empty where none do."""
    import numpy as np

    if not bad.any():
        return {}
    rows = np.flatnonzero(bad)[:EXAMPLES].tolist()
    return {
        "differing": [{"row": row, "original": _shown(left[row]), "onnx": _shown(right[row])} for row in rows],
    }


def _shown(answer: Any) -> Any:
    """An answer to one row as JSON has it, of a large one the first values; numbers that JSON lacks as text."""
    import math

    import numpy as np

    values = np.ravel(answer)[:EXAMPLES].tolist()
    plain = [str(value) if isinstance(value, float) and not math.isfinite(value) else value for value in values]
    return plain[0] if np.ndim(answer) == 0 and plain else plain


def _sketch(left: Any, right: Any, distance: Any) -> dict[str, Any]:
    """What the report's plots show: differences counted by decade, and some pairs of answers, evenly picked."""
    import numpy as np

    finite = np.isfinite(left) & np.isfinite(right)
    decades = np.floor(np.log10(np.clip(distance[finite], 10.0 ** DECADES[0], 10.0 ** DECADES[-1]))).astype(int)
    counts = {str(decade): int((decades == decade).sum()) for decade in DECADES if (decades == decade).any()}
    pairs = np.column_stack([left[finite], right[finite]])
    picked = pairs[np.linspace(0, len(pairs) - 1, min(POINTS, len(pairs))).astype(int)] if len(pairs) else pairs
    return {"decades": counts, "points": [[float(f"{value:.6g}") for value in pair] for pair in picked.tolist()]}


def summary(outputs: list[OutputParity]) -> dict[str, Any]:
    """The manifest's field ``parity``; the rows of the longest comparison."""
    agreements = [output.label_agreement for output in outputs if output.label_agreement is not None]
    return {
        "rows": max((output.rows for output in outputs), default=0),
        "max_abs": max((output.max_abs for output in outputs), default=0.0),
        "max_rel": max((output.max_rel for output in outputs), default=0.0),
        "label_agreement": min(agreements) if agreements else None,
        "passed": all(output.passed for output in outputs),
        "accepted": {output.name: output.tolerance for output in outputs if output.accepted},
    }


def _same_shape(name: str, method: str, original: Any, converted: Any) -> tuple[Any, Any]:
    import numpy as np

    left, right = np.asarray(original), np.asarray(converted)
    if left.shape != right.shape:
        raise ConversionError(
            f'output "{name}" of the ONNX model has shape {right.shape}, {method} of the original {left.shape}',
            hint=SCRIPT,
        )
    return left, right


def _largest(values: Any) -> float:
    """The largest value; infinity for what cannot be measured, so that it never looks small."""
    import numpy as np

    return float(np.nan_to_num(values, nan=np.inf).max()) if values.size else 0.0
