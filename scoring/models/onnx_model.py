"""One ONNX model: its session, what it takes, what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_state

from scoring.errors import BadRequest, ConfigurationError, ScoringError
from scoring.models.manifest import FILE_NAME, GRAPH_DTYPES, InputSpec, Manifest, OutputSpec, Rejects, load_manifest
from scoring.models.payload import Request
from scoring.models.tensors import check_rows, to_array

if TYPE_CHECKING:
    from scoring.models.tensors import Array

# The runtime's errors have no base class of their own.
_RUNTIME_ERRORS: tuple[type[Exception], ...] = tuple(
    kind for kind in vars(runtime_state).values() if isinstance(kind, type) and issubclass(kind, Exception)
)


class OnnxModel:
    """A loaded model; its calls may come from several threads at once.

    `inputs` and `outputs` are what users name, `methods` what a request may ask for (empty without a
    manifest), `manifest` the converter's promises or None.
    """

    def __init__(self, path: Path, session: Any, manifest: Manifest | None) -> None:
        self.path = path
        self.manifest = manifest
        self._session = session
        if manifest is None:
            self.inputs = _graph_inputs(path, session)
            self.outputs = tuple(OutputSpec(node.name, node.name) for node in session.get_outputs())
            self.methods: Mapping[str, tuple[str, ...]] = {}
        else:
            self.inputs = manifest.inputs
            self.outputs = manifest.outputs
            self.methods = manifest.methods
        self._rejects = Rejects() if manifest is None else manifest.rejects
        self._by_name = {spec.name: spec for spec in self.inputs if not spec.unused}
        self._unused = {spec.name for spec in self.inputs if spec.unused}
        self._graph_outputs = {output.name: output.graph_name for output in self.outputs}

    def score(self, request: Request) -> Any:
        """Answer a request: the output's value when the method has one output, else an object of them.

        Raises BadRequest when the request does not fit the model; the runtime's own errors pass through.
        """
        wanted = self._answers_of(request.method)
        arrays = self.rows(request.data) if request.inputs is None else self.named(request.inputs)
        values = self.run(arrays, wanted)
        return values[0] if len(values) == 1 else dict(zip(wanted, values, strict=True))

    def rows(self, data: Any) -> dict[str, Array]:
        """Arrays by input name, from rows; a model of several tables takes their columns side by side."""
        if len(self.inputs) > 1:
            return self.named(self._split(data))
        if isinstance(data, list) and not data:
            raise BadRequest("'data' has no rows")
        return self.named({self.inputs[0].name: data})

    def named(self, values: Mapping[str, Any]) -> dict[str, Array]:
        """Arrays by input name, from JSON values by input name; all that are used must be there, and no others."""
        for name in values.keys() - self._by_name.keys() - self._unused:
            raise BadRequest(f"unknown input {name!r:.80}; the model takes {_listed(self._by_name)}")
        for name in self._by_name.keys() - values.keys():
            raise BadRequest(f"the input {name!r} is missing; the model takes {_listed(self._by_name)}")
        arrays = {}
        for name, spec in self._by_name.items():
            array = to_array(values[name], spec, rejects=self._rejects)
            if array.ndim and not array.shape[0]:
                raise BadRequest(f"input '{name}' has no rows")
            arrays[name] = array
        # Without a manifest a graph may well have inputs of different lengths.
        if self.manifest is not None and len(arrays) > 1:
            check_rows(arrays)
        return arrays

    def run(self, arrays: Mapping[str, Array], outputs: Sequence[str]) -> list[Any]:
        """The named outputs' values for arrays by input name; BadRequest when the graph refuses them."""
        feeds = {self._by_name[name].graph_name: array for name, array in arrays.items()}
        try:
            values: list[Any] = self._session.run([self._graph_outputs[name] for name in outputs], feeds)
        except runtime_state.InvalidArgument as error:
            raise BadRequest(f"the model does not take these inputs: {_first_line(error)}") from None
        return values

    def _answers_of(self, method: str | None) -> tuple[str, ...]:
        if self.manifest is None:
            if method is not None:
                raise BadRequest("this model has no methods; leave 'method' out")
            return tuple(self._graph_outputs)
        answers = self.methods.get(method or self.manifest.default_method)
        if answers is None:
            raise BadRequest(f"unknown method {method!r:.80}; the model has {_listed(self.methods)}")
        return answers

    def _split(self, data: Any) -> dict[str, Any]:
        widths = [spec.width for spec in self.inputs]
        known = [width for width in widths if width is not None]
        if len(known) != len(widths):
            raise BadRequest(f"'data' fits a model of one input; give 'inputs' with {_listed(self._by_name)}")
        total = sum(known)
        if not isinstance(data, list) or not data:
            raise BadRequest("'data' must be a list of rows, and have at least one")
        for number, row in enumerate(data):
            if not isinstance(row, list):
                raise BadRequest(f"row {number} of 'data' is not a list of values")
            if len(row) != total:
                raise BadRequest(f"row {number} of 'data' has {len(row)} values, the model takes {total}")
        tables: dict[str, Any] = {}
        start = 0
        for spec, width in zip(self.inputs, known, strict=True):
            tables[spec.name] = [row[start : start + width] for row in data]
            start += width
        return tables


