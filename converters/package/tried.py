"""What a conversion has tried so far, and the report of one that was refused (schema ``edgepack.refusal/v1``).

Written attempt by attempt, so that also a conversion that is stopped, or whose process ends, leaves what it tried.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgepack.documents import parse_object
from edgepack.errors import ConversionError, InvalidDocumentError

SCHEMA = "edgepack.refusal/v1"
TRIED_FILE = "tried.json"
REFUSAL_FILE = "refusal.json"
UNFINISHED = "not finished"
PARTS = (
    "scikit-learn", "skl2onnx", "xgboost", "lightgbm", "catboost", "tensorflow", "tensorflow-cpu", "keras", "tf2onnx",
    "torch", "onnxscript", "onnx", "onnxruntime", "numpy",
)  # fmt: skip
# What an attempt's entry holds of an output that differs.
NUMBERS = ("rows", "differing", "ties", "max_abs", "max_rel", "label_agreement", "tolerance")


class Tried:
    """The ways in which a conversion was tried, in order; kept in ``folder`` too, where there is one."""

    def __init__(self, folder: Path | None = None) -> None:
        self._file = None if folder is None else folder / TRIED_FILE
        self._versions = {} if folder is None else _versions()
        self.entries: list[dict[str, Any]] = []
        self._save()

    def begin(self, recipe: str) -> None:
        """A way is begun; until it ends it counts as not finished."""
        self.entries.append({"recipe": recipe, "outcome": UNFINISHED})
        self._save()

    def equal(self, recipe: str, outcome: str = "equal") -> None:
        """The way that was begun last has led to a graph that is equal, or nearly; ``recipe`` is its full name."""
        self.entries[-1] = {"recipe": recipe, "outcome": outcome}
        self._save()

    def failed(self, error: ConversionError, rows: Sequence[Mapping[str, Any]] = ()) -> None:
        """The way that was begun last has failed; ``rows`` are some of those on which the answers differ."""
        entry = self.entries[-1]
        entry["outcome"] = error.what
        parity = getattr(error, "parity", None)
        if parity is not None:
            entry |= {"output": parity.name, "method": parity.method}
            entry |= {name: _finite(getattr(parity, name)) for name in NUMBERS}
            entry["differing_rows"] = list(rows) or list(parity.sketch.get("differing", ()))
        self._save()

    def _save(self) -> None:
        if self._file is not None:
            document = {"attempts": self.entries, "versions": self._versions}
            self._file.write_text(json.dumps(document, ensure_ascii=False, default=str))


def refusal(
    tried: bytes | None, error: ConversionError, source: Mapping[str, Any], isolation: Mapping[str, Any]
) -> dict[str, Any]:
    """The report of a conversion that ended with ``error``; ``tried`` is the file that its process left, if any."""
    try:
        found = {} if tried is None else parse_object(tried, TRIED_FILE)
    except InvalidDocumentError:  # it was being written when the process ended
        found = {}
    return {
        "schema": SCHEMA,
        "source": dict(source),
        "refusal": {"what": error.what, "hint": error.hint},
        "attempts": [entry for entry in _list(found.get("attempts")) if _is_attempt(entry)],
        "versions": found["versions"] if isinstance(found.get("versions"), dict) else {},
        "isolation": dict(isolation),
    }


def _list(value: Any) -> list[Any]:
    return value if isinstance(value, list) else []


def _is_attempt(entry: Any) -> bool:
    """Whether it is what ``Tried`` writes: the process that wrote it ran code of the model's."""
    if not isinstance(entry, dict) or not {"recipe", "outcome"} <= entry.keys():
        return False
    rows = _list(entry.get("differing_rows"))
    return all(isinstance(row, dict) and {"row", "original", "onnx"} <= row.keys() for row in rows)


def _finite(value: Any) -> Any:
    """The number as JSON can hold it: an infinite one, of what cannot be measured, as text."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _versions() -> dict[str, str]:
    found = {}
    for part in PARTS:
        try:
            found[part] = importlib.metadata.version(part)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
