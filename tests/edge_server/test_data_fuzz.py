"""Any bytes and any JSON are read or refused, and what is read is what numpy makes of it."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from PIL import Image

from edge_server.errors import BadRequest
from edge_server.models.bodies import large
from edge_server.models.bodies.tensors import Reader
from edge_server.models.files.manifest import InputSpec, Rejects
from edge_server.models.loading import load_model
from edge_server.models.running.onnx_model import OnnxModel
from tests.edge_server.support.models import echo, manifest, request, save, tensor
from tests.support.sampling import times

KINDS = ("application/json", None, "application/octet-stream", "application/x-npy", "image/png", "image/jpeg")
FIELDS = ["data", "inputs", "method", "dataframe_split", "dataframe_records", "instances", "input_data", "x"]
KEYS = st.sampled_from(["a", "b", "x", "columns", "data", "index", "", "0", "1", "__proto__"])
NUMBERS = st.one_of(
    st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.integers(-5, 300)
)
LEAVES = st.one_of(NUMBERS, st.text(max_size=3), st.booleans(), st.none())
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(KEYS, inner, max_size=4)),
    max_leaves=20,
)
ROWS = st.lists(st.lists(LEAVES, min_size=2, max_size=2), min_size=1, max_size=4)
RECORDS = st.lists(st.fixed_dictionaries({"a": LEAVES, "b": LEAVES}), min_size=1, max_size=4)
BODIES = st.one_of(
    st.dictionaries(st.sampled_from(FIELDS), VALUES, max_size=2),
    st.fixed_dictionaries({"data": st.one_of(ROWS, RECORDS, VALUES)}),
    VALUES,
)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[OnnxModel]:
    folder = tmp_path_factory.mktemp("fuzz")
    plain = [
        echo(folder, kind, shape)
        for kind in (TensorProto.FLOAT, TensorProto.INT8, TensorProto.STRING, TensorProto.BOOL)
        for shape in (["n", 2], None, ["n"], ["n", 3, "h", "w"])
    ]
    shape = [None, 1]
    kinds = {"a": TensorProto.STRING, "b": TensorProto.DOUBLE}
    save(
        folder / "model.onnx",
        [helper.make_node("Identity", [name], [f"{name}_"]) for name in kinds],
        [tensor(name, kind, shape) for name, kind in kinds.items()],
        [tensor(f"{name}_", kind, shape) for name, kind in kinds.items()],
    )
    inputs: list[dict[str, Any]] = [
        {"name": "a", "graph_name": "a", "dtype": "string", "shape": shape, "categories": ["x", ""], "closed": True},
        {"name": "b", "graph_name": "b", "dtype": "float64", "shape": shape, "complete": [0]},
        {"name": "c", "graph_name": "c", "dtype": "float64", "shape": shape, "unused": True},
    ]
    outputs: list[dict[str, Any]] = [{"name": name, "graph_name": f"{name}_"} for name in kinds]
    manifest(folder, inputs, outputs, rejects={"nan": False, "infinity": True, "huge": True})
    return [*plain, load_model(folder / "model.onnx", 1)]


def read_by_all(models: list[OnnxModel], body: Any, kind: str | None, query: str = "") -> None:
    for model in models:
        refused: BadRequest | None = None
        try:
            call = model.read(request(body, kind, query))
        except BadRequest as error:
            refused = error
        if refused is not None:
            assert refused.status in (400, 415)
            assert len(refused.message) < 2000
            continue
        # What is read is what the graph takes, and what binary tensors are held to.
        model.checked(call.arrays)
        json.loads(call.write(model.run(call.arrays, call.outputs)).body)


@settings(max_examples=times(300, 100), deadline=None, suppress_health_check=list(HealthCheck))
@given(body=BODIES)
def test_any_json_is_read_or_refused(models: list[OnnxModel], body: Any) -> None:
    read_by_all(models, body, "application/json")


@settings(max_examples=times(200, 100), deadline=None, suppress_health_check=list(HealthCheck))
@given(body=st.binary(max_size=60), kind=st.sampled_from(KINDS), query=st.text("shape=12,&cl%0", max_size=12))
def test_any_bytes_are_read_or_refused(models: list[OnnxModel], body: bytes, kind: str | None, query: str) -> None:
    read_by_all(models, body, kind, query)


def written(save_to: Callable[[io.BytesIO], None]) -> bytes:
    out = io.BytesIO()
    save_to(out)
    return out.getvalue()


PICTURE = Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3))
FILES = [
    ("application/x-npy", written(lambda out: np.save(out, np.arange(6, dtype=np.float32).reshape(3, 2)))),
    ("application/x-npy", written(lambda out: np.save(out, np.array(["a", "bc"])))),
    ("image/png", written(lambda out: PICTURE.save(out, "PNG"))),
    ("image/jpeg", written(lambda out: PICTURE.save(out, "JPEG"))),
]


@settings(max_examples=times(300, 100), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    file=st.sampled_from(FILES),
    changes=st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=4),
    length=st.integers(0, 800),
)
def test_damaged_files_are_read_or_refused(
    models: list[OnnxModel], file: tuple[str, bytes], changes: list[tuple[int, int]], length: int
) -> None:
    kind, content = file
    body = bytearray(content)
    for place, value in changes:
        body[place % len(body)] = value
    read_by_all(models, bytes(body[: length or None]), kind)


@settings(max_examples=times(300, 100), deadline=None)
@given(
    dtype=st.sampled_from(["float32", "float64", "int32", "int64", "uint8", "uint64"]),
    rows=st.lists(st.lists(st.one_of(NUMBERS, st.booleans()), min_size=2, max_size=2), min_size=1, max_size=5),
)
def test_numbers_are_what_numpy_reads_or_are_refused(tables: dict[str, OnnxModel], dtype: str, rows: Any) -> None:
    try:
        found = tables[dtype].read(request({"data": rows})).arrays["x"]
    except BadRequest:
        found = None
    # As the parser has them: it writes whole numbers beyond 64 bits as floating-point ones.
    values = [[value if -(2**63) <= value < 2**64 else float(value) for value in row] for row in rows]
    flat = [value for row in values for value in row]
    if dtype.startswith("float"):
        with np.errstate(over="ignore"):
            expected = np.asarray(values, dtype=np.float64).astype(dtype)
        fits = bool(np.isfinite(expected).all())
    else:
        limits = np.iinfo(dtype)
        fits = all(int(value) == value and limits.min <= value <= limits.max for value in flat)
        expected = np.array([[int(value) for value in row] for row in values], dtype=dtype) if fits else np.empty(0)
    assert (found is not None) == fits
    if found is not None:
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> dict[str, OnnxModel]:
    folder = tmp_path_factory.mktemp("tables")
    kinds = {
        "float32": TensorProto.FLOAT,
        "float64": TensorProto.DOUBLE,
        "int32": TensorProto.INT32,
        "int64": TensorProto.INT64,
        "uint8": TensorProto.UINT8,
        "uint64": TensorProto.UINT64,
    }
    return {dtype: echo(folder, kind, ["n", 2]) for dtype, kind in kinds.items()}


@settings(max_examples=times(200, 100), deadline=None)
@given(rows=st.lists(st.lists(st.one_of(st.floats(-1e30, 1e30), st.none()), min_size=2, max_size=2), min_size=1))
def test_missing_numbers_are_nan(tables: dict[str, OnnxModel], rows: Any) -> None:
    found = tables["float32"].read(request({"data": rows})).arrays["x"]
    np.testing.assert_array_equal(found, np.array(rows, dtype=np.float64).astype(np.float32))


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> list[Reader]:
    shapes: list[tuple[int | None, ...]] = [(None, 2), (None, 1), (None, None), (3, 2)]
    return [Reader(InputSpec("x", "x", dtype, shape), Rejects()) for shape in shapes for dtype in ("float32", "int64")]


@settings(max_examples=times(500, 100), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    rows=st.lists(st.lists(st.one_of(st.integers(-9, 9), st.none(), st.just([1])), min_size=1, max_size=2), max_size=6),
    changes=st.lists(
        st.tuples(st.integers(0, 60), st.sampled_from(["", "[", "]", ",", " ", "],", "1", "}", '"'])), max_size=2
    ),
    indent=st.sampled_from([None, 1]),
)
def test_piece_by_piece_is_as_at_once(
    single: list[Reader], rows: Any, changes: list[tuple[int, str]], indent: int | None
) -> None:
    text = json.dumps({"data": rows}, indent=indent)
    for place, inserted in changes:
        text = text[:place] + inserted + text[place:]
    for reader in single:
        with mock.patch.object(large, "_PIECE", 5):
            found = large.read_rows(text.encode(), reader)
        if found is not None:
            expected = reader.read(json.loads(text)["data"])
            assert found.dtype == expected.dtype
            np.testing.assert_array_equal(found, expected)
        elif not changes and rows:
            # Only what cannot be read at all, or a batch of a fixed size, is left to be read at once.
            fixed = reader.spec.shape == (3, 2)
            assert fixed or refuses(reader, rows)


def refuses(reader: Reader, rows: Any) -> bool:
    try:
        reader.read(rows)
    except BadRequest:
        return True
    return False


def test_a_large_body_is_read_as_it_is_at_once(tables: dict[str, OnnxModel]) -> None:
    rows = np.random.default_rng(0).normal(size=(60_000, 2)).round(6).tolist()
    model = tables["float32"]
    assert len(json.dumps(rows)) > large.LARGE_BYTES
    np.testing.assert_array_equal(model.read(request({"data": rows})).arrays["x"], np.array(rows, np.float32))
    for wrong, told in ((["1", 2], "row 60000, column 0 is a string"), ([1], "row 60000 has 1 value")):
        with pytest.raises(BadRequest) as caught:
            model.read(request({"data": [*rows, wrong]}))
        assert told in caught.value.message