def load_model(path: Path, threads: int) -> OnnxModel:
    """Load the model at `path`, with the manifest beside it if there is one, to run on `threads` threads.

    Raises ScoringError when the runtime refuses the file or is too old for it, ConfigurationError when the
    manifest is wrong or tells of another graph.
    """
    manifest_path = path.parent / FILE_NAME
    manifest = load_manifest(manifest_path) if manifest_path.exists() else None
    if manifest is not None:
        _check_runtime(manifest)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads burn the CPU of a small device between requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    options.log_severity_level = 3  # the runtime's warnings are not JSON lines, and not for operators
    onnxruntime.disable_telemetry_events()  # a scoring server tells nobody about its machine
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except _RUNTIME_ERRORS as error:
        raise ScoringError(f"{path} is not a model that ONNX Runtime can load: {_first_line(error)}") from None
    if manifest is not None:
        _check_graph(manifest, path, session)
    return OnnxModel(path, session, manifest)


def _check_runtime(manifest: Manifest) -> None:
    release = tuple(int(part) for part in onnxruntime.__version__.split(".")[:3] if part.isdigit())
    if release < manifest.minimum_runtime:
        needed = ".".join(map(str, manifest.minimum_runtime))
        raise ScoringError(
            f"{manifest.path}: the model needs ONNX Runtime {needed}, this is {onnxruntime.__version__}; "
            "rebuild the image with a newer one"
        )


def _check_graph(manifest: Manifest, path: Path, session: Any) -> None:
    violations = []
    if manifest.file != path.name:
        violations.append(f"file is {manifest.file!r}, the model beside it is {path.name!r}")
    graph_inputs = {node.name: node for node in session.get_inputs()}
    graph_outputs = {node.name for node in session.get_outputs()}
    for position, spec in enumerate(manifest.inputs):
        if spec.unused:
            continue
        node = graph_inputs.pop(spec.graph_name, None)
        if node is None:
            violations.append(f"inputs[{position}].graph_name {spec.graph_name!r} is no input of the graph")
        elif (dtype := _dtype_of(node.type)) != spec.dtype:
            violations.append(f"inputs[{position}].dtype is {spec.dtype}, the graph takes {dtype or node.type}")
    violations += [f"inputs do not name the graph's input {name!r}" for name in graph_inputs]
    for position, output in enumerate(manifest.outputs):
        if output.graph_name not in graph_outputs:
            violations.append(f"outputs[{position}].graph_name {output.graph_name!r} is no output of the graph")
    if violations:
        raise ConfigurationError(str(manifest.path), violations)


def _graph_inputs(path: Path, session: Any) -> tuple[InputSpec, ...]:
    specs = []
    for node in session.get_inputs():
        dtype = _dtype_of(node.type)
        if dtype is None:
            raise ScoringError(f"{path}: the input {node.name!r} is {node.type}, which cannot be given as JSON")
        # The runtime shows a shape that it does not know as an empty one.
        shape = tuple(size if isinstance(size, int) else None for size in node.shape) or None
        specs.append(InputSpec(node.name, node.name, dtype, shape))
    return tuple(specs)


def _dtype_of(graph_type: str) -> str | None:
    """`tensor(float)` to `float32`; None for what is no tensor."""
    return GRAPH_DTYPES.get(graph_type.removeprefix("tensor(").removesuffix(")"))


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _listed(names: Mapping[str, Any]) -> str:
    return ", ".join(repr(name) for name in names)
