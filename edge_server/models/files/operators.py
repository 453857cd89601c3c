"""Whether a graph may be given tensors without values.

ONNX Runtime 1.32 ends the whole process at some operators with an empty axis (ConvTranspose, GRU), so that only graphs
of operators that are known to bear it are given any. Which do was tried with the cases of ONNX's own tests of its
operators, with each axis of each input empty. Read from the file's protobuf; source: onnx.proto for the numbers of
fields.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

from edge_server.config.sizes import SIZES
from edge_server.models.files.protobuf import BYTES, read_fields

_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE = 1
_NODE_OPERATOR, _NODE_DOMAIN = 4, 7

_NAMES = """
Abs Add And ArgMax ArgMin Cast Ceil Clip Concat Constant Cos Div Equal Erf Exp Expand Flatten Floor Gather
GatherElements GatherND Gemm Greater GreaterOrEqual Identity IsInf IsNaN LeakyRelu Less LessOrEqual Log LogSoftmax
MatMul Max Mean Min Mod Mul Neg Not Or Pow ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean
ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Round Selu Shape Sigmoid Sign Sin Size Slice Softmax
Softplus Sqrt Squeeze Sub Sum Tan Tanh Transpose Unsqueeze Where Xor
"""
_BEAR_EMPTY_AXES = frozenset(_NAMES.split())


class EmptyAxes:
    """Whether the engine may be given tensors of the model at ``path`` that have an axis of length 0."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @cached_property
    def borne(self) -> bool:
        """Found out when it is asked first."""
        return bears_empty_axes(self._path)


def bears_empty_axes(path: Path) -> bool:
    """Whether all operators of the model at ``path`` are known to bear an empty axis; False where that is not known."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return len(content) <= SIZES.searched_model and all(
                operator in _BEAR_EMPTY_AXES for operator in _operators(content)
            )
    except (OSError, ValueError):  # not a protobuf, or one that the runtime reads differently
        return False


def _operators(model: mmap.mmap) -> Iterator[str]:
    """The operators of the graph; an unknown name for those of other domains, and where the model has functions."""
    for field in read_fields(model, 0, len(model)):
        if field.kind == BYTES and field.number == _MODEL_FUNCTIONS:
            yield "a function"
        if field.kind != BYTES or field.number != _MODEL_GRAPH:
            continue
        for node in read_fields(model, field.start, field.end):
            if node.kind == BYTES and node.number == _GRAPH_NODE:
                parts = {part.number: part for part in read_fields(model, node.start, node.end) if part.kind == BYTES}
                name, domain = parts.get(_NODE_OPERATOR), parts.get(_NODE_DOMAIN)
                other = domain is not None and domain.end > domain.start
                yield "of another domain" if other or name is None else model[name.start : name.end].decode("latin-1")
