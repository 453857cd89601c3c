"""Measure each variant beside the plain model, and keep the best of those that gain and stay within their tolerance."""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.graph import edits
from converters.graph.session import Session
from converters.optimize.variants import VARIANTS, NotApplicableError, Variant, made
from converters.package import manifest
from edgepack.errors import ConversionError

RUNS = 60
# A variant has to be this much smaller or faster, and must not be that much worse in the other.
GAIN, LOSS = 0.9, 1.15


@dataclass(frozen=True)
class Measured:
    """A variant as it was found: bytes of its file, median seconds for one row, how it agrees; why it was not kept."""

    name: str
    size: int | None = None
    latency: float | None = None
    label_agreement: float | None = None
    max_abs: float | None = None
    max_rel: float | None = None
    data: bytes | None = None
    reason: str | None = None

    def to_json(self, *, kept: bool) -> dict[str, Any]:
        """The report's entry."""
        entry = {name: value for name, value in vars(self).items() if name != "data"}
        return entry | {"kept": kept, "reason": None if kept else self.reason}


def optimize(converted: manifest.Converted) -> manifest.Converted:
    """The package with the best variant in place of its model, or as it was, and the table of all in its report.

    A variant replaces the plain model only if it is smaller or faster here, not much worse in the other, and answers
    within its own stated tolerance; that is then recorded as accepted. Without rows to run, nothing is tried.
    """
    if not converted.feeds:
        note = "not optimised: no rows to compare variants on; give a sample"
        warnings = [*converted.report["warnings"], note]
        return dataclasses.replace(converted, report={**converted.report, "warnings": warnings})
    plain = Session(converted.model)
    answers = dict(zip([port.name for port in plain.outputs], plain.run(converted.feeds), strict=True))
    one = {name: value[:1] for name, value in converted.feeds.items()}
    labels = {output["name"] for output in converted.manifest["outputs"] if output["role"] == "label"}
    base = Measured("plain", len(converted.model), _latencies([plain], one)[0], data=converted.model)
    found = [_measured(variant, converted, plain, answers, one, labels, base) for variant in VARIANTS]
    best = min((entry for entry in found if entry.reason is None), key=lambda e: _score(e, base), default=None)
    table = [base.to_json(kept=best is None), *(entry.to_json(kept=entry is best) for entry in found)]
    report = {**converted.report, "variants": table}
    if best is None or best.data is None:
        return dataclasses.replace(converted, report=report)
    variant = next(variant for variant in VARIANTS if variant.name == best.name)
    return _with(converted, best.data, variant, report)


def _measured(
    variant: Variant,
    converted: manifest.Converted,
    plain: Session,
    answers: Mapping[str, Any],
    one: Mapping[str, Any],
    labels: set[str],
    base: Measured,
) -> Measured:
    try:
        data = made(variant, converted.model, converted.feeds or {})
        session = Session(data)
        results = dict(zip([port.name for port in session.outputs], session.run(converted.feeds or {}), strict=True))
        by_one = session.run(one)
    except NotApplicableError as error:
        return Measured(variant.name, reason=str(error))
    except ConversionError as error:
        return Measured(variant.name, reason=error.what)
    latency, plain_latency = _latencies([session, plain], one)
    agreement, max_abs, max_rel, within = _compare(variant, answers, results, labels)
    found = Measured(variant.name, len(data), latency, agreement, max_abs, max_rel, data)
    if not within:
        allowed = f"relative {variant.rtol:g}, labels {variant.label_agreement:.1%}"
        return dataclasses.replace(found, reason=f"answers differ by more than it may ({allowed})")
    if len(by_one) != len(results):
        return dataclasses.replace(found, reason="it answers one row otherwise")
    size, speed = len(data) / len(converted.model), latency / plain_latency
    if min(size, speed) > GAIN or max(size, speed) > LOSS:
        return dataclasses.replace(found, reason=f"no gain: {size:.2f} times the size, {speed:.2f} times the time")
    return found


