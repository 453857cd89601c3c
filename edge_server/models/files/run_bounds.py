"""Whether a value in a request can make a run long: finds tensors that decide how much is computed.

The cost of a run depends on the sizes of its inputs, unless a value becomes a number of iterations or the size of a new
tensor. Read from the file's protobuf, of which only a little is needed. Source: the operators of ONNX up to opset 24
and those of ONNX Runtime, and onnx.proto for the numbers of fields.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path

from edge_server.config.sizes import SIZES
from edge_server.models.files.protobuf import BYTES, MalformedError, read_fields

# Larger files are not searched: compared with their runs, a thread costs little.
_MOST_BYTES = SIZES.searched_model

# Which inputs decide how large the outputs are, or how much is computed for them.
_SIZES: dict[str, tuple[int, ...]] = {
    "AffineGrid": (1,),
    "BlackmanWindow": (0,),
    "CenterCropPad": (1,),
    "Col2Im": (1, 2),
    "ConstantOfShape": (0,),
    "CropAndResize": (3,),
    "DFT": (1,),
    "Expand": (1,),
    "HammingWindow": (0,),
    "HannWindow": (0,),
    "ImageDecoder": (0,),
    "MaxUnpool": (2,),
    "MelWeightMatrix": (0, 1, 2, 3, 4),
    "OneHot": (1,),
    "Pad": (1,),
    "Range": (0, 1, 2),
    "Resize": (1, 2, 3),
    "STFT": (1, 3),
    "Tile": (1, 2),
    "Upsample": (1,),
}
# Operators with a graph inside, which is not searched.
_NESTED = frozenset(
    {"BeamSearch", "GreedySearch", "If", "Loop", "Sampling", "Scan", "SequenceMap", "WhisperBeamSearch"}
)
# The output depends on the input's shape only.
_SHAPES = frozenset({"Shape", "Size"})

# Numbers of the fields, by message.
_MODEL_GRAPH, _MODEL_FUNCTIONS = 7, 25
_GRAPH_NODE, _GRAPH_INPUT = 1, 11
_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR = 1, 2, 4
_VALUE_NAME = 1


def is_bounded(path: Path) -> bool:
    """Whether the cost of a run of the model at ``path`` is bounded by the sizes of its inputs. False also where that
    is not known: for large files, functions, graphs inside of operators.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        if len(content) > _MOST_BYTES:
            return False
        try:
            return _is_bounded(content)
        except MalformedError:
            return False  # the runtime reads it differently


def _is_bounded(model: mmap.mmap) -> bool:
    nodes: list[dict[int, list[bytes]]] = []
    # The names of tensors whose values depend on the request.
    sent: set[bytes] = set()
    for number, start, end in _fields(model, 0, len(model)):
        if number == _MODEL_FUNCTIONS:
            return False
        if number == _MODEL_GRAPH:
            for part, first, last in _fields(model, start, end):
                if part == _GRAPH_NODE:
                    nodes.append(_strings(model, first, last))
                elif part == _GRAPH_INPUT:
                    sent.update(_strings(model, first, last).get(_VALUE_NAME, ()))
    # They are listed in an order in which they can be run.
    return all(_node_is_bounded(node, sent) for node in nodes)


def _node_is_bounded(node: dict[int, list[bytes]], sent: set[bytes]) -> bool:
    """Whether the node is bounded; adds its outputs to ``sent`` where they depend on values of the request."""
    operator = b"".join(node.get(_NODE_OPERATOR, ())).decode("ascii", "replace")
    if operator in _NESTED:
        return False
    inputs = node.get(_NODE_INPUT, [])
    if any(inputs[position] in sent for position in _SIZES.get(operator, ()) if position < len(inputs)):
        return False
    if operator not in _SHAPES and not sent.isdisjoint(inputs):
        sent.update(node.get(_NODE_OUTPUT, ()))
    return True


def _strings(data: mmap.mmap, start: int, end: int) -> dict[int, list[bytes]]:
    """The fields of a node, or of a value, that are names, by number."""
    found: dict[int, list[bytes]] = {}
    for number, first, last in _fields(data, start, end):
        if number in (_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR):
            found.setdefault(number, []).append(data[first:last])
    return found


def _fields(data: mmap.mmap, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Number, beginning and end of each field that holds bytes."""
    return ((field.number, field.start, field.end) for field in read_fields(data, start, end) if field.kind == BYTES)
