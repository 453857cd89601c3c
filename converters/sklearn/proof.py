"""An ONNX graph beside the original: pair outputs with methods, run both, keep what is equal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.graph import edits
from converters.graph.session import Session
from converters.options import Options
from converters.package import manifest
from converters.proof import parity
from converters.proof.parity import OutputParity
from converters.sklearn.original import Expected, Meaning
from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError

GOLDEN_ROWS = 8
# By how many times what the graph's numbers can hold the best class of a golden row leads.
GOLDEN_LEAD = 4
SINGLE_ROWS = 8
# What a model may be delivered without, when its converter gets it wrong and ``predict`` right.
BESIDE = ("decision_function", "transform", "score_samples")


@dataclass(frozen=True)
class Answer:
    """An output of the package, and what it means."""

    output: manifest.Output
    meaning: Meaning

    @property
    def method(self) -> str:
        """The original's method."""
        return self.meaning.method


@dataclass(frozen=True)
class Comparer:
    """What two answers are held to: the user's options, and what the graph's numbers can tell apart."""

    options: Options
    resolution: float

    def compare(self, meaning: Meaning, expected: Expected, result: Any) -> OutputParity:
        """One output against the original's method."""
        reference = expected.answer(meaning.method, meaning.part)
        accepted = self.options.tolerance(meaning.name)
        if meaning.role == "label":
            margin = expected.margin()
            return parity.compare_labels(
                meaning.name, meaning.method, reference, result, margin, self.resolution, accepted
            )
        return parity.compare_values(meaning.name, meaning.method, reference, result, accepted)


def settle(
    model: Any, expected: Expected, comparer: Comparer, notes: list[str]
) -> tuple[list[Answer], list[OutputParity]]:
    """Pair the graph's outputs with the original's methods, keep those that are equal, name and shape them.

    Raises ``ConversionError`` unless labels, values and probabilities are equal; a method of ``BESIDE`` that
    differs is left out, with a note.
    """
    found = Session(edits.serialize(model))
    results = dict(
        zip([port.name for port in found.outputs], found.run(expected.inputs.feeds(expected.table)), strict=True)
    )
    wanted: list[tuple[str, str, edits.Shaping]] = []
    answers: list[Answer] = []
    proofs: list[OutputParity] = []
    for meaning in expected.original.meanings(list(results)):
        beside = meaning.method in BESIDE and bool(answers)
        try:
            reference = expected.answer(meaning.method, meaning.part)
            if isinstance(reference, list):
                raise ConversionError(f"{meaning.method} answers a list of arrays", hint=SCRIPT)
            shaping, shaped = _shape(reference, results[meaning.source])
            proof = comparer.compare(meaning, expected, shaped)
            require([proof])
        except ConversionError as error:
            if not beside:
                raise
            notes.append(f"{meaning.method} is left out: {error.what}")
            continue
        if proof.ties:
            notes.append(
                f"{proof.ties} of {proof.rows} rows of {meaning.method} are labelled otherwise in ONNX: originally "
                f"their two best classes are at most {comparer.resolution:.1g} apart, which its numbers cannot hold"
            )
        wanted.append((meaning.source, meaning.name, shaping))
        dtype = "string" if shaped.dtype.kind in "OU" else str(shaped.dtype)
        classes = expected.original.classes if meaning.part is None else None
        output = manifest.Output(meaning.name, meaning.role, dtype, (None, *shaped.shape[1:]), classes)
        answers.append(Answer(output, meaning))
        proofs.append(proof)
    edits.keep_outputs(model, wanted)
    edits.prune(model)
    for answer in answers:
        edits.declare_shape(model, answer.output.name, answer.output.shape)
    return answers, proofs


def _shape(reference: Any, result: Any) -> tuple[edits.Shaping, Any]:
    """Bring a converter's result to the original's shape where the two only write it differently."""
    if not hasattr(result, "shape"):
        raise ConversionError("an output of the ONNX model is not a tensor", hint=SCRIPT)
    if reference.ndim == 1 and result.ndim == 2 and result.shape[1] == 1:
        return "flat", result.reshape(-1)
    if reference.ndim == 2 and reference.shape[1] == 1 and result.ndim == 1:
        return "column", result.reshape(-1, 1)
    if reference.ndim == 1 and result.ndim == 2 and result.shape[1] == 2:
        # Two columns for one score: the sign of which of them is the original's depends on the converter.
        off_first, off_second = (float(abs(result[:, column] - reference).sum()) for column in (0, 1))
        return ("first column", result[:, 0]) if off_first < off_second else ("second column", result[:, 1])
    return "as it is", result


