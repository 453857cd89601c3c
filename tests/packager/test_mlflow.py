"""Models of MLflow: saved and logged by MLflow itself, registered without opening them, with what it knows of them."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import pytest

from edgepack.errors import InvalidDocumentError, NotFoundError, UsageError
from packager.commands.main import build_cli
from packager.mlflow.folder import read_model
from packager.models.model import Framework
from packager.workspaces.workspace import Workspace
from tests.support.running import run
from tests.support.typed import Type, typist

LOG = """
import sys
import mlflow, mlflow.sklearn
import pandas as pd
from mlflow.models import infer_signature
from sklearn.linear_model import LinearRegression

rows = pd.DataFrame({"age": [1.0, 2.0, 3.0], "rooms": [1.0, 1.0, 2.0]})
model = LinearRegression().fit(rows, [1.0, 2.0, 3.0])
mlflow.set_tracking_uri(sys.argv[1])
mlflow.set_experiment("houses")
with mlflow.start_run() as run:
    mlflow.log_metric("r2", 0.5)
    mlflow.log_metric("r2", 0.75)
    mlflow.sklearn.log_model(
        model, name="model", signature=infer_signature(rows, model.predict(rows)), input_example=rows,
        registered_model_name="houses", pip_requirements=["scikit-learn==1.5.2"], serialization_format="cloudpickle",
    )
    print(run.info.run_id)
