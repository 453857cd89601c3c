"""Environments and inference configurations in the Python API, and in scripts written for Azure's SDK."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import packager
from edgepack.errors import EdgepackError, InvalidDocumentError, NotFoundError, UsageError
from packager.commands.main import build_cli
from packager.conda_dependencies import CondaDependencies
from packager.container_registry import ContainerRegistry
from packager.environment import Environment
from packager.environments.document import digest_of, to_json
from packager.environments.sources import from_file
from packager.exceptions import AzureMLException, UserErrorException, WebserviceException
from packager.model import InferenceConfig
from packager.sdk.environment_records import record_of
from packager.workspace import Workspace
from packager.workspaces.config import WorkspaceConfig
from tests.support.typed import typist

CONDA = """\
# as somebody wrote it
name: theirs
channels: [conda-forge]
dependencies:
  - python=3.11
  - numpy=2.1
  - pip:
      - flask>=3
variables:
  THREADS: "1"
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with what scripts name; the workspace is in it too."""
    monkeypatch.setenv("EDGEPACK_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("env.yml").write_text(CONDA)
    Path("no ending").write_text(CONDA)
    Path("requirements.txt").write_text("flask>=3\n")
    Path("Dockerfile").write_text("FROM debian:12\nRUN true\n")
    Path("score.py").write_text("def init(): ...\ndef run(data): return data\n")
    Path("src").mkdir()
    Path("src/score.py").write_text("")
    return tmp_path


@pytest.fixture
def ws() -> Workspace:
    return packager.Workspace()


# ---- What documents write -------------------------------------------------------------------------------------------


def test_the_documented_steps_run(ws: Workspace) -> None:
    myenv = Environment.from_conda_specification(name="myenv", file_path="env.yml")
    myenv.register(workspace=ws)
    myenv = Environment.get(workspace=ws, name="myenv", version="1")
    config = InferenceConfig(entry_script="score.py", environment=myenv)
    assert (myenv.name, myenv.version, myenv.environment_variables) == ("myenv", "1", {"THREADS": "1"})
    assert config.environment is myenv
    assert ws.parts.environments.list()[0].conda_file == CONDA, "comments stay"


def test_all_ways_to_one_environment_ask_for_the_same(ws: Workspace) -> None:
    Environment.from_conda_specification("saved", "no ending").save_to_directory("folder")
    by_hand = Environment("by_hand")
    by_hand.environment_variables["THREADS"] = "1"
    by_hand.python.conda_dependencies = CondaDependencies.create(
        python_version="3.11", conda_packages=["numpy=2.1"], pip_packages=["flask>=3"]
    )
    by_hand.python.conda_dependencies.add_channel("conda-forge")
    named = Environment("named")
    named.python.conda_dependencies_file = "env.yml"
    held = Environment("held")
    held.python.conda_dependencies = CondaDependencies("env.yml")
    made = [
        by_hand, named, held,
        Environment.from_conda_specification("first", "env.yml"),
        Environment.load_from_directory("folder"),
        held.clone("cloned"),
        ws.environments.register("registered", "env.yml"),
        Environment.from_conda_specification("got", "env.yml").register(ws),
        Environment.get(ws, "got"), ws.environments["got"], Environment.list(ws)["got"],
    ]  # fmt: skip
    wanted = digest_of(from_file(Path("env.yml"), "any"))
    assert [digest_of(record_of(one)) for one in made] == [wanted] * len(made)
    with pytest.raises(UsageError, match="has an environment already"):
        held.save_to_directory("folder")
    held.save_to_directory("folder", overwrite=True)


def test_a_version_is_given_when_something_changed(ws: Workspace) -> None:
    env = Environment.from_pip_requirements("e", "requirements.txt", pip_version="24.3")
    assert env.python.conda_dependencies.conda_packages == ["pip==24.3"]
    assert [env.register(ws).version for _ in range(2)] == ["1", "1"]
    env.python.conda_dependencies.add_pip_package("numpy>=2")
    assert env.register(ws).version == "2"
    assert env.version is None
    assert Environment.get(ws, "e", version=1).python.conda_dependencies.pip_packages == ["flask>=3"]
    assert Environment.get(ws, "e", label="latest").version == "2"
    copy = ws.environments["e"].clone("copy")
    copy.environment_variables["A"] = "b"
    assert copy.version is None
    assert ws.environments["e"].environment_variables == {}
    assert [one.version for one in ws.environments.list("e")] == ["1", "2"]


def test_the_python_of_a_base_is_its_own(ws: Workspace, caplog: pytest.LogCaptureFixture) -> None:
    alone = Environment.from_pip_requirements("alone", "requirements.txt").register(ws)
    assert alone.python.conda_dependencies.conda_packages == ["python=3.11"]
    assert "names no Python; 3.11 is taken" in caplog.text
    based = Environment.from_pip_requirements("based", "requirements.txt")
    based.docker.base_image = "registry.example/team/base:1"
    assert based.register(ws).python.conda_dependencies.conda_packages == []


def test_a_dockerfile_is_a_text_or_a_path(ws: Workspace) -> None:
    text = Path("Dockerfile").read_text()
    for given in ("Dockerfile", "./Dockerfile", Path("Dockerfile"), text):
        env = Environment("d")
        env.docker.base_image = None
        env.docker.base_dockerfile = given
        env.python.user_managed_dependencies = True
        assert env.register(ws).docker.base_dockerfile == text
        assert Environment.from_dockerfile("d", given).register(ws).version == "1"
    assert record_of(Environment.from_dockerfile("d", "FROM debian:12")).base_dockerfile == "FROM debian:12"
    with pytest.raises(NotFoundError, match="there is no such Dockerfile"):
        Environment.from_dockerfile("d", "Dockerfil")


def test_a_password_stays_in_memory(ws: Workspace, place: Path) -> None:
    registry = ContainerRegistry()
    registry.address, registry.username, registry.password = "registry.example:5000", "robot", "s3cr3t-of-robots"
    env = Environment.from_docker_image(
        "p", "registry.example:5000/base:1", registry, pip_requirements="requirements.txt"
    )
    made = env.register(ws)
    assert made.docker.base_image_registry.password == "s3cr3t-of-robots"
    env.save_to_directory("folder")
    kept = json.dumps([to_json(record_of(env)), to_json(ws.parts.environments.list()[-1])])
    shown = f"{registry!r}{env!r}{env.docker!r}{kept}"
    files = b"".join(path.read_bytes() for path in place.rglob("*") if path.is_file())
    assert "s3cr3t" not in shown
    assert b"s3cr3t" not in files
    found = Environment.get(ws, "p").docker.base_image_registry
    assert (found.address, found.username, found.password) == ("registry.example:5000", "robot", None)


def test_a_password_has_no_other_way_in(ws: Workspace) -> None:
    env = Environment.from_docker_image("p", "registry.example/base:1")
    env.docker.base_image_registry.address = "registry.example"
    env.docker.base_image_registry.password = "s3cr3t-of-robots"
    env.environment_variables["LOGIN"] = "robot:s3cr3t-of-robots"
    for keep in (lambda: env.register(ws), lambda: env.save_to_directory("folder")):
        with pytest.raises(AzureMLException, match=r"docker\.base_image_registry\.password") as error:
            keep()
        assert "s3cr3t" not in str(error.value)
    assert not Path("folder").exists()
    assert ws.environments.get("p") is None
    env.docker.base_image_registry.password = "robot"  # too short to tell from other text
    assert env.register(ws).version == "1"


def test_the_environments_are_a_dictionary(ws: Workspace) -> None:
    ws.environments.register("small", packages=["numpy>=2"], python="3.12", variables={"N": 1})
    ws.environments.register("conda", conda_packages=["numpy=2.1"], conda_channels=["conda-forge"])
    ws.environments.register("based", base_image="registry.example/base:1")
    ws.environments.register(Environment.from_conda_specification("object", "env.yml"))
    brought = {"onnx-minimal", "python-minimal", "sklearn-minimal"}
    assert set(ws.environments) == {"small", "conda", "based", "object", *brought} == set(Environment.list(ws))
    assert len(ws.environments) == 7
    assert ws.environments["small:1"].environment_variables == {"N": "1"}
    assert ws.environments["based"].python.user_managed_dependencies
    assert ws.environments.get("other") is None
    with pytest.raises(KeyError):
        ws.environments["other"]
    with pytest.raises(WebserviceException, match="its versions are 1"):
        ws.environments["small:2"]


# ---- Packages -------------------------------------------------------------------------------------------------------


def test_packages_change_one_by_one(place: Path) -> None:
    packages = CondaDependencies.create(pip_indexurl="https://one.example/simple", python_version="3.12")
    packages.add_channel("conda-forge")
    packages.add_conda_package("numpy=2.1")
    packages.add_conda_package("numpy=2.2")
    packages.add_pip_package("flask>=2")
    packages.add_pip_package("flask>=3")
    packages.set_python_version("3.11")
    packages.set_pip_option("--index-url https://two.example/simple")
    assert packages.as_dict() == {
        "name": "project_environment",
        "channels": ["conda-forge"],
        "dependencies": ["python=3.11", "numpy=2.2", {"pip": ["--index-url https://two.example/simple", "flask>=3"]}],
    }
    assert (packages.conda_channels, packages.conda_packages) == (["conda-forge"], ["python=3.11", "numpy=2.2"])
    assert (packages.pip_packages, packages.pip_options) == (["flask>=3"], ["--index-url https://two.example/simple"])
    assert packages.save_to_file("below", "deps/x.yml") == "deps/x.yml"
    assert CondaDependencies("below/deps/x.yml").pip_packages == ["flask>=3"]
    assert packages.save(place) == str(place / "conda_dependencies.yml")
    assert Path("conda_dependencies.yml").read_text() == packages.serialize_to_string()
    assert CondaDependencies(_underlying_structure=packages.as_dict()) == packages
    packages.set_pip_requirements(["--pre", "numpy"])
    assert (packages.pip_packages, packages.pip_options) == (["numpy"], ["--pre"])
    untouched = CondaDependencies("env.yml")
    assert untouched.serialize_to_string() == CONDA


def test_packages_that_are_wrong_change_nothing() -> None:
    packages = CondaDependencies("env.yml")
    for change in (
        lambda: packages.add_conda_package("=="),
        lambda: packages.add_pip_package("a b"),
        lambda: packages.add_pip_package("--pre"),
        lambda: packages.add_channel("https://u:password@host/channel"),
        lambda: packages.set_python_version("three"),
        lambda: packages.set_python_version(3.1),  # type: ignore[arg-type]
        lambda: packages.set_pip_option("--no-such-option"),
        lambda: packages.set_pip_requirements(["numpy", "a b"]),
        lambda: packages.set_pip_requirements([5]),  # type: ignore[list-item]
    ):
        with pytest.raises(UserErrorException):
            change()  # type: ignore[no-untyped-call]
        assert packages.serialize_to_string() == CONDA
    with pytest.raises(InvalidDocumentError) as error:
        CondaDependencies.create(conda_packages=["=="], pip_packages=["a b", "c d"], python_version="3.11")
    assert len(error.value.violations) == 3
    for twice in (["numpy", "numpy=2"], ["numpy"] * 2, ["python"], ["python=3.11"]):
        with pytest.raises(InvalidDocumentError, match="are of the same name; keep one"):
            CondaDependencies.create(conda_packages=twice, python_version="3.11")


# ---- What is refused ------------------------------------------------------------------------------------------------


def test_every_violation_of_an_environment_is_told_together(ws: Workspace) -> None:
    env = Environment("wrong")
    env.environment_variables = {"1st": "x", "n": 1}  # type: ignore[dict-item]
    env.python.base_conda_environment = "base"
    env.python.user_managed_dependencies = "no"  # type: ignore[assignment]
    env.docker.base_image = "two words"
    env.docker.base_dockerfile = "FROM debian:12\n"
    env.docker.base_image_registry.registry_identity = object()
    env.docker.shm_size = "2g"
    env.inferencing_stack_version = "oldest"
    with pytest.raises(InvalidDocumentError) as error:
        env.register(ws)
    assert len(error.value.violations) == 8, error.value.violations
    assert set(ws.environments) == {"onnx-minimal", "python-minimal", "sklearn-minimal"}


@pytest.mark.parametrize(
    ("refused", "says"),
    [
        (lambda ws: setattr(Environment("e"), "enviroment_variables", {}), "did you mean 'environment_variables'"),
        (lambda ws: setattr(Environment("e").docker, "base_imge", "x"), "did you mean 'base_image'"),
        (lambda ws: setattr(Environment("e").python, "conda", "x"), "has no attribute 'conda'"),
        (lambda ws: setattr(ContainerRegistry(), "user", "x"), "did you mean 'username'"),
        (lambda ws: Environment("e", versoin=1), "takes no argument 'versoin'"),
        (lambda ws: Environment("a/b"), "is not an environment name"),
        (lambda ws: Environment.from_conda_specification("a b", "env.yml"), "is not an environment name"),
        (lambda ws: Environment("python-minimal").register(ws), "is the name of an environment that edgepack brings"),
        (lambda ws: Environment("e").clone("a:b"), "is not an environment name"),
        (lambda ws: Environment.get(ws, "e", "1", "latest"), "a version and a label are given"),
        (lambda ws: Environment.get(ws, "e", label="prod"), "there is no label 'prod'"),
        (lambda ws: Environment.get(ws, "e", "first"), "is not an environment version"),
        (lambda ws: Environment.get(ws, "e:1"), "is not an environment name"),
        (lambda ws: Environment.get(ws, "nothing"), "environment nothing not found"),
        (lambda ws: Environment.from_conda_specification("e", "nothing.yml"), "there is no such conda file"),
        (lambda ws: Environment.from_conda_specification("e", None), "is None and not a path"),  # type: ignore[arg-type]
        (lambda ws: Environment.from_pip_requirements("e", ""), "is '' and not a path"),
        (lambda ws: Environment.load_from_directory("src"), "has no azureml_environment.json"),
        (lambda ws: Environment.from_existing_conda_environment("e", "base"), "conda env export"),
        (lambda ws: Environment.from_docker_build_context("e", None), "docker build -t"),
        (lambda ws: Environment.from_dockerfile("e", "Dockerfile", "env.yml", "requirements.txt"), "keep one"),
        (lambda ws: Environment.label(ws, "e", "1", ["x"]), "has versions and no labels"),
        (lambda ws: Environment("e").build(ws), "ws.build"),
        (lambda ws: Environment("e").build_local(ws, useDocker=True), "ws.build"),
        (lambda ws: Environment("e").get_image_details(ws), "ws.images"),
        (lambda ws: Environment.add_private_pip_wheel(ws, "x.whl"), "--find-links FOLDER"),
        (lambda ws: Environment("e").spark, "spark exists only in Azure"),
        (lambda ws: ws.environments.register("e"), "give a file, packages, a Python or a base"),
        (lambda ws: ws.environments.register("e", "env.yml", conda_packages=["x"]), "write them into it"),
        (lambda ws: ws.environments.register(Environment("e"), python="3.11"), "register it alone"),
    ],
)
def test_what_is_refused_says_what_to_do(ws: Workspace, refused: Callable[[Workspace], object], says: str) -> None:
    with pytest.raises(WebserviceException, match=says) as error:
        refused(ws)
    assert isinstance(error.value, EdgepackError)


def test_parts_of_another_kind_are_named(ws: Workspace) -> None:
    env = Environment("e")
    env.python.conda_dependencies = ["numpy"]  # type: ignore[assignment]
    with pytest.raises(UsageError, match=r"python\.conda_dependencies is a list; give it a CondaDependencies"):
        env.register(ws)
    env = Environment("e")
    env.docker.base_image_registry = None  # type: ignore[assignment]
    env.python.conda_dependencies = None  # type: ignore[assignment]
    assert env.register(ws).version == "1"
    env.docker = None  # type: ignore[assignment]
    with pytest.raises(UsageError, match="docker is a NoneType"):
        env.register(ws)


# ---- Inference configurations ---------------------------------------------------------------------------------------


def test_a_configuration_holds_what_it_was_given() -> None:
    registry = ContainerRegistry()
    registry.address, registry.username, registry.password = "registry.example", "robot", "secret"
    config = InferenceConfig(
        "score.py", "python", source_directory="src", base_image="registry.example/base:1",
        base_image_registry=registry, enable_gpu=False, cuda_version="10.0", description="text",
    )  # fmt: skip
    assert (config.entry_script, config.source_directory, config.runtime) == ("score.py", "src", "python")
    assert "secret" not in repr(config)
    config.entry_script = "missing.py"
    with pytest.raises(InvalidDocumentError, match=r"src/missing\.py' is not a file"):
        config.validate_configuration()
    with pytest.raises(UsageError, match="did you mean 'entry_script'"):
        config.entry_scrip = "x"


def test_every_violation_of_a_configuration_is_told_together() -> None:
    registry = ContainerRegistry()
    registry.address = "registry.example"
    with pytest.raises(UserErrorException) as error:
        InferenceConfig(
            "path-to-score.py", "java", "nothing.yml", "nothing.txt", "nowhere", cuda_version="11",
            base_image_registry=registry,
        )  # fmt: skip
    assert isinstance(error.value, InvalidDocumentError)
    assert len(error.value.violations) == 8, error.value.violations


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"entry_script": "score.txt"}, "must be a .py file whose name Python can import"),
        ({"entry_script": "class.py"}, "must be a .py file whose name Python can import"),
        ({"entry_script": None}, "entry_script must be a .py"),
        ({"entry_script": "score.py", "source_directory": 5}, "source_directory must be a path, is 5"),
        ({"entry_script": "missing.py"}, "is not a file"),
        ({"entry_script": "../score.py", "source_directory": "src"}, "must be inside of source_directory"),
        ({"entry_script": "score.py", "runtime": "spark-py"}, "exists only in Azure"),
        ({"entry_script": "score.py", "environment": "myenv"}, "environment is a str and not an Environment"),
        ({"entry_script": "score.py", "environment": Environment("e"), "runtime": "python"}, "runtime is given beside"),
        ({"entry_script": "score.py", "base_image_registry": "x"}, "is a str and not a ContainerRegistry"),
        ({"entry_script": "score.py", "base_image": ""}, "base_image must be an image"),
    ],
)
def test_a_wrong_configuration_is_named(arguments: dict[str, object], says: str) -> None:
    with pytest.raises(WebserviceException, match=says):
        InferenceConfig(**arguments)  # type: ignore[arg-type]


SCRIPT = """
from azureml.core import ContainerRegistry, Environment, Workspace
from azureml.core.conda_dependencies import CondaDependencies
from azureml.core.environment import DockerSection, Environment as Same
from azureml.core.model import InferenceConfig

