"""What is told of an ONNX file without the onnx package, and Onnx models of several files."""

from __future__ import annotations

import contextlib
from pathlib import Path

import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import helper

from converters.source import onnx_file
from converters.source.onnx_file import check_onnx, external_files
from edgepack.errors import UsageError
from edgepack.oci.store import Store
from packager.database.database import Database
from packager.models.conversion import served
from packager.models.details import ModelDetails
from packager.models.model import Framework, onnx_path
from packager.models.registry import ModelRegistry
from tests.packager.support.onnx_models import model
from tests.support.sampling import times


def with_external_data(folder: Path) -> Path:
    """The model with its weights in ``weights.data`` beside it."""
    folder.mkdir(parents=True)
    onnx.save(model(), folder / "model.onnx", save_as_external_data=True, location="weights.data", size_threshold=16)
    return folder / "model.onnx"


@pytest.fixture
def registry(tmp_path: Path) -> ModelRegistry:
    return ModelRegistry(Database.beside(tmp_path / "models.db"), Store.create(tmp_path / "store"))


def test_a_whole_model_is_taken_and_keeps_nothing_elsewhere(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(model().SerializeToString())
    check_onnx(path)
    assert external_files(path) == frozenset()


def test_every_cut_of_a_model_is_refused(tmp_path: Path) -> None:
    data, path = model().SerializeToString(), tmp_path / "m.onnx"
    opset = data.rindex(helper.make_opsetid("", 17).SerializeToString())
    for length in [*range(64), len(data) // 2, opset, len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(UsageError, match=r"m\.onnx: is .*(ONNX model)"):
            check_onnx(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=times(200, 100), deadline=None)
@given(data=st.binary(min_size=1, max_size=300))
def test_any_other_bytes_end_in_words_and_not_in_a_traceback(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(data)
    for look in (check_onnx, external_files):
        with contextlib.suppress(UsageError):
            look(path)


def test_files_outside_of_the_model_are_named(tmp_path: Path) -> None:
    assert external_files(with_external_data(tmp_path / "m")) == {"weights.data"}


def _outside(name: str) -> onnx.TensorProto:
    tensor = onnx.TensorProto(name=name, data_type=onnx.TensorProto.FLOAT, dims=[1])
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="offset", value="0")
    tensor.external_data.add(key="location", value=f"{name}.data")
    return tensor


def test_tensors_outside_are_found_wherever_a_model_may_have_them(tmp_path: Path) -> None:
    whole = model()
    node = whole.graph.node.add(op_type="If", name="inner")
    branch = node.attribute.add(name="then_branch", type=onnx.AttributeProto.GRAPH).g
    branch.initializer.append(_outside("branch"))
    branch.node.add(op_type="Constant").attribute.add(name="value", t=_outside("constant"))
    whole.graph.sparse_initializer.add(values=_outside("values"), indices=_outside("indices"))
    function = whole.functions.add(name="f", domain="own")
    function.node.add(op_type="Constant").attribute.add(name="value", t=_outside("function"))
    path = tmp_path / "m.onnx"
    path.write_bytes(whole.SerializeToString())
    names = ("branch", "constant", "values", "indices", "function")
    assert external_files(path) == {f"{name}.data" for name in names}


def test_a_file_of_fields_without_end_is_refused_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnx_file, "MAX_FIELDS", 1000)
    path = tmp_path / "m.onnx"
    path.write_bytes(b"\x08\x01" * 1001 + b"location")
    for look in (check_onnx, external_files):
        with pytest.raises(UsageError, match="is not an ONNX model"):
            look(path)


def test_a_folder_with_external_data_is_registered_whole(registry: ModelRegistry, tmp_path: Path) -> None:
    path = with_external_data(tmp_path / "m")
    found = registry.register("m", path.parent, ModelDetails(framework=Framework.ONNX))
    assert sorted(file.path for file in found.files) == ["m/model.onnx", "m/weights.data"]
    assert served(registry, found, tmp_path / "cache").file == "m/model.onnx"


def test_a_model_without_its_external_data_is_refused_with_the_way_out(registry: ModelRegistry, tmp_path: Path) -> None:
    path = with_external_data(tmp_path / "m")
    with pytest.raises(UsageError, match=r"keeps weights in weights\.data.*register the folder that holds both"):
        registry.register("m", path)
    (tmp_path / "m/weights.data").unlink()
    with pytest.raises(UsageError, match=r"weights\.data"):
        registry.register("m", path.parent, ModelDetails(framework=Framework.ONNX))


@pytest.mark.parametrize("name", ["model.onnx", "MODEL.ONNX", "model.bin"])
def test_an_onnx_file_is_served_whatever_its_name(registry: ModelRegistry, tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.write_bytes(model().SerializeToString())
    found = registry.register("m", path, ModelDetails(framework=Framework.ONNX))
    assert served(registry, found, tmp_path / "cache").file == name


def test_the_name_decides_the_framework_when_none_is_given(registry: ModelRegistry, tmp_path: Path) -> None:
    (tmp_path / "a.ONNX").write_bytes(model().SerializeToString())
    assert registry.register("m", tmp_path / "a.ONNX").framework is Framework.ONNX


def test_two_models_in_one_folder_are_refused() -> None:
    with pytest.raises(UsageError, match=r"holds 2 files that end in \.onnx; an Onnx model has exactly one"):
        onnx_path(["m/a.onnx", "m/b.onnx"], "m")
    with pytest.raises(UsageError, match="holds 0 files"):
        onnx_path(["m/a.bin", "m/b.bin"], "m")
