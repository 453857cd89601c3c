"""The Python API: what ``import packager`` gives, and scripts written for Azure's SDK."""

from __future__ import annotations

import inspect
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

import packager
from edgepack.errors import InvalidDocumentError, NotFoundError, UsageError
from packager.automl import AutoMLRun
from packager.commands.main import build_cli
from packager.compute import AksCompute
from packager.conda_dependencies import CondaDependencies
from packager.exceptions import AzureMLException, ModelNotFoundException, UserErrorException, WebserviceException
from packager.model import Model, ModelPackage
from packager.resource_configuration import ResourceConfiguration
from packager.run import Run
from packager.webservice import AciWebservice, AksEndpoint, AksWebservice, LocalWebservice
from packager.workspace import Workspace
from tests.support.running import finish, run
from tests.support.typed import Type, typist


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a file of weights; workspaces are in it too."""
    monkeypatch.setenv("EDGEPACK_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("weights.bin").write_bytes(b"weights")
    Path("folder").mkdir()
    Path("folder/one.bin").write_bytes(b"1")
    Path("folder/two.bin").write_bytes(b"2")
    return tmp_path


@pytest.fixture
def ws() -> Workspace:
    return packager.Workspace()


# ---- The calls are Azure's ------------------------------------------------------------------------------------------

# Read from azureml-core 1.61: each call with its parameters and their defaults.
SIGNATURES: dict[str, str] = {
    "Workspace.from_config": "path=None, auth=None, _logger=None, _file_name=None",
    "Workspace.get": (
        "name, auth=None, subscription_id=None, resource_group=None, location=None, cloud='AzureCloud', id=None"
    ),
    "Workspace.write_config": "self, path=None, file_name=None",
    "Workspace.get_run": "self, run_id",
    "Model.__init__": (
        "self, workspace, name=None, id=None, tags=None, properties=None, version=None, run_id=None, "
        "model_framework=None, expand=True, **kwargs"
    ),
    "Model.register": (
        "workspace, model_path, model_name, tags=None, properties=None, description=None, datasets=None, "
        "model_framework=None, model_framework_version=None, child_paths=None, sample_input_dataset=None, "
        "sample_output_dataset=None, resource_configuration=None"
    ),
    "Model.list": (
        "workspace, name=None, tags=None, properties=None, run_id=None, latest=False, dataset_id=None, expand=True, "
        "page_count=255, model_framework=None"
    ),
    "Model.get_model_path": "model_name, version=None, _workspace=None",
    "Model.download": "self, target_dir='.', exist_ok=False, exists_ok=None",
    "Model.update": (
        "self, tags=None, description=None, sample_input_dataset=None, sample_output_dataset=None, "
        "resource_configuration=None"
    ),
    "Model.update_tags_properties": "self, add_tags=None, remove_tags=None, add_properties=None",
    "Model.add_tags": "self, tags",
    "Model.remove_tags": "self, tags",
    "Model.add_properties": "self, properties",
    "Model.package": (
        "workspace, models, inference_config=None, generate_dockerfile=False, image_name=None, image_label=None"
    ),
    "ModelPackage.__init__": "self, workspace, operation_id, environment",
    "ModelPackage.wait_for_creation": "self, show_output=False",
    "ModelPackage.save": "self, output_directory",
    "ModelPackage.pull": "self",
    "ModelPackage.get_container_registry": "self",
    "ModelPackage.get_logs": "self, decode=True, offset=0",
    "ModelPackage.update_creation_state": "self",
    "ModelPackage.serialize": "self",
    "Model.delete": "self",
    "Model.serialize": "self",
    "Model.deserialize": "workspace, model_payload",
    "Run.__init__": "self, experiment, run_id, outputs=None, **kwargs",
    "Run.get_context": "allow_offline=True, used_for_context_manager=False, **kwargs",
    "Run.get": "workspace, run_id",
    "Run.list": "experiment, type=None, tags=None, properties=None, status=None, include_children=False",
    "Run.register_model": (
        "self, model_name, model_path=None, tags=None, properties=None, model_framework=None, "
        "model_framework_version=None, description=None, datasets=None, sample_input_dataset=None, "
        "sample_output_dataset=None, resource_configuration=None, **kwargs"
    ),
    "Run.log": "self, name, value, description='', step=None",
    "Run.get_metrics": "self, name=None, recursive=False, run_type=None, populate=False",
    "Run.upload_file": "self, name, path_or_stream, datastore_name=None",
    "Run.upload_folder": "self, name, path, datastore_name=None",
    "Run.download_file": "self, name, output_file_path=None",
    "Run.download_files": (
        "self, prefix=None, output_directory=None, output_paths=None, batch_size=100, append_prefix=True"
    ),
    "Run.complete": "self, _set_status=True",
    "Run.fail": "self, error_details=None, error_code=None",
    "Run.child_run": "self, name=None, run_id=None, outputs=None",
    "AutoMLRun.register_model": "self, model_name=None, description=None, tags=None, iteration=None, metric=None",
    "Experiment.get_runs": "self, type=None, tags=None, properties=None, include_children=False",
    "ResourceConfiguration.__init__": "self, cpu=None, memory_in_gb=None, gpu=None",
    "InferenceConfig.__init__": (
        "self, entry_script, runtime=None, conda_file=None, extra_docker_file_steps=None, source_directory=None, "
        "enable_gpu=None, description=None, base_image=None, base_image_registry=None, cuda_version=None, "
        "environment=None"
    ),
    "InferenceConfig.validate_configuration": "self",
    "Environment.__init__": "self, name, **kwargs",
    "Environment.from_conda_specification": "name, file_path",
    "Environment.from_pip_requirements": "name, file_path, pip_version=None",
    "Environment.from_dockerfile": "name, dockerfile, conda_specification=None, pip_requirements=None",
    "Environment.from_docker_image": (
        "name, image, container_registry=None, conda_specification=None, pip_requirements=None"
    ),
    "Environment.from_docker_build_context": "name, docker_build_context",
    "Environment.from_existing_conda_environment": "name, conda_environment_name",
    "Environment.get": "workspace, name, version=None, label=None",
    "Environment.list": "workspace",
    "Environment.register": "self, workspace",
    "Environment.label": "workspace, name, version, labels",
    "Environment.clone": "self, new_name",
    "Environment.build": "self, workspace, image_build_compute=None",
    "Environment.build_local": "self, workspace, platform=None, **kwargs",
    "Environment.get_image_details": "self, workspace",
    "Environment.save_to_directory": "self, path, overwrite=False",
    "Environment.load_from_directory": "path",
    "Environment.add_private_pip_wheel": "workspace, file_path, exist_ok=False",
    "CondaDependencies.__init__": "self, conda_dependencies_file_path=None, _underlying_structure=None",
    # Azure's default Python is of its own images; None is ours.
    "CondaDependencies.create": (
        "pip_indexurl=None, pip_packages=None, conda_packages=None, python_version=None, pin_sdk_version=True"
    ),
    "CondaDependencies.save": "self, path=None",
    "CondaDependencies.save_to_file": "self, base_directory, conda_file_path=None",
    "ContainerRegistry.__init__": "self",
    "Model.deploy": (
        "workspace, name, models, inference_config=None, deployment_config=None, deployment_target=None, "
        "overwrite=False, show_output=False"
    ),
    "Webservice.__init__": "self, workspace, name",
    "Webservice.list": (
        "workspace, compute_type=None, image_name=None, image_id=None, model_name=None, model_id=None, "
        "tags=None, properties=None, image_digest=None"
    ),
    "Webservice.wait_for_deployment": "self, show_output=False, timeout_sec=None",
    "Webservice.update_deployment_state": "self",
    "Webservice.get_logs": "self, num_lines=5000, init=False",
    "Webservice.run": "self, input",
    "Webservice.delete": "self",
    "Webservice.serialize": "self",
    "LocalWebservice.__init__": "self, workspace, name, must_exist=True",
    "LocalWebservice.deploy_configuration": "port=None",
    "LocalWebservice.update": (
        "self, models=None, image_config=None, deployment_config=None, wait=False, inference_config=None"
    ),
    "LocalWebservice.delete": "self, delete_cache=True, delete_image=False, delete_volume=True",
    "AciWebservice.deploy_configuration": (
        "cpu_cores=None, memory_gb=None, tags=None, properties=None, description=None, location=None, "
        "auth_enabled=None, ssl_enabled=None, enable_app_insights=None, ssl_cert_pem_file=None, "
        "ssl_key_pem_file=None, ssl_cname=None, dns_name_label=None, primary_key=None, secondary_key=None, "
        "collect_model_data=None, cmk_vault_base_url=None, cmk_key_name=None, cmk_key_version=None, "
        "vnet_name=None, subnet_name=None"
    ),
    "AciWebservice.update": (
        "self, image=None, tags=None, properties=None, description=None, auth_enabled=None, ssl_enabled=None, "
        "ssl_cert_pem_file=None, ssl_key_pem_file=None, ssl_cname=None, enable_app_insights=None, "
        "models=None, inference_config=None"
    ),
    "AksWebservice.deploy_configuration": (
        "autoscale_enabled=None, autoscale_min_replicas=None, autoscale_max_replicas=None, "
        "autoscale_refresh_seconds=None, autoscale_target_utilization=None, collect_model_data=None, "
        "auth_enabled=None, cpu_cores=None, memory_gb=None, enable_app_insights=None, "
        "scoring_timeout_ms=None, replica_max_concurrent_requests=None, max_request_wait_time=None, "
        "num_replicas=None, primary_key=None, secondary_key=None, tags=None, properties=None, "
        "description=None, gpu_cores=None, period_seconds=None, initial_delay_seconds=None, "
        "timeout_seconds=None, success_threshold=None, failure_threshold=None, namespace=None, "
        "token_auth_enabled=None, compute_target_name=None, cpu_cores_limit=None, memory_gb_limit=None, "
        "blobfuse_enabled=None"
    ),
    "AksWebservice.update": (
        "self, image=None, autoscale_enabled=None, autoscale_min_replicas=None, autoscale_max_replicas=None, "
        "autoscale_refresh_seconds=None, autoscale_target_utilization=None, collect_model_data=None, "
        "auth_enabled=None, cpu_cores=None, memory_gb=None, enable_app_insights=None, "
        "scoring_timeout_ms=None, replica_max_concurrent_requests=None, max_request_wait_time=None, "
        "num_replicas=None, tags=None, properties=None, description=None, models=None, inference_config=None, "
        "gpu_cores=None, period_seconds=None, initial_delay_seconds=None, timeout_seconds=None, "
        "success_threshold=None, failure_threshold=None, namespace=None, token_auth_enabled=None, "
        "cpu_cores_limit=None, memory_gb_limit=None, **kwargs"
    ),
    "AksEndpoint.__init__": "self, workspace, name",
    "AksEndpoint.deploy_configuration": (
        "autoscale_enabled=None, autoscale_min_replicas=None, autoscale_max_replicas=None, "
        "autoscale_refresh_seconds=None, autoscale_target_utilization=None, collect_model_data=None, "
        "auth_enabled=None, cpu_cores=None, memory_gb=None, enable_app_insights=None, "
        "scoring_timeout_ms=None, replica_max_concurrent_requests=None, max_request_wait_time=None, "
        "num_replicas=None, primary_key=None, secondary_key=None, tags=None, properties=None, "
        "description=None, gpu_cores=None, period_seconds=None, initial_delay_seconds=None, "
        "timeout_seconds=None, success_threshold=None, failure_threshold=None, namespace=None, "
        "token_auth_enabled=None, version_name=None, traffic_percentile=None, compute_target_name=None, "
        "cpu_cores_limit=None, memory_gb_limit=None"
    ),
    "AksEndpoint.update": (
        "self, auth_enabled=None, token_auth_enabled=None, enable_app_insights=None, description=None, tags=None, "
        "properties=None"
    ),
    "AksEndpoint.create_version": (
        "self, version_name, autoscale_enabled=None, autoscale_min_replicas=None, autoscale_max_replicas=None, "
        "autoscale_refresh_seconds=None, autoscale_target_utilization=None, collect_model_data=None, "
        "cpu_cores=None, memory_gb=None, scoring_timeout_ms=None, replica_max_concurrent_requests=None, "
        "max_request_wait_time=None, num_replicas=None, tags=None, properties=None, description=None, "
        "models=None, inference_config=None, gpu_cores=None, period_seconds=None, initial_delay_seconds=None, "
        "timeout_seconds=None, success_threshold=None, failure_threshold=None, traffic_percentile=None, "
        "is_default=None, is_control_version_type=None, cpu_cores_limit=None, memory_gb_limit=None"
    ),
    "AksEndpoint.update_version": (
        "self, version_name, autoscale_enabled=None, autoscale_min_replicas=None, autoscale_max_replicas=None, "
        "autoscale_refresh_seconds=None, autoscale_target_utilization=None, collect_model_data=None, "
        "cpu_cores=None, memory_gb=None, scoring_timeout_ms=None, replica_max_concurrent_requests=None, "
        "max_request_wait_time=None, num_replicas=None, tags=None, properties=None, description=None, "
        "models=None, inference_config=None, gpu_cores=None, period_seconds=None, initial_delay_seconds=None, "
        "timeout_seconds=None, success_threshold=None, failure_threshold=None, traffic_percentile=None, "
        "is_default=None, is_control_version_type=None, cpu_cores_limit=None, memory_gb_limit=None"
    ),
    "AksEndpoint.delete_version": "self, version_name",
    "ComputeTarget.__init__": "self, workspace, name",
    "ComputeTarget.attach": "workspace, name, attach_configuration",
    "ComputeTarget.create": "workspace, name, provisioning_configuration",
    "ComputeTarget.list": "workspace",
    "ComputeTarget.detach": "self",
    "ComputeTarget.delete": "self",
    "AksCompute.attach_configuration": (
        "resource_group=None, cluster_name=None, resource_id=None, cluster_purpose=None, load_balancer_type=None, "
        "load_balancer_subnet=None"
    ),
    "AksCompute.provisioning_configuration": (
        "agent_count=None, vm_size=None, ssl_cname=None, ssl_cert_pem_file=None, ssl_key_pem_file=None, "
        "location=None, vnet_resourcegroup_name=None, vnet_name=None, subnet_name=None, service_cidr=None, "
        "dns_service_ip=None, docker_bridge_cidr=None, cluster_purpose=None, load_balancer_type=None, "
        "load_balancer_subnet=None"
    ),
}


@pytest.mark.parametrize("call", SIGNATURES)
def test_a_call_has_azures_parameters(call: str) -> None:
    owner, _, name = call.partition(".")
    others = {
        "AutoMLRun": AutoMLRun, "CondaDependencies": CondaDependencies, "ModelPackage": ModelPackage,
        "LocalWebservice": LocalWebservice, "AciWebservice": AciWebservice, "AksWebservice": AksWebservice,
        "AksEndpoint": AksEndpoint, "AksCompute": AksCompute,
    }  # fmt: skip
    found: Any = others.get(owner) or getattr(packager, owner)
    parameters = inspect.signature(getattr(found, name)).parameters.values()
    ours = [one for one in parameters if one.kind is not inspect.Parameter.KEYWORD_ONLY]
    said = ", ".join(
        f"**{one.name}" if one.kind is inspect.Parameter.VAR_KEYWORD
        else one.name if one.default is inspect.Parameter.empty
        else f"{one.name}={one.default!r}"
        for one in ours
    )  # fmt: skip
    assert said == SIGNATURES[call]


def test_frameworks_have_azures_names() -> None:
    assert {key: value for key, value in vars(Model.Framework).items() if key.isupper()} == {
        "CUSTOM": "Custom", "TENSORFLOW": "TensorFlow", "SCIKITLEARN": "ScikitLearn", "ONNX": "Onnx",
        "TFKERAS": "TfKeras", "PYTORCH": "PyTorch", "MULTI": "Multi",
    }  # fmt: skip


def test_the_public_names_are_these() -> None:
    assert packager.__all__ == sorted(packager.__all__)
    for name in packager.__all__:
        assert getattr(packager, name).__doc__


def test_importing_it_loads_neither_click_nor_a_database() -> None:
    loaded = run(
        sys.executable, "-c", "import packager, sys; print(*sys.modules)", cwd=Path(packager.__file__).parents[1]
    )
    assert not {"click", "sqlite3", "psycopg", "numpy"} & set(loaded.split())


# ---- Models ---------------------------------------------------------------------------------------------------------


def test_a_model_is_registered_and_found_in_every_way(ws: Workspace, capsys: pytest.CaptureFixture[str]) -> None:
    made = Model.register(
        workspace=ws, model_path="weights.bin", model_name="sklearn_mnist", tags={"area": "mnist", "rank": 1},
        properties={"auc": 0.5}, description="digits", model_framework=Model.Framework.SCIKITLEARN,
        model_framework_version="1.5.2", resource_configuration=ResourceConfiguration(cpu=1, memory_in_gb=0.5),
    )  # fmt: skip
    assert capsys.readouterr() == ("", "Registering model sklearn_mnist\n")
    assert (made.name, made.id, made.version) == ("sklearn_mnist", "sklearn_mnist:1", 1)
    assert (made.tags, made.properties) == ({"area": "mnist", "rank": "1"}, {"auc": "0.5"})
    assert made.resource_configuration == ResourceConfiguration(1, 0.5)
    same = [
        Model(ws, "sklearn_mnist"), Model(ws, id="sklearn_mnist:1"), Model(ws, "sklearn_mnist", version=1),
        Model(ws, tags=["area", ["rank", 1]]), Model(ws, name="sklearn_mnist", properties=[["auc", "0.5"]]),
        ws.models["sklearn_mnist"], ws.models["sklearn_mnist:1"], *Model.list(ws, latest=True), *ws.models.list(),
        Model.deserialize(ws, made.serialize()),
    ]  # fmt: skip
    assert same == [made] * len(same)
    assert dict(ws.models) == {"sklearn_mnist": made}
    assert "sklearn_mnist" in ws.models
    assert ws.models.get("other") is None


def test_what_is_not_there_may_be_caught_by_either_name(ws: Workspace) -> None:
    for kind in (NotFoundError, ModelNotFoundException, WebserviceException, AzureMLException):
        with pytest.raises(kind, match="model nothing not found"):
            Model(ws, "nothing")
    with pytest.raises(KeyError):
        ws.models["nothing"]
    for wrong in (UsageError, UserErrorException, WebserviceException):
        with pytest.raises(wrong, match="is not a model name"):
            Model.register(ws, "weights.bin", "no/name")
    with pytest.raises(WebserviceException) as error:
        Model.register(ws, "weights.bin", "no/name", tags={"": "x"})
    assert isinstance(error.value, InvalidDocumentError)
    assert len(error.value.violations) == 2
    assert error.value.message == str(error.value)


def test_unknown_arguments_are_refused_with_the_nearest(ws: Workspace) -> None:
    with pytest.raises(UsageError, match="takes no argument 'versoin'; did you mean 'version'"):
        Model(ws, "x", versoin=1)
    with pytest.raises(UsageError, match="did you mean 'model_path'"):
        ws.get_run(packager.Experiment(ws, "e").start_logging().id).register_model("x", model_pth="y")


def test_a_model_changes_as_azures_do(ws: Workspace) -> None:
    model = ws.models.register("m", "weights.bin", tags={"a": "1", "b": "2"})
    model.add_tags({"requestedCpu": 1.5})
    model.remove_tags(["a"])
    model.add_properties({"p": "1"})
    assert (model.tags, model.properties) == ({"b": "2", "requestedCpu": "1.5"}, {"p": "1"})
    model.update(tags={"only": "this"}, description="d", resource_configuration=ResourceConfiguration(2))
    found = Model(ws, "m")
    assert (found.tags, found.description, found.resource_configuration) == (
        {"only": "this"}, "d", ResourceConfiguration(2),
    )  # fmt: skip
    with pytest.raises(WebserviceException, match="properties do not change"):
        model.add_properties({"p": "2"})
    model.delete()
    assert ws.models.get("m") is None


def test_chosen_files_of_a_folder_are_a_model(ws: Workspace) -> None:
    model = Model.register(ws, "folder", "m", child_paths=["two.bin"])
    assert model.files == {"folder/two.bin": 1}
    path = Path(model.download("out"))
    assert path == Path("out/folder")
    assert [file.name for file in path.iterdir()] == ["two.bin"]
    with pytest.raises(WebserviceException, match="is already there"):
        model.download("out")
    assert model.download("out", exist_ok=True) == "out/folder"
    for child in ("../weights.bin", "three.bin", "/etc/passwd", "."):
        with pytest.raises(WebserviceException):
            Model.register(ws, "folder", "m", child_paths=[child])


def test_a_models_path_is_found_without_a_service(ws: Workspace) -> None:
    ws.models.register("m", "weights.bin")
    with pytest.raises(ModelNotFoundException):
        Model.get_model_path("m")
    assert Model.get_model_path("m", _workspace=ws) == "azureml-models/m/1/weights.bin"
    assert Model.get_model_path("m") == "azureml-models/m/1/weights.bin"
    assert Model.get_model_path("folder") == "folder"


# ---- Runs -----------------------------------------------------------------------------------------------------------


def test_a_run_keeps_metrics_and_files_and_registers_its_model(ws: Workspace) -> None:
    experiment = packager.Experiment(ws, "churn")
    with experiment.start_logging(display_name="first", tags={"k": 1}) as started:
        started.log("loss", 0.5)
        started.log("loss", 0.25)
        started.log_row("curve", x=1, y=2)
        started.log_row("curve", x=2, y=3)
        started.log_list("classes", ["a", "b"])
        started.log("nan", float("nan"))
        started.upload_file("outputs/model.bin", "weights.bin")
        started.upload_folder("data", "folder")
    found = Run.get(ws, started.id)
    assert (found.status, found.number, found.display_name, found.tags) == ("Completed", 1, "first", {"k": "1"})
    metrics = found.get_metrics()
    assert str(metrics.pop("nan")) == "nan"
    assert metrics == {"loss": [0.5, 0.25], "curve": {"x": [1, 2], "y": [2, 3]}, "classes": ["a", "b"]}
    assert found.get_file_names() == ["data/one.bin", "data/two.bin", "outputs/model.bin"]
    model = found.register_model("churn", "outputs/model.bin", tags={"a": "b"})
    assert (model.run_id, model.experiment_name, model.files) == (found.id, "churn", {"model.bin": 7})
    assert [one.id for one in Model.list(ws, run_id=found.id)] == ["churn:1"]
    assert [one.id for one in experiment.get_runs()] == [found.id]
    found.download_files("data/", "fetched")
    assert Path("fetched/data/two.bin").read_bytes() == b"2"
    with pytest.raises(NotFoundError, match=r"has no file 'outputs/model.bim'.*did you mean 'outputs/model.bin'"):
        found.register_model("churn", "outputs/model.bim")


def test_a_run_that_fails_says_why(ws: Workspace) -> None:
    with pytest.raises(ZeroDivisionError), packager.Experiment(ws, "e").start_logging() as started:
        _ = 1 // 0
    assert started.status == "Failed"
    started.complete()
    assert started.status == "Failed", "an end is an end"


@pytest.mark.parametrize("name", ["../up", "a/b", "", "x" * 201, ".hidden", "a\nb"])
def test_names_that_are_no_folder_are_refused(ws: Workspace, name: str) -> None:
    with pytest.raises(UsageError, match="is not the name of an experiment"):
        packager.Experiment(ws, name)
    with pytest.raises(UsageError):
        packager.Experiment(ws, "e").start_logging().upload_file(f"../{name}", "weights.bin")


def test_the_best_candidate_becomes_the_model(ws: Workspace) -> None:
    parent = packager.Experiment(ws, "automl").start_logging()
    parent.add_properties({"primary_metric": "AUC"})
    for score, loss in ((0.7, 0.1), (0.9, 0.3), (0.8, 0.05)):
        with parent.child_run() as child:
            child.log("AUC", score)
            child.log("loss", loss)
            Path("candidate").write_text(str(score))
            child.upload_file("outputs/model.pkl", "candidate")
    automl = AutoMLRun(packager.Experiment(ws, "automl"), parent.id)
    assert automl.model_id is None
    best = automl.register_model(description="My AutoML Model", tags={"area": "mnist"})
    assert automl.model_id == best.name
    assert Path(Model(ws, automl.model_id).download("best")).read_text() == "0.9"
    third = automl.register_model("third", iteration=2)
    assert Path(third.download("third")).read_text() == "0.8"
    parent.add_properties({"goal": "minimize"})
    assert Path(automl.register_model("least", metric="loss").download("least")).read_text() == "0.8"


# ---- Configuration --------------------------------------------------------------------------------------------------


def test_azures_configuration_gives_a_workspace_of_that_name(place: Path) -> None:
    (place / ".file-path").mkdir()
    keys = {"subscription_id": "s", "resource_group": "r", "workspace_name": "plant"}
    (place / ".file-path/ws_config.json").write_text(json.dumps(keys))
    ws = Workspace.from_config(path=".file-path/ws_config.json")
    assert (ws.name, ws.subscription_id, ws.resource_group) == ("plant", "s", "r")
    ws.models.register("m", "weights.bin")
    assert [model.id for model in Workspace.get("plant").models.list()] == ["m:1"]
    assert packager.Workspace().models.list() == []


def test_a_configuration_is_found_in_the_folders_above(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (place / "deep/er").mkdir(parents=True)
    packager.Workspace(path="kept").write_config("deep")
    monkeypatch.chdir(place / "deep/er")
    assert Workspace.from_config().parts.root == place / "kept"
    monkeypatch.chdir("/")
    with pytest.raises(NotFoundError, match=r"config\.json or project\.json.*write_config"):
        Workspace.from_config()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{}", "names no workspace"),
        ('{"workspace_nam": "x"}', "did you mean 'workspace_name'"),
        ('{"workspace_name": 1}', "workspace_name must be text"),
        ('{"database": "postgresql://h/d"}', "needs database and registry"),
        ("[]", "must be a JSON object"),
        ('{"workspace_name": "../x"}', "is not the name of a workspace"),
    ],
)
def test_wrong_configurations_are_named(place: Path, text: str, says: str) -> None:
    (place / "c.json").write_text(text)
    with pytest.raises(UsageError, match=says):
        Workspace.from_config("c.json")


# ---- Scripts written for Azure's SDK --------------------------------------------------------------------------------

SCRIPT = """
import sys
from azureml.core import Workspace, Model, Experiment
from azureml.core.authentication import InteractiveLoginAuthentication
from azureml.core.resource_configuration import ResourceConfiguration
from azureml.exceptions import WebserviceException
import azureml.core

