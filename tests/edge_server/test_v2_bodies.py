"""V2 bodies: what is read is what was sent, what is written is what the model answered, and nothing else is taken."""

from __future__ import annotations

import contextlib
import gzip
import json
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from edge_server.errors import BadRequest
from edge_server.http.encoding import plain
from edge_server.v2 import answer
from edge_server.v2.head import Wanted
from edge_server.v2.inference import parse
from tests.support.running import python
from tests.support.sampling import times

DTYPES = {
    "BOOL": np.bool_,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
SHAPES = hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=4)


def pack(array: np.ndarray, datatype: str) -> bytes:
    """Binary tensor data, made by another way than the server's."""
    if datatype != "BYTES":
        return array.astype(array.dtype.newbyteorder("<")).tobytes()
    parts = [text.encode() for text in array.flat]
    return b"".join(struct.pack("<I", len(part)) + part for part in parts)


def request(*tensors: dict[str, Any], blobs: tuple[bytes, ...] = (), **fields: Any) -> tuple[bytes, bytes | None]:
    """A body and its Inference-Header-Content-Length."""
    head = json.dumps({"inputs": list(tensors), **fields}).encode()
    return head + b"".join(blobs), str(len(head)).encode() if blobs else None


@st.composite
def tensors(draw: st.DrawFn) -> tuple[str, np.ndarray, str]:
    datatype = draw(st.sampled_from(sorted(DTYPES)))
    form = draw(st.sampled_from(["binary", "flat", "nested"]))
    if datatype == "FP16":
        form = "binary"
    elements = None
    if datatype == "BYTES":
        elements = st.text(st.characters(codec="utf-8"), max_size=6)
    elif datatype.startswith("FP"):
        finite = form != "binary"
        width = int(datatype[2:])
        elements = st.floats(width=width, allow_nan=not finite, allow_infinity=not finite)
    return datatype, draw(hnp.arrays(DTYPES[datatype], draw(SHAPES), elements=elements)), form


def same(found: np.ndarray, expected: np.ndarray) -> bool:
    if expected.dtype.kind == "f":
        return found.dtype == expected.dtype and np.array_equal(found, expected, equal_nan=True)
    return found.dtype == expected.dtype and np.array_equal(found, expected)


@settings(max_examples=times(150, 100), deadline=None)
@given(st.lists(tensors(), min_size=1, max_size=4))
def test_every_tensor_is_read_as_it_was_sent(drawn: list[tuple[str, np.ndarray, str]]) -> None:
    entries, blobs = [], []
    for number, (datatype, array, form) in enumerate(drawn):
        entry: dict[str, Any] = {"name": f"in{number}", "datatype": datatype, "shape": list(array.shape)}
        if form == "binary":
            blobs.append(pack(array, datatype))
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            entry["data"] = array.ravel().tolist() if form == "flat" else array.tolist()
        entries.append(entry)
    body, size = request(*entries, blobs=tuple(blobs))
    found = parse(body, size).tensors
    assert list(found) == [entry["name"] for entry in entries]
    for entry, (_, array, _) in zip(entries, drawn, strict=True):
        assert same(found[entry["name"]], array)
        assert found[entry["name"]].flags.aligned


@settings(max_examples=times(150, 100), deadline=None)
@given(st.lists(tensors(), min_size=1, max_size=4), st.one_of(st.none(), st.text(st.characters(codec="utf-8"))))
def test_every_output_is_written_as_the_model_gave_it(
    drawn: list[tuple[str, np.ndarray, str]], request_id: str | None
) -> None:
    wanted = [Wanted(f"out{number}", form == "binary") for number, (_, _, form) in enumerate(drawn)]
    response = answer.write("m", "3", request_id, wanted, [array for _, array, _ in drawn])
    size = dict(response.headers or ()).get(b"inference-header-content-length")
    assert (size is not None) == any(output.binary for output in wanted)
    head = json.loads(response.body[: int(size)] if size else response.body)
    rest = response.body[int(size) :] if size else b""
    assert (head["model_name"], head["model_version"], head.get("id")) == ("m", "3", request_id)
    for output, entry, (datatype, array, form) in zip(wanted, head["outputs"], drawn, strict=True):
        assert (entry["name"], entry["datatype"], entry["shape"]) == (output.name, datatype, list(array.shape))
        if form == "binary":
            length = entry["parameters"]["binary_data_size"]
            assert rest[:length] == pack(array, datatype)
            rest = rest[length:]
        else:
            assert same(np.array(entry["data"], DTYPES[datatype]).reshape(entry["shape"]), array)
    assert rest == b""


