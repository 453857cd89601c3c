"""A model beside its package, row by row as a server takes them: what the original refuses, the package must refuse.

The package is read as its manifest says. Rows are a matrix, or a data frame whose types are those of the training.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnxruntime as ort

from converters import Options
from converters.sklearn.convert import convert

RTOL, ATOL = 1e-6, 1e-7


class Package:
    """A converted model."""

    def __init__(self, model: Any, folder: Path, sample: Path | None = None) -> None:
        path = folder / "model.joblib"
        joblib.dump(model, path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made = convert(path, "sha256:" + "0" * 64, Options(sample=sample))
        self.manifest, self.warnings = made.manifest, made.report["warnings"]
        options = ort.SessionOptions()
        options.log_severity_level = 4
        self._session = ort.InferenceSession(made.model, options, providers=["CPUExecutionProvider"])

    @property
    def methods(self) -> dict[str, list[str]]:
        """The outputs of each method."""
        return {name: outputs for name, outputs in self.manifest["methods"].items() if name != "default"}

    def answer(self, rows: Any) -> dict[str, Any] | None:
        """The answers by method to all of ``rows``, None where the package refuses them."""
        feeds = self._feeds(rows)
        if feeds is None:
            return None
        try:
            ran = self._session.run(None, feeds)
        except Exception:  # noqa: BLE001 - the runtime's exceptions share no base class
            return None
        found = dict(zip([port.name for port in self._session.get_outputs()], ran, strict=True))
        return {method: found[outputs[0]] for method, outputs in self.methods.items()}

    def _feeds(self, rows: Any) -> dict[str, Any] | None:
        entries = [entry for entry in self.manifest["inputs"] if not entry.get("unused")]
        feeds = {}
        for place, entry in enumerate(self.manifest["inputs"]):
            if entry not in entries:
                continue
            if isinstance(rows, list):
                cells = np.array(rows, dtype=object)[:, None]
            elif len(self.manifest["inputs"]) == 1 and (entry["shape"][-1] or 0) != 1:
                cells = np.asarray(rows, dtype=object if entry["dtype"] == "string" else None)
            elif hasattr(rows, "columns"):
                cells = rows[[entry["name"]]].to_numpy(dtype=object)
            else:
                cells = rows[:, [place]]
            fed = self._cells(cells, entry)
            if fed is None:
                return None
            feeds[entry["graph_name"]] = fed
        return feeds

    def _cells(self, cells: Any, entry: Mapping[str, Any]) -> Any:
        flat, rejects = cells.ravel().tolist(), self.manifest["rejects"]
        gone = [cell is None or cell != cell for cell in flat]
        if entry["dtype"] == "string":
            if any(gone) and entry.get("missing") is None:
                return None
            texts = [entry.get("missing") if lacks else cell for cell, lacks in zip(flat, gone, strict=True)]
            if not all(isinstance(text, str) for text in texts) or not _known(texts, entry):
                return None
            return np.array(texts, dtype=object).reshape(cells.shape)
        if any(gone) and (entry["dtype"] in ("int64", "bool") or rejects["nan"] or entry.get("complete")):
            return None
        if any(isinstance(cell, str) for cell in flat):
            return None
        numbers = np.array([np.nan if lacks else float(cell) for cell, lacks in zip(flat, gone, strict=True)])
        finite = np.isfinite(numbers)
        if rejects["infinity"] and np.isinf(numbers).any():
            return None
        if rejects["huge"] and (np.abs(numbers[finite]) > np.finfo(np.float32).max).any():
            return None
        if entry["dtype"] == "int64" and (numbers != np.floor(numbers)).any():
            return None
        if not _known([cell for cell, lacks in zip(flat, gone, strict=True) if not lacks], entry):
            return None
        return np.array([np.nan if c is None else c for c in flat]).astype(entry["dtype"]).reshape(cells.shape)


def _known(values: list[Any], entry: Mapping[str, Any]) -> bool:
    return not entry.get("closed") or all(value in entry["categories"] or value == "\uffff" for value in values)


def require_same(model: Any, rows: Any, folder: Path, sample: Path | None = None) -> Package:
    """Convert ``model`` and assert that all rows are answered as it answers them, or refused as it refuses them."""
    fresh = BytesIO()
    joblib.dump(model, fresh)
    package = Package(model, folder, sample)
    fresh.seek(0)
    require_same_rows(package, joblib.load(fresh), rows)
    return package


def require_same_rows(package: Package, model: Any, rows: Any) -> None:
    """Assert it for ``rows`` of a package that was made before."""
    wanted, found = _asked(model, package, rows), package.answer(rows)
    if wanted is not None and found is not None:
        _require_equal(wanted, found, "all rows")
        parts = range(0, len(rows), max(1, len(rows) // 3))
    else:
        parts = range(len(rows))
    for row in parts:
        part = rows.iloc[row : row + 1] if hasattr(rows, "iloc") else rows[row : row + 1]
        one, other = _asked(model, package, part), package.answer(part)
        told = f"row {row}: {np.asarray(part).tolist()}"
        numbers = [cell for cell in np.asarray(part, dtype=object).ravel() if isinstance(cell, int | float)]
        huge = package.manifest["rejects"]["huge"] and any(1e38 < abs(number) < np.inf for number in numbers)
        assert (one is None) == (other is None) or (huge and other is None), f"{told}: {one}, the package {other}"
        if one is not None and other is not None:
            _require_equal(one, other, told)


def _asked(model: Any, package: Package, rows: Any) -> dict[str, Any] | None:
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        try:
            return {method: np.asarray(getattr(model, method)(rows)) for method in package.methods}
        except Exception:  # noqa: BLE001 - a library refuses in any way, and each means the same here
            return None


def _require_equal(wanted: dict[str, Any], found: dict[str, Any], told: str) -> None:
    for method, answer in wanted.items():
        assert found[method].shape == answer.shape, (told, method)
        if answer.dtype.kind in "OUS":
            try:
                answer = answer.astype(float)
            except (TypeError, ValueError):
                assert found[method].tolist() == answer.tolist(), (told, method)
                continue
        np.testing.assert_allclose(
            found[method].astype(float), answer.astype(float), rtol=RTOL, atol=ATOL, err_msg=f"{told}: {method}"
        )