"""


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    """A tracking folder of MLflow's own, the id of the run that is in it, and the folder of its model."""
    folder = tmp_path_factory.mktemp("mlflow")
    tracking = f"file://{folder}/mlruns"
    more = {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_TRACKING_URI": tracking}
    printed = run(sys.executable, "-c", LOG, tracking, more=more, cwd=folder)
    (model,) = folder.rglob("MLmodel")
    return tracking, printed.split()[-1], model.parent


@pytest.fixture
def edgepack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Type:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEPACK_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return typist(build_cli, "edgepack", monkeypatch, capfd)


def registered(edgepack: Type, uri: object, *more: str) -> dict[str, object]:
    ended = edgepack("model", "register", "-n", "houses", "--mlflow", uri, *more, "--output", "json")
    assert ended.code == 0, ended.err
    return dict(json.loads(ended.out))


def test_a_folder_is_registered_with_all_that_it_says(
    edgepack: Type, logged: tuple[str, str, Path], tmp_path: Path
) -> None:
    _, run_id, folder = logged
    found = registered(edgepack, folder, "--tag", "a=b")
    assert found["framework"] == "ScikitLearn"
    assert found["run"] == run_id
    assert found["files"][0]["path"] == "model.pkl"  # type: ignore[index]
    properties = found["properties"]
    assert isinstance(properties, dict)
    assert json.loads(properties["mlflow.signature.inputs"])[0]["name"] == "age"
    assert properties["mlflow.flavors"] == "python_function,sklearn"
    workspace = Workspace(tmp_path / "ws", tmp_path / "cache")
    (environment,) = workspace.environments.versions("houses")
    assert properties["environment"] == environment.id
    assert "scikit-learn==1.5.2" in environment.pip.requirements
    model = workspace.models.list()[0]
    assert model.sample is not None
    assert json.loads(workspace.store.read(model.sample.blob))["columns"] == ["age", "rooms"]
    assert "mlflow" not in {name for name in sys.modules if name == "mlflow"}, "a folder is read without it"


def test_a_registered_model_and_a_run_bring_their_metrics(
    edgepack: Type, logged: tuple[str, str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    tracking, run_id, _ = logged
    monkeypatch.setenv("MLFLOW_TRACKING_URI", tracking)
    for uri in ("models:/houses/1", f"runs:/{run_id}/model"):
        found = registered(edgepack, uri)
        assert (found["run"], found["experiment"]) == (run_id, "houses")
        assert found["properties"]["mlflow.metric.r2"] == "0.75"  # type: ignore[index]
    gone = edgepack("model", "register", "-n", "houses", "--mlflow", "models:/houses/9")
    assert (gone.code, "not found" in gone.err, "MLFLOW_TRACKING_URI" in gone.err) == (3, True, True)


def test_what_is_given_counts_before_what_mlflow_says(edgepack: Type, logged: tuple[str, str, Path]) -> None:
    found = registered(edgepack, logged[2], "--framework", "Custom", "--run", "mine", "--property", "mlflow.version=x")
    assert (found["framework"], found["framework_version"], found["run"]) == ("Custom", None, "mine")
    assert found["properties"]["mlflow.version"] == "x"  # type: ignore[index]


@pytest.mark.parametrize(
    ("flavour", "framework", "version", "data"),
    [
        ("onnx: {data: model.onnx, onnx_version: 1.18.0}", Framework.ONNX, "1.18.0", "model.onnx"),
        ("xgboost: {data: model.ubj, xgb_version: 3.0.0}", Framework.SCIKIT_LEARN, None, "model.ubj"),
        ("lightgbm: {data: model.lgb, lgb_version: 4.6.0}", Framework.SCIKIT_LEARN, None, "model.lgb"),
        ("catboost: {data: model.cb, catboost_version: 1.2.8}", Framework.SCIKIT_LEARN, None, "model.cb"),
        ("pytorch: {model_data: data, pytorch_version: 2.13.0}", Framework.PYTORCH, "2.13.0", "data"),
        ("keras: {data: data, keras_version: 3.13.1}", Framework.TENSORFLOW, "3.13.1", "data"),
        ("python_function: {loader_module: mine}", Framework.CUSTOM, None, "."),
    ],
)
def test_flavours_are_frameworks(
    tmp_path: Path, flavour: str, framework: Framework, version: str | None, data: str
) -> None:
    (tmp_path / "MLmodel").write_text(f"flavors:\n  {flavour}\n")
    if data != ".":
        (tmp_path / data).write_text("x")
    found = read_model(tmp_path)
    assert (found.framework, found.framework_version, found.path) == (framework, version, tmp_path / data)


@pytest.mark.parametrize(
    ("text", "kind", "says"),
    [
        ("flavors: {sklearn: {pickled_model: ../up.pkl}}", UsageError, "is not a file of the model"),
        ("flavors: {sklearn: {pickled_model: /etc/passwd}}", UsageError, "is not a file of the model"),
        ("flavors: {sklearn: {pickled_model: link.pkl}}", UsageError, "leads out of the model"),
        ("flavors: {sklearn: {pickled_model: none.pkl}}", NotFoundError, "is missing"),
        ("flavors: {sklearn: {}}", InvalidDocumentError, "flavors.sklearn.pickled_model is missing"),
        ("flavors: {}", InvalidDocumentError, "names no flavour"),
        ("- 1", InvalidDocumentError, "names no flavour"),
        ("flavors: [", InvalidDocumentError, "MLmodel"),
        ("!!python/object/apply:os.system [touch here]", InvalidDocumentError, "MLmodel"),
    ],
)
def test_a_wrong_description_is_named(tmp_path: Path, text: str, kind: type[Exception], says: str) -> None:
    (tmp_path / "MLmodel").write_text(text)
    (tmp_path / "link.pkl").symlink_to("/etc/passwd")
    with pytest.raises(kind, match=says):
        read_model(tmp_path)


def test_a_folder_that_is_none_is_named(edgepack: Type, logged: tuple[str, str, Path], tmp_path: Path) -> None:
    shutil.copytree(logged[2], tmp_path / "model")
    (tmp_path / "model/MLmodel").unlink()
    for uri in ("model", "nowhere"):
        ended = edgepack("model", "register", "-n", "houses", "--mlflow", uri)
        assert ended.code == 3
        assert "give its folder, or models:/NAME/VERSION" in ended.sentence
    assert edgepack("model", "register", "-n", "houses").code == 2
    assert edgepack("model", "register", "-n", "houses", "-p", "model", "--mlflow", "model").code == 2


def test_a_part_of_mlflow_that_is_missing_is_named_with_a_way_out(
    edgepack: Type, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fetch(**_arguments: str) -> str:
        raise ModuleNotFoundError("No module named 'alembic'", name="alembic")

    monkeypatch.setattr("mlflow.artifacts.download_artifacts", fetch)
    ended = edgepack("model", "register", "-n", "m", "--mlflow", "models:/houses/3")
    assert ended.code == 1
    assert ended.sentence.endswith(
        "models:/houses/3: MLflow needs the Python package alembic to fetch it from its own database; "
        "set MLFLOW_TRACKING_URI to the server or database that has it, or give a folder"
    )
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///m.db")
    ended = edgepack("model", "register", "-n", "m", "--mlflow", "models:/houses/3")
    assert ended.sentence.endswith("to fetch it from sqlite:///m.db; pip install mlflow")
