"""A package's description of itself: ``model.manifest.json`` (schema ``edgepack.model/v1``) and its golden vectors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

SCHEMA = "edgepack.model/v1"
REPORT_SCHEMA = "edgepack.parity/v1"
MODEL_FILE = "model.onnx"
MANIFEST_FILE = "model.manifest.json"
GOLDEN_FILE = "golden.json"
REPORT_FILE = "parity.json"
# The differences that count as none: relative to a value, and for values near 0.
RTOL = 1e-4
ATOL = 1e-5
# Enough to tell any two float32 numbers apart, and short.
GOLDEN_DIGITS = 9


@dataclass(frozen=True)
class Converted:
    """The result of a recipe: the ONNX bytes, the manifest without golden vectors, these, and its report.

    ``feeds`` are the rows that it was compared on, by the graph's input names, where there are any.
    """

    model: bytes
    manifest: Mapping[str, Any]
    golden: Mapping[str, Any] | None
    report: Mapping[str, Any]
    framework_version: str
    feeds: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Input:
    """An input as the user and as the graph name it; ``columns`` names the columns of a matrix.

    ``categories`` are the values seen in training, where the model knows them, ``closed`` says that others are to be
    refused; ``minimum`` and ``maximum`` bound whole numbers; ``complete`` are positions on the last axis at which no
    number may be missing. ``missing`` is what a missing text is written as (a
    missing number is NaN). The graph does not have an ``unused`` input: it may be given, and changes nothing.
    """

    name: str
    graph_name: str
    dtype: str
    shape: Sequence[int | None]
    columns: Sequence[str] | None = None
    categories: Sequence[Any] | None = None
    missing: str | None = None
    closed: bool = False
    minimum: int | None = None
    maximum: int | None = None
    complete: Sequence[int] = ()
    unused: bool = False

    def to_json(self) -> dict[str, Any]:
        """The manifest's entry."""
        columns = None if self.columns is None else list(self.columns)
        entry: dict[str, Any] = {
            "name": self.name,
            "graph_name": self.graph_name,
            "dtype": self.dtype,
            "shape": list(self.shape),
            "columns": columns,
        }
        if self.categories is not None:
            entry["categories"] = list(self.categories)
        for name in ("missing", "minimum", "maximum"):
            if getattr(self, name) is not None:
                entry[name] = getattr(self, name)
        if self.complete:
            entry["complete"] = list(self.complete)
        for name in ("closed", "unused"):
            if getattr(self, name):
                entry[name] = True
        return entry


@dataclass(frozen=True)
class Output:
    """An output; ``role`` is ``label``, ``probabilities``, ``scores`` or ``values``."""

    name: str
    role: str
    dtype: str
    shape: Sequence[int | None]
    classes: Sequence[Any] | None = None

    def to_json(self) -> dict[str, Any]:
        """The manifest's entry; labels and probabilities have classes."""
        entry: dict[str, Any] = {
            "name": self.name,
            "graph_name": self.name,
            "role": self.role,
            "dtype": self.dtype,
            "shape": list(self.shape),
        }
        if self.role in ("label", "probabilities"):
            entry["classes"] = None if self.classes is None else list(self.classes)
        return entry


def build(
    *,
    source: Mapping[str, str],
    opset: Mapping[str, int],
    minimum_runtime: str,
    inputs: Sequence[Input],
    outputs: Sequence[Output],
    methods: Mapping[str, Any],
    rejects: Mapping[str, bool],
    parity: Mapping[str, Any] | None,
    row_wise: bool = True,
) -> dict[str, Any]:
    """The manifest but for ``golden``, which ``finish`` adds.

    ``row_wise`` says that the answer to a row is the same in every batch, so that batches may be joined and split.
    """
    return {
        "schema": SCHEMA,
        "source": dict(source),
        "file": MODEL_FILE,
        "opset": dict(opset),
        "minimum_runtime": minimum_runtime,
        "inputs": [entry.to_json() for entry in inputs],
        "outputs": [entry.to_json() for entry in outputs],
        "methods": dict(methods),
        "rejects": dict(rejects),
        "row_wise": row_wise,
        "parity": None if parity is None else dict(parity),
    }


def finish(manifest: Mapping[str, Any], golden: Mapping[str, Any] | None) -> tuple[bytes, bytes | None]:
    """The bytes of the manifest and of the golden vectors that it names by digest."""
    if golden is None:
        return to_bytes({**manifest, "golden": None}), None
    data = to_bytes(golden)
    accepted = (manifest["parity"] or {}).get("accepted") or {}
    rtol = max([RTOL, *accepted.values()])
    entry = {
        "file": GOLDEN_FILE,
        "digest": f"sha256:{hashlib.sha256(data).hexdigest()}",
        "rtol": rtol,
        "atol": ATOL * rtol / RTOL,
    }
    return to_bytes({**manifest, "golden": entry}), data


def to_bytes(document: Mapping[str, Any]) -> bytes:
    """JSON with sorted keys, so that equal documents have equal bytes."""
    text = json.dumps(document, sort_keys=True, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return f"{text}\n".encode()


def plain(array: Any) -> Any:
    """An array as nested lists for JSON, numbers rounded to nine digits."""
    values = array.tolist()
    return _rounded(values) if array.dtype.kind == "f" else values


def _rounded(value: Any) -> Any:
    if isinstance(value, list):
        return [_rounded(item) for item in value]
    return float(f"{value:.{GOLDEN_DIGITS}g}")
