"""A model whose name does not tell its framework is known by what it holds, and converts."""

from __future__ import annotations

import bz2
import gzip
import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import lightgbm
import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from sklearn.linear_model import LinearRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from converters import Options, convert
from converters.source import kinds, model_files, recognition

X = np.arange(60.0).reshape(20, 3) % 7
Y = X @ [1.0, 2.0, 3.0]
Save = Callable[[Path], Any]


def _sklearn() -> Any:
    return make_pipeline(StandardScaler(), LinearRegression()).fit(X, Y)


def _booster() -> Any:
    return lightgbm.train({"verbose": -1, "num_threads": 1, "min_data_in_leaf": 1}, lightgbm.Dataset(X, Y), 2)


def _onnx() -> bytes:
    ports = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3]) for name in "xy"]
    graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", ports[:1], ports[1:])
    data: bytes = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)]).SerializeToString()
    return data


def _zip(*names: str) -> Save:
    def save(path: Path) -> None:
        with zipfile.ZipFile(path, "w") as archive:
            for name in names:
                archive.writestr(name, "{}")

    return save


def _safetensors(path: Path) -> None:
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))


@pytest.mark.parametrize(
    ("name", "save", "framework"),
    [
        ("m.sav", lambda path: pickle.dump(_sklearn(), path.open("wb")), "ScikitLearn"),
        ("m", lambda path: joblib.dump(_sklearn(), path), "ScikitLearn"),
        ("m.dat", lambda path: path.write_bytes(pickle.dumps(_sklearn(), 0)), "ScikitLearn"),
        ("m.pkl.gz", lambda path: path.write_bytes(gzip.compress(pickle.dumps(_sklearn()))), "ScikitLearn"),
        ("m.pickle.bz2", lambda path: path.write_bytes(bz2.compress(pickle.dumps(_sklearn()))), "ScikitLearn"),
        ("m.joblib.z", lambda path: joblib.dump(_sklearn(), path, compress=3), "ScikitLearn"),
        ("m.model", lambda path: joblib.dump(_sklearn(), path, compress=("xz", 1)), "ScikitLearn"),
        ("m.bin", lambda path: joblib.dump(_booster(), path), "ScikitLearn"),
        ("m.lgb", lambda path: _booster().save_model(path), "ScikitLearn"),
        ("m.xgb", lambda path: path.write_bytes(b"{L\0\0\0\0\0\0\0\7learner{"), "ScikitLearn"),
        ("m.v2", lambda path: path.write_bytes(b"CBM1\0\0"), "ScikitLearn"),
        ("m.sk", _zip("schema.json", "0.npy"), "ScikitLearn"),
        ("m.tar", _zip("m/data.pkl", "m/version"), "PyTorch"),
        ("m.torch", _zip("m/models/model.json", "m/archive_format"), "PyTorch"),
        ("m.weights", _safetensors, "PyTorch"),
        ("m.old", lambda path: path.write_bytes(b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n."), "PyTorch"),
        ("m.k3", _zip("config.json", "metadata.json", "model.weights.h5"), "TensorFlow"),
        ("m.h5.bak", lambda path: path.write_bytes(kinds.HDF5_MAGIC + b"\0" * 800 + b"keras_version"), "TensorFlow"),
        ("m.graph", lambda path: path.write_bytes(_onnx()), "Onnx"),
        ("notes", lambda path: path.write_text("a,b\n1,2\n"), None),
        ("m.csv.gz", lambda path: path.write_bytes(gzip.compress(b"a,b\n1,2\n")), None),
        ("m.dict", lambda path: path.write_bytes(pickle.dumps({"sklearn": "the word alone"})), None),
        ("m.zip", _zip("data.csv"), None),
        ("m.nc", lambda path: path.write_bytes(kinds.HDF5_MAGIC + bytes(4000)), None),
        ("m.none", lambda path: path.touch(), None),
        ("m.pk", lambda path: path.write_bytes(b"PK\3\4 cut short"), None),
        ("m.gz", lambda path: path.write_bytes(b"\x1f\x8b cut short"), None),
    ],
)
def test_a_framework_is_known_by_content(name: str, save: Save, framework: str | None, tmp_path: Path) -> None:
    path = tmp_path / name
    save(path)
    if name == "m.sk":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("schema.json", json.dumps({"__class__": "Pipeline", "__module__": "sklearn.pipeline"}))
    assert recognition.framework_of(path) == framework
    (tmp_path / "README.md").write_text("the model of May")
    assert recognition.framework_of(tmp_path) == framework
    if framework is not None:
        assert model_files.find(tmp_path, framework, Options()).path == path


def test_a_name_says_more_than_content(tmp_path: Path) -> None:
    joblib.dump(_sklearn(), tmp_path / "m.pt")
    assert recognition.framework_of(tmp_path / "m.pt") == "PyTorch"
    onnx.save(onnx.load_from_string(_onnx()), tmp_path / "m.onnx")
    assert recognition.framework_of(tmp_path) is None


@pytest.mark.usefixtures("without_sandbox")
def test_models_of_odd_names_convert(tmp_path: Path) -> None:
    saves: dict[str, Save] = {
        "m.pkl.gz": lambda path: path.write_bytes(gzip.compress(pickle.dumps(_sklearn()))),
        "m.model": lambda path: joblib.dump(_sklearn(), path, compress=("xz", 1)),
        "m.lgb": lambda path: _booster().save_model(path),
    }
    for name, save in saves.items():
        path = tmp_path / name
        save(path)
        framework = recognition.framework_of(path)
        assert framework is not None
        conversion = convert(path, framework=framework, output_dir=tmp_path / f"out-{name}", options=Options())
        assert conversion.parity is not None
        assert conversion.parity.passed
