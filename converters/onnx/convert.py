"""ONNX -> checked ONNX: valid, loadable, whole in one file, stripped, described, and still the same model.

Runs inside the sandbox only.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converters import graph, manifest, parity, samples
from converters.samples import Table
from converters.sklearn import rows
from converters.sklearn.original import PARTS
from edgepack.errors import ConversionError, UsageError

RECIPE = "onnx-checked"
PROTOBUF_LIMIT = 2 << 30
GOLDEN_ROWS = 4
# Beyond this, golden vectors would weigh more than they prove.
GOLDEN_VALUES = 20_000


def convert(path: Path, digest: str, sample: Path | None) -> manifest.Converted:
    """Check and describe the ONNX model in ``path``; raises ``ConversionError`` or ``UsageError``."""
    original = _load(path)
    graph.check(original)
    before = graph.Session(str(path))
    graph.strip(original)
    data = graph.serialize(original)
    after = graph.Session(data)
    notes: list[str] = []
    feeds = _feeds(before, sample)
    proofs: list[parity.OutputParity] = []
    golden = None
    if feeds is not None:
        try:
            reference = before.run(feeds)
        except ConversionError as error:
            if sample is not None:
                raise
            notes.append(f"not run, since made-up inputs do not suit it: {error.what}; give a sample to have it run")
        else:
            proofs = _compare(before, reference, after.run(feeds))
            golden = _golden(before, feeds, reference)
    else:
        notes.append("not run, since its inputs cannot be made up; give a sample to have it run")
    result = parity.summary(proofs) if proofs else None
    opset = graph.opsets(original)
    version = str(opset.get("", 0))
    source = {"framework": "Onnx", "version": version, "digest": digest, "recipe": RECIPE}
    document = manifest.build(
        source=source,
        opset=opset,
        minimum_runtime=graph.minimum_runtime(original),
        inputs=[manifest.Input(port.name, port.name, port.dtype, port.shape) for port in after.inputs],
        outputs=[manifest.Output(port.name, "values", port.dtype, port.shape) for port in after.outputs],
        methods={"default": "predict", "predict": [port.name for port in after.outputs]},
        rejects={"nan": False, "infinity": False},  # what a graph answers is what it means
        parity=result,
    )
    report = {
        "source": source,
        "outputs": [proof.to_json() for proof in proofs],
        "summary": result,
        "warnings": notes,
        "versions": _versions(),
    }
    return manifest.Converted(data, document, golden, report, version)


def _load(path: Path) -> Any:
    """The model with its external data taken in."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

    try:
        model = onnx.load_model(path, format="protobuf", load_external_data=False)
    except (DecodeError, ValueError, OSError) as error:
        raise ConversionError("the file is not an ONNX model", hint="export or copy it again") from error
    if not model.graph.node and not model.graph.output:
        raise ConversionError("the file holds no ONNX graph", hint="export or copy it again")
    outside = [tensor for tensor in model.graph.initializer if tensor.data_location == onnx.TensorProto.EXTERNAL]
    if outside:
        try:
            onnx.load_external_data_for_model(model, str(path.parent))
        except (onnx.checker.ValidationError, OSError, ValueError) as error:
            raise ConversionError(
                f"the model keeps weights in another file that cannot be read ({graph.first_line(error)})",
                hint="put that file beside the model, or export with the weights inside",
            ) from error
        if model.ByteSize() >= PROTOBUF_LIMIT:
            raise ConversionError(
                "with its weights the model is larger than the 2 GiB that one ONNX file can hold",
                hint="make it smaller, for instance by float16",
            )
    return model


def _feeds(session: graph.Session, sample: Path | None) -> dict[str, Any] | None:
    """Inputs from the sample, else random ones where all are float tensors; None where they cannot be made up."""
    import numpy as np

    if sample is not None:
        return _sample_feeds(session, samples.read(sample))
    if any(port.dtype not in ("float32", "float64") for port in session.inputs):
        return None
    random = np.random.default_rng(rows.SEED)
    feeds = {}
    for port in session.inputs:
        if any(length is None for length in port.shape[1:]):
            return None
        shape = [GOLDEN_ROWS if length is None else length for length in port.shape]
        feeds[port.name] = random.standard_normal(shape).astype(port.dtype)
    return feeds


def _sample_feeds(session: graph.Session, table: Table) -> dict[str, Any]:
    import numpy as np

    if len(session.inputs) == 1 and table.numeric:
        (port,) = session.inputs
        matrix = table.matrix()
        rest = [length for length in port.shape[1:] if length is not None]
        if len(rest) == len(port.shape) - 1 and matrix.shape[1] == int(np.prod(rest, dtype=np.int64)):
            return {port.name: matrix.reshape(-1, *rest).astype(port.dtype)}
    missing = [port.name for port in session.inputs if port.name not in table.names]
    if missing:
        raise UsageError(
            f"the sample does not fit the model's input {missing[0]!r}",
            hint="give a column for each input, or for a single input as many columns as it has",
        )
    feeds = {}
    for port in session.inputs:
        column = table.columns[table.names.index(port.name)]
        kind = np.dtype(object) if port.dtype == "string" else np.dtype(port.dtype)
        feeds[port.name] = column.astype(kind).reshape([-1] + [1] * (len(port.shape) - 1))
    return feeds


def _compare(session: graph.Session, before: list[Any], after: list[Any]) -> list[parity.OutputParity]:
    """The stripped model against the one that was given."""
    proofs = []
    for port, left, right in zip(session.outputs, before, after, strict=True):
        if left.ndim == 0:
            left, right = left.reshape(1), right.reshape(1)
        compare = parity.compare_values
        if port.dtype == "string":
            proofs.append(parity.compare_labels(port.name, "the graph", left, right))
        else:
            proofs.append(compare(port.name, "the graph", left, right))
        if not proofs[-1].passed:
            raise proofs[-1].refusal()
    return proofs


def _golden(session: graph.Session, feeds: dict[str, Any], outputs: list[Any]) -> dict[str, Any] | None:
    import numpy as np

    arrays = [*feeds.values(), *outputs]
    if sum(array.size for array in arrays) > GOLDEN_VALUES:
        return None
    if any(array.dtype.kind == "f" and not np.isfinite(array).all() for array in arrays):
        return None  # JSON has no other numbers
    return {
        "inputs": {name: manifest.plain(array) for name, array in feeds.items()},
        "outputs": {port.name: manifest.plain(array) for port, array in zip(session.outputs, outputs, strict=True)},
    }


def _versions() -> dict[str, str]:
    import importlib.metadata

    return {part: importlib.metadata.version(part) for part in PARTS if part.startswith(("onnx", "numpy"))}