def _compare(
    variant: Variant, answers: Mapping[str, Any], results: Mapping[str, Any], labels: set[str]
) -> tuple[float | None, float, float, bool]:
    """Label agreement, largest absolute and relative difference, and whether all is within the variant's tolerance."""
    import numpy as np

    agreements, absolute, relative, within = [], 0.0, 0.0, True
    for name, wanted in answers.items():
        got = results[name]
        if got.shape != wanted.shape:
            return None, float("inf"), float("inf"), False
        if name in labels or wanted.dtype.kind not in "f":
            same = (got == wanted).reshape(len(wanted), -1).all(axis=1)
            agreements.append(float(same.mean()))
            within &= agreements[-1] >= variant.label_agreement
            continue
        left, right = wanted.astype(np.float64), got.astype(np.float64)
        finite = np.isfinite(left)
        within &= bool((np.isfinite(right) == finite).all())
        distance = np.abs(left - right)[finite]
        scale = np.abs(left)[finite]
        if distance.size:
            absolute = max(absolute, float(distance.max()))
            relative = max(relative, float((distance / np.maximum(scale, variant.atol)).max()))
            within &= bool((distance <= variant.atol + variant.rtol * scale).all())
        if left.ndim == 2 and left.shape[1] > 1:
            agreements.append(float((left.argmax(axis=1) == right.argmax(axis=1)).mean()))
            within &= agreements[-1] >= variant.label_agreement
    return (min(agreements) if agreements else None), absolute, relative, within


def _latencies(sessions: Sequence[Session], one: Mapping[str, Any]) -> list[float]:
    """Median seconds of one row, the sessions taking turns, so that what else the machine does meets all alike."""
    times: list[list[float]] = [[] for _ in sessions]
    for session in sessions:
        session.run(one)
    for _ in range(RUNS):
        for session, seen in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session.run(one)
            seen.append(time.perf_counter() - start)
    return [statistics.median(seen) for seen in times]


def _score(entry: Measured, base: Measured) -> float:
    size = (entry.size or 0) / (base.size or 1)
    return size * (entry.latency or 0.0) / (base.latency or 1.0)


def _with(
    converted: manifest.Converted, data: bytes, variant: Variant, report: Mapping[str, Any]
) -> manifest.Converted:
    """The package around another model: its recipe, operator sets and tolerances are the variant's."""
    import onnx

    model = onnx.load_from_string(data)
    source = {**converted.manifest["source"], "recipe": f"{converted.manifest['source']['recipe']}, {variant.name}"}
    outputs = [output["name"] for output in converted.manifest["outputs"] if output["role"] != "label"]
    parity = converted.manifest["parity"]
    if parity is not None and variant.rtol > _allowed(parity):
        parity = {**parity, "accepted": {**parity.get("accepted", {}), **dict.fromkeys(outputs, variant.rtol)}}
    document = {
        **converted.manifest,
        "source": source,
        "opset": edits.opsets(model),
        "minimum_runtime": edits.minimum_runtime(model),
        "parity": parity,
    }
    return dataclasses.replace(
        converted,
        model=data,
        manifest=document,
        golden=_golden(converted, data),
        report={**report, "source": source, "summary": parity},
    )


def _allowed(parity: Mapping[str, Any]) -> float:
    """The largest relative difference that a package already allows."""
    return float(max([manifest.RTOL, *(parity.get("accepted") or {}).values()]))


def _golden(converted: manifest.Converted, data: bytes) -> Mapping[str, Any] | None:
    """The golden vectors with the variant's own answers: the self-test is for the device, not for the variant."""
    import numpy as np

    if converted.golden is None:
        return None
    session = Session(data)
    names = {entry["name"]: entry["graph_name"] for entry in converted.manifest["inputs"]}
    ports = {port.name: port for port in session.inputs}
    feeds = {
        names[name]: np.array(
            values, dtype=object if ports[names[name]].dtype == "string" else ports[names[name]].dtype
        )
        for name, values in converted.golden["inputs"].items()
    }
    results = dict(zip([port.name for port in session.outputs], session.run(feeds), strict=True))
    return {
        **converted.golden,
        "outputs": {name: manifest.plain(results[name]) for name in converted.golden["outputs"]},
    }
