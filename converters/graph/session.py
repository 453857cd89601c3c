"""Running an ONNX model in onnxruntime. Runs inside the sandbox only."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError

# The types of elements that numpy, and so a server, has too.
DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(bool)": "bool",
    "tensor(string)": "string",
}

FLOAT32 = "let it compute in float32 (PyTorch: model.float(), Keras: dtype='float32') and export it again"
RECURRENT = (b"LSTM", b"GRU")


@dataclass(frozen=True)
class Port:
    """An input or output of a loaded graph; ``shape`` has None for an axis of any length."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]


class Session:
    """An ONNX model in onnxruntime, on one thread, whose inputs and outputs are all plain tensors.

    Raises ``ConversionError`` when the runtime cannot load it.
    """

    def __init__(self, model: bytes | str) -> None:
        self._session = open_session(model)
        self._recurrent = _holds(model, RECURRENT)
        self.inputs = tuple(map(_port, self._session.get_inputs()))
        self.outputs = tuple(map(_port, self._session.get_outputs()))

    def run(self, feeds: Mapping[str, Any]) -> list[Any]:
        """The outputs in order. Raises ``ConversionError`` when the runtime fails on these inputs, or would."""
        if self._recurrent and any(not array.size for array in feeds.values()):
            # onnxruntime 1.32 does not fail on this but ends the process.
            raise ConversionError("onnxruntime cannot run LSTM and GRU on no rows", hint="give at least one row")
        return run_session(self._session, feeds)


def _holds(model: bytes | str, operators: Sequence[bytes]) -> bool:
    """Whether a serialized graph has one of the operators: a node's field 4, a string (onnx.proto, ``NodeProto``)."""
    marks = [b"\x22" + bytes([len(name)]) + name for name in operators]
    if isinstance(model, bytes):
        return any(mark in model for mark in marks)
    with open(model, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        return any(data.find(mark) >= 0 for mark in marks)


def open_session(model: bytes | str) -> Any:
    """onnxruntime's own session of a model's bytes or file, on one thread. Raises ``ConversionError``."""
    # Read at import: version 1.32 would otherwise look for a device identifier and try to report.
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    options.log_severity_level = 4
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # the runtime's own exceptions share no base class below this
        raise ConversionError(
            f"onnxruntime {ort.__version__} cannot load the ONNX model ({_runtime_reason(error)})",
            hint=FLOAT32
            if _computes_in_bfloat16(model)
            else "export it with operators and an opset that this runtime has",
        ) from error


def _computes_in_bfloat16(model: bytes | str) -> bool:
    """Whether a model has weights of bfloat16, for which the runtime lacks most operators on a processor."""
    import onnx
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped, unused-ignore]

    try:
        whole = (
            onnx.load_model(model, load_external_data=False)
            if isinstance(model, str)
            else onnx.load_model_from_string(model)
        )
    except (DecodeError, ValueError, OSError):  # which the runtime has told of
        return False
    return any(weight.data_type == onnx.TensorProto.BFLOAT16 for weight in whole.graph.initializer)


def run_session(session: Any, feeds: Mapping[str, Any], hint: str = SCRIPT) -> list[Any]:
    """What a session answers, outputs in order.

    Raises ``ConversionError`` with the ``hint`` when it fails on these inputs.
    """
    try:
        return list(session.run(None, dict(feeds)))
    except Exception as error:  # as above
        raise ConversionError(
            f"onnxruntime fails on the ONNX model ({_runtime_reason(error)})",
            hint=hint,
        ) from error


def _runtime_reason(error: BaseException) -> str:
    """What onnxruntime says, without its codes, its source's paths and its functions' signatures."""
    text = " ".join(str(error).split())
    versions = re.search(r"Opset (\d+) is under development.* is till opset (\d+)", text)
    if versions is not None:
        return f"it uses opset {versions[1]}, this runtime takes up to {versions[2]}"
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"^Load model from .* failed: ?", "", text)
    place = re.search(r"(?:Status Message: )?/\S+:\d+ ", text)
    if place is not None:
        text = text[: place.start()] + _after_signature(text[place.end() :])
    return text[:300]


def _after_signature(text: str) -> str:
    """What follows a C++ function's signature."""
    depth, start = 0, text.find("(")
    for index in range(max(start, 0), len(text)):
        depth += {"(": 1, ")": -1}.get(text[index], 0)
        if depth == 0:
            return text[index + 1 :].removeprefix(" const").strip() or text
    return text


def _port(argument: Any) -> Port:
    dtype = DTYPES.get(argument.type)
    if dtype is None and argument.type.startswith("tensor("):
        raise ConversionError(
            f'"{argument.name}" of the ONNX model is a {argument.type}, a type that numpy and JSON do not have',
            hint="export it with float32 there, and a Cast from or to that type inside the model",
        )
    if dtype is None:
        raise ConversionError(
            f'"{argument.name}" of the ONNX model is a {argument.type}, not a plain tensor',
            hint="export it with tensors only (for scikit-learn: zipmap=False)",
        )
    shape = tuple(axis if isinstance(axis, int) and axis > 0 else None for axis in argument.shape)
    return Port(argument.name, dtype, shape)