def test_a_scalar_and_an_output_without_rows_are_written() -> None:
    values = [np.array(2.5, np.float32), np.zeros((0, 3), np.int64)]
    for binary in (True, False):
        response = answer.write("m", "1", None, [Wanted("a", binary), Wanted("b", binary)], values)
        size = dict(response.headers or ()).get(b"inference-header-content-length")
        outputs = json.loads(response.body[: int(size)] if size else response.body)["outputs"]
        assert [entry["shape"] for entry in outputs] == [[], [0, 3]]
        if binary:
            assert response.body.endswith(struct.pack("<f", 2.5))
        else:
            assert [entry["data"] for entry in outputs] == [[2.5], []]


def test_null_is_a_missing_number_in_both_directions() -> None:
    body, size = request({"name": "x", "datatype": "FP32", "shape": [2], "data": [None, 1.5]})
    assert np.isnan(parse(body, size).tensors["x"][0])
    response = answer.write("m", "1", None, [Wanted("y", False)], [np.array([np.nan, 1.5], np.float32)])
    assert json.loads(response.body)["outputs"][0]["data"] == [None, 1.5]


def test_outputs_parameters_and_id_are_read() -> None:
    tensor = {"name": "x", "datatype": "INT64", "shape": [1], "data": [1]}
    body, size = request(
        tensor,
        id="42",
        parameters={"binary_data_output": True, "method": "predict", "priority": 3},
        outputs=[{"name": "a"}, {"name": "b", "parameters": {"binary_data": False}}],
    )
    found = parse(body, size).head
    assert (found.id, found.method, found.binary) == ("42", "predict", True)
    assert found.outputs == (Wanted("a", True), Wanted("b", False))
    assert parse(*request(tensor)).head.outputs is None


def test_equal_heads_with_other_data_are_other_requests() -> None:
    entry = {"name": "x", "datatype": "INT8", "shape": [3], "parameters": {"binary_data_size": 3}}
    first, again = (parse(*request(entry, blobs=(blob,))) for blob in (b"abc", b"def"))
    assert first.head == again.head
    assert first.tensors["x"].tobytes() == b"abc"
    assert again.tensors["x"].tobytes() == b"def"
    for blob in (b"ab", b"abcd"):
        with pytest.raises(BadRequest):
            parse(*request(entry, blobs=(blob,)))


