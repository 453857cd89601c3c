"""scikit-learn -> ONNX: the first attempt whose graph is proven equal to the original.

Runs inside the sandbox only: ``convert`` unpickles.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converters import routes
from converters.boosters import users_way
from converters.graph import checks, edits
from converters.graph.session import Session
from converters.options import Options
from converters.package import manifest
from converters.package.tried import Tried
from converters.proof import parity, second_opinion
from converters.sklearn import common_rows, labels, limits, proof, sparse_input, unusual_inputs
from converters.sklearn import inputs as inputs_of
from converters.sklearn.attempts import Attempt, RefusedError, attempts, build
from converters.sklearn.common_rows import Rows
from converters.sklearn.loading import load
from converters.sklearn.original import Expected, Original, Questions, joined
from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError

# For a second opinion on the original.
OPINION_ROWS = 64


@dataclass(frozen=True)
class Proven:
    """A graph that answers like the original, and how that was shown."""

    model: Any
    data: bytes
    recipe: str
    expected: Expected
    outputs: list[proof.Answer]
    proofs: list[parity.OutputParity]
    unusual: unusual_inputs.UnusualInputs
    refused: limits.Refused
    row_wise: bool
    comparer: proof.Comparer
    notes: list[str]


def convert(path: Path, digest: str, options: Options, tried: Tried | None = None) -> manifest.Converted:
    """Convert the fitted estimator in ``path`` and prove it equal, or raise ``ConversionError`` or ``UsageError``."""
    _quiet()
    original = load(path, options.sample)
    notes = list(original.warnings)
    found = common_rows.gather(original, options)
    tried = tried or Tried()
    notes += sparse_input.doubts(original.model, found.tables.get("sample"))
    _second_opinion(original, found)
    proven = _first_proven(original, found, attempts(original, path.stat().st_size), options, tried)
    notes += proven.notes
    notes += [
        f"the original answers inputs with {fault}, the ONNX model answers otherwise: the package rejects them"
        for fault in proven.unusual.faults
        if fault != unusual_inputs.DESCRIPTIONS["empty"]  # which says little, and of many models
    ]
    notes += [f"the original refuses rows that the ONNX model answers ({told})" for told in proven.refused.answered]
    golden = proof.golden(proven.expected, proven.outputs, proven.comparer.resolution, notes)
    source = {
        "framework": "ScikitLearn",
        "version": original.trained_version,
        "digest": digest,
        "recipe": proven.recipe,
    }
    document = _document(original, proven, source)
    report = _report(original, found, proven, source, tried.entries, notes)
    feeds = proven.expected.inputs.feeds(found.every)
    return manifest.Converted(proven.data, document, golden, report, original.trained_version, feeds)


def _document(original: Original, proven: Proven, source: Mapping[str, str]) -> dict[str, Any]:
    """The manifest."""
    return manifest.build(
        source=source,
        opset=edits.opsets(proven.model),
        minimum_runtime=edits.minimum_runtime(proven.model),
        inputs=proven.expected.inputs.describe(
            original.named,
            missing=[name for name, treatment in proven.unusual.missing.items() if not treatment.refused],
            closed=[name for name, treatment in proven.unusual.unknown.items() if treatment.refused],
            complete=[name for name, treatment in proven.unusual.numbers.items() if treatment.refused],
        ),
        outputs=[entry.output for entry in proven.outputs],
        methods=_methods(proven.outputs),
        rejects=proven.unusual.rejects,
        parity=parity.summary(proven.proofs),
        row_wise=proven.row_wise,
    )


def _report(
    original: Original,
    found: Rows,
    proven: Proven,
    source: Mapping[str, str],
    tried: Sequence[Mapping[str, Any]],
    notes: Sequence[str],
) -> dict[str, Any]:
    """The parity report."""
    lengths = {kind: len(table) for kind, table in found.tables.items()}
    session = Session(proven.data)
    return {
        "source": source,
        "estimator": type(original.model).__name__,
        "inputs": inputs_of.summary(proven.expected.inputs),
        "attempts": list(tried),
        "rows": proof.by_rows(session, proven.expected, lengths, proven.comparer, proven.outputs),
        "batches": [1, len(found.every)],
        "outputs": [entry.to_json() for entry in proven.proofs],
        "odd_inputs": proven.unusual.to_json(),
        "refused": proven.refused.to_json(),
        "summary": parity.summary(proven.proofs),
        "warnings": list(notes),
        "versions": original.versions,
    }


def _second_opinion(original: Original, found: Rows) -> None:
    """Raise ``ConversionError`` where the saved object answers its user otherwise than the estimator that is converted.

    The user gives it a data frame where it was trained on one, with its types, and else a matrix.
    """
    import numpy as np

    planned = inputs_of.plan(found.every, found.columns, original.by_name, "float64")
    few = found.every.take(np.unique(np.linspace(0, len(found.every) - 1, OPINION_ROWS).astype(int)))
    if not original.named and (planned.layout != "matrix" or original.saved is original.model):
        return
    rows = users_way.with_types(few.frame(), original.model) if original.named else few.matrix()
    asked = Expected(original, planned, few)
    for method, ask in users_way.asks(original.saved, original.model).items():
        second_opinion.require_same(
            f"{method} of the {type(original.saved).__name__}",
            lambda method=method: joined(asked.answer(method)),  # type: ignore[misc]
            lambda ask=ask: joined(ask(rows)),  # type: ignore[misc]
            f"train it on plain numbers, or {SCRIPT}",
        )


def _first_proven(
    original: Original,
    found: Rows,
    candidates: Sequence[Attempt],
    options: Options,
    tried: Tried,
) -> Proven:
    """The first attempt that is equal on all common inputs, else the first that is equal except on unusual inputs.

    Raises the refusal of the first of our own attempts that could be compared, else of the first one; that of a
    converter of ours at once. skl2onnx's own graph is a last resort, and how it differs says nothing of the reason.
    """
    passed: list[Proven] = []
    refusals: list[tuple[bool, ConversionError]] = []
    for attempt in candidates:
        tried.begin(attempt.name)
        try:
            proven = _prove(original, found, attempt, options)
        except ConversionError as error:
            tried.failed(error, _differing_rows(error, found))
            if isinstance(error, RefusedError):
                raise
            refusals.append((attempt.ours and isinstance(error, parity.MismatchError), error))
            continue
        outcome = f"equal, but on {', '.join(proven.unusual.faults)}" if proven.unusual.faults else "equal"
        tried.equal(proven.recipe, outcome)
        if not proven.unusual.serious:
            return proven
        passed.append(proven)
    if passed:
        return passed[0]
    refusal = min(refusals, key=lambda refusal: not refusal[0])[1]
    if isinstance(refusal, parity.MismatchError):
        planned = inputs_of.plan(found.every, found.columns, original.by_name, "float64")
        second_opinion.require_repeatable(Questions(original, planned, refusal.parity.method), found.every)
    raise refusal


def _differing_rows(error: ConversionError, found: Rows) -> list[dict[str, Any]]:
    """Some of the rows on which an output differs, as they were given; none where it was not of all rows."""
    every = found.every
    if not isinstance(error, parity.MismatchError) or error.parity.rows != len(every):
        return []
    rows = []
    for entry in error.parity.sketch.get("differing", ()):
        row = slice(entry["row"], entry["row"] + 1)
        cells = {name: column[row].tolist()[0] for name, column in zip(every.names, every.columns, strict=True)}
        kind = next(kind for kind, end in found.ends() if entry["row"] < end)
        rows.append({**entry, "kind": kind, "inputs": cells})
    return rows


def _prove(original: Original, found: Rows, attempt: Attempt, options: Options) -> Proven:
    """The attempt's graph; with checks inside of it, where without them it answers what the original refuses."""
    calls_functions = any(getattr(part, "func", None) is not None for part in routes.walk(original.model))
    refused: limits.Found = {}
    proven = _proven(original, found, attempt, options, refused, guarded=calls_functions)
    if calls_functions or not proven.refused.answered:
        return proven
    checked = _proven(original, found, attempt, options, refused, guarded=True)
    return checked if len(checked.refused.answered) < len(proven.refused.answered) else proven


