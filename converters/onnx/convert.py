"""ONNX -> checked ONNX: valid, loadable, whole in one file, stripped, described, and still the same model.

Runs inside the sandbox only.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from converters.error_text import first_line
from converters.graph import edits
from converters.graph.session import Session, open_session, run_session
from converters.onnx import rewrites, shapes
from converters.options import Options
from converters.package import manifest
from converters.package.tried import Tried
from converters.proof import assembly, comparison
from converters.proof.exploration import explore
from converters.proof.specs import Explored
from edgepack.errors import ConversionError
from edgepack.limits import LIMITS

RECIPE = "onnx-checked"
INPUTS_HINT = "give --sample with inputs that it takes (a .npz file with an array for each input)"
PARTS = ("onnx", "onnxruntime", "numpy")


class _Graph:
    """The model as it was given, answering by tensors; a list of dictionaries becomes the matrix that it was."""

    def __init__(self, model: bytes | str, maps: Mapping[str, rewrites.Map]) -> None:
        self._session = open_session(model)
        self._names = [output.name for output in self._session.get_outputs()]
        self._maps = maps

    def answer(self, feeds: Mapping[str, Any]) -> dict[str, Any]:
        wanted = {entry.name for entry in self._session.get_inputs()}
        results = run_session(
            self._session, {name: value for name, value in feeds.items() if name in wanted}, INPUTS_HINT
        )
        pairs = zip(self._names, results, strict=True)
        return {name: self._maps[name].matrix(found) if name in self._maps else found for name, found in pairs}


def convert(path: Path, digest: str, options: Options, tried: Tried | None = None) -> manifest.Converted:
    """Check and describe the ONNX model in ``path``; raises ``ConversionError`` or ``UsageError``."""
    tried = tried or Tried()
    tried.begin(RECIPE)
    try:
        return _convert(path, digest, options)
    except ConversionError as error:
        tried.failed(error)
        raise


def _convert(path: Path, digest: str, options: Options) -> manifest.Converted:
    model = _load(path)
    notes: list[str] = []
    lowered = rewrites.fit_format(model, notes)
    edits.check(model)
    opset = edits.opsets(model).get("", 0)
    source = {"framework": "Onnx", "version": str(opset), "digest": digest, "recipe": RECIPE}
    before, model = _loadable(edits.serialize(model) if lowered else str(path), model, notes)
    maps = rewrites.take_out_maps(model)
    edits.strip(model)
    data = edits.serialize(model)
    after = Session(data)
    _require_ports(after)
    reference = _Graph(before, maps)
    roles = {**comparison.declared_roles(model), **dict.fromkeys(maps, "probabilities")}
    explored = _explored(reference, model, after, options, notes)
    if explored is None:
        converted = _unproven(after, model, data, source, roles, notes)
    else:
        proof = comparison.prove(reference, after, explored, options, roles)
        converted = assembly.package(proof, explored, model, source, _versions(), notes)
    return _with_classes(shapes.described(converted, model, after.outputs), maps)


def _require_ports(session: Session) -> None:
    """Raise ``ConversionError`` for a graph that a server has nothing to give to, or nothing to answer of."""
    if not session.inputs:
        raise ConversionError(
            "the ONNX model has no inputs that must be given, so that it answers the same to every request",
            hint="export it with what changes from request to request as an input that has no initializer",
        )
    if not session.outputs:
        raise ConversionError("the ONNX model has no outputs", hint="export it with what it is to answer as outputs")


def _explored(reference: _Graph, model: Any, session: Session, options: Options, notes: list[str]) -> Explored | None:
    """What the model takes; None, with a note, where nothing that was made up suits it and there is no sample."""
    refusal: ConversionError | None = None
    for specs in shapes.trials(model, session, options.sample):
        try:
            found = explore(reference, specs)
        except ConversionError as error:
            if options.sample is not None:
                return Explored(tuple(specs), (1,))
            refusal = refusal or error
            continue
        free = shapes.undeclared(model.graph.input)
        notes += [
            f"the input {spec.name!r} declares no shape: it was compared with {len(spec.shape)} axes only"
            for spec in found.specs
            if spec.name in free
        ]
        return found
    what = "" if refusal is None else f": {refusal.what}"
    notes.append(f"not run, since made-up inputs do not suit it{what}; give a sample to have it run")
    return None


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
                f"the model keeps weights in another file that cannot be read ({first_line(error)})",
                hint="put that file beside the model, or export with the weights inside",
            ) from error
        if model.ByteSize() >= LIMITS.protobuf_bytes:
            raise ConversionError(
                "with its weights the model is larger than the 2 GiB that one ONNX file can hold",
                hint="make it smaller, for instance by float16",
            )
    return model


def _loadable(given: bytes | str, model: Any, notes: list[str]) -> tuple[bytes | str, Any]:
    """What the runtime takes as the original, and the model: versioned up where the runtime refuses the old one.

    Raises ``ConversionError`` with the runtime's refusal where that does not help.
    """
    try:
        open_session(given)
    except ConversionError as refusal:
        newer = rewrites.versioned_up(model)
        if newer is None:
            raise
        try:
            data = edits.serialize(newer)
            open_session(data)
        except ConversionError:
            raise refusal from None
        versions = f"{edits.opsets(model).get('', 0)} to {edits.opsets(newer).get('', 0)}"
        notes.append(f"versioned up from opset {versions}, since this runtime refuses the old one")
        return data, newer
    return given, model


def _unproven(
    session: Session,
    model: Any,
    data: bytes,
    source: Mapping[str, str],
    roles: Mapping[str, str],
    notes: Sequence[str],
) -> manifest.Converted:
    """The package of a model that could only be checked and described."""
    outputs = [
        manifest.Output(port.name, roles.get(port.name, "values"), port.dtype, port.shape) for port in session.outputs
    ]
    document = manifest.build(
        source=source,
        opset=edits.opsets(model),
        minimum_runtime=edits.minimum_runtime(model),
        inputs=[manifest.Input(port.name, port.name, port.dtype, port.shape) for port in session.inputs],
        outputs=outputs,
        methods={"default": "predict", "predict": [port.name for port in session.outputs]},
        rejects={"nan": False, "infinity": False},  # what a graph answers is what it means
        parity=None,
    )
    report = {"source": source, "outputs": [], "summary": None, "warnings": list(notes), "versions": _versions()}
    return manifest.Converted(data, document, None, report, source["version"])


def _with_classes(converted: manifest.Converted, maps: Mapping[str, rewrites.Map]) -> manifest.Converted:
    """With the classes of the maps that were taken out; a label and one map are the answers of a classifier."""
    outputs = converted.manifest["outputs"]
    for output in outputs:
        if output["name"] in maps:
            output["classes"] = list(maps[output["name"]].classes)
    labels = [output for output in outputs if output["name"] not in maps and output["dtype"] in ("int64", "string")]
    if len(maps) != 1 or len(labels) != 1 or len(outputs) != 2:
        return converted
    (probabilities,), label = maps, labels[0]
    label |= {"role": "label", "classes": list(maps[probabilities].classes)}
    methods = {"default": "predict_proba", "predict": [label["name"]], "predict_proba": [probabilities]}
    return replace(converted, manifest={**converted.manifest, "methods": methods})


def _versions() -> dict[str, str]:
    return {part: importlib.metadata.version(part) for part in PARTS}
