"""Environments as values: their JSON, Azure's form of them, those of MLflow's models, those that edgepack brings."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.documents import canonical_json
from edgepack.errors import EdgepackError, InvalidDocumentError, InvalidReferenceError, NotFoundError, UsageError
from edgepack.names import EnvironmentRef
from packager.environments.azure import (
    CONDA_FILE,
    DEFINITION,
    DOCKERFILE,
    from_azure,
    load_folder,
    save_folder,
    to_azure,
)
from packager.environments.changes import with_channel, with_conda_package, with_pip_package, with_python
from packager.environments.curated import CURATED, VERSION, all_curated, check_not_curated, curated
from packager.environments.document import digest_of, from_bytes, from_json, to_bytes, to_json
from packager.environments.environment import Environment, check_environment, python_of
from packager.environments.pip_requirements import PipRequirements
from packager.environments.sources import (
    Additions,
    from_base,
    from_conda_file,
    from_file,
    from_mlflow,
    from_packages,
    from_requirements,
)
from tests.packager.support.environments import FULL
from tests.support.sampling import times

SMALL = Environment("small")


# ---- JSON ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("environment", [FULL, SMALL], ids=["full", "small"])
def test_an_environment_is_read_again_as_it_was_written(environment: Environment) -> None:
    assert from_bytes(to_bytes(environment)) == environment
    assert to_bytes(environment) == canonical_json(to_json(environment))
    assert from_json(to_json(environment)) == check_environment(environment)


def test_what_it_is_called_is_not_in_the_digest() -> None:
    renamed = replace(FULL, name="other", version=None, created=None, conda_file=None)
    assert digest_of(renamed) == digest_of(FULL)
    for change in (
        {"python": None, "conda_packages": ()}, {"conda_channels": ()}, {"pip": PipRequirements()}, {"variables": {}},
        {"base_image": "other"}, {"base_registry_username": None}, {"user_managed_dependencies": True},
        {"interpreter_path": None}, {"inferencing_stack_version": None},
    ):  # fmt: skip
        changed: Any = change
        assert digest_of(replace(FULL, **changed)) != digest_of(FULL)


def test_the_json_has_these_fields() -> None:
    assert to_json(SMALL) == {
        "schema": "edgepack.environment/v1", "name": "small", "version": None, "created": None, "python": None,
        "conda": {"channels": [], "packages": []}, "conda_file": None,
        "pip": {
            "requirements": [], "constraints": [], "index_url": None, "extra_index_urls": [], "find_links": [],
            "trusted_hosts": [], "only_binary": [], "no_binary": [], "no_index": False, "pre": False,
            "prefer_binary": False, "require_hashes": False,
        },
        "variables": {},
        "base": {"image": None, "dockerfile": None, "registry": {"address": None, "username": None}},
        "user_managed_dependencies": False, "interpreter_path": None, "inferencing_stack_version": None,
    }  # fmt: skip


def changed(path: str, value: object) -> dict[str, Any]:
    """The JSON of ``FULL`` with another value at ``path``."""
    document: dict[str, Any] = json.loads(to_bytes(FULL))
    inner, *keys = document, *path.split(".")
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    return document


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("schema", "edgepack.environment/v2", "schema must be edgepack.environment/v1, is edgepack.environment/v2"),
        ("name", "a/b", "'a/b' is not an environment name; use letters"),
        ("name", None, "name is missing"),
        ("version", 0, "version must be a whole number from 1, is 0"),
        ("version", 1.5, "version must be a whole number"),
        ("version", 1 << 63, "version must be a whole number from 1"),
        ("python", "3.11", "python: '3.11' is not a version of Python"),
        ("python", "==3.9.*", "conda package 'python=3.11' asks for Python ==3.11.*, and python is ==3.9.*"),
        ("conda.channels", ["https://u:hunter22@x.example"], "conda channel 'https://****@x.example' carries a"),
        ("conda.channels", "main", "conda.channels must be a list"),
        ("conda.packages", ["=1"], "conda package: '=1' is not a conda package"),
        ("conda.packages", [1], "conda.packages[0] must be text"),
        ("pip.requirements", ["-r x"], "pip requirement '-r x' is not one requirement"),
        ("pip.requirements", ["numpy\n-e ."], "numpy"),
        ("pip.requirements", ["x @ https://u:hunter22@x.example/x.zip"], "carries a password or token"),
        ("pip.index_url", "https://u:hunter22@x.example", "pip index https://****@x.example carries a password"),
        ("pip.password", "hunter22", "pip.password is not a known field"),
        ("base.registry.password", "hunter22", "base.registry.password is not a known field"),
        ("base.dockerfile", "FROM x", "has a base image and a base Dockerfile; keep one"),
        ("base.image", "Not An Image", "base_image: 'Not An Image' is not an image reference"),
        ("base.image", "", "base_image '' is not an image"),
        ("base.image", None, "base_registry_address is given without a base image"),
        ("base.registry.address", "https://x.example", "is not a registry's host; write it as host or host:port"),
        ("base.registry.address", None, "base_registry_username is given without base_registry_address"),
        ("variables", {"A B": "x"}, "variable 'A B': use letters, digits and '_', not starting with a digit"),
        ("variables", {"A": 1}, "variables.A must be text"),
        ("variables", {"A": "\0"}, "variable A: its value holds a NUL character"),
        ("inferencing_stack_version", "newest", "inferencing_stack_version must be 'latest', is 'newest'"),
        ("interpreter_path", "", "interpreter_path must be a path"),
        ("user_managed_dependencies", "no", "user_managed_dependencies must be"),
        ("variabels", {}, "variabels is not a known field; did you mean 'variables'?"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(path: str, value: object, says: str) -> None:
    with pytest.raises(InvalidDocumentError) as raised:
        from_json(changed(path, value), "e.json")
    assert says in str(raised.value)
    assert "hunter22" not in str(raised.value)


def test_all_wrong_fields_are_reported_together() -> None:
    document = changed("conda.channels", "main")
    document |= {"version": "x", "other": 1, "variables": []}
    with pytest.raises(InvalidDocumentError) as raised:
        from_json(document)
    assert len(raised.value.violations) == 4


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
PATHS = sorted(
    {"schema", *(key for key in to_json(SMALL))}
    | {f"conda.{key}" for key in ("channels", "packages")}
    | {f"pip.{key}" for key in ("requirements", "constraints", "index_url", "find_links", "pre")}
    | {f"base.{key}" for key in ("image", "dockerfile", "registry")}
)


@settings(max_examples=times(200, 100), deadline=None)
@given(path=st.sampled_from(PATHS), value=JSON)
def test_no_document_makes_it_fail_in_another_way(path: str, value: object) -> None:
    try:
        found = from_json(changed(path, value))
    except EdgepackError:
        return
    assert from_bytes(to_bytes(found)) == found


def test_a_field_that_is_there_twice_is_refused() -> None:
    with pytest.raises(InvalidDocumentError, match="the field 'name' is there twice"):
        from_bytes(b'{"name": "a", "name": "b"}')


@pytest.mark.parametrize(
    "change",
    [
        {"variables": {"A": "\udcff"}}, {"conda_file": "\udcff"}, {"interpreter_path": "\udcff"},
        {"base_image": None, "base_registry_address": None, "base_dockerfile": "FROM x\n#\udcff"},
        {"base_registry_username": "\udcff"}, {"pip": PipRequirements(find_links=("/srv/\udcff",))},
    ],
    ids=lambda change: next(iter(change)),
)  # fmt: skip
def test_a_text_that_no_document_can_hold_is_refused(change: Any) -> None:
    with pytest.raises(InvalidDocumentError, match=r"holds text that is not Unicode|must be a path"):
        check_environment(replace(FULL, **change))


# ---- Python -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "means", "shown"),
    [
        ("3.11", "==3.11.*", "3.11"), ("3.11.*", "==3.11.*", "3.11"), ("3", "==3.*", "3"),
        ("3.6.2", "==3.6.2", "3.6.2"), (" >= 3.9, < 3.12 ", ">=3.9,<3.12", ">=3.9,<3.12"),
        ("~=3.9", "~=3.9", "~=3.9"), ("3.13.0rc1", "==3.13.0rc1", "3.13.0rc1"),
    ],
)  # fmt: skip
def test_a_version_of_python_is_what_people_mean(text: str, means: str, shown: str) -> None:
    assert python_of(text) == means
    assert Environment("x", python=means).python_version == shown


@pytest.mark.parametrize(
    "text", ["", "311", "py311", "3.11 3.12", "latest", "===3.11", "3.x", "-1", "4.0", "3.11;", "3" * 5000]
)
def test_what_is_not_a_version_of_python_is_refused(text: str) -> None:
    with pytest.raises(InvalidReferenceError):
        python_of(text)


# ---- Sources ------------------------------------------------------------------------------------------------------


def test_a_requirement_file_gets_the_default_python(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "requirements.txt").write_text("numpy==1.26.4\n")
    found = from_requirements(tmp_path / "requirements.txt", "mine")
    assert found == Environment("mine", python="==3.11.*", pip=PipRequirements(("numpy==1.26.4",)))
    assert "names no Python; 3.11 is taken, the default" in caplog.text


def test_packages_alone_are_an_environment() -> None:
    found = from_packages(
        "mine", ["numpy>=1.26", "flask"], python="3.12", conda_packages=["blas"], conda_channels=["x"]
    )
    assert found.python == "==3.12.*"
    assert found.pip.requirements == ("numpy>=1.26", "flask")
    assert (found.conda_packages, found.conda_channels) == (("blas",), ("x",))
    assert from_packages("mine", conda_packages=["python=3.10"]).python == "==3.10.*"
    with pytest.raises(InvalidDocumentError, match="package 'numpy=1': 'numpy=1' is how conda writes it"):
        from_packages("mine", ["numpy=1", "-e ."])
    with pytest.raises(InvalidDocumentError, match="conda package: '=1' is not a conda package"):
        from_packages("mine", conda_packages=["=1"])


def test_what_is_said_beside_a_file_is_added(tmp_path: Path) -> None:
    path = tmp_path / "conda.yml"
    path.write_text("dependencies: [python=3.10, pip: [numpy]]\nvariables: {A: '1', B: '2'}\n")
    more = Additions("3.10", ("flask",), {"B": "3"}, base_image="registry.example/base:1")
    found = from_conda_file(path, "mine", more)
    assert found.pip.requirements == ("numpy", "flask")
    assert found.variables == {"A": "1", "B": "3"}
    assert found.base_image == "registry.example/base:1"
    with pytest.raises(UsageError, match=r"names Python 3.10 and --python is 3.11; keep one of them"):
        from_conda_file(path, "mine", Additions("3.11"))
    with pytest.raises(InvalidDocumentError, match="has a base image and a base Dockerfile; keep one"):
        from_conda_file(path, "mine", Additions(base_image="a", base_dockerfile="FROM a"))
    with pytest.raises(InvalidDocumentError, match="base_dockerfile has no FROM"):
        from_conda_file(path, "mine", Additions(base_dockerfile="RUN true"))


def test_a_base_of_the_users_brings_its_python(caplog: pytest.LogCaptureFixture) -> None:
    found = from_base("mine", Additions(base_image="registry.example/base:1"))
    assert (found.python, found.user_managed_dependencies) == (None, True)
    assert from_base("mine", Additions(base_image="x", packages=("numpy",))).user_managed_dependencies is False
    assert caplog.text == ""


@pytest.mark.parametrize("image", ["python:3.11-slim", "docker://python:3.11", "oci:folder", "docker-daemon:mine:1"])
def test_a_base_may_be_any_image_that_a_build_takes(image: str) -> None:
    assert from_base("mine", Additions(base_image=image)).base_image == image


def test_a_file_is_read_by_the_end_of_its_name(tmp_path: Path) -> None:
    (tmp_path / "c.YAML").write_text("dependencies: [python=3.11]")
    (tmp_path / "r.in").write_text("numpy")
    (tmp_path / "e.json").write_bytes(to_bytes(FULL))
    (tmp_path / "a.json").write_text(json.dumps(to_azure(FULL)))
    (tmp_path / "inferenceconfig.json").write_text(json.dumps({"entryScript": "s.py", "environment": to_azure(FULL)}))
    (tmp_path / "other").write_text("numpy")
    assert from_file(tmp_path / "c.YAML", "x").conda_packages == ("python=3.11",)
    assert from_file(tmp_path / "r.in", "x").pip.requirements == ("numpy",)
    for name in ("e.json", "a.json", "inferenceconfig.json"):
        found = from_file(tmp_path / name, "x")
        assert (found.name, found.version, digest_of(found)) == ("x", None, digest_of(FULL))
    (tmp_path / "old.json").write_text('{"entryScript": "s.py", "runtime": "python", "condaFile": "c.YAML"}')
    with pytest.raises(UsageError, match=r"leaves its environment to a file; give that: -f .*c.YAML"):
        from_file(tmp_path / "old.json", "x")
    for named in ('"x"', '"x:2"', '{"name": "x"}', '{"name": "x", "version": "2"}'):
        (tmp_path / "named.json").write_text(f'{{"entryScript": "s.py", "environment": {named}}}')
        with pytest.raises(UsageError, match=r"only names the environment x(:2)?; give that name .* --ic"):
            from_file(tmp_path / "named.json", "y")
    with pytest.raises(UsageError, match=r"let it end in .yml, .yaml, .txt, .in or .json"):
        from_file(tmp_path / "other", "x")
    with pytest.raises(NotFoundError, match="there is no such file; check its path"):
        from_file(tmp_path / "gone", "x")
    with pytest.raises(NotFoundError, match=f"has no {DEFINITION}; give a file, or --mlflow for a model"):
        from_file(tmp_path, "x")


# ---- Changes ------------------------------------------------------------------------------------------------------


def test_an_environment_is_made_from_another() -> None:
    found = with_conda_package(with_conda_package(FULL, "scipy=1.11"), "Scipy=1.12")
    assert found.conda_packages == ("python=3.11", "blas=*=openblas", "Scipy=1.12")
    assert (found.version, found.created, found.conda_file) == (None, None, None)
    assert FULL.version == 7
    found = with_conda_package(FULL, "python=3.9")
    assert (found.python, found.conda_packages) == ("==3.9.*", ("blas=*=openblas", "python=3.9"))
    found = with_python(FULL, "3.12")
    assert (found.python, found.conda_packages) == ("==3.12.*", ("blas=*=openblas",))
    found = with_pip_package(with_pip_package(SMALL, "numpy"), "NumPy>=2")
    assert found.pip.requirements == ("NumPy>=2",)
    assert with_channel(with_channel(FULL, "main"), "main").conda_channels == ("conda-forge", "main")


@pytest.mark.parametrize(
    ("change", "text", "says"),
    [
        (with_python, "311", "there is no Python 311"), (with_conda_package, "=1", "the name is missing"),
        (with_conda_package, "python=3.8|3.9", "gives Python by choice"), (with_pip_package, "a=1", "how conda writes"),
        (with_pip_package, "--pre", "package '--pre' is not a package"), (with_pip_package, "", "package '' is not a"),
        (with_pip_package, "-r x.txt", "which has no place here"), (with_channel, "../x", "is not a name or an"),
    ],
)  # fmt: skip
def test_a_change_that_is_not_sound_is_refused(change: Any, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=re.escape(says)):
        change(SMALL, text)


# ---- Azure --------------------------------------------------------------------------------------------------------


def test_azures_json_says_the_same() -> None:
    value = to_azure(FULL)
    assert value["version"] == "7"
    assert value["python"]["condaDependencies"]["dependencies"][0] == "python=3.11"
    assert value["docker"]["baseImageRegistry"] == {
        "address": "registry.example", "username": "puller", "password": None,
    }  # fmt: skip
    assert json.loads(json.dumps(value)) == value
    assert replace(from_azure(value, "x"), version=7, created=FULL.created, conda_file=FULL.conda_file) == FULL


def test_azures_default_environment_is_read(caplog: pytest.LogCaptureFixture) -> None:
    """As ``Environment("myenv")`` of azureml-core is written by ``save_to_directory`` and the command line."""
    value = {
        "databricks": {"eggLibraries": [], "jarLibraries": []}, "docker": {
            "arguments": ["--ipc=host"], "baseDockerfile": None, "baseImage": "mcr.microsoft.com/azureml/base:1",
            "buildContext": None,
            "baseImageRegistry": {"address": None, "password": None, "registryIdentity": None, "username": None},
            "enabled": False, "gpuSupport": False, "platform": {"architecture": "amd64", "os": "Linux"},
            "sharedVolumes": True, "shmSize": "2g",
        },
        "environmentVariables": {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"}, "inferencingStackVersion": None, "name": "myenv",
        "python": {
            "baseCondaEnvironment": None, "condaDependencies": {
                "channels": ["anaconda", "conda-forge"], "name": "project_environment",
                "dependencies": ["python=3.6.2", {"pip": ["azureml-defaults"]}],
            },
            "condaDependenciesFile": None, "interpreterPath": "python", "userManagedDependencies": False,
        },
        "r": None, "spark": {"packages": [], "precachePackages": True, "repositories": []}, "version": "Autosave_2020",
    }  # fmt: skip
    found = from_azure(value, "azureml_environment.json")
    assert (found.name, found.version, found.python) == ("myenv", None, "==3.6.2")
    assert found.variables == {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"}
    assert found.base_image == "mcr.microsoft.com/azureml/base:1"
    assert "docker.arguments is about how a container is started and is left out" in caplog.text
    assert "docker.shmSize" in caplog.text
    assert "docker.platform" not in caplog.text  # the usual one
    value["docker"]["platform"] = {"architecture": "arm64", "os": "Linux"}  # type: ignore[index]
    assert from_azure(value, "azureml_environment.json") == found
    assert "docker.platform is left out: a platform is of a build; give it there, as in --platform linux/arm64" in (
        caplog.text
    )


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        (
            "docker.baseImageRegistry.password",
            "hunter22",
            "docker.baseImageRegistry.password must not be in an environme",
        ),
        (
            "docker.baseImageRegistry",
            {"password": "hunter22"},
            "must not be in an environment; remove it, and log in wit",
        ),
        ("docker.baseImgae", "x", "docker.baseImgae is not a known field; did you mean 'baseImage'?"),
        ("python.baseCondaEnvironment", "base", "python.baseCondaEnvironment names an environment of one machine"),
        (
            "python.condaDependenciesFile",
            "c.yml",
            "python.condaDependenciesFile is given beside condaDependencies; keep",
        ),
        (
            "python.condaDependencies",
            {"dependencies": json.loads("[" * 300 + "]" * 300)},
            "is nested more than 32 deep",
        ),
        ("python.condaDependencies", {"dependencies": "x"}, "dependencies is text and not a list"),
        (
            "python.condaDependencies",
            {"dependencies": [{"pip": ["a=1"]}]},
            "dependencies[0].pip[0]: 'a=1' is how conda",
        ),
        ("environmentVariables", {"A": 1}, "environmentVariables.A must be text"),
        ("name", "", "name is missing"),
        ("condaFile", "x", "condaFile is not a known field"),
        ("docker.buildContext", {"locationType": "git", "location": "x"}, "docker.buildContext is a folder, which no"),
    ],
)
def test_what_azures_json_must_not_say_is_named(path: str, value: object, says: str) -> None:
    document: dict[str, Any] = json.loads(json.dumps(to_azure(FULL)))
    inner, *keys = document, *path.split(".")
    for key in keys[:-1]:
        inner = inner[key]
    inner[keys[-1]] = value
    with pytest.raises(InvalidDocumentError) as raised:
        from_azure(document, "x")
    assert says in str(raised.value)
    assert "hunter22" not in str(raised.value)


def test_a_conda_file_that_azures_json_names_lies_beside_it(tmp_path: Path) -> None:
    (tmp_path / "env").mkdir()
    (tmp_path / "env/conda.yml").write_text("dependencies: [python=3.9]")
    value = {"name": "x", "python": {"condaDependenciesFile": "env/conda.yml"}}
    assert from_azure(value, "x", folder=tmp_path).python == "==3.9.*"
    with pytest.raises(InvalidDocumentError, match="names a file, which has no place here"):
        from_azure(value, "x")


@pytest.mark.parametrize("base", [None, "FROM x\nRUN true\n"], ids=["image", "dockerfile"])
def test_a_folder_of_azures_is_written_and_read(base: str | None, tmp_path: Path) -> None:
    environment = replace(
        FULL, base_image=None, base_dockerfile=base, base_registry_address=None, base_registry_username=None
    )
    save_folder(environment, tmp_path / "a folder")
    files = {path.name for path in (tmp_path / "a folder").iterdir()}
    assert files == {DEFINITION, CONDA_FILE} | ({DOCKERFILE} if base else set())
    definition = json.loads((tmp_path / "a folder" / DEFINITION).read_text())
    assert "condaDependencies" not in definition["python"]
    assert definition["docker"]["baseDockerfile"] is None
    found = load_folder(tmp_path / "a folder")
    assert found.name == FULL.name
    # conda asks for pip where it installs by it.
    packages = tuple(name for name in found.conda_packages if name != "pip")
    assert digest_of(replace(found, conda_packages=packages)) == digest_of(environment)
    with pytest.raises(UsageError, match="has an environment already"):
        save_folder(environment, tmp_path / "a folder")
    save_folder(replace(FULL, conda_file=None), tmp_path / "a folder", overwrite=True)
    assert not (tmp_path / "a folder" / DOCKERFILE).exists()


def test_constraints_are_not_lost_in_silence() -> None:
    with pytest.raises(UsageError, match="has constraints, which are written into a file of their own"):
        to_azure(replace(FULL, pip=PipRequirements(constraints=("numpy<2",))))


# ---- MLflow -------------------------------------------------------------------------------------------------------

CONDA = "channels: [conda-forge]\ndependencies:\n- python=3.10.12\n- pip<=23\n- pip:\n  - mlflow==2.9.2\n  - numpy\n"
PYTHON_ENV = "python: 3.10.12\nbuild_dependencies:\n- pip==23.2.1\n- setuptools\ndependencies:\n- -r requirements.txt\n"
BOTH = "flavors:\n  python_function:\n    env: {conda: conda.yaml, virtualenv: python_env.yaml}\n"


def model(folder: Path, **files: str) -> Path:
    """A folder with these files, whose names have an underscore for the dot."""
    for name, text in files.items():
        stem, _, ending = name.rpartition("_")
        (folder / (f"{stem}.{ending}" if stem else name)).write_text(text)
    return folder


def test_a_model_of_mlflow_brings_its_environment(tmp_path: Path) -> None:
    model(
        tmp_path, MLmodel=BOTH, conda_yaml=CONDA, python_env_yaml=PYTHON_ENV, requirements_txt="mlflow==2.9.2\nnumpy\n"
    )
    found = from_mlflow(tmp_path, "mine")
    assert (found.python, found.pip.requirements, found.conda_packages) == ("==3.10.12", ("mlflow==2.9.2", "numpy"), ())
    assert from_mlflow(tmp_path, "mine", Additions(packages=("flask",))).pip.requirements[-1] == "flask"


def test_an_older_model_of_mlflow_names_a_conda_file(tmp_path: Path) -> None:
    model(tmp_path, MLmodel="flavors: {python_function: {env: conda.yaml}}", conda_yaml=CONDA)
    found = from_mlflow(tmp_path, "mine")
    assert found.python == "==3.10.12"
    assert found.conda_packages == ("python=3.10.12", "pip<=23")
    assert found.conda_file == CONDA


def test_a_model_of_mlflow_with_requirements_alone(tmp_path: Path) -> None:
    model(tmp_path, MLmodel="flavors: {python_function: {python_version: 3.10.12}}", requirements_txt="numpy\n")
    found = from_mlflow(tmp_path, "mine")
    assert (found.python, found.pip.requirements) == ("==3.10.12", ("numpy",))


@pytest.mark.parametrize(
    ("files", "says"),
    [
        ({}, "is not an MLflow model: it has no MLmodel"),
        (
            {"MLmodel": "flavors: {}"},
            "describes no environment; it has none of python_env.yaml, conda.yaml, requirements",
        ),
        ({"MLmodel": "- x"}, "MLmodel: is a list and not a mapping"),
        ({"MLmodel": "flavors: {python_function: {env: ../conda.yaml}}"}, "'../conda.yaml' is not a file of the model"),
        ({"MLmodel": "flavors: {python_function: {env: /etc/passwd}}"}, "'/etc/passwd' is not a file of the model"),
        ({"MLmodel": "flavors: {python_function: {env: {conda: [a]}}}"}, "is not a file of the model"),
        ({"MLmodel": BOTH}, "python_env.yaml: there is no such python_env file"),
        ({"MLmodel": BOTH, "python_env_yaml": "python: [3]\nnope: 1\ndependencies: x"}, "nope is not a known field; "),
        (
            {"MLmodel": BOTH, "python_env_yaml": "python: 3.10\ndependencies: [-r /etc/passwd]"},
            "'/etc/passwd', outside of",
        ),
        (
            {"MLmodel": BOTH, "python_env_yaml": "dependencies: [-r r.txt]", "r_txt": "-r ../x.txt"},
            "'../x.txt', outside of",
        ),
        ({"MLmodel": BOTH, "python_env_yaml": "python: 310\n"}, "python: there is no Python 310"),
        ({"MLmodel": "x", "conda_yaml": CONDA}, "MLmodel: is text and not a mapping"),
    ],
)
def test_a_model_that_is_not_sound_is_refused(files: dict[str, str], says: str, tmp_path: Path) -> None:
    with pytest.raises(EdgepackError) as raised:
        from_mlflow(model(tmp_path, **files), "mine")
    assert says in str(raised.value)
    assert "root:" not in str(raised.value)


def test_a_model_with_a_long_signature_is_read(tmp_path: Path) -> None:
    columns = json.dumps([{"type": "double", "name": f"column {number}", "required": True} for number in range(5000)])
    text = "artifact_path: model\nflavors: {python_function: {env: conda.yaml, loader_module: mlflow.sklearn}}\n"
    text += f"mlflow_version: 2.9.2\nmodel_size_bytes: 1203\nsignature:\n  inputs: '{columns}'\n  outputs: null\n"
    model(tmp_path, MLmodel=text + "utc_time_created: '2023-12-30 07:12:54.364145'\n", conda_yaml=CONDA)
    assert from_mlflow(tmp_path, "mine").python == "==3.10.12"


def test_a_link_out_of_a_model_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret.yaml").write_text(CONDA)
    (tmp_path / "m").mkdir()
    model(tmp_path / "m", MLmodel="flavors: {python_function: {env: conda.yaml}}")
    (tmp_path / "m/conda.yaml").symlink_to(tmp_path / "secret.yaml")
    with pytest.raises(UsageError, match="leads out of the model"):
        from_mlflow(tmp_path / "m", "mine")


def test_a_python_that_yaml_takes_for_a_number_is_kept(tmp_path: Path) -> None:
    model(tmp_path, MLmodel=BOTH, python_env_yaml="python: 3.10\n")
    assert from_mlflow(tmp_path, "mine").python == "==3.10.*"


# ---- Those that edgepack brings -----------------------------------------------------------------------------------

# A change of these needs a new VERSION: who built with one of them must be able to see that it is another.
DIGESTS = {
    "onnx-minimal:1": "sha256:c9eb3d6b88c6a947bae87ff258ef196a06afe238d6afca08292c405767de1690",
    "python-minimal:1": "sha256:e9dc9ec61072b645cbf56d2931ff5425b2e8778c0a6d3db4fa68fd0a6c68a542",
    "sklearn-minimal:1": "sha256:e996cd7676651bbc43fcc6c559a42236ff0c857546cdad3946ea81b7614f3c47",
}


def test_the_environments_that_edgepack_brings_are_these() -> None:
    assert {environment.id: digest_of(environment) for environment in all_curated()} == DIGESTS
    assert {environment.name for environment in all_curated()} == set(CURATED)


def test_a_curated_environment_holds_what_images_hold() -> None:
    from packager.wheels.locks import SHIPPED, parse_lock, shipped_lock

    found = curated(EnvironmentRef("onnx-minimal"))
    assert found is not None
    for platform in SHIPPED:
        text = shipped_lock(platform)
        assert text is not None
        assert set(found.pip.requirements) == {f"{pin.name}=={pin.version}" for pin in parse_lock(text)}


def test_a_curated_environment_is_got_by_name_and_version() -> None:
    assert curated(EnvironmentRef("onnx-minimal", VERSION)) == curated(EnvironmentRef("onnx-minimal"))
    assert curated(EnvironmentRef("mine")) is None
    with pytest.raises(NotFoundError, match=f"this edgepack brings onnx-minimal:{VERSION}"):
        curated(EnvironmentRef("onnx-minimal", VERSION + 1))
    with pytest.raises(UsageError, match="is the name of an environment that edgepack brings"):
        check_not_curated("onnx-minimal")
    assert check_not_curated("mine") == "mine"


def test_reading_says_nothing_that_is_not_worth_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    all_curated()
    from_packages("mine", ["numpy"], python="3.11")
    assert caplog.text == ""
