"""Bodies that are tensors or pictures: raw bytes, .npy files, PNG and JPEG."""

from __future__ import annotations

import io
import struct
import sys
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper
from PIL import Image

from edge_server.errors import BadRequest
from edge_server.http.messages import Request
from edge_server.models.loading import load_model
from edge_server.models.running.onnx_model import OnnxModel
from tests.edge_server.support.models import answer, echo, manifest, refusal, save, tensor
from tests.support.running import finish

RAW = "application/octet-stream"
NPY = "application/x-npy"


def npy(array: Any, version: tuple[int, int] | None = None) -> bytes:
    out = io.BytesIO()
    np.lib.format.write_array(out, np.asarray(array), version)
    return out.getvalue()


def read(model: OnnxModel, body: bytes, kind: str, query: str = "") -> Any:
    headers = [(b"content-type", kind.encode())]
    call = model.read(Request("POST", "/score", "/score", query, headers, body))
    return call.arrays["x"]


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [(TensorProto.FLOAT, "<f4"), (TensorProto.FLOAT16, "<f2"), (TensorProto.INT64, "<i8"), (TensorProto.UINT8, "u1")],
)
def test_raw_bytes_are_little_endian_rows(tmp_path: Path, kind: int, dtype: str) -> None:
    model = echo(tmp_path, kind, ["n", 3])
    array = np.arange(6).reshape(2, 3).astype(dtype)
    assert answer(model, array.tobytes(), RAW) == array.tolist()
    assert answer(model, array.tobytes(), RAW, "shape=2,3") == array.tolist()


@pytest.mark.parametrize(
    ("shape", "body", "query", "told"),
    [
        (["n", 3], b"", "", "no values"),
        (["n", 3], bytes(13), "", "13 bytes, not a multiple of 4"),
        (["n", 3], bytes(16), "", "4 values of float32, which do not fill the shape [any, 3]"),
        (["n", 3], bytes(24), "shape=3,2", "has shape [3, 2], the model takes [any, 3]"),
        (["n", 3], bytes(24), "shape=2,4", "the shape [2, 4] takes 8"),
        (["n", 3], bytes(24), "shape=-2,3", "'shape' must be whole numbers"),
        (["n", 3], bytes(24), "shape=", "takes 1"),
        (["n", 3], bytes(24), "shape=2,3&method=predict", "no methods"),
        (["n", "m"], bytes(24), "", "add it to the query, such as ?shape=1,3,224,224"),
        (None, bytes(24), "", "has an unknown shape"),
        ([1, 3], bytes(24), "", "the shape [1, 3] takes 3"),
        (["n", 0], bytes(24), "", "do not fill"),
        (None, bytes(4), "shape=" + ",".join(["1"] * 40), "'shape' must be"),
    ],
)
def test_raw_bytes_that_do_not_fit_get_400(tmp_path: Path, shape: Any, body: bytes, query: str, told: str) -> None:
    error = refusal(echo(tmp_path, TensorProto.FLOAT, shape), body, RAW, query)
    assert error.status == 400
    assert told in error.message


def test_raw_truth_values_are_0_and_1(tmp_path: Path) -> None:
    model = echo(tmp_path, TensorProto.BOOL, ["n"])
    assert answer(model, b"\x01\x00", RAW) == [True, False]
    assert "0 and 1" in refusal(model, b"\x02", RAW).message


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_npy_files_of_numbers_keep_their_shape(tmp_path: Path, version: tuple[int, int]) -> None:
    model = echo(tmp_path, TensorProto.FLOAT, ["n", "m"])
    rows = np.array([[1.5, 2.5, 3.5], [4.5, 5.5, 6.5]])
    for array in (rows, rows.astype(">f4"), np.asfortranarray(rows), rows.astype(np.float32)):
        assert answer(model, npy(array, version), NPY) == rows.tolist()


def test_npy_files_of_other_types_are_taken_where_no_value_changes(tmp_path: Path) -> None:
    whole = echo(tmp_path, TensorProto.UINT8, ["n"])
    assert answer(whole, npy(np.array([1, 255])), NPY) == [1, 255]
    assert answer(whole, npy(np.array([1.0, 2.0])), NPY) == [1, 2]
    for array in (
        np.array([1, 256]),
        np.array([1, -1]),
        np.array([1, 1.5]),
        np.array([1, np.nan]),
        np.array([1, 1e300]),
    ):
        assert "row 1" in refusal(whole, npy(array), NPY).message
    long = echo(tmp_path, TensorProto.INT64, ["n"])
    for array in (np.array([0, 2**63], np.uint64), np.array([0, 2.0**63]), np.array([0, -(2.0**63) * 1.5])):
        assert "row 1" in refusal(long, npy(array), NPY).message
    assert answer(long, npy(np.array([-(2.0**63)])), NPY) == [-(2**63)]
    single = echo(tmp_path, TensorProto.FLOAT, ["n"])
    assert answer(single, npy(np.array([np.inf, np.nan])), NPY) == [None, None]
    assert "row 1 is 1e+39, which float32 cannot hold" in refusal(single, npy(np.array([1, 1e39])), NPY).message
    assert "type bool" in refusal(single, npy(np.array([True])), NPY).message
    text = echo(tmp_path, TensorProto.STRING, ["n"])
    assert answer(text, npy(np.array(["a", "ю"])), NPY) == ["a", "ю"]
    assert refusal(text, b"a", RAW).status == 415


