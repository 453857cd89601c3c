"""What belongs to a model, and nothing beside it, is found and named by one digest."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from converters import Options
from converters.source import kinds, model_files
from edgepack.errors import NotFoundError, UsageError

NONE = Options()


def _sha256(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _saved_model(folder: Path) -> Path:
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"graph")
    (folder / "variables" / "variables.index").write_bytes(b"index")
    return folder


def test_file_has_its_own_digest(tmp_path: Path) -> None:
    (tmp_path / "m.pkl").write_bytes(b"model")
    for given in (tmp_path / "m.pkl", tmp_path):
        found = model_files.find(given, "ScikitLearn", NONE)
        assert found == model_files.ModelFiles(tmp_path / "m.pkl", (tmp_path / "m.pkl",), _sha256(b"model"))


def test_saved_model_is_its_whole_folder_however_it_is_named(tmp_path: Path) -> None:
    folder = _saved_model(tmp_path / "export" / "1")
    found = model_files.find(folder, "TensorFlow", NONE)
    assert (found.path, found.readable) == (folder, (folder,))
    assert model_files.find(folder.parent, "TensorFlow", NONE) == found
    assert model_files.find(folder / "saved_model.pb", "TensorFlow", NONE) == found
    (folder / "variables" / "variables.index").rename(folder / "variables" / "variables.data")
    assert model_files.find(folder, "TensorFlow", NONE).digest != found.digest


def test_saved_model_in_the_text_form_is_one_too(tmp_path: Path) -> None:
    folder = _saved_model(tmp_path / "export" / "1")
    (folder / "saved_model.pb").rename(folder / "saved_model.pbtxt")
    for given in (folder, folder.parent, folder / "saved_model.pbtxt"):
        found = model_files.find(given, "TensorFlow", NONE)
        assert (found.path, found.readable) == (folder, (folder,))
    for given in (folder, folder.parent):
        assert kinds.framework_of(given) == "TensorFlow"
    (folder / "saved_model.pb").touch()
    assert kinds.framework_of(folder.parent) == "TensorFlow"


@pytest.mark.parametrize("framework", list(kinds.ENDINGS))
def test_every_ending_by_which_a_framework_is_known_is_found_in_a_folder(framework: str, tmp_path: Path) -> None:
    for ending in (ending for group in kinds.ENDINGS[framework] for ending in group):
        (tmp_path / ending).mkdir()
        path = tmp_path / ending / f"m{ending}"
        path.write_bytes(b"tree\n")
        assert model_files.find(path.parent, framework, NONE).path == path
        assert kinds.framework_of(path.parent) == framework


@pytest.mark.parametrize("framework", ["ScikitLearn", "PyTorch", "Onnx"])
def test_saved_model_is_no_model_of_another_framework(framework: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"the folder has 0 {framework} model files"):
        model_files.find(_saved_model(tmp_path / "m"), framework, NONE)


def test_digest_of_a_folder_is_over_names_and_contents_in_order(tmp_path: Path) -> None:
    folder = _saved_model(tmp_path / "m")
    lines = "".join(
        f"{name}\0{_sha256(data)}\n"
        for name, data in (("saved_model.pb", b"graph"), ("variables/variables.index", b"index"))
    )
    assert model_files.find(folder, "TensorFlow", NONE).digest == _sha256(lines.encode())


def test_link_out_of_a_model_folder_is_refused(tmp_path: Path) -> None:
    folder = _saved_model(tmp_path / "m")
    (tmp_path / "secret").write_bytes(b"x")
    (folder / "assets").symlink_to(tmp_path / "secret")
    with pytest.raises(UsageError, match="link that leads out of it; copy the file there"):
        model_files.find(folder, "TensorFlow", NONE)


def test_weights_that_an_onnx_model_keeps_beside_it_belong_to_it_and_its_neighbours_do_not(tmp_path: Path) -> None:
    weights = numpy_helper.from_array(np.zeros((4, 400), np.float32), "w")
    kind = TensorProto.FLOAT
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", kind, ["n", 4])],
        [helper.make_tensor_value_info("y", kind, ["n", 400])],
        [weights],
    )
    long = "w" * 150 + ".bin"  # its length takes two bytes
    path = tmp_path / "m.onnx"
    onnx.save_model(helper.make_model(graph), path, save_as_external_data=True, location=long, size_threshold=0)
    (tmp_path / "secret.key").write_bytes(b"x")
    found = model_files.find(path, "Onnx", NONE)
    assert found.readable == (path, tmp_path / long)
    data = bytearray((tmp_path / long).read_bytes())
    data[0] ^= 1
    (tmp_path / long).write_bytes(data)
    assert model_files.find(path, "Onnx", NONE).digest != found.digest


@pytest.mark.parametrize("name", ["../secret.key", "/etc/hostname"])
def test_onnx_model_that_names_files_elsewhere_is_shown_none_of_them(name: str, tmp_path: Path) -> None:
    (tmp_path / "secret.key").write_bytes(b"x")
    folder = tmp_path / "m"
    folder.mkdir()
    data = b"\x0a\x08location\x12" + bytes([len(name)]) + name.encode()
    (folder / "m.onnx").write_bytes(data)
    assert model_files.find(folder, "Onnx", NONE).readable == (folder / "m.onnx",)


def test_weights_of_an_entry_point_come_with_its_module(tmp_path: Path) -> None:
    folder = tmp_path / "net"
    folder.mkdir()
    (folder / "weights.pt").write_bytes(b"w")
    options = Options(entry="net:build")
    with pytest.raises(NotFoundError, match=r"module 'net' not found beside the weights.*net\.py"):
        model_files.find(folder / "weights.pt", "PyTorch", options)
    (folder / "net.py").write_text("def build(): ...")
    (folder / "secret.key").write_bytes(b"x")
    found = model_files.find(folder / "weights.pt", "PyTorch", options)
    assert found.readable == (folder / "weights.pt", folder / "net.py")
    (folder / "net.py").write_text("def build(): pass")
    assert model_files.find(folder / "weights.pt", "PyTorch", options).digest != found.digest
    assert model_files.find(folder, "PyTorch", options).path == folder


def test_folder_with_a_pickle_and_other_files_is_that_pickle(tmp_path: Path) -> None:
    (tmp_path / "m.joblib").write_bytes(b"m")
    (tmp_path / "metadata.json").write_text("{}")
    assert model_files.find(tmp_path, "ScikitLearn", NONE).path.name == "m.joblib"
    (tmp_path / "m.joblib").unlink()
    assert model_files.find(tmp_path, "ScikitLearn", NONE).path.name == "metadata.json"
