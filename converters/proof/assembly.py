"""The package of a proven model whose inputs are named tensors: the ONNX model, its manifest and its report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from converters.graph import edits
from converters.package import manifest
from converters.proof import parity
from converters.proof.comparison import Proof
from converters.proof.specs import Explored, Spec


def package(
    proof: Proof,
    explored: Explored,
    model: Any,
    source: Mapping[str, str],
    versions: Mapping[str, str],
    warnings: Sequence[str] = (),
    extra: Mapping[str, Any] | None = None,
) -> manifest.Converted:
    """The proven ONNX model, its manifest and report; ``source`` is the manifest's, ``extra`` more report fields."""
    names = [output.name for output in proof.outputs]
    summary = parity.summary(list(proof.parities))
    document = manifest.build(
        source=source,
        opset=edits.opsets(model),
        minimum_runtime=edits.minimum_runtime(model),
        inputs=[_input(spec, proof.rejects) for spec in explored.specs],
        outputs=proof.outputs,
        methods={"default": "predict", "predict": names},
        rejects=proof.rejects,
        parity=summary,
        row_wise=proof.row_wise,
    )
    report = {
        "source": dict(source),
        "rows": {"sample": proof.sample_rows, "generated": proof.generated_rows},
        "batches": list(proof.batches),
        "ranges": {spec.name: [spec.low, spec.high] for spec in explored.specs if spec.high is not None},
        "outputs": [entry.to_json() for entry in proof.parities],
        "odd_inputs": dict(proof.unusual),
        "summary": summary,
        "warnings": [*warnings, *proof.warnings],
        "versions": dict(versions),
        **(extra or {}),
    }
    return manifest.Converted(edits.serialize(model), document, proof.golden, report, source["version"], proof.feeds)


def _input(spec: Spec, rejects: Mapping[str, bool]) -> manifest.Input:
    """The manifest's entry, with the values that the server is to keep to."""
    bounded = spec.kind == "int" and not spec.closed
    return manifest.Input(
        spec.name,
        spec.name,
        spec.dtype,
        spec.shape,
        categories=list(spec.values) if spec.closed else None,
        closed=spec.closed and rejects["unknown"],
        minimum=max(0, spec.low or 0) if bounded and rejects["negative"] else None,
        maximum=spec.high if bounded and rejects["unknown"] and spec.unknown is not None else None,
    )