def header(text: str) -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode()


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x93NUMPY",
        b"\x93NUMPY\x09\x00" + bytes(20),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(20),
        header("{" * 9000),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999,), }") + bytes(4),
        header("{'descr': '<f4', 'fortran_order': False, 'shape': (" + "1," * 40 + "), }") + bytes(4),
        header("{'descr': '|O', 'fortran_order': False, 'shape': (1,), }") + bytes(8),
        header("{'descr': '|O8', 'fortran_order': False, 'shape': (1,), }") + bytes(8),
        header("{'descr': '<f3', 'fortran_order': False, 'shape': (1,), }") + bytes(3),
        header("{'descr': '<U999999999', 'fortran_order': False, 'shape': (1,), }") + bytes(8),
        header("{'descr': '<U1', 'fortran_order': False, 'shape': (1,), }") + b"\xff\xff\xff\xff",
        header("{'descr': '|b1', 'fortran_order': False, 'shape': (1,), }") + b"\x07",
        header("{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }") + bytes(4),
        header("{'fortran_order': False, 'shape': (1,), }") + bytes(4),
        npy(np.zeros(3, np.float32))[:-1],
        npy(np.zeros(3, np.float32)) + b"x",
        b"\x80\x04]\x94.",  # a pickle
    ],
)
def test_npy_files_that_are_none_get_400(tmp_path: Path, body: bytes) -> None:
    for kind in (TensorProto.FLOAT, TensorProto.STRING, TensorProto.BOOL):
        assert refusal(echo(tmp_path, kind, None), body, NPY).status == 400


def png(pixels: Any, mode: str | None = None) -> bytes:
    out = io.BytesIO()
    image = Image.fromarray(np.asarray(pixels))
    (image if mode is None else image.convert(mode)).save(out, "PNG")
    return out.getvalue()


COLORS = np.arange(2 * 4 * 3, dtype=np.uint8).reshape(2, 4, 3) * 10


def test_a_picture_becomes_what_the_model_takes(tmp_path: Path) -> None:
    body = png(COLORS)
    first = echo(tmp_path, TensorProto.FLOAT, ["n", 3, "h", "w"])
    np.testing.assert_array_equal(
        read(first, body, "image/png"), (COLORS.transpose(2, 0, 1)[None] / np.float32(255)).astype(np.float32)
    )
    np.testing.assert_array_equal(
        read(first, body, "image/png", "scale=255"), COLORS.transpose(2, 0, 1)[None].astype(np.float32)
    )
    last = echo(tmp_path, TensorProto.UINT8, [1, 2, 4, 3])
    np.testing.assert_array_equal(read(last, body, "image/png; x=y"), COLORS[None])
    half = read(echo(tmp_path, TensorProto.FLOAT16, [3, 2, 4]), body, "IMAGE/PNG")
    assert (half.dtype, half.shape) == (np.float16, (3, 2, 4))
    small = echo(tmp_path, TensorProto.UINT8, ["n", 1, 2])
    assert read(small, body, "image/png").shape == (1, 1, 2)
    see_through = echo(tmp_path, TensorProto.UINT8, ["n", "h", "w", 4])
    assert read(see_through, body, "image/png")[0, 0, 0].tolist() == [0, 10, 20, 255]


def test_pictures_of_all_modes_become_grey_and_colored(tmp_path: Path) -> None:
    color = echo(tmp_path, TensorProto.UINT8, ["n", 3, "h", "w"])
    grey = echo(tmp_path, TensorProto.UINT8, ["n", "h", "w", 1])
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        assert read(color, png(COLORS, mode), "image/png").shape == (1, 3, 2, 4)
        assert read(grey, png(COLORS, mode), "image/png").shape == (1, 2, 4, 1)
    deep = np.array([[0, 0x1234], [0x8000, 0xFFFF]], np.uint16)
    assert read(grey, png(deep), "image/png")[0, :, :, 0].tolist() == [[0, 0x12], [0x80, 0xFF]]


