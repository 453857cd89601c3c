"""Converting a registered model: once, remembered, again when something that it was made of changed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import converters
from converters import Options
from converters.conversion import software
from converters.package import cache
from converters.sandbox import launch
from converters.software import selection
from edgepack.errors import ConversionError, EdgepackError, NotFoundError, UsageError
from edgepack.names import ModelRef
from packager.models.conversion import convert, served
from packager.models.details import ModelDetails
from packager.models.model import Conversion, Framework, Model
from packager.models.unpack import extract
from packager.workspaces.workspace import Workspace
from tests.packager.support.trained import ROWS, register


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return Workspace(tmp_path / "workspace", tmp_path / "cache")


def converted(workspace: Workspace, model: Model, options: Options | None = None, **how: Any) -> Conversion:
    return convert(workspace.models, model, options, cache=workspace.cache, **how)


def test_a_model_is_converted_once_and_served_by_its_onnx_form(workspace: Workspace, trained: Path) -> None:
    model = register(workspace, trained)
    conversion = converted(workspace, model)
    assert conversion.file == "model.onnx"
    assert json.loads(workspace.store.read(conversion.report))["summary"]["passed"] is True
    found = workspace.models.get(ModelRef("iris"))
    assert found.conversion == conversion
    assert converted(workspace, found) is found.conversion
    image = served(workspace.models, found, workspace.cache)
    assert (image.id, image.file, image.layers) == ("iris:1", "model.onnx", conversion.layers)


def test_it_is_made_again_when_asked_for_or_gone_or_of_something_else(workspace: Workspace, trained: Path) -> None:
    first = converted(workspace, register(workspace, trained))
    again = converted(workspace, workspace.models.get(ModelRef("iris")), again=True)
    assert again.layers == first.layers, "the same bytes every time"

    for layer in first.layers:
        workspace.store.path(layer.descriptor.digest).unlink()
    assert converted(workspace, workspace.models.get(ModelRef("iris"))).layers == first.layers
    assert all(workspace.store.has(layer.descriptor) for layer in first.layers)

    other = workspace.models.save_conversion(workspace.models.get(ModelRef("iris")), replace(first, key="another"))
    assert converted(workspace, other).key == first.key


@pytest.mark.usefixtures("without_sandbox")
def test_other_software_converts_again_and_so_does_the_wish(
    workspace: Workspace, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = converted(workspace, register(workspace, trained))
    model = workspace.models.get(ModelRef("iris"))
    runs: list[str] = []
    real = launch.run

    def counted(*arguments: Any, **named: Any) -> launch.Outcome:
        runs.append("run")
        return real(*arguments, **named)

    monkeypatch.setattr(launch, "run", counted)
    assert converted(workspace, model) == first
    assert runs == []
    assert converted(workspace, model, again=True) == first, "the cache of conversions does not answer a wish"
    assert runs == ["run"]
    monkeypatch.setattr(cache, "code_digest", lambda: "of other code")
    assert converted(workspace, model).key != first.key
    assert runs == ["run", "run"]
    monkeypatch.undo()
    beside = selection.installed_version
    monkeypatch.setattr(selection, "installed_version", lambda part: "0.9" if part == "skops" else beside(part))
    assert converted(workspace, model).key != first.key


def test_a_changed_lock_is_other_software(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = software()
    locks = Path(shutil.copytree(selection.LOCKS, tmp_path / "locks"))
    monkeypatch.setattr(selection, "LOCKS", locks)
    assert software() == before
    (locks / "onnx.txt").write_text((locks / "onnx.txt").read_text() + "# changed\n")
    assert software() != before


def test_limits_are_kept_to(workspace: Workspace, trained: Path) -> None:
    with pytest.raises(ConversionError, match=r"longer than 0\.05 seconds"):
        converted(workspace, register(workspace, trained), limits=launch.Limits(seconds=0.05))


@pytest.mark.usefixtures("without_sandbox")
def test_a_sample_is_called_by_its_own_name(workspace: Workspace, trained: Path, tmp_path: Path) -> None:
    (tmp_path / "rows of may.csv").write_text("a,b\n1\n")
    with pytest.raises(UsageError, match=r"^rows of may\.csv: "):
        converted(workspace, register(workspace, trained), Options(sample=tmp_path / "rows of may.csv"))
    with pytest.raises(UsageError, match="is a folder"):
        converted(workspace, workspace.models.get(ModelRef("iris")), Options(sample=tmp_path))


@pytest.mark.usefixtures("without_sandbox")
def test_how_it_was_asked_decides_the_result_and_is_remembered(workspace: Workspace, trained: Path) -> None:
    model = register(workspace, trained, sample=False)
    plain = converted(workspace, model)
    asked = Options(sample=trained / "rows.json", tolerances={"probabilities": 1e-3})
    sampled = converted(workspace, workspace.models.get(ModelRef("iris")), asked)
    assert sampled.key != plain.key
    assert json.loads(workspace.store.read(sampled.report))["summary"]["accepted"] == {"probabilities": 1e-3}

    remembered = workspace.models.get(ModelRef("iris"))
    assert converted(workspace, remembered) == sampled, "whoever asks for nothing gets what was asked for before"
    for layer in sampled.layers:
        workspace.store.path(layer.descriptor.digest).unlink()
    assert converted(workspace, remembered).layers == sampled.layers, "also when it has to be made again"
    assert converted(workspace, remembered, Options()).layers == plain.layers


@pytest.mark.usefixtures("without_sandbox")
def test_the_sample_that_a_model_was_registered_with_is_compared_on(workspace: Workspace, trained: Path) -> None:
    report = json.loads(workspace.store.read(converted(workspace, register(workspace, trained)).report))
    assert report["rows"]["sample"]["rows"] == len(ROWS)


@pytest.mark.usefixtures("without_sandbox")
def test_an_onnx_model_is_served_as_it_is_until_its_conversion_is_asked_for(
    workspace: Workspace, trained: Path, tmp_path: Path
) -> None:
    made = converters.convert(
        trained / "iris.joblib", framework="ScikitLearn", output_dir=tmp_path / "out", cache=workspace.cache
    )
    model = workspace.models.register("net", made.model)
    assert served(workspace.models, model, workspace.cache).layers == model.layers
    conversion = converted(workspace, model)
    assert served(workspace.models, workspace.models.get(ModelRef("net")), workspace.cache).layers == conversion.layers


@pytest.mark.usefixtures("without_sandbox")
def test_a_model_that_cannot_be_converted_stays_registered_and_unconverted(
    workspace: Workspace, tmp_path: Path
) -> None:
    (tmp_path / "broken.joblib").write_bytes(b"no pickle at all")
    model = workspace.models.register(
        "broken", tmp_path / "broken.joblib", ModelDetails(framework=Framework.SCIKIT_LEARN)
    )
    with pytest.raises(EdgepackError) as error:
        converted(workspace, model)
    assert isinstance(error.value, ConversionError | UsageError)
    assert workspace.models.get(ModelRef("broken")).conversion is None


def test_a_custom_model_needs_code(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_text("x")
    model = workspace.models.register("m", tmp_path / "m.bin")
    with pytest.raises(UsageError, match=r"model m:1: has no framework.*register it with --framework"):
        served(workspace.models, model, workspace.cache)


def test_files_that_are_not_in_the_store_are_told(workspace: Workspace, tmp_path: Path) -> None:
    (tmp_path / "m.bin").write_text("x")
    model = workspace.models.register("m", tmp_path / "m.bin")
    for layer in model.layers:
        workspace.store.path(layer.descriptor.digest).unlink()
    with pytest.raises(NotFoundError, match="is missing"):
        extract(workspace.store, model, tmp_path / "out")


def test_a_file_or_folder_comes_back_as_it_was(workspace: Workspace, tmp_path: Path) -> None:
    folder = tmp_path / "saved"
    (folder / "variables").mkdir(parents=True)
    (folder / "saved_model.pb").write_bytes(b"pb")
    (folder / "variables/v.index").write_bytes(b"index")
    (folder / "latest").symlink_to("saved_model.pb")
    model = workspace.models.register("tf", folder, ModelDetails(framework=Framework.TENSORFLOW))
    found = extract(workspace.store, model, tmp_path / "out/model")
    assert found.name == "saved"
    assert (found / "variables/v.index").read_bytes() == b"index"
    assert (found / "latest").read_bytes() == b"pb"
