"""How the original and the ONNX model take odd inputs: what is missing, infinite, huge, unknown, or nothing at all.

Where the original refuses them, or answers otherwise than the graph, the package refuses them too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.error_text import first_line
from converters.graph.session import Session
from converters.proof.samples import Table
from converters.sklearn import rows
from converters.sklearn.original import Asked
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
SAID = {
    "nan": "missing numbers",
    "infinity": "infinite numbers",
    "minus_infinity": "numbers of minus infinity",
    "huge": "numbers too large for float32",
    "enormous": "numbers too large for float32 even when scaled",
    "empty": "no rows",
}
UNUSUAL = ("infinity", "minus_infinity", "huge", "enormous", "empty")
REFUSED = ("rejected", "differs")


@dataclass(frozen=True)
class Treated:
    """How one kind of input is taken.

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
class Oddities:
    """Kinds of numbers and the empty batch; by column an unknown category, a missing text, and a missing number.

    The last is asked by column only where some columns may be missing and others not.
    """

    kinds: Mapping[str, Treated]
    unknown: Mapping[str, Treated]
    missing: Mapping[str, Treated]
    numbers: Mapping[str, Treated]

    @property
    def faults(self) -> list[str]:
        """What the original answers and the graph answers otherwise."""
        found = [
            SAID[kind]
            for kind, treated in self.kinds.items()
            if treated.verdict == "differs" and not (kind == "nan" and self.numbers)
        ]
        for told, by_column in (("an unknown", self.unknown), ("no", {**self.missing, **self.numbers})):
            found += [f"{told} {name!r}" for name, treated in by_column.items() if treated.verdict == "differs"]
        return found

    @property
    def grave(self) -> bool:
        """Whether one of them is an input that people do send, so that another way of converting is worth trying."""
        return bool(set(self.faults) - {SAID[kind] for kind in UNUSUAL})

    @property
    def rejects(self) -> dict[str, bool]:
        """The manifest's field."""
        kinds = self.kinds
        never = {kind: treated.verdict == "none" for kind, treated in kinds.items()}
        return {
            "nan": never["nan"] or (kinds["nan"].refused and all(column.refused for column in self.numbers.values())),
            "infinity": kinds["infinity"].refused or kinds["minus_infinity"].refused or never["infinity"],
            "huge": kinds["huge"].refused or kinds["enormous"].refused,
            "empty": kinds["empty"].refused,
        }

    def to_json(self) -> dict[str, Any]:
        """The report's field."""
        found = {kind: treated.to_json() for kind, treated in self.kinds.items()}
        for told, by_column in (("unknown", self.unknown), ("missing", {**self.missing, **self.numbers})):
            found |= {f"{told} {name!r}": treated.to_json() for name, treated in by_column.items()}
        return found


def find(
    session: Session, asked: Asked, comparer: Comparer, outputs: Sequence[Answer], known: Sequence[Column]
) -> Oddities:
    """Ask the original and the graph, on some of the rows that they were compared on."""

    def treated(table: Table | None) -> Treated:
        if table is None:
            return Treated("none")
        return _treated(session, Asked(asked.original, asked.inputs, table), comparer, outputs)

    table = asked.table
    kinds = {kind: treated(rows.with_odd_values(table, value)) for kind, value in NUMBERS.items()}
    kinds["empty"] = treated(table.take(slice(0, 0)))
    if "float64" not in asked.inputs.dtypes:  # float32 does not hold it: the server refuses it for that
        kinds |= dict.fromkeys(("huge", "enormous"), Treated("none"))
    unknown, missing = {}, {}
    for index, (name, column) in enumerate(zip(table.names, table.columns, strict=True)):
        if asked.inputs.unused[index]:
            continue
        if column.dtype.kind == "O":
            missing[name] = treated(rows.missing(table, index))
        if known[index].categories and asked.inputs.layout != "matrix":
            unknown[name] = treated(rows.unseen(table, index, known[index]))
    numbers = {}
    if kinds["nan"].refused and _by_column(asked.original.model):
        numbers = {
            name: treated(rows.with_odd_values(table, NUMBERS["nan"], [index]))
            for index, (name, column) in enumerate(zip(table.names, table.columns, strict=True))
            if column.dtype.kind == "f" and not asked.inputs.unused[index]
        }
    return Oddities(kinds, unknown, missing, numbers)


def _by_column(model: Any) -> bool:
    """Whether a part of the model treats columns apart, so that a number may be missing in some of them."""
    return any(
        hasattr(part, "transformers_") or type(part).__name__.endswith(("Imputer", "MissingIndicator"))
        for part in rows.walk(model)
    )


def _treated(session: Session, odd: Asked, comparer: Comparer, outputs: Sequence[Answer]) -> Treated:
    original = onnx = "answers"
    try:
        for answer in outputs:
            odd.answer(answer.method, answer.meaning.part)
    except ConversionError as error:
        original = f"refuses ({first_line(error.__cause__ or error)})"
    try:
        session.run(odd.inputs.feeds(odd.table))
    except ConversionError as error:
        onnx = f"fails ({first_line(error.__cause__ or error)})"
    if original != "answers":
        return Treated("rejected", original, onnx)
    try:
        equal = all(proof.passed for proof in prove(session, odd, comparer, outputs))
    except ConversionError:
        equal = False
    return Treated("equal" if equal else "differs", original, onnx)
