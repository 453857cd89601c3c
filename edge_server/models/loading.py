"""Loads ONNX models: the session and its options, the manifest beside the file, and checks that the two agree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnxruntime
from onnxruntime.capi import onnxruntime_pybind11_state as runtime_state

from edge_server.config.values import MANIFEST_FILE
from edge_server.errors import ConfigurationError, MissingFileError, ScoringError
from edge_server.models.files.manifest import Manifest, load_manifest
from edge_server.models.files.onnx_file import check_onnx
from edge_server.models.files.run_bounds import is_bounded
from edge_server.models.running.first_runs import answers_by_row, run_seconds, warm
from edge_server.models.running.golden import check_golden, read_golden
from edge_server.models.running.onnx_model import OnnxModel, first_line
from edge_server.models.running.signature import dtype_of

if TYPE_CHECKING:
    from edge_server.models.bodies.tensors import Array

# The runtime's errors have no base class of their own.
RUNTIME_ERRORS: tuple[type[Exception], ...] = tuple(
    kind for kind in vars(runtime_state).values() if isinstance(kind, type) and issubclass(kind, Exception)
)


# Runs longer than this are worth other threads, if these make them faster by this much.
_SLOW_ROW_SECONDS = 0.001
_SLOW_ROWS_SECONDS = 0.005
_MANY_ROWS = 100
_WORTH = 0.8

# An ONNX file of one Identity node.
_SMALLEST = bytes.fromhex(
    "08073a370a100a017812017922084964656e746974791201675a0f0a0178120a0a"
    "08080112040a020801620f0a0179120a0a08080112040a02080142040a00100d"
)


@dataclass(frozen=True)
class Opened:
    """A model that is checked and warm. ``golden_values`` agreed with the converter's, 0 where there are none."""

    model: OnnxModel
    golden_values: int


def open_model(path: Path, threads: int, *, measured: bool = True) -> Opened:
    """Load the model at ``path``, check it against its golden vectors, run it once, and find out whether rows may be
    joined.

    It runs on up to ``threads`` threads: where ``measured``, on all of them only if that makes its slow runs faster.
    Raises what ``load_model`` and the golden vectors' check raise.
    """
    model = load_model(path, 1 if measured else threads)
    vectors = read_golden(model)
    arrays = warm(model, None if vectors is None else vectors.arrays)
    if measured and threads > 1 and arrays is not None:
        model = _with_threads(model, threads, arrays)
    checked = 0 if vectors is None else check_golden(model, vectors)
    model.joinable = arrays is not None and model.joinable and answers_by_row(model, arrays)
    if arrays is not None and all(array.ndim for array in arrays.values()):
        model.sample = {name: array[:1].copy() for name, array in arrays.items()}
    return Opened(model, checked)


def settle_runtime() -> None:
    """Make a first session, so that what the runtime allocates once is not measured as the first model's."""
    onnxruntime.InferenceSession(_SMALLEST, _options(1), providers=["CPUExecutionProvider"])


def load_model(path: Path, threads: int) -> OnnxModel:
    """Load the model at ``path``, with the manifest beside it if there is one, to run on ``threads`` threads.

    Its ``joinable`` follows from graph and manifest. Raises ScoringError when the runtime refuses the file or is too
    old for it, ConfigurationError when it is not an ONNX file, or the manifest is wrong or describes another graph.
    """
    manifest = check_manifest(path)
    try:
        session = onnxruntime.InferenceSession(str(path), _options(threads), providers=["CPUExecutionProvider"])
    except RUNTIME_ERRORS as error:
        check_onnx(path)
        raise ScoringError(f"{path} is not a model that ONNX Runtime can load: {first_line(error)}") from None
    if manifest is not None:
        _check_graph(manifest, path, session)
    model = OnnxModel(path, session, manifest)
    model.threads = threads
    model.joinable = _may_join(manifest, session)
    model.bounded = is_bounded(path)
    return model


def check_manifest(path: Path) -> Manifest | None:
    """The manifest beside the model at ``path``, or None; the model itself is not opened.

    Raises MissingFileError when there is no model, ScoringError when the runtime is too old for it,
    ConfigurationError when the manifest is wrong.
    """
    if not path.is_file():
        raise MissingFileError(f"there is no model file at {path}; check the path")
    manifest_path = path.parent / MANIFEST_FILE
    if not manifest_path.exists():
        return None
    manifest = load_manifest(manifest_path)
    _check_runtime(manifest)
    return manifest


def _with_threads(model: OnnxModel, threads: int, arrays: Mapping[str, Array]) -> OnnxModel:
    """The same model on all threads if that makes its slow runs faster, else as it is."""
    rows = 1
    alone = run_seconds(model, arrays, rows)
    if alone is None:
        return model
    if alone < _SLOW_ROW_SECONDS:
        rows = _MANY_ROWS
        alone = run_seconds(model, arrays, rows)
        if alone is None or alone < _SLOW_ROWS_SECONDS:
            return model
    threaded = load_model(model.path, threads)
    warm(threaded, arrays)
    together = run_seconds(threaded, arrays, rows)
    return threaded if together is not None and together < alone * _WORTH else model


def _options(threads: int) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    # The threads are not bound to CPUs where their number is given: they stay within the process's affinity.
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads burn the CPU of a small device between requests.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # The arena never frees what the largest batch took; without it, small batches are as fast.
    options.enable_cpu_mem_arena = False
    # The runtime's own lines are not JSON, and clients could write as many as they like; its errors are exceptions too.
    options.log_severity_level = 4
    return options


def _may_join(manifest: Manifest | None, session: Any) -> bool:
    """Whether axis 0 is free everywhere, and no row was seen to depend on another."""
    shapes = [node.shape for node in (*session.get_inputs(), *session.get_outputs())]
    if any(shape and isinstance(shape[0], int) for shape in shapes):
        return False
    # The runtime shows an unknown shape as an empty one.
    return all(shapes) if manifest is None else manifest.row_wise


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
            violations.append(f"inputs[{position}].graph_name {spec.graph_name!r} is not an input of the graph")
        elif (dtype := dtype_of(node.type)) != spec.dtype:
            violations.append(f"inputs[{position}].dtype is {spec.dtype}, the graph takes {dtype or node.type}")
    violations += [f"inputs do not name the graph's input {name!r}" for name in graph_inputs]
    for position, output in enumerate(manifest.outputs):
        if output.graph_name not in graph_outputs:
            violations.append(f"outputs[{position}].graph_name {output.graph_name!r} is not an output of the graph")
    if violations:
        raise ConfigurationError(str(manifest.path), violations)
