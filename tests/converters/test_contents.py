"""A file that is named like a model and holds something else is called what it is; a model never is."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import LinearRegression

from converters.source.contents import check_model
from edgepack.errors import UsageError


def array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.eye(3))
    return buffer.getvalue()


def graph() -> bytes:
    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [None])
    made = helper.make_graph([helper.make_node("Identity", ["x"], ["y"])], "g", [value], [])
    data: bytes = helper.make_model(made, opset_imports=[onnx.helper.make_opsetid("", 17)]).SerializeToString()
    return data


TABLE = "age,income,city\n" + "40,3000.5,ulm\n" * 500
FOREIGN: list[tuple[bytes, str]] = [
    (TABLE.encode(), "is a table of text (CSV), not a model; give the file that the model was saved in, or keep"),
    (b"\xef\xbb\xbf" + TABLE.encode(), "is a table of text (CSV)"),
    (TABLE.replace(",", ";").encode(), "is a table of text (CSV)"),
    (TABLE.replace(",", "\t").encode(), "is a table of text (CSV)"),
    (TABLE.replace("ulm", "Köln").encode(), "is a table of text (CSV)"),
    (b'a,b\n1,"x, y"\n2,"z"\n', "is a table of text (CSV)"),
    (b"", "is empty"),
    (b"<!DOCTYPE html>\n<html><body>404</body></html>", "is an HTML page, not a model; download the file itself"),
    (b"\n  <HTML>", "is an HTML page"),
    (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "is XML, not a model; download"),
    (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d\nsize 12345\n", "fetch the file with: git lfs pull"),
    (b'{"message": "not found"}', "is JSON, not a model"),
    (b"[1, 2]\n", "is JSON"),
    (array(), "is an array of numpy, not a model"),
    (b"PAR1" + bytes(20), "is a Parquet file"),
    (b"%PDF-1.7\n" + bytes(20), "is a PDF document"),
    (b"SQLite format 3\0" + bytes(20), "is a SQLite database"),
]
NAMES = [
    ("m.joblib", "ScikitLearn"), ("m.pkl", "ScikitLearn"), ("m.skops", "ScikitLearn"), ("m.pt", "PyTorch"),
    ("m.pt2", "PyTorch"), ("m.keras", "TensorFlow"), ("m.h5", "TensorFlow"), ("m.onnx", "Onnx"), ("m", "Onnx"),
]  # fmt: skip


@pytest.mark.parametrize(("data", "says"), FOREIGN, ids=[says[:30] + str(at) for at, (_, says) in enumerate(FOREIGN)])
def test_what_is_no_model_is_called_what_it_is(data: bytes, says: str, tmp_path: Path) -> None:
    for name, framework in NAMES:
        (tmp_path / name).write_bytes(data)
        with pytest.raises(UsageError) as caught:
            check_model(tmp_path / name, framework)
        assert says in str(caught.value)
        assert str(caught.value).startswith(str(tmp_path / name))


def test_a_model_of_another_framework_is_called_that(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(graph())
    with pytest.raises(UsageError, match="is an ONNX model; register it with --framework Onnx"):
        check_model(tmp_path / "m.pkl", "ScikitLearn")
    (tmp_path / "m.onnx").write_bytes(pickle.dumps(LinearRegression()))
    with pytest.raises(UsageError, match="is a pickle, not an ONNX model; register it with --framework ScikitLearn"):
        check_model(tmp_path / "m.onnx", "Onnx")


def test_files_in_a_folder_are_looked_at_by_their_ending(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text(TABLE)
    (tmp_path / "m.joblib").write_bytes(pickle.dumps(LinearRegression()))
    check_model(tmp_path, "ScikitLearn")
    (tmp_path / "m.joblib").write_text(TABLE)
    check_model(tmp_path, "Custom")  # which says nothing of what the files hold
    with pytest.raises(UsageError, match=r"m\.joblib: is a table"):
        check_model(tmp_path, "ScikitLearn")


@pytest.mark.parametrize("framework", ["Custom", "TensorFlow"])
def test_a_pointer_is_found_in_any_file_of_any_model(framework: str, tmp_path: Path) -> None:
    (tmp_path / "variables").mkdir()
    (tmp_path / "saved_model.pb").write_bytes(b"\x08\x01")
    (tmp_path / "variables" / "variables.data").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid x\n")
    with pytest.raises(UsageError, match=r"variables\.data: is a pointer of Git LFS"):
        check_model(tmp_path, framework)


MODEL = LinearRegression().fit(np.eye(3), [1.0, 2.0, 3.0])


def dumped(compress: Any) -> bytes:
    buffer = io.BytesIO()
    joblib.dump(MODEL, buffer, compress=compress)
    return buffer.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        *(pickle.dumps(MODEL, protocol=protocol) for protocol in range(6)),
        *(pickle.dumps({"a": [1, 2], "b": "x,y\nz,w\n"}, protocol=protocol) for protocol in (0, 1)),
        *(dumped(compress) for compress in (0, "zlib", "gzip", "bz2", "xz", "lzma")),
        b"tree\nversion=v4\nnum_class=1\nnum_tree_per_iteration=1\n",
        b'{"learner":{"attributes":{},"feature_names":[]},"version":[3,0,0]}',
        b'{"features_info": {}, "model_info": {}, "oblivious_trees": []}',
        b"CBM1" + bytes(8),
        b"binf" + bytes(8),
        b"PK\x03\x04" + bytes(30),
        b"no pickle at all",  # which opening it tells
    ],
)
def test_no_model_is_taken_for_something_else(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "m.joblib").write_bytes(data)
    check_model(tmp_path / "m.joblib", "ScikitLearn")
    (tmp_path / "m.onnx").write_bytes(graph())
    check_model(tmp_path / "m.onnx", "Onnx")