assert azureml.core.VERSION.startswith("edgepack ")
ws = Workspace("subscription", "group", "plant", auth=InteractiveLoginAuthentication(tenant_id="x"))
model = Model.register(workspace=ws, model_path="weights.bin", model_name="from_script", tags={"area": "x"},
                       model_framework=Model.Framework.CUSTOM,
                       resource_configuration=ResourceConfiguration(cpu=1, memory_in_gb=0.5))
try:
    Model(ws, "nothing")
except WebserviceException as error:
    print("caught", error.message)
print(model.name, model.id, model.version, sys.argv[1:], azureml.core.Model is Model, __name__)
"""


@pytest.fixture
def edgepack(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Type:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "path", [*sys.path])
    return typist(build_cli, "edgepack", monkeypatch, capfd)


def test_a_script_runs_unchanged(edgepack: Type, place: Path) -> None:
    (place / "deploy.py").write_text(SCRIPT)
    ended = edgepack("azureml", "deploy.py", "--name", "x")
    assert ended.code == 0, ended.err
    assert "caught model registry: model nothing not found" in ended.out
    assert ended.out.splitlines()[-1] == "from_script from_script:1 1 ['--name', 'x'] True __main__"


SPAWNING = """
import concurrent.futures, multiprocessing, pickle
from azureml.core import Model