def test_a_photograph_is_turned_as_its_camera_was(tmp_path: Path) -> None:
    out = io.BytesIO()
    image = Image.fromarray(np.zeros((8, 16, 3), np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # turned by a quarter
    image.save(out, "JPEG", exif=exif)
    model = echo(tmp_path, TensorProto.UINT8, ["n", 3, "h", "w"])
    assert read(model, out.getvalue(), "image/jpeg").shape == (1, 3, 16, 8)


def bomb(side: int) -> bytes:
    """A PNG of side x side pixels, in a few bytes."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    size = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    content = zlib.compress(bytes(100_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", content) + chunk(b"IEND", b"")


def gif() -> bytes:
    out = io.BytesIO()
    Image.fromarray(COLORS).save(out, "GIF")
    return out.getvalue()


@pytest.mark.parametrize(
    "body", [b"", b"x" * 100, gif(), bomb(100_000), png(COLORS)[:50], png(COLORS).replace(b"IDAT", b"IDAU")]
)
def test_what_is_no_picture_gets_400(tmp_path: Path, body: bytes) -> None:
    model = echo(tmp_path, TensorProto.UINT8, ["n", 3, "h", "w"])
    assert refusal(model, body, "image/png").status == 400
    assert refusal(model, png(COLORS), "image/png", "scale=2").status == 400


def test_pixels_are_counted_before_anything_is_unfolded(tmp_path: Path) -> None:
    model = echo(tmp_path, TensorProto.UINT8, ["n", 3, "h", "w"])
    assert "8000 x 8000 pixels, more than 50000000" in refusal(model, bomb(8000), "image/png").message


def test_types_that_a_model_does_not_take_get_415(tmp_path: Path) -> None:
    table = echo(tmp_path, TensorProto.FLOAT, ["n", 4])
    assert table.formats == (RAW, NPY)
    for kind in ("image/png", "image/gif", "multipart/form-data; boundary=x", "application/xml", "\xff"):
        error = refusal(table, png(COLORS), kind)
        assert error.status == 415
        assert "the model takes application/json, application/octet-stream, application/x-npy" in error.message
    for name in (None, "", "text/plain", "application/x-www-form-urlencoded", "application/vnd.x+json; charset=utf-8"):
        assert answer(table, {"data": [[1, 2, 3, 4]]}, name) == [[1.0, 2.0, 3.0, 4.0]]
    pair = save(
        tmp_path / "pair.onnx",
        [helper.make_node("Add", ["a", "b"], ["y"])],
        [tensor("a", TensorProto.FLOAT, ["n"]), tensor("b", TensorProto.FLOAT, ["n"])],
        [tensor("y", TensorProto.FLOAT, ["n"])],
    )
    model = load_model(pair, 1)
    assert model.formats == ()
    assert refusal(model, bytes(8), RAW).status == 415


def test_raw_values_are_held_to_the_manifest_and_the_query_chooses_the_method(tmp_path: Path) -> None:
    save(
        tmp_path / "model.onnx",
        [helper.make_node("Identity", ["x"], ["same"]), helper.make_node("Neg", ["x"], ["other"])],
        [tensor("x", TensorProto.FLOAT, [None, 2])],
        [tensor(name, TensorProto.FLOAT, [None, 2]) for name in ("same", "other")],
    )
    shape = [None, 2]
    manifest(
        tmp_path,
        [{"name": "x", "graph_name": "x", "dtype": "float32", "shape": shape, "columns": ["a", "b"]}],
        [{"name": name, "graph_name": name, "dtype": "float32", "shape": shape} for name in ("same", "other")],
        methods={"default": "one", "one": ["same"], "two": ["other"]},
        rejects={"nan": True, "infinity": True},
    )
    model = load_model(tmp_path / "model.onnx", 1)
    body = np.array([[1, 2]], "<f4").tobytes()
    assert answer(model, body, RAW, "method=two") == [[-1.0, -2.0]]
    assert answer(model, body, RAW) == [[1.0, 2.0]]
    assert "'one', 'two'" in refusal(model, body, RAW, "method=three").message
    for value, told in ((np.nan, "is NaN"), (np.inf, "is infinite")):
        error = refusal(model, np.array([[1, value]], "<f4").tobytes(), RAW)
        assert f"row 0, column 1 ('b') {told}" in error.message


def test_without_pillow_pictures_get_415_and_nothing_imports_it_before(tmp_path: Path) -> None:
    echo(tmp_path, TensorProto.UINT8, ["n", 3, "h", "w"])
    (path,) = tmp_path.rglob("*.onnx")
    program = f"""
import sys
from pathlib import Path
from edge_server.errors import BadRequest
from edge_server.http.messages import Request
from edge_server.models.loading import load_model
model = load_model(Path({str(path)!r}), 1)
model.read(Request("POST", "/score", "/score", "", [], b'{{"data": [[[[1]], [[2]], [[3]]]]}}'))
assert not any(name.split(".")[0] == "PIL" for name in sys.modules)
sys.modules["PIL"] = None
try:
    model.read(Request("POST", "/score", "/score", "", [(b"content-type", b"image/png")], b"x"))
except BadRequest as error:
    print(error.status, error.message)
"""
    found = finish(sys.executable, "-c", program)
    assert "415 this server takes no images: Pillow is not installed (edgepack[images])" in found.stdout, found.stderr


def test_a_query_of_too_many_fields_is_a_refusal(tmp_path: Path) -> None:
    model = echo(tmp_path, TensorProto.FLOAT, ["n", 3])
    assert refusal(model, bytes(12), RAW, "a=1&" * 200).status == 400


def test_every_wrong_type_is_a_refusal(tmp_path: Path) -> None:
    model = echo(tmp_path, TensorProto.UINT8, ["n", 3, "h", "w"])
    for kind in (*model.formats, "application/json", "x/y"):
        with pytest.raises(BadRequest):
            model.read(
                Request(
                    "POST", "/score", "/score", "shape=%00&scale=&method", [(b"content-type", kind.encode())], b"\x00"
                )
            )