def prove(session: Session, expected: Expected, comparer: Comparer, outputs: Sequence[Answer]) -> list[OutputParity]:
    """Run both on the rows and compare every output."""
    results = session.run(expected.inputs.feeds(expected.table))
    pairs = zip(outputs, results, strict=True)
    return [comparer.compare(answer.meaning, expected, result) for answer, result in pairs]


def single_rows(session: Session, expected: Expected, comparer: Comparer, outputs: Sequence[Answer]) -> bool:
    """Prove batches of one row, which a converter can get wrong alone.

    Returns whether the original answers such a row as it does in a batch. Raises ``ConversionError`` where they differ.
    """
    step = max(1, len(expected.table) // SINGLE_ROWS)
    row_wise = True
    for row in range(0, min(len(expected.table), step * SINGLE_ROWS), step):
        alone = Expected(expected.original, expected.inputs, expected.table.take(slice(row, row + 1)))
        require(prove(session, alone, comparer, outputs))
        for answer in outputs:
            in_batch = expected.answer(answer.method, answer.meaning.part)[row : row + 1]
            row_wise &= in_batch.shape == alone.answer(answer.method, answer.meaning.part).shape
            row_wise = row_wise and comparer.compare(answer.meaning, alone, in_batch).passed
    return row_wise


def by_rows(
    session: Session,
    expected: Expected,
    lengths: Mapping[str, int],
    comparer: Comparer,
    outputs: Sequence[Answer],
) -> dict[str, Any]:
    """The comparison once more for each kind of rows by itself, for the report; ``lengths`` are theirs, in order."""
    results = session.run(expected.inputs.feeds(expected.table))
    found, start = {}, 0
    for kind, length in lengths.items():
        chosen = slice(start, start + length)
        part = expected.part(chosen)
        pairs = zip(outputs, results, strict=True)
        proofs = [comparer.compare(answer.meaning, part, result[chosen]) for answer, result in pairs]
        start += length
        found[kind] = {
            "rows": length,
            "outputs": {
                proof.name: {
                    "max_abs": proof.max_abs,
                    "max_rel": proof.max_rel,
                    "label_agreement": proof.label_agreement,
                    "differing": proof.differing,
                    "ties": proof.ties,
                }
                for proof in proofs
            },
        }
    return found


def golden(expected: Expected, outputs: Sequence[Answer], resolution: float, notes: list[str]) -> dict[str, Any] | None:
    """The first complete rows, as the graph takes them, with the original's answers on them as they were given.

    Rows whose best classes are nearly tied are passed over: another processor or number of threads may add their
    probabilities in another order. None, with a note, where there are no others.
    """
    import numpy as np

    usable = np.ones(len(expected.table), dtype=bool)
    references = [expected.answer(answer.method, answer.meaning.part) for answer in outputs]
    for column in (*expected.table.columns, *references):
        if column.dtype.kind == "f":  # JSON has no other numbers
            usable &= np.isfinite(column).reshape(len(column), -1).all(axis=1)
    if not usable.any():
        raise ConversionError("no row of the sample is complete", hint="give a sample with some complete rows")
    margin = expected.margin()
    if margin is not None:
        usable &= np.abs(margin) > GOLDEN_LEAD * resolution
    if not usable.any():
        notes.append("no golden vectors: in every row the best classes are tied")
        return None
    chosen = np.flatnonzero(usable)[:GOLDEN_ROWS]
    feeds = expected.inputs.feeds(expected.table.take(chosen))
    names = {entry.name: entry.graph_name for entry in expected.inputs.describe(named=False) if not entry.unused}
    return {
        "inputs": {name: manifest.plain(feeds[graph_name]) for name, graph_name in names.items()},
        "outputs": {
            answer.output.name: manifest.plain(reference[chosen])
            for answer, reference in zip(outputs, references, strict=True)
        },
    }


def require(proofs: Sequence[OutputParity]) -> None:
    """Raise the refusal of the first output that differs."""
    for proof in proofs:
        if not proof.passed:
            raise proof.refusal()