GOOD: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1, 2]}
BLOB: dict[str, Any] = {"name": "x", "datatype": "FP32", "shape": [1, 2], "parameters": {"binary_data_size": 8}}


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"name": 3}, "inputs[0].name must be a string"),
        ({"datatype": "BF16"}, "BF16"),
        ({"datatype": "FP8"}, "'FP8'"),
        ({"datatype": None}, "datatype None"),
        ({"datatype": "FP16"}, "only be sent as binary data"),
        ({"shape": None}, "must be a list"),
        ({"shape": [1, -2]}, "-2, which is not a length"),
        ({"shape": [True, 2]}, "True, which is not a length"),
        ({"shape": [1.0, 2]}, "1.0, which is not a length"),
        ({"shape": [1] * 33}, "at most 32"),
        ({"shape": [0, 2]}, "has 2 values, its shape [0, 2] needs 0"),
        ({"shape": [1, 3]}, "has 2 values, its shape [1, 3] needs 3"),
        ({"shape": [2**62, 2**62]}, "needs 21267647932558653966460912964485513216"),
        ({"shape": [2**63, 0], "data": []}, "too large"),
        ({"shape": [1, 2], "data": [[1, 2], [3, 4]]}, "input 'x' has 2 rows, the model takes 1"),
        ({"shape": [2, 2], "data": [[1, 2], [3]]}, "row 1"),
        ({"data": [1, "2"]}, "row 0, column 1 is a string"),
        ({"data": [1, 1e300]}, "float32 cannot hold"),
        ({"data": "text"}, "is a string"),
        ({"data": None}, "is null"),
        ({"datatype": "INT8", "data": [1, 128]}, "is 128"),
        ({"datatype": "UINT8", "data": [1, -1]}, "is -1"),
        ({"datatype": "INT64", "data": [1, 1.5]}, "is 1.5"),
        ({"datatype": "INT64", "data": [1, None]}, "null"),
        ({"datatype": "BOOL", "data": [True, 1]}, "true or false"),
        ({"datatype": "BYTES", "data": ["a", 1]}, "the model takes strings"),
        ({"parameters": []}, "must be an object"),
        ({"parameters": {"binary_data_size": 8}}, "both 'data' and 'binary_data_size'"),
        ({"parameters": {"shared_memory_region": "r"}}, "shared memory"),
    ],
)
def test_a_wrong_json_tensor_is_refused(change: dict[str, Any], told: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        parse(*request({**GOOD, **change}))
    assert told in refusal.value.message
    assert refusal.value.status == 400


@pytest.mark.parametrize(
    ("change", "blob", "told"),
    [
        ({}, b"1234567", "has 8 bytes of binary data, the body has 7 left"),
        ({}, b"123456789", "1 bytes after the last binary tensor"),
        ({"shape": [1, 3]}, b"12345678", "its shape [1, 3] of FP32 needs 12"),
        ({"shape": [1, 1]}, b"12345678", "its shape [1, 1] of FP32 needs 4"),
        ({"shape": [2**60, 2**60]}, b"12345678", "needs 5316911983139663491615228241121378304"),
        ({"datatype": "BOOL", "shape": [8]}, b"\0\1\0\1\2\0\0\0", "other than 0 and 1"),
        ({"datatype": "BF16", "shape": [4]}, b"12345678", "BF16"),
        ({"datatype": "BYTES", "shape": [1]}, b"\5\0\0\0abcd", "ends within string 0, which says that it has 5"),
        ({"datatype": "BYTES", "shape": [1]}, b"\3\0\0\0abcd", "1 bytes after its last string"),
        ({"datatype": "BYTES", "shape": [2]}, b"\1\0\0\0abcd", "ends before the length of string 1"),
        ({"datatype": "BYTES", "shape": [1]}, b"\4\0\0\0\xff\xfe\xfd\xfc", "string 0 is not UTF-8"),
        ({"datatype": "BYTES", "shape": [2**40]}, b"\4\0\0\0abcd", "too few for"),
        ({"parameters": {"binary_data_size": -8}}, b"12345678", "whole number of bytes"),
        ({"parameters": {"binary_data_size": 8.0}}, b"12345678", "whole number of bytes"),
        ({"parameters": {"binary_data_size": True}}, b"12345678", "whole number of bytes"),
        ({"parameters": {"binary_data_size": 2**63}}, b"12345678", "its shape [1, 2] of FP32 needs 8"),
        ({"shape": [2**61], "parameters": {"binary_data_size": 2**63}}, b"12345678", "the body has 8 left"),
    ],
)
def test_a_wrong_binary_tensor_is_refused(change: dict[str, Any], blob: bytes, told: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        parse(*request({**BLOB, **change}, blobs=(blob,)))
    assert told in refusal.value.message


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"inputs": []}, "at least one tensor"),
        ({"inputs": {}}, "at least one tensor"),
        ({"inputs": [GOOD, GOOD]}, "comes twice"),
        ({"inputs": [3]}, "inputs[0] must be an object"),
        ({"id": 42}, "'id' must be a string"),
        ({"outputs": {}}, "list of requested outputs"),
        ({"outputs": [{}]}, "outputs[0].name"),
        ({"outputs": [{"name": "a"}, {"name": "a"}]}, "requested twice"),
        ({"outputs": [{"name": "a", "parameters": {"binary_data": 1}}]}, "must be true or false"),
        ({"outputs": [{"name": "a", "parameters": {"classification": -2}}]}, "classification"),
        ({"outputs": [{"name": "a", "parameters": {"shared_memory_region": "r"}}]}, "shared memory"),
        ({"parameters": 1}, "must be an object"),
        ({"parameters": {"binary_data_output": "yes"}}, "must be true or false"),
        ({"parameters": {"method": 1}}, "must be a string"),
    ],
)
def test_a_wrong_field_is_refused(fields: dict[str, Any], told: str) -> None:
    with pytest.raises(BadRequest) as refusal:
        parse(json.dumps({"inputs": [GOOD], **fields}).encode(), None)
    assert told in refusal.value.message


