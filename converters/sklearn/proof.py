"""An ONNX graph beside the original: pair outputs with methods, run both, keep what is equal."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from converters import graph, manifest, parity
from converters.parity import OutputParity
from converters.samples import Table
from converters.sklearn.inputs import Inputs
from converters.sklearn.original import ONNX_WAY_OUT, Original
from edgepack.errors import ConversionError

GOLDEN_ROWS = 8
# By how many times what float32 can hold the best class of a golden row leads.
GOLDEN_LEAD = 4
SINGLE_ROWS = 8
# What a model may be delivered without, when its converter gets it wrong and ``predict`` right.
BESIDE = ("decision_function", "transform")


@dataclass(frozen=True)
class Answer:
    """An output of the package, and the original's method that it stands for."""

    output: manifest.Output
    method: str


def settle(
    original: Original, model: Any, inputs: Inputs, table: Table, notes: list[str]
) -> tuple[list[Answer], list[OutputParity]]:
    """Pair the graph's outputs with the original's methods, keep those that are equal, name and shape them.

    Raises ``ConversionError`` unless labels, values and probabilities are equal; a method of ``BESIDE`` that
    differs is left out, with a note.
    """
    found = graph.Session(graph.serialize(model))
    results = found.run(inputs.feeds(table))
    pairs = original.pair([port.name for port in found.outputs])
    wanted: list[tuple[str, str, graph.Shaping]] = []
    answers: list[Answer] = []
    proofs: list[OutputParity] = []
    for (source, name, role, method), result in zip(pairs, results, strict=False):
        reference = original.answer(method, table, inputs.by_column)
        shaping, shaped = _shape(reference, result)
        proof = _compare(original, name, role, method, reference, shaped, table, inputs.by_column)
        if not proof.passed and method in BESIDE and answers:
            notes.append(f"{method} is left out: {proof.refusal().what}")
            continue
        require([proof])
        if proof.ties:
            notes.append(
                f"{proof.ties} of {proof.rows} rows of {method} are labelled otherwise in ONNX: in the original their "
                f"two best classes are at most {original.resolution:.1g} apart, which float32 cannot hold"
            )
        wanted.append((source, name, shaping))
        axes = (None, *shaped.shape[1:])
        dtype = "string" if shaped.dtype.kind in "OU" else str(shaped.dtype)
        answers.append(Answer(manifest.Output(name, role, dtype, axes, original.classes), method))
        proofs.append(proof)
    graph.keep_outputs(model, wanted)
    for answer in answers:
        graph.declare_shape(model, answer.output.name, answer.output.shape)
    return answers, proofs


def _shape(reference: Any, result: Any) -> tuple[graph.Shaping, Any]:
    """Bring a converter's result to the original's shape where the two only write it differently."""
    if not hasattr(result, "shape"):
        raise ConversionError("an output of the ONNX model is no plain tensor", hint=ONNX_WAY_OUT)
    if reference.ndim == 1 and result.ndim == 2 and result.shape[1] == 1:
        return "flat", result.reshape(-1)
    if reference.ndim == 1 and result.ndim == 2 and result.shape[1] == 2:
        # Two columns for one score: the sign of which of them is the original's depends on the converter.
        off_first, off_second = (float(abs(result[:, column] - reference).sum()) for column in (0, 1))
        return ("first column", result[:, 0]) if off_first < off_second else ("second column", result[:, 1])
    return "as it is", result


def _compare(
    original: Original,
    name: str,
    role: str,
    method: str,
    reference: Any,
    result: Any,
    table: Table,
    by_column: bool,
) -> OutputParity:
    if role == "label":
        margin = original.margin(table, by_column)
        return parity.compare_labels(name, method, reference, result, margin, original.resolution)
    return parity.compare_values(name, method, reference, result)


def prove(
    original: Original, session: graph.Session, inputs: Inputs, table: Table, outputs: Sequence[Answer]
) -> list[OutputParity]:
    """Run both on the rows and compare every output."""
    results = session.run(inputs.feeds(table))
    return [
        _compare(
            original,
            answer.output.name,
            answer.output.role,
            answer.method,
            original.answer(answer.method, table, inputs.by_column),
            result,
            table,
            inputs.by_column,
        )
        for answer, result in zip(outputs, results, strict=True)
    ]


def single_rows(
    original: Original, session: graph.Session, inputs: Inputs, table: Table, outputs: Sequence[Answer]
) -> None:
    """Batches of one row, which a converter can get wrong alone. Raises ``ConversionError`` where they differ."""
    for row in range(min(SINGLE_ROWS, len(table))):
        require(prove(original, session, inputs, table.take(slice(row, row + 1)), outputs))


def treats(
    original: Original, session: graph.Session, inputs: Inputs, odd: Table | None, outputs: Sequence[Answer]
) -> str:
    """How original and ONNX model take odd inputs: ``rejected`` by the original, ``equal``, ``differs`` or ``none``."""
    if odd is None:
        return "none"
    try:
        original.answer(outputs[0].method, odd, inputs.by_column)
    except ConversionError:
        return "rejected"
    try:
        proofs = prove(original, session, inputs, odd, outputs)
    except ConversionError:
        return "differs"
    return "equal" if all(proof.passed for proof in proofs) else "differs"


def golden(
    original: Original, inputs: Inputs, table: Table, outputs: Sequence[Answer], notes: list[str]
) -> dict[str, Any] | None:
    """The first complete rows, as the graph takes them, with the original's answers on them as they were given.

    Rows whose best classes are nearly tied are passed over: another processor or number of threads may add their
    probabilities in another order. None, with a note, where there are no others.
    """
    import numpy as np

    usable = np.ones(len(table), dtype=bool)
    for column in table.columns:
        if column.dtype.kind == "f":
            usable &= np.isfinite(column)  # JSON has no other numbers
    if not usable.any():
        raise ConversionError("no row of the sample is complete", hint="give a sample with some complete rows")
    margin = original.margin(table, inputs.by_column)
    if margin is not None:
        usable &= np.abs(margin) > GOLDEN_LEAD * original.resolution
    if not usable.any():
        notes.append("no golden vectors: in every row the best classes are tied")
        return None
    chosen = table.take(np.flatnonzero(usable)[:GOLDEN_ROWS])
    feeds = inputs.feeds(chosen)
    answers = {
        answer.output.name: manifest.plain(original.answer(answer.method, chosen, inputs.by_column))
        for answer in outputs
    }
    names = {entry.name: entry.graph_name for entry in inputs.describe(named=False)}
    return {
        "inputs": {name: manifest.plain(feeds[graph_name]) for name, graph_name in names.items()},
        "outputs": answers,
    }


def require(proofs: Sequence[OutputParity]) -> None:
    """Raise the refusal of the first output that differs."""
    for proof in proofs:
        if not proof.passed:
            raise proof.refusal()
