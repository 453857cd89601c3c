"""Is what was delivered equal to the original? Decided here by code of its own, not by that of ``converters``.

The graph is fed and read as its manifest says, in batches of one row and of many.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tests.converters.matrix.case import Made

RTOL = 1e-4
ATOL = 1e-5
SINGLE_ROWS = 12


@dataclass
class Judgement:
    """What was found over all methods that the manifest claims; ``problems`` are in words, with numbers.

    ``max_rel`` is relative to the value and 0.1, so that 1e-4 is just what is allowed. ``rejected`` are clean rows that
    the manifest rejects.
    """

    methods: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    max_rel: float = 0.0
    ties: int = 0
    clean: int = 0
    boundary: int = 0
    rejected: int = 0
    recipe: str = ""
    problems: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        """For the results file."""
        return asdict(self)


def answers(model: Any, rows: Any) -> dict[str, Any]:
    """What the original answers with every method that a manifest may claim."""
    import warnings

    found = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for method in ("predict", "predict_proba", "decision_function", "transform", "score_samples"):
            if hasattr(model, method):
                answer = getattr(model, method)(rows)
                found[method] = [_dense(part) for part in answer] if isinstance(answer, list) else _dense(answer)
    return found


def required(found: Mapping[str, Any]) -> tuple[str, ...]:
    """The methods without which a conversion is no use: ``predict`` and ``predict_proba``, or else ``transform``."""
    for wanted in (("predict", "predict_proba"), ("transform",), ("score_samples",)):
        if wanted[0] in found:
            return tuple(method for method in wanted if method in found)
    return ()


def judge(made: Made, folder: Path) -> Judgement:
    """Compare the package in ``folder`` with the answers of the original."""
    import onnxruntime as ort

    manifest = json.loads((folder / "model.manifest.json").read_text())
    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = ort.InferenceSession(str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"])
    result = Judgement(recipe=str(manifest["source"].get("recipe", "")))
    result.methods = sorted(name for name in manifest["methods"] if name != "default")
    result.missing = [name for name in made.required if name not in result.methods]
    if made.batches:
        for batch in made.batches:
            if _fits(manifest, batch):
                _compare_batch(session, manifest, batch, result)
        if not result.clean:
            result.problems.append("no batch has the size that the package takes")
        return result
    total = _length(made.rows)
    usable = _accepted(manifest, made.rows)
    places = np.flatnonzero(usable)
    result.clean = int((places < made.clean).sum())
    result.boundary = len(places) - result.clean
    result.rejected = made.clean - result.clean
    if result.rejected:
        result.problems.append(f"{result.rejected} of {made.clean} clean rows are rejected, the original answers them")
    groups = {
        "clean rows": places[places < made.clean],
        "boundary rows": places[places >= made.clean],
    }
    for where, rows in groups.items():
        if len(rows):
            _compare(session, manifest, made, rows, where, result)
    singles = [*groups["clean rows"][:SINGLE_ROWS], *groups["boundary rows"][:SINGLE_ROWS]]
    before = len(result.problems)
    for row in singles:
        if len(result.problems) > before:
            break
        _compare(session, manifest, made, np.array([row]), f"one row alone ({row} of {total})", result)
    return result


def _compare(session: Any, manifest: Any, made: Made, rows: Any, where: str, result: Judgement) -> None:
    names = [output.name for output in session.get_outputs()]
    try:
        given = feeds(manifest, _take(made.rows, rows))
    except (ValueError, TypeError, KeyError, IndexError) as error:
        result.problems.append(f"{where}: the manifest's inputs do not take them ({str(error)[:120]})")
        return
    try:
        ran = dict(zip(names, session.run(None, given), strict=True))
    except Exception as error:  # noqa: BLE001 - the runtime's exceptions share no base class
        result.problems.append(f"{where}: the runtime fails ({str(error).splitlines()[0][:160]})")
        return
    outputs = {output["name"]: output for output in manifest["outputs"]}
    known = made.answers if made.ask is None else made.ask(_take(made.rows, rows))
    for method in result.methods:
        if method not in known:
            result.problems.append(f"{method} is claimed, and the original has none")
            continue
        parts = _parts(known[method], len(manifest["methods"][method]))
        for name, reference in zip(manifest["methods"][method], parts, strict=False):
            output = outputs[name]
            got, expected = np.asarray(ran[output["graph_name"]]), reference if made.ask else reference[rows]
            if got.shape != expected.shape:
                result.problems.append(f"{where}: {method} has shape {got.shape}, the original {expected.shape}")
                continue
            problem = (
                _labels(expected, got, lambda: _leads(made, rows), result)
                if output["role"] == "label"
                else _values(expected, got, result)
            )
            if problem:
                result.problems.append(f"{where}: {method} {problem}")


def _compare_batch(session: Any, manifest: Any, batch: Any, result: Judgement) -> None:
    """A batch of named tensors; where the manifest has other names, they are taken in order."""
    inputs, outputs = manifest["inputs"], {output["name"]: output for output in manifest["outputs"]}
    claimed = [outputs[name] for name in manifest["methods"]["predict"]]
    given, expected = (_by_name(batch[side], entries) for side, entries in (("in", inputs), ("out", claimed)))
    rows = max(len(array) if np.ndim(array) else 1 for array in batch["in"].values())
    result.clean += rows
    names = [output.name for output in session.get_outputs()]
    try:
        ran = dict(zip(names, session.run(None, feeds(manifest, given)), strict=True))
    except Exception as error:  # noqa: BLE001 - as above
        result.problems.append(f"a batch of {rows}: the runtime fails ({str(error).splitlines()[0][:160]})")
        return
    if len(expected) != len(claimed):
        result.problems.append(f"{len(claimed)} outputs, the original has {len(expected)}")
        return
    for output in claimed:
        got, wanted = np.asarray(ran[output["graph_name"]]), np.asarray(expected[output["name"]])
        if got.shape != wanted.shape:
            problem: str | None = f"has shape {got.shape}, the original {wanted.shape}"
        elif wanted.dtype.kind in "fc":
            accepted = manifest["parity"]["accepted"].get(output["name"], RTOL)
            problem = _values(wanted, got, result, accepted) if wanted.size else None
        else:
            different = int((wanted.astype(str) != got.astype(str)).sum())
            problem = f"differs in {different} cells" if different else None
        if problem:
            result.problems.append(f"a batch of {rows}: {output['name']} {problem}")


def _fits(manifest: Mapping[str, Any], batch: Any) -> bool:
    """Whether a batch has the number of rows that a package of one size declares."""
    arrays = _by_name(batch["in"], manifest["inputs"])
    sizes = [(entry["shape"][0], len(arrays[entry["name"]])) for entry in manifest["inputs"] if entry["shape"]]
    return all(wanted in (None, rows) for wanted, rows in sizes)


def _by_name(arrays: Mapping[str, Any], entries: Any) -> dict[str, Any]:
    names = [entry["name"] for entry in entries]
    if set(names) <= set(arrays):
        return {name: arrays[name] for name in names}
    return dict(zip(names, arrays.values(), strict=False))


def _values(expected: Any, got: Any, result: Judgement, allowed: float = RTOL) -> str | None:
    left, right = expected.astype(np.float64), got.astype(np.float64)
    same = (left == right) | (np.isnan(left) & np.isnan(right))
    with np.errstate(all="ignore"):
        distance = np.where(same, 0.0, np.abs(left - right))
        off = ~(same | (distance <= ATOL + allowed * np.abs(left)))
        relative = np.where(same, 0.0, distance / (np.abs(left) + ATOL / RTOL))
    largest = float(np.nan_to_num(relative, nan=np.inf).max(initial=0.0))
    result.max_rel = max(result.max_rel, largest)
    if not off.any():
        return None
    bad = int(off.reshape(len(left), -1).any(axis=1).sum())
    return f"differs in {bad} of {len(left)} rows, relative difference up to {largest:.2g}"


def _labels(expected: Any, got: Any, leads: Any, result: Judgement) -> str | None:
    numeric = expected.dtype.kind in "fiub" and got.dtype.kind in "fiub"
    bad = expected != got if numeric else expected.astype(str) != got.astype(str)
    bad = bad.reshape(len(expected), -1).any(axis=1)
    if not bad.any():
        return None
    lead = leads()
    if lead is not None:
        tied = bad & (lead == 0)
        result.ties += int(tied.sum())
        bad &= ~tied
    if not bad.any():
        return None
    smallest = "" if lead is None else f", their best two apart by {np.min(lead[bad]):.2g} to {np.max(lead[bad]):.2g}"
    return f"has another label in {int(bad.sum())} of {len(bad)} rows{smallest}"


def _leads(made: Made, rows: Any) -> Any | None:
    """How far each row's best class is ahead of the next, in the original's float64."""
    for method in ("decision_function", "predict_proba"):
        scores = made.answers.get(method)
        if scores is None or isinstance(scores, list):
            continue
        scores = scores[rows].astype(np.float64)
        if scores.ndim == 1:
            return np.abs(scores)
        if scores.ndim == 2 and scores.shape[1] > 1:
            ordered = np.sort(scores, axis=1)
            return ordered[:, -1] - ordered[:, -2]
    return None


def feeds(manifest: Mapping[str, Any], rows: Any) -> dict[str, Any]:
    """Rows as the manifest says that the graph wants them."""
    inputs = manifest["inputs"]
    if isinstance(rows, dict):
        return {entry["graph_name"]: _cast(rows[entry["name"]], entry) for entry in inputs}
    if isinstance(rows, list):
        text = np.array(rows, dtype=object)
        return {inputs[0]["graph_name"]: text if len(inputs[0]["shape"]) == 1 else text[:, None]}
    if hasattr(rows, "columns"):
        if len(inputs) == 1 and (inputs[0]["shape"][-1] or 0) > 1:
            return {inputs[0]["graph_name"]: _cast(rows.to_numpy(), inputs[0])}
        used = [entry for entry in inputs if not entry.get("unused")]
        return {entry["graph_name"]: _column(rows[entry["name"]].to_numpy(), entry) for entry in used}
    if len(inputs) == 1:
        return {inputs[0]["graph_name"]: _cast(rows, inputs[0])}
    return {
        entry["graph_name"]: _column(rows[:, index], entry)
        for index, entry in enumerate(inputs)
        if not entry.get("unused")
    }


def _column(values: Any, entry: Mapping[str, Any]) -> Any:
    cast = _cast(values, entry)
    return cast if len(entry["shape"]) == 1 else cast.reshape(-1, 1)


def _cast(values: Any, entry: Mapping[str, Any]) -> Any:
    if entry["dtype"] != "string":
        return np.asarray(values).astype(entry["dtype"])
    missing = entry.get("missing")
    flat = [missing if cell is None or cell != cell else str(cell) for cell in np.asarray(values, dtype=object).ravel()]
    return np.array(flat, dtype=object).reshape(np.shape(values))


def _accepted(manifest: Mapping[str, Any], rows: Any) -> Any:
    """Which rows a server that keeps to the manifest would pass on to the graph."""
    usable = np.ones(_length(rows), dtype=bool)
    if isinstance(rows, dict | list):
        return usable
    columns = [rows[name].to_numpy() for name in rows.columns] if hasattr(rows, "columns") else [rows]
    rejects = manifest.get("rejects", {})
    for column in columns:
        if column.dtype.kind != "f":
            continue
        huge = np.isfinite(column) & (np.abs(column) > np.finfo(np.float32).max)
        for name, unusual in (("nan", np.isnan(column)), ("infinity", np.isinf(column)), ("huge", huge)):
            if rejects.get(name):
                usable &= ~unusual.reshape(len(column), -1).any(axis=1)
    return usable


def _parts(answer: Any, outputs: int) -> list[Any]:
    """One array for each output of a method."""
    if isinstance(answer, list):
        return answer
    if outputs > 1 and answer.ndim == 2 and answer.shape[1] == outputs:
        return [answer[:, index] for index in range(outputs)]
    return [answer]


def _take(rows: Any, places: Any) -> Any:
    if isinstance(rows, dict):
        return {name: values[places] for name, values in rows.items()}
    if isinstance(rows, list):
        return [rows[place] for place in places]
    return rows.iloc[places] if hasattr(rows, "iloc") else rows[places]


def _length(rows: Any) -> int:
    return len(next(iter(rows.values()))) if isinstance(rows, dict) else len(rows)


def _dense(answer: Any) -> Any:
    return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)