def _proven(
    original: Original, found: Rows, attempt: Attempt, options: Options, refused_before: limits.Found, *, guarded: bool
) -> Proven:
    notes: list[str] = []
    every = found.every
    planned = replace(inputs_of.plan(every, found.columns, original.by_name, attempt.floats), free=original.free)
    model, inputs = build(original, planned, attempt, ties_accepted=bool(options.tolerances), guarded=guarded)
    expected = Expected(original, inputs, every)
    resolution = attempt.resolution(original, model)
    model, label = labels.choose(model, expected, resolution)
    comparer = proof.Comparer(options, resolution)
    outputs, proofs = proof.settle(model, expected, comparer, notes)
    edits.check(model)
    data = edits.serialize(model)
    session = Session(data)
    row_wise = proof.single_rows(session, expected, comparer, outputs)
    if not row_wise:
        notes.append(
            "the original's answer to a row depends on the other rows of the batch, and so does the ONNX model"
        )
    trusted = limits.trusted(session, expected, comparer, outputs) if row_wise else None
    if trusted is not None:
        checks.within(model, limits.by_input(expected, trusted))
        edits.check(model)
        data = edits.serialize(model)
        session = Session(data)
        notes.append(
            "on numbers much larger than in training the ONNX model answers otherwise than the original: the package "
            f"rejects those beyond {min(trusted.values()):.3g}"
        )
    unusual = unusual_inputs.find(session, expected, comparer, outputs, found.columns)
    refused = limits.refused(session, expected, outputs, found.refused, refused_before)
    recipe = attempt.name if label is None else f"{attempt.name}, {label}"
    return Proven(model, data, recipe, expected, outputs, proofs, unusual, refused, row_wise, comparer, notes)


def _methods(outputs: Sequence[proof.Answer]) -> dict[str, Any]:
    """The default is ``predict_proba`` where there is one, else the first of ``predict`` and ``transform``."""
    methods: dict[str, list[str]] = {}
    for answer in outputs:
        methods.setdefault(answer.method, []).append(answer.output.name)
    preferred = [name for name in ("predict_proba", "predict", "transform") if name in methods]
    return {"default": preferred[0], **methods}


def _quiet() -> None:
    """Silence the frameworks' warnings, which are for training scripts; ``load`` collects those that matter."""
    warnings.simplefilter("ignore")
    logging.getLogger("skl2onnx").setLevel(logging.ERROR)