@pytest.mark.parametrize("size", [b"", b"-1", b"1.5", b"+3", b"9" * 40, b"999", "²".encode()])
def test_a_wrong_header_length_is_refused(size: bytes) -> None:
    with pytest.raises(BadRequest, match="Inference-Header-Content-Length"):
        parse(request(GOOD)[0], size)


def test_binary_data_without_its_header_is_no_json() -> None:
    body, _ = request(BLOB, blobs=(b"12345678",))
    with pytest.raises(BadRequest, match="not JSON"):
        parse(body, None)


VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=5,
)
ODD = st.one_of(
    VALUES,
    st.sampled_from(sorted(DTYPES)),
    st.lists(st.integers(-1, 3) | st.integers(2**31, 2**70), max_size=4),
    st.fixed_dictionaries({}, optional={"binary_data_size": VALUES | st.integers(0, 9), "binary_data": VALUES}),
)
ENTRIES = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | VALUES,
        "datatype": st.sampled_from(sorted(DTYPES)) | ODD,
        "shape": st.lists(st.integers(0, 3), max_size=3) | ODD,
        "data": ODD,
        "parameters": ODD,
    },
)


@settings(max_examples=times(400, 100), deadline=None)
@given(
    st.fixed_dictionaries({"inputs": st.lists(ENTRIES, max_size=3)}, optional={"outputs": ODD, "parameters": ODD}),
    st.binary(max_size=24),
    st.integers(-2, 2),
)
def test_whatever_comes_is_read_or_refused(document: dict[str, Any], blob: bytes, off: int) -> None:
    head = json.dumps(document).encode()
    with contextlib.suppress(BadRequest):
        parse(head + blob, str(len(head) + off).encode())


@settings(max_examples=times(200, 100), deadline=None)
@given(st.binary(max_size=60), st.none() | st.binary(max_size=4))
def test_random_bytes_are_refused(body: bytes, size: bytes | None) -> None:
    assume(size is None or not size.isdigit() or int(size) > 0)  # with none of them JSON they are one input's values
    with pytest.raises(BadRequest):
        parse(body, size)


def test_deep_nesting_is_refused() -> None:
    deep = b"[" * 1_000_000 + b"]" * 1_000_000
    with pytest.raises(BadRequest):
        parse(b'{"inputs": ' + deep + b"}", None)
    entry = json.dumps({**GOOD, "shape": [1], "data": "@"}).replace('"@"', "[" * 500 + "1" + "]" * 500)
    with pytest.raises(BadRequest):
        parse(b'{"inputs": [' + entry.encode() + b"]}", None)


@pytest.mark.parametrize(
    ("encoding", "packed"),
    [
        (b"gzip", gzip.compress(b"body", mtime=0)),
        (b"X-GZIP", gzip.compress(b"body", mtime=0)),
        (b"deflate", zlib.compress(b"body")),
        (b"deflate", zlib.compress(b"body")[2:-4]),
        (b"identity", b"body"),
        (None, b"body"),
    ],
)
def test_compressed_bodies_are_unpacked(encoding: bytes | None, packed: bytes) -> None:
    assert plain(packed, encoding, 4) == b"body"


@pytest.mark.parametrize(
    ("encoding", "packed", "status"),
    [
        (b"br", b"body", 415),
        (b"gzip, gzip", b"body", 415),
        (b"gzip", b"body", 400),
        (b"deflate", b"", 400),
        (b"gzip", gzip.compress(b"body", mtime=0)[:-4], 400),
        (b"gzip", gzip.compress(b"body", mtime=0) + b"more", 400),
        (b"gzip", gzip.compress(b"bodies", mtime=0), 413),
    ],
)
def test_what_cannot_be_unpacked_is_refused(encoding: bytes, packed: bytes, status: int) -> None:
    with pytest.raises(BadRequest) as refusal:
        plain(packed, encoding, 4)
    assert refusal.value.status == status


_BOMB = """
import gzip, tracemalloc
from edge_server.errors import BadRequest
from edge_server.http.encoding import plain
bomb = gzip.compress(bytes(50_000_000))
tracemalloc.start()
try:
    plain(bomb, b"gzip", 100_000)
except BadRequest as refusal:
    print(refusal.status, tracemalloc.get_traced_memory()[1])
"""


def test_a_bomb_is_not_unpacked_beyond_the_limit() -> None:
    # In a process of its own, where nothing else takes memory meanwhile.
    done = python(_BOMB)
    status, most = map(int, done.split())
    assert status == 413
    assert most < 1_000_000