myenv = Environment.from_conda_specification(name="myenv", file_path="env.yml")
myenv.docker.base_image = None
myenv.docker.base_dockerfile = "./Dockerfile"
myenv.python.conda_dependencies = CondaDependencies.create(conda_packages=["numpy"], pip_packages=["azureml-defaults"])
myenv.register(workspace=Workspace("subscription", "group", "plant"))
myenv = Environment.get(workspace=Workspace("subscription", "group", "plant"), name="myenv", version="1")
print(InferenceConfig(entry_script="score.py", environment=myenv), Same is Environment, ContainerRegistry())
"""


def test_a_script_runs_unchanged(
    place: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path])
    monkeypatch.setattr(sys, "path", [*sys.path])
    edgepack = typist(build_cli, "edgepack", monkeypatch, capfd)
    (place / "deploy.py").write_text(SCRIPT)
    ended = edgepack("azureml", "deploy.py")
    assert ended.code == 0, ended.err
    assert "Environment(name='myenv', version='1')) True ContainerRegistry(" in ended.out
    found = packager.Workspace(workspace_name="plant").environments["myenv"]
    assert found.docker.base_dockerfile == "FROM debian:12\nRUN true\n"
    assert found.environment_variables == {"THREADS": "1"}


def test_other_settings_of_a_workspace_bring_other_environments(ws: Workspace, place: Path) -> None:
    before = ws.parts.environments
    ws.parts.configure(WorkspaceConfig("renamed"))
    assert ws.parts.environments is not before


def test_reading_environments_leaves_no_folder(tmp_path: Path) -> None:
    all_names = ["onnx-minimal", "python-minimal", "sklearn-minimal"]
    ws = Workspace(path=tmp_path / "new")
    assert sorted(ws.environments) == sorted(Environment.list(ws)) == sorted(all_names)
    with pytest.raises(KeyError, match="not found; there are onnx-minimal"):
        ws.environments["mine"]
    assert not (tmp_path / "new").exists()
    ws.environments.register("mine", packages=["numpy"])
    assert ws.environments["mine"].version == "1"