class Own:
    pass

def work(number):
    return number, Model.__module__, type(pickle.loads(pickle.dumps(Own()))).__name__

if __name__ == "__main__":
    with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        print([*pool.map(work, [1])])
"""


def test_a_script_spawns_processes_that_find_azureml_too(place: Path) -> None:
    (place / "train.py").write_text(SPAWNING)
    more = {"PYTHONPATH": str(Path(packager.__file__).parents[1])}
    ended = finish(sys.executable, "-m", "packager", "azureml", "train.py", env={**os.environ, **more})
    assert ended.stdout == "[(1, 'packager.sdk.model', 'Own')]\n", ended.stderr


@pytest.mark.parametrize(
    ("line", "code", "says"),
    [
        ("from azureml.core.compute import AmlCompute", 1, "azureml.core.compute.AmlCompute exists only in Azure"),
        (
            "from azureml.core import ComputeTarget\nfrom azureml.core.compute import AksCompute, ComputeTarget as C\n"
            "from azureml.core.compute_target import ComputeTargetException\nassert C is ComputeTarget\n"
            "AksCompute.provisioning_configuration(vm_size='x')",
            2,
            "AksCompute.provisioning_configuration: there is no cloud here",
        ),
        ("from azureml.core import Modle", 1, "did you mean 'Model'"),
        ("import azureml.widgets", 1, "azureml.widgets has no counterpart in edgepack"),
        ("1 / 0", 1, "ZeroDivisionError"),
        ("def x(:", 1, "SyntaxError"),
        ("import sys; sys.exit(7)", 7, ""),
        ("from azureml.core import Workspace, Model; Model(Workspace(), 'x')", 3, "deploy.py, line 1:"),
    ],
)
def test_what_a_script_cannot_have_is_named(place: Path, line: str, code: int, says: str) -> None:
    (place / "deploy.py").write_text(line + "\n")
    more = {"PYTHONPATH": str(Path(packager.__file__).parents[1])}
    ended = finish(sys.executable, "-m", "packager", "azureml", "deploy.py", env={**os.environ, **more})
    assert (ended.code, says in ended.stderr) == (code, True), ended.stderr
    assert "runpy" not in ended.stderr
    assert "commands/azureml.py" not in ended.stderr
