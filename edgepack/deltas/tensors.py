"""Where the numbers of a model's file are: of ONNX (onnx.proto, IR version 13) and of safetensors.

Only what frames them is read, so a file of gigabytes takes no memory. A file that is not as it should be has none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from edgepack.documents import parse_foreign
from edgepack.errors import InvalidDocumentError

# Reads ``size`` bytes at an offset of the file; fewer at its end.
ReadAt = Callable[[int, int], bytes]
_ONNX_KINDS = {
    1: "f32", 2: "i8", 3: "i8", 4: "i16", 5: "i16", 6: "i32", 7: "i64", 10: "f16", 11: "f64", 12: "i32", 13: "i64",
    16: "bf16",
}  # fmt: skip
_SAFETENSORS_KINDS = {
    "F64": "f64", "F32": "f32", "F16": "f16", "BF16": "bf16", "I64": "i64", "U64": "i64", "I32": "i32", "U32": "i32",
    "I16": "i16", "U16": "i16", "I8": "i8", "U8": "i8",
}  # fmt: skip
# Fields of ModelProto, GraphProto, NodeProto, AttributeProto and TensorProto.
_GRAPH, _NODE, _INITIALIZER, _OUTPUT, _OP_TYPE, _ATTRIBUTE, _TENSOR = 7, 1, 5, 2, 4, 5, 5
_DATA_TYPE, _FLOAT_DATA, _NAME, _RAW_DATA = 2, 4, 8, 9
_HEADER_BYTES = 16 << 20
_PAGE = 4096


@dataclass(frozen=True)
class Tensor:
    """The ``size`` bytes from ``start`` on are elements of ``kind``, one of ``edgepack.deltas.format.WIDTHS``."""

    name: str
    kind: str
    start: int
    size: int


def tensors(read_at: ReadAt, size: int) -> tuple[Tensor, ...]:
    """The tensors of the file of ``size`` bytes that ``read_at`` reads, in its order; none where it is no model."""
    for read in (_safetensors, _onnx):
        try:
            if found := tuple(read(read_at, size)):
                return found
        except (ValueError, InvalidDocumentError):
            continue
    return ()


def _safetensors(read_at: ReadAt, size: int) -> Iterator[Tensor]:
    length = int.from_bytes(read_at(0, 8), "little")
    if not 2 <= length <= min(size - 8, _HEADER_BYTES) or read_at(8, 1) != b"{":
        return
    listed = []
    for name, one in parse_foreign(read_at(8, length), "safetensors").items():
        kind = _SAFETENSORS_KINDS.get(str(one.get("dtype"))) if isinstance(one, dict) else None
        at = one.get("data_offsets") if kind else None
        if kind and isinstance(at, list) and len(at) == 2 and all(type(edge) is int for edge in at):
            if not 0 <= at[0] <= at[1] <= size - 8 - length:
                raise ValueError(f"{name} is outside of its file")
            listed.append(Tensor(name, kind, 8 + length + at[0], at[1] - at[0]))
    yield from sorted(listed, key=lambda one: one.start)


def _onnx(read_at: ReadAt, size: int) -> Iterator[Tensor]:
    file = _Pages(read_at)
    for number, start, end in file.fields(0, size):
        if number == _GRAPH:
            yield from _graph(file, start, end)


def _graph(file: _Pages, start: int, end: int) -> Iterator[Tensor]:
    for number, at, to in file.fields(start, end):
        if number == _INITIALIZER:
            yield from _tensor(file, at, to, "")
        elif number == _NODE:
            yield from _constant(file, at, to)


def _constant(file: _Pages, start: int, end: int) -> Iterator[Tensor]:
    """The value of a node Constant, by the name of its output; attributes of others may be long lists."""
    output, is_constant = "", False
    for number, at, to in file.fields(start, end):
        if number == _OUTPUT:
            output = file.text(at, to)
        elif number == _OP_TYPE:
            is_constant = file.text(at, to) == "Constant"
        elif number == _ATTRIBUTE and not is_constant:
            return
        elif number == _ATTRIBUTE:
            for inner, inner_at, inner_to in file.fields(at, to):
                if inner == _TENSOR:
                    yield from _tensor(file, inner_at, inner_to, output)


def _tensor(file: _Pages, start: int, end: int, name: str) -> Iterator[Tensor]:
    kind, data = "", (0, 0)
    for number, at, to in file.fields(start, end):
        if number == _DATA_TYPE:
            kind = _ONNX_KINDS.get(at, "")
        elif number == _NAME:
            name = file.text(at, to) or name
        elif number in (_RAW_DATA, _FLOAT_DATA) and to - at > data[1] - data[0]:
            data = (at, to)
    if kind and data[1] > data[0]:
        yield Tensor(name, kind, data[0], data[1] - data[0])


class _Pages:
    """A protobuf file that is read a page at a time (protobuf's "Encoding")."""

    def __init__(self, read_at: ReadAt) -> None:
        self._read_at = read_at
        self._start = 0
        self._page = b""

    def fields(self, start: int, end: int) -> Iterator[tuple[int, int, int]]:
        """The number of each field, and where it is; of a number itself, its value. Raises ``ValueError``."""
        at = start
        while at < end:
            tag, at = self._varint(at)
            number, kind = tag >> 3, tag & 7
            if kind == 0:
                value, at = self._varint(at)
                yield number, value, value
                continue
            if kind == 2:
                length, at = self._varint(at)
            elif kind in (1, 5):
                length = 8 if kind == 1 else 4
            else:
                raise ValueError(f"wire type {kind}")
            if not number or at + length > end:
                raise ValueError("a field past the end of its message")
            yield number, at, at + length
            at += length

    def text(self, start: int, end: int) -> str:
        """A short text; of a long one the beginning."""
        return self._read_at(start, min(end - start, _PAGE)).decode()

    def _varint(self, at: int) -> tuple[int, int]:
        value = 0
        for shift in range(0, 70, 7):
            byte = self._byte(at)
            at += 1
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value, at
        raise ValueError("a number of more than ten bytes")

    def _byte(self, at: int) -> int:
        if not self._start <= at < self._start + len(self._page):
            self._start, self._page = at, self._read_at(at, _PAGE)
            if not self._page:
                raise ValueError("cut short")
        return self._page[at - self._start]
