"""The forms of a model that are worth trying: graphs optimised ahead of time, half precision, 8-bit integers.

Each maker takes the plain model's bytes and feeds, and returns the variant's bytes. Runs inside the sandbox only.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.errors import ConversionError

CALIBRATION_ROWS = 256


class NotApplicableError(Exception):
    """Why this form does not apply to a model, in a few words."""


@dataclass(frozen=True)
class Variant:
    """A form, how it is made, and what it promises: relative difference of values, share of equal labels.

    ``atol`` is allowed beside the relative difference; probabilities near 0 need no more.
    """

    name: str
    make: Callable[[bytes, Mapping[str, Any]], bytes]
    rtol: float
    atol: float
    label_agreement: float


def _graph_level(level: str) -> Callable[[bytes, Mapping[str, Any]], bytes]:
    def make(data: bytes, feeds: Mapping[str, Any]) -> bytes:
        import onnxruntime as ort

        with tempfile.TemporaryDirectory() as folder:
            target = Path(folder) / "model.onnx"
            options = ort.SessionOptions()
            options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
            options.optimized_model_filepath = str(target)
            options.log_severity_level = 4
            ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
            return target.read_bytes()

    return make


def _half(data: bytes, feeds: Mapping[str, Any]) -> bytes:
    from onnxruntime.transformers import float16

    from converters.graph import edits

    half = float16.convert_float_to_float16(_floats(data), keep_io_types=True)
    edits.sort(half)
    edits.check(half)
    made: bytes = half.SerializeToString(deterministic=True)
    return made


# Weights of 7 bits (``reduce_range``): on processors without VNNI, products of 8 bits saturate in sums of 16, and the
# device would give other answers than the workstation that measured the model (ONNX Runtime, "Quantize ONNX models").
def _dynamic(data: bytes, feeds: Mapping[str, Any]) -> bytes:
    from onnxruntime.quantization import QuantType, quantize_dynamic

    model = _floats(data)
    with tempfile.TemporaryDirectory() as folder:
        target = Path(folder) / "model.onnx"
        quantize_dynamic(model, target, weight_type=QuantType.QInt8, reduce_range=True)
        return target.read_bytes()


def _static(data: bytes, feeds: Mapping[str, Any]) -> bytes:
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc, unused-ignore]
        def __init__(self) -> None:
            rows = min(len(value) for value in feeds.values())
            batches = range(0, min(rows, CALIBRATION_ROWS), 8)
            self._batches = ({name: value[at : at + 8] for name, value in feeds.items()} for at in batches)

        def get_next(self) -> Mapping[str, Any] | None:
            return next(self._batches, None)

    _floats(data)
    with tempfile.TemporaryDirectory() as folder:
        plain, prepared, target = (Path(folder) / f"{name}.onnx" for name in ("plain", "prepared", "model"))
        # Of a model in memory it takes the weights out, and then cannot find those that it folds.
        plain.write_bytes(data)
        quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            str(prepared),
            str(target),
            Reader(),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            weight_type=QuantType.QInt8,
            activation_type=QuantType.QInt8,
            reduce_range=True,
        )
        return target.read_bytes()


def _floats(data: bytes) -> Any:
    """The model, which must have float32 weights: the others have nothing to make smaller."""
    import onnx

    model = onnx.load_from_string(data)
    if not any(tensor.data_type == onnx.TensorProto.FLOAT and _size(tensor) > 1 for tensor in _weights(model.graph)):
        raise NotApplicableError("it has no float32 weights")
    return model


def _weights(graph: Any) -> Iterator[Any]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t") and node.op_type == "Constant":
                yield attribute.t


def _size(tensor: Any) -> int:
    size = 1
    for length in tensor.dims:
        size *= length
    return size


# int8 has looser tolerances than the rest; a user who asks for it gets it only within these.
VARIANTS = (
    Variant("graph, basic", _graph_level("ORT_ENABLE_BASIC"), 1e-4, 1e-5, 1.0),
    Variant("graph, extended", _graph_level("ORT_ENABLE_EXTENDED"), 1e-4, 1e-5, 1.0),
    Variant("float16", _half, 1e-2, 2e-3, 0.999),
    Variant("int8, dynamic", _dynamic, 5e-2, 5e-2, 0.99),
    Variant("int8, static", _static, 5e-2, 5e-2, 0.99),
)


def made(variant: Variant, data: bytes, feeds: Mapping[str, Any]) -> bytes:
    """The variant's bytes, stripped like every package's. Raises ``NotApplicableError`` with the reason."""
    import onnx

    from converters.error_text import first_line
    from converters.graph import edits

    try:
        found = onnx.load_from_string(variant.make(data, feeds))
    except NotApplicableError:
        raise
    except Exception as error:  # optimisers fail in every way, and each one means the same here
        why = re.sub(r"/\S+", "a file", first_line(error))  # where is this machine's business
        raise NotApplicableError(f"cannot be made ({why})") from error
    edits.strip(found)
    try:
        return edits.serialize(found)
    except ConversionError as error:
        raise NotApplicableError(error.what) from error
