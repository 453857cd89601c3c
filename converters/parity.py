"""Are two arrays of answers equal, and if not by how much: the gate that every conversion passes or fails."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgepack.errors import ConversionError

RTOL = 1e-4
ATOL = 1e-5


@dataclass(frozen=True)
class OutputParity:
    """How one output of the ONNX model compares with the original's method, over ``rows`` rows.

    ``max_rel`` is relative to the original, over values larger than ``ATOL``. ``differing`` rows are outside of
    the tolerance; of these, ``ties`` are labels whose lead in the original is too small for float32.
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

    @property
    def passed(self) -> bool:
        """Every row is within the tolerance, or such a tie."""
        return self.differing == self.ties

    def to_json(self) -> dict[str, Any]:
        """The report's entry."""
        return asdict(self) | {"passed": self.passed}

    def refusal(self) -> ConversionError:
        """Why a model with this output is not delivered."""
        if self.label_agreement is not None:
            numbers = f"labels agree on {self.label_agreement:.2%} of {self.rows} rows"
        else:
            numbers = (
                f"{self.differing} of {self.rows} rows differ, by up to {self.max_abs:.3g} "
                f"(relative {self.max_rel:.3g}, allowed {RTOL:g})"
            )
        return ConversionError(
            f'output "{self.name}" of the ONNX model does not match {self.method} of the original: {numbers}',
            hint="give a sample of typical rows if the generated ones are not, train on float32 data, or export "
            "ONNX yourself and register that",
        )


def compare_values(name: str, method: str, original: Any, converted: Any) -> OutputParity:
    """Compare numbers, row by row; NaN equals NaN, and an infinity itself. Raises ``ConversionError`` on shapes."""
    import numpy as np

    left, right = _same_shape(name, method, original, converted)
    left, right = left.astype(np.float64), right.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(invalid="ignore", over="ignore"):
        distance = np.where(same, 0.0, np.abs(left - right))
        allowed = ATOL + RTOL * np.abs(left)
        off = ~(same | (distance <= allowed))
        large = np.abs(left) > ATOL
        relative = np.where(large & ~same, distance / np.where(large, np.abs(left), 1.0), 0.0)
    bad = off.reshape(len(left), -1).any(axis=1)
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
    )


def compare_labels(
    name: str, method: str, original: Any, converted: Any, margin: Any | None = None, resolution: float = 0.0
) -> OutputParity:
    """Compare labels; ``margin`` is, for each row, how far the original's best class is ahead of the next.

    A lead of at most ``resolution`` is one that float32 cannot hold, and may be lost. An exact tie is none: there
    the original's choice is a rule, which the ONNX model has to keep.
    """
    import numpy as np

    left, right = _same_shape(name, method, original, converted)
    if left.dtype.kind in "fiub" and right.dtype.kind in "fiub":
        bad = left != right
    else:
        bad = left.astype(str) != right.astype(str)
    bad = bad.reshape(len(left), -1).any(axis=1)
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
        label_agreement=float(1.0 - bad.mean()),
        differing=int(bad.sum()),
        ties=ties,
        first_row=int(bad.argmax()) if bad.any() else None,
    )


def summary(outputs: list[OutputParity]) -> dict[str, Any]:
    """The manifest's field ``parity``; the rows of the longest comparison."""
    agreements = [output.label_agreement for output in outputs if output.label_agreement is not None]
    return {
        "rows": max((output.rows for output in outputs), default=0),
        "max_abs": max((output.max_abs for output in outputs), default=0.0),
        "max_rel": max((output.max_rel for output in outputs), default=0.0),
        "label_agreement": min(agreements) if agreements else None,
        "passed": all(output.passed for output in outputs),
    }


def _same_shape(name: str, method: str, original: Any, converted: Any) -> tuple[Any, Any]:
    import numpy as np

    left, right = np.asarray(original), np.asarray(converted)
    if left.shape != right.shape:
        raise ConversionError(
            f'output "{name}" of the ONNX model has shape {right.shape}, {method} of the original {left.shape}',
            hint="export ONNX yourself and register that",
        )
    return left, right


def _largest(values: Any) -> float:
    """The largest value; infinity for what cannot be measured, so that it never looks small."""
    import numpy as np

    return float(np.nan_to_num(values, nan=np.inf).max()) if values.size else 0.0
