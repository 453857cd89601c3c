"""How the original and the ONNX model treat unusual inputs: missing, infinite, huge and unknown values, no rows.

Where the original refuses them, or answers otherwise than the graph, the package refuses them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters import routes
from converters.companions.frame_steps import is_frame_step
from converters.error_text import first_line
from converters.graph.session import Session
from converters.proof.samples import Table
from converters.sklearn import rows
from converters.sklearn.original import Expected
from converters.sklearn.proof import Answer, Comparer, prove
from converters.sklearn.training_columns import Column
from edgepack.errors import ConversionError

NUMBERS = {
    "nan": float("nan"),
    "infinity": float("inf"),
    "minus_infinity": float("-inf"),
    "huge": 1e39,
    # Still too large for float32 when a scaler has made it smaller.
    "enormous": 1e300,
}
DESCRIPTIONS = {
    "nan": "missing numbers",
    "infinity": "infinite numbers",
    "minus_infinity": "numbers of minus infinity",
    "huge": "numbers too large for float32",
    "enormous": "numbers too large for float32 even when scaled",
    "empty": "no rows",
}
RARE = ("infinity", "minus_infinity", "huge", "enormous", "empty")
REFUSED = ("rejected", "differs")


@dataclass(frozen=True)
class Treatment:
    """How one kind of input is treated.

    ``verdict`` is ``rejected`` where the original refuses it, ``equal``, ``differs``, or ``none`` where no input can be
    such; ``original`` and ``onnx`` say what each does.
    """

    verdict: str
    original: str = ""
    onnx: str = ""

    @property
    def refused(self) -> bool:
        """Whether the package has to refuse it."""
        return self.verdict in REFUSED

    def to_json(self) -> dict[str, str]:
        """The report's entry."""
        return {name: value for name, value in vars(self).items() if value}


@dataclass(frozen=True)
class UnusualInputs:
    """Kinds of numbers and the empty batch; by column an unknown category, a missing text, and a missing number.

    The last is tried by column only where some columns may be missing and others not.
    """

    kinds: Mapping[str, Treatment]
    unknown: Mapping[str, Treatment]
    missing: Mapping[str, Treatment]
    numbers: Mapping[str, Treatment]

    @property
    def faults(self) -> list[str]:
        """What the original answers and the graph answers otherwise."""
        found = [
            DESCRIPTIONS[kind]
            for kind, treatment in self.kinds.items()
            if treatment.verdict == "differs" and not (kind == "nan" and self.numbers)
        ]
        for label, by_column in (("an unknown", self.unknown), ("no", {**self.missing, **self.numbers})):
            found += [f"{label} {name!r}" for name, treatment in by_column.items() if treatment.verdict == "differs"]
        return found

    @property
    def serious(self) -> bool:
        """Whether one of them is an input that is common in use, so that another attempt is worth trying."""
        return bool(set(self.faults) - {DESCRIPTIONS[kind] for kind in RARE})

    @property
    def rejects(self) -> dict[str, bool]:
        """The manifest's field."""
        kinds = self.kinds
        never = {kind: treatment.verdict == "none" for kind, treatment in kinds.items()}
        return {
            "nan": never["nan"] or (kinds["nan"].refused and all(column.refused for column in self.numbers.values())),
            "infinity": kinds["infinity"].refused or kinds["minus_infinity"].refused or never["infinity"],
            "huge": kinds["huge"].refused or kinds["enormous"].refused,
            "empty": kinds["empty"].refused,
        }

    def to_json(self) -> dict[str, Any]:
        """The report's field."""
        found = {kind: treatment.to_json() for kind, treatment in self.kinds.items()}
        for label, by_column in (("unknown", self.unknown), ("missing", {**self.missing, **self.numbers})):
            found |= {f"{label} {name!r}": treatment.to_json() for name, treatment in by_column.items()}
        return found


def find(
    session: Session,
    expected: Expected,
    comparer: Comparer,
    outputs: Sequence[Answer],
    trained: Sequence[Column],
) -> UnusualInputs:
    """Run the original and the graph on some of the rows that they were compared on."""

    def treatment(table: Table | None) -> Treatment:
        if table is None:
            return Treatment("none")
        return _treatment(session, Expected(expected.original, expected.inputs, table), comparer, outputs)

    table = expected.table
    kinds = {kind: treatment(rows.with_unusual_values(table, value)) for kind, value in NUMBERS.items()}
    kinds["empty"] = treatment(table.take(slice(0, 0)))
    if "float64" not in expected.inputs.dtypes:  # float32 does not hold it: the server refuses it for that
        kinds |= dict.fromkeys(("huge", "enormous"), Treatment("none"))
    unknown, missing = {}, {}
    for index, (name, column) in enumerate(zip(table.names, table.columns, strict=True)):
        if expected.inputs.unused[index]:
            continue
        if column.dtype.kind == "O":
            missing[name] = treatment(rows.missing(table, index))
        if trained[index].categories and expected.inputs.layout != "matrix":
            unknown[name] = treatment(rows.unseen(table, index, trained[index]))
    numbers = {}
    if kinds["nan"].refused and _by_column(expected.original.model):
        numbers = {
            name: treatment(rows.with_unusual_values(table, NUMBERS["nan"], [index]))
            for index, (name, column) in enumerate(zip(table.names, table.columns, strict=True))
            if column.dtype.kind == "f" and not expected.inputs.unused[index]
        }
    return UnusualInputs(kinds, unknown, missing, numbers)


def _by_column(model: Any) -> bool:
    """Whether a part of the model treats columns apart, so that a number may be missing in some of them."""
    return any(
        hasattr(part, "transformers_")
        or is_frame_step(part)
        or type(part).__name__.endswith(("Imputer", "MissingIndicator"))
        for part in routes.walk(model)
    )


def _treatment(session: Session, unusual: Expected, comparer: Comparer, outputs: Sequence[Answer]) -> Treatment:
    original = onnx = "answers"
    try:
        for answer in outputs:
            unusual.answer(answer.method, answer.meaning.part)
    except ConversionError as error:
        original = f"refuses ({first_line(error.__cause__ or error)})"
    try:
        session.run(unusual.inputs.feeds(unusual.table))
    except ConversionError as error:
        onnx = f"fails ({first_line(error.__cause__ or error)})"
    if original != "answers":
        return Treatment("rejected", original, onnx)
    try:
        equal = all(proof.passed for proof in prove(session, unusual, comparer, outputs))
    except ConversionError:
        equal = False
    return Treatment("equal" if equal else "differs", original, onnx)
