"""Inference configurations: the schema, the rules, JSON and YAML, what a user gets wrong, and what is never shown."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from edgepack.errors import EdgepackError, InvalidDocumentError, NotFoundError, UsageError
from edgepack.names import EnvironmentRef
from edgepack.trees.json_lines import parse_json
from edgepack.trees.yaml_tree import json_tree, value_of
from packager.environments.environment import Environment
from packager.inference.configuration import InferenceConfiguration
from packager.inference.configuration_file import read_configuration
from packager.inference.configuration_rules import schema
from packager.sdk.container_registry import ContainerRegistry
from packager.sdk.environment import Environment as SdkEnvironment
from packager.sdk.inference import InferenceConfig
from tests.support import forked
from tests.support.running import Done
from tests.support.sampling import times

SCRIPT = "def init(): pass\ndef run(data): return data\n"
CONDA = "name: e\ndependencies:\n  - python=3.11\n  - pip:\n    - numpy==2.1.0\n"
LOGIN = {"address": "registry.example", "username": "robot", "password": "hunter2222"}
# The two documents that Azure's pages show.
LEGACY = {
    "entryScript": "score.py",
    "runtime": "python",
    "condaFile": "myenv.yml",
    "extraDockerfileSteps": None,
    "sourceDirectory": None,
    "enableGpu": False,
    "baseImage": None,
    "baseImageRegistry": None,
}
INLINE = {
    "entryScript": "score.py",
    "environment": {
        "docker": {
            "arguments": [],
            "baseDockerfile": None,
            "baseImage": "registry.example/base:latest",
            "enabled": False,
            "sharedVolumes": True,
            "shmSize": None,
        },
        "environmentVariables": {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"},
        "name": "my-deploy-env",
        "python": {
            "baseCondaEnvironment": None,
            "condaDependencies": {
                "channels": ["conda-forge"],
                "dependencies": ["python=3.11", {"pip": ["azureml-defaults", "scikit-learn==1.5.2"]}],
                "name": "x",
            },
            "condaDependenciesFile": None,
            "interpreterPath": "python",
            "userManagedDependencies": False,
        },
        "version": "1",
        "spark": None,
        "inferencingStackVersion": None,
    },
    "sourceDirectory": None,
}


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with what a configuration names."""
    here = tmp_path / "project"
    here.mkdir()
    monkeypatch.chdir(here)
    for folder in (tmp_path, here, here / "src"):
        folder.mkdir(exist_ok=True)
        (folder / "score.py").write_text(SCRIPT)
        (folder / "myenv.yml").write_text(CONDA)
        (folder / "steps.txt").write_text("RUN true\n")
    return here


def registered(ref: EnvironmentRef) -> Environment:
    """The registry, which has one environment."""
    if ref not in (EnvironmentRef("myenv"), EnvironmentRef("myenv", 1)):
        raise NotFoundError(f"environment {ref} not found", where="environment registry")
    return Environment("myenv", 1, "==3.11.*")


def read(said: object, name: str = "inferenceconfig.json") -> InferenceConfiguration:
    """What a file says, which is written as JSON unless it is a text."""
    path = Path(name)
    path.write_text(said if isinstance(said, str) else json.dumps(said, indent=1))
    return read_configuration(path, registered)


def violations(said: object, name: str = "inferenceconfig.json") -> list[str]:
    """What is wrong with a file, all of it."""
    try:
        read(said, name)
    except InvalidDocumentError as error:
        return list(error.violations)
    return []


# ---- What a file says -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["inferenceconfig.json", "inferenceconfig.yml", "i.YAML"])
def test_the_older_form_becomes_an_environment(name: str) -> None:
    found = read(LEGACY if name.endswith("json") else yaml.safe_dump(LEGACY), name)
    assert (found.entry_script, found.source_directory, found.steps) == ("score.py", None, "")
    assert found.environment is not None
    assert found.environment.pip.requirements == ("numpy==2.1.0",)
    assert found.environment.python == "==3.11.*"
    assert found.script().file == "score.py"


def test_an_environment_is_described_in_the_file_itself() -> None:
    found = read(INLINE).environment
    assert found is not None
    assert (found.name, found.base_image) == ("my-deploy-env", "registry.example/base:latest")
    assert found.variables == {"EXAMPLE_ENV_VAR": "EXAMPLE_VALUE"}
    assert "scikit-learn==1.5.2" in found.pip.requirements


@pytest.mark.parametrize(
    "said",
    ["myenv", "myenv:1", {"name": "myenv"}, {"name": "myenv", "version": "1"}, {"name": "myenv", "version": 1},
     {"name": "myenv", "version": None, "python": None}],
)  # fmt: skip
def test_an_environment_is_named(said: object) -> None:
    found = read({"entryScript": "score.py", "environment": said})
    assert found.environment == Environment("myenv", 1, "==3.11.*")


def test_an_environment_that_is_not_registered_is_not_found() -> None:
    with pytest.raises(NotFoundError, match="other:2 not found"):
        read({"entryScript": "score.py", "environment": "other:2"})


def test_files_are_looked_for_in_the_source_directory() -> None:
    for name in ("score.py", "myenv.yml", "steps.txt"):
        Path(name).unlink()
    said = {**LEGACY, "sourceDirectory": "src", "extraDockerFileSteps": "steps.txt", "description": "Sorts letters"}
    found = read(said)
    assert (found.source_directory, found.steps, found.description) == (Path("src"), "RUN true\n", "Sorts letters")
    assert found.script().folder == "var/azureml-app/src"
    assert read({**said, "extraDockerFileSteps": None, "extraDockerfileSteps": "steps.txt"}).steps == "RUN true\n"


def test_a_base_has_a_registry_of_its_own(caplog: pytest.LogCaptureFixture) -> None:
    image = {"entryScript": "score.py", "baseImage": "team/base:1"}
    found = read({**image, "baseImageRegistry": "registry.example:5000"})
    assert found.environment is not None
    assert (found.environment.base_registry_address, found.base_login) == ("registry.example:5000", None)
    with caplog.at_level(logging.DEBUG):
        found = read({**image, "baseImageRegistry": LOGIN, "enableGpu": True, "cudaVersion": 10.0})
    assert found.base_login is not None
    assert (found.base_login.credentials.password, found.base_login.credentials.username) == ("hunter2222", "robot")
    assert found.environment is not None
    assert found.environment.base_registry_username == "robot"
    assert "enableGpu has no effect" in caplog.text
    assert "hunter2222" not in f"{found!r} {caplog.text}"
    inline = {"name": "e", "docker": {"baseImage": "x/y:1", "baseImageRegistry": LOGIN}}
    found = read({"entryScript": "score.py", "environment": inline})
    assert found.base_login is not None
    assert "hunter2222" not in repr(found)


def test_paths_count_from_the_current_folder_and_an_error_says_where_they_would(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read(LEGACY)
    (project / "elsewhere").mkdir()
    monkeypatch.chdir(project / "elsewhere")
    with pytest.raises(InvalidDocumentError) as error:
        read_configuration(Path("../inferenceconfig.json"), registered)
    assert len(error.value.violations) == 2
    assert all("it is in ..: run the command there" in one for one in error.value.violations)


def test_what_azure_wrote_in_2019_is_read() -> None:
    """As Microsoft's own example of a pipeline has it: every field is there, most are empty."""
    text = (
        "entryScript: score.py\nruntime:\ncondaFile:\nextraDockerfileSteps:\nschemaFile:\nsourceDirectory:\n"
        "enableGpu: False\nbaseImage:\nbaseImageRegistry:\nenvironment: myenv\n"
    )
    assert read(text, "inference_config.yml").environment == Environment("myenv", 1, "==3.11.*")


# ---- What is wrong --------------------------------------------------------------------------------------------------


def test_every_violation_is_told_at_once_with_its_line_and_field() -> None:
    text = """\
entryScrip: score.py
runtime: java
condaFile: no.yml
enableGpu: 3
environment:
  nam: x
  python: {condaDependencies: [a]}
  docker: {baseImge: x}
baseImageRegistry: {address: "http://x", username: u}
cudaVersion: 11
description: [a]
"""
    with pytest.raises(InvalidDocumentError, match=r"^i\.yml: ") as error:
        read(text, "i.yml")
    assert error.value.exit_code == 2
    expected = [
        "line 1: entryScript must be a .py file, and is missing",
        "line 1: entryScrip is not a known field; did you mean 'entryScript'?",
        "line 2: runtime must be 'python', is 'java'",
        "line 3: condaFile 'no.yml' is not a file here",
        "line 4: enableGpu must be true or false, is 3",
        "line 6: environment.name is missing",
        "line 6: environment.nam is not a known field; did you mean 'name'?",
        "line 7: environment.python.condaDependencies must be a mapping, is a list",
        "line 8: environment.docker.baseImge is not a known field; did you mean 'baseImage'?",
        "line 9: baseImageRegistry.address 'http://x' is not a registry's host; write it as host or host:port",
        "line 9: baseImageRegistry needs address, username and password, or none of them; password is missing",
        "line 9: baseImageRegistry is given without baseImage",
        "line 10: cudaVersion must be 9.0 or 9.1 or 10.0, is 11",
        "line 11: description must be text, is a list",
        "runtime, condaFile, enableGpu, cudaVersion, baseImageRegistry are given beside an environment, which has its"
        " own; leave out one of the two",
    ]
    assert sorted(error.value.violations) == sorted(expected)


@pytest.mark.parametrize(
    ("said", "says"),
    [
        ({"entryScript": "score.py", "runtime": "spark-py"}, "'spark-py' needs Spark, which exists only in Azure"),
        ({"entryScript": "score.py", "runtime": "Spark-Py"}, "'spark-py' needs Spark"),
        ({"entryScript": "path-to-score.py"}, "call it path_to_score.py"),
        ({"entryScript": "score.py", "sourceDirectory": "nowhere"}, "sourceDirectory 'nowhere' is not a folder"),
        ({"entryScript": "../score.py", "sourceDirectory": "src"}, "must be inside of sourceDirectory"),
        ({"entryScript": "gone.py"}, "line 2: entryScript 'gone.py' is not a file"),
        ({"entryScript": "score.py", "enableGpu": True}, "enableGpu needs a baseImage that has what a GPU needs"),
        ({"entryScript": "score.py", "baseImage": " "}, "baseImage must be an image"),
        ({"entryScript": "score.py", "baseImage": "Not An Image"}, "line 3: baseImage: 'Not An Image' is not an image"),
        ({"entryScript": "score.py", "schemaFile": "s.json"}, "schemaFile must be empty, is 's.json'"),
        ({"entryScript": "score.py", "extraDockerfileSteps": "steps.txt", "extraDockerFileSteps": "steps.txt"},
         "are one field in two spellings; keep one"),
        ({"entryScript": "score.py",
          "environment": {"name": "e", "docker": {"baseImage": "x", "baseDockerfile": "FROM x"}}},
         "environment: environment e: has a base image and a base Dockerfile; keep one"),
        ({"entryScript": "score.py", "environment": {"name": "e", "python": {"baseCondaEnvironment": "x"}}},
         "environment.python.baseCondaEnvironment must be empty, is 'x'"),
        ({"entryScript": "score.py", "environment": {"name": "e", "inferencingStackVersion": "old"}},
         "inferencingStackVersion must be latest, is 'old'"),
        ({"entryScript": "score.py", "environment": {"name": "e", "docker": {"baseDockerfile": "gone"}}},
         "docker.baseDockerfile is neither the text of a Dockerfile nor a file of one"),
        ({"entryScript": "score.py", "environment": "no name"}, "environment: "),
        ({"entryScript": "score.py", "environment": {"name": "e", "version": "first"}},
         "'first' is not an environment version"),
        ({"entryScript": "score.py", "environment": {"name": "e", "environmentVariables": {"A": 1}}},
         "environment.environmentVariables.A must be text, is 1; write it in quotes"),
        ({"entryScript": "score.py\0"}, "entryScript holds a NUL character"),
        ([], "the document must be a mapping, is a list"),
    ],
)  # fmt: skip
def test_a_wrong_field_is_named(said: object, says: str) -> None:
    found = violations(said)
    assert len(found) == 1, found
    assert says in found[0]


def test_the_violations_of_a_conda_file_are_told_with_the_others() -> None:
    Path("myenv.yml").write_text("dependencies:\n  - 'a b c d'\n  - pip:\n    - '=bad'\n")
    found = violations({**LEGACY, "baseImage": "Not An Image"})
    assert len(found) == 3, found
    assert sum("condaFile: myenv.yml: line" in one for one in found) == 2


@pytest.mark.parametrize(
    ("data", "name", "says"),
    [
        (b"\xff\xfe\x00", "i.json", "is not UTF-16-LE"),
        (b'{"entryScript": "caf\xe9.py"}', "i.json", "is not UTF-8"),
        (b'{"entryScript": "score.py",}', "i.json", "line 1: is not JSON"),
        (b"entryScript: score.py", "i.json", "line 1: is not JSON"),
        (b"entryScript: [", "i.yml", "is not YAML"),
        (b'{"entryScript": "score.py",\n"entryScript": "x.py"}', "i.json", "line 2: 'entryScript' is listed twice"),
        (b"entryScript: score.py\nentryScript: x.py", "i.yml", "line 2: 'entryScript' is listed twice, first on"),
        (b'{"entryScript": "\\ud800.py"}', "i.json", "holds text that is not Unicode"),
        (b"[" * 100_000, "i.json", "not JSON that can be read"),
        (b"[" * 40 + b"]" * 40, "i.json", "is nested more than 32 deep"),
        (b"[" + b"1," * 30_000 + b"1]", "i.json", "holds more than 20000 values"),
        (b'{"version": ' + b"9" * 5000 + b"}", "i.json", "not JSON that can be read"),
        (b"a: &a [x,x,x,x,x,x,x,x,x]\nb: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b,*b,*b,*b,*b,*b]\n"
         b"d: &d [*c,*c,*c,*c,*c,*c,*c,*c,*c]\ne: [*d,*d,*d,*d,*d,*d,*d,*d,*d]", "i.yml",
         "holds more than 20000 values"),
        (b"a: &a [*a]", "i.yml", "names nothing that ends before it"),
        (b"entryScript: !!python/name:os.system x", "i.yml", "is not supported; leave it out"),
        (b"a: 1\n---\nb: 2", "i.yml", "a second document begins here"),
        (b"", "i.yml", "the document must be a mapping, is empty"),
        (b"", "i.json", "is not JSON"),
        (b" " * (5 << 20), "i.json", "has more than 4 MiB"),
    ],
)  # fmt: skip
def test_a_file_that_is_damaged_is_refused(data: bytes, name: str, says: str) -> None:
    Path(name).write_bytes(data)
    with pytest.raises(InvalidDocumentError, match=says.replace("(", r"\(")):
        read_configuration(Path(name), registered)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_what_an_editor_of_windows_saves_is_read(encoding: str) -> None:
    Path("i.json").write_text(json.dumps(LEGACY, indent="\t").replace("\n", "\r\n"), encoding)
    assert read_configuration(Path("i.json"), registered).entry_script == "score.py"


def test_what_is_not_a_configuration_is_refused(project: Path) -> None:
    with pytest.raises(NotFoundError, match="there is no such inference configuration"):
        read_configuration(Path("gone.json"), registered)
    with pytest.raises(NotFoundError, match="there is no such inference configuration"):
        read_configuration(Path("gone"), registered)
    Path("i.toml").touch()
    with pytest.raises(UsageError, match=r"let it end in \.json, \.yml or \.yaml"):
        read_configuration(Path("i.toml"), registered)
    Path("folder.json").mkdir()
    with pytest.raises(UsageError, match="is a folder"):
        read_configuration(Path("folder.json"), registered)


# ---- Passwords ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "said",
    [
        {"baseImageRegistry": {**LOGIN, "pasword": "x"}},
        {"baseImageRegistry": {"address": "x y", "username": "robot", "password": "hunter2222"}, "baseImage": "b:1"},
        {"baseImageRegistry": {"password": "hunter2222"}, "baseImage": "b:1"},
        {"baseImageRegistry": "robot:hunter2222@registry.example", "baseImage": "b:1"},
        {"baseImageRegistry": "https://robot:hunter2222@registry.example", "baseImage": "b:1"},
        {"baseImage": "robot:hunter2222@registry.example/b:1"},
        {"baseImage": "https://robot:hunter2222@registry.example/b:1"},
        {"baseImageRegistry": {**LOGIN, "address": "robot:hunter2222@registry.example"}, "baseImage": "b:1"},
        {"environment": {"name": "e", "docker": {"baseImageRegistry": {**LOGIN, "registryIdentity": 3}}}},
        {"environment": {"name": "e", "docker": {"baseImage": "b:1", "baseImageRegistry": {"password": "hunter2222"}}}},
        {"environment": {"name": "e", "docker": {"baseImage": "robot:hunter2222@x/b:1"}}},
    ],
)  # fmt: skip
def test_no_error_shows_a_password(said: dict[str, Any]) -> None:
    found = violations({"entryScript": "score.py", **said})
    assert found
    assert "hunter2222" not in " ".join(found)


@pytest.mark.parametrize(
    "text",
    ["password: 1234567890", "password: [hunter2222]", 'password: "hunter2222', "password: !x hunter2222"],
)
def test_no_error_shows_a_password_of_another_kind(text: str) -> None:
    Path("i.yml").write_text(f"entryScript: score.py\nbaseImage: b:1\nbaseImageRegistry:\n  {text}\n")
    with pytest.raises(EdgepackError) as error:
        read_configuration(Path("i.yml"), registered)
    assert not {"1234567890", "hunter2222"} & set(str(error.value).replace("'", " ").replace('"', " ").split())


def test_a_file_with_a_password_is_not_shipped(project: Path) -> None:
    said = {"entryScript": "score.py", "sourceDirectory": "src", "baseImage": "b:1", "baseImageRegistry": LOGIN}
    assert read(said).script().file == "score.py"
    with pytest.raises(UsageError, match="holds a password and lies in the source directory"):
        read(said, "src/inferenceconfig.json").script()
    (project / "src/.edgepackignore").write_text("inferenceconfig.json\n")
    assert read(said, "src/inferenceconfig.json").script().file == "score.py"


# ---- The schema and the reader --------------------------------------------------------------------------------------

WRONG = st.sampled_from([3, 3.5, True, [], {}, ["x"], {"a": "b"}])
FLAGS = st.sampled_from([None, True, False])


def registry() -> st.SearchStrategy[Any]:
    """A registry of a base, as an object."""
    field = st.sampled_from([None, "", "registry.example"])
    names = ("address", "username", "password")
    return st.fixed_dictionaries({}, optional={**dict.fromkeys(names, field), "registryIdentity": st.none()})


REGISTRY = st.one_of(st.none(), st.just("registry.example"), st.just(LOGIN), registry())
ENVIRONMENT = st.one_of(
    st.none(),
    st.just("myenv"),
    st.fixed_dictionaries(
        {"name": st.sampled_from(["myenv", "myenv", 3, None])},
        optional={
            "version": st.sampled_from([None, "1", 1, True]),
            "python": st.fixed_dictionaries(
                {},
                optional={
                    "userManagedDependencies": FLAGS | WRONG,
                    "interpreterPath": st.sampled_from([None, "python", 3]),
                    "condaDependencies": st.sampled_from([None, {"dependencies": []}, []]),
                    "baseCondaEnvironment": st.sampled_from([None, "", "x"]),
                },
            ),
            "docker": st.fixed_dictionaries(
                {},
                optional={
                    "enabled": FLAGS | WRONG,
                    "baseImage": st.sampled_from([None, "", "b:1", 3]),
                    "baseDockerfile": st.sampled_from([None, "", "FROM x\n"]),
                    "baseImageRegistry": st.none() | st.just(LOGIN) | registry(),
                    "arguments": st.sampled_from([[], None, ["x"], [3], "x"]),
                },
            ),
            "environmentVariables": st.sampled_from([None, {}, {"A": "b"}, {"A": 3}, []]),
            "inferencingStackVersion": st.sampled_from([None, "latest", "", "x"]),
            "spark": st.sampled_from([None, {}, "x"]),
            "other": st.none(),
        },
    ),
)
FIELDS: dict[str, st.SearchStrategy[Any]] = {
    "entryScript": st.sampled_from(["score.py"] * 4 + ["src/score.py", "class.py", "x.txt", "../score.py", 3, None]),
    "sourceDirectory": st.sampled_from([None, None, "src", "", 3]),
    "description": st.sampled_from([None, "text", 3]),
    "environment": ENVIRONMENT,
    "runtime": st.sampled_from([None, "python", "PYTHON", "spark-py", "java", 3]),
    "condaFile": st.sampled_from([None, "myenv.yml", "", 3]),
    "extraDockerfileSteps": st.sampled_from([None, "steps.txt", "", []]),
    "extraDockerFileSteps": st.sampled_from([None, None, "steps.txt"]),
    "enableGpu": FLAGS | st.just("yes"),
    "cudaVersion": st.sampled_from([None, "9.0", 9.1, 10, "10.0", "10", 11, "x"]),
    "baseImage": st.sampled_from([None, "b:1", "", " "]),
    "baseImageRegistry": REGISTRY,
    "schemaFile": st.sampled_from([None, "x"]),
    "$schema": st.sampled_from([None, "x"]),
    "entryscript": st.just("x"),
}
# A few fields each time: with all of them every document has several faults.
DOCUMENTS = st.sets(st.sampled_from(sorted({*FIELDS} - {"entryScript"})), max_size=4).flatmap(
    lambda names: st.fixed_dictionaries({name: FIELDS[name] for name in ("entryScript", *sorted(names))})
)


OTHER = jsonschema.Draft202012Validator(dict(schema()))


def keeps_the_schema(said: object) -> bool:
    """What another reader of the published schema says."""
    return OTHER.is_valid(said)


@settings(max_examples=times(3000, 100), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(DOCUMENTS)
def test_the_schema_and_the_reader_agree(said: dict[str, Any]) -> None:
    if said.get("sourceDirectory") == "src" and said["entryScript"] == "src/score.py":
        said["entryScript"] = "score.py"  # whether a file is there no schema can say
    keeps = keeps_the_schema(said)
    assert (violations(said, "i.json") == []) == keeps
    assert (violations(yaml.safe_dump(said), "i.yml") == []) == keeps


@pytest.mark.parametrize(
    "said", [LEGACY, INLINE, {"entryScript": "score.py", "environment": {"name": "myenv", "version": "1"}}]
)
def test_what_azure_s_pages_show_keeps_the_schema(said: dict[str, Any]) -> None:
    jsonschema.Draft202012Validator.check_schema(dict(schema()))
    assert keeps_the_schema(said)
    assert violations(said) == []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=100, deadline=None)
@given(VALUES)
def test_json_is_read_as_json(value: object) -> None:
    text = json.dumps(value, indent=1)
    found = parse_json(text, "x.json")
    assert value_of(found) == value_of(json_tree(value, "x.json"))


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode), st.sampled_from(["i.json", "i.yml"]))
def test_any_bytes_are_read_or_refused(data: bytes, name: str) -> None:
    Path(name).write_bytes(data)
    with pytest.raises(EdgepackError):
        read_configuration(Path(name), registered)


# ---- The same from Python -------------------------------------------------------------------------------------------


def test_python_and_a_file_say_the_same() -> None:
    registry = ContainerRegistry()
    registry.address, registry.username, registry.password = LOGIN.values()
    config = InferenceConfig(
        "score.py", "python", "myenv.yml", "steps.txt", "src", description="text", base_image="b:1",
        base_image_registry=registry,
    )  # fmt: skip
    made = config.to_configuration()
    said = {
        "entryScript": "score.py", "runtime": "python", "condaFile": "myenv.yml", "extraDockerfileSteps": "steps.txt",
        "sourceDirectory": "src", "description": "text", "baseImage": "b:1", "baseImageRegistry": LOGIN,
    }  # fmt: skip
    found = read(said)
    assert made.base_login is not None
    assert found.base_login is not None
    assert made.environment == found.environment
    assert (made.steps, made.description, made.entry_script) == (found.steps, found.description, found.entry_script)
    assert made.base_login == found.base_login


def test_python_takes_an_environment_as_an_object() -> None:
    environment = SdkEnvironment.from_pip_requirements("e", _requirements())
    environment.docker.base_image = "b:1"
    registry = environment.docker.base_image_registry
    registry.address, registry.username, registry.password = LOGIN.values()
    made = InferenceConfig("score.py", environment=environment).to_configuration()
    assert made.environment is not None
    assert made.environment.pip.requirements == ("numpy==2.1.0",)
    assert made.base_login is not None
    assert "hunter2222" not in repr(made)
    with pytest.raises(UsageError, match="enable_gpu needs a base_image"):
        InferenceConfig("score.py", enable_gpu=True)


def _requirements() -> str:
    Path("requirements.txt").write_text("numpy==2.1.0\n")
    return "requirements.txt"


# ---- As it is typed -------------------------------------------------------------------------------------------------


def typed(*words: str) -> Done:
    """``edgepack package build`` with a workspace of its own, which is not made."""
    env = {**os.environ, "EDGEPACK_WORKSPACE": str(Path("ws").absolute())}
    return forked.finish("edgepack", "package", "build", "-t", "x:1", *words, cwd=Path.cwd(), env=env)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--entry-script", "score.py"), 2, "--entry-script: is given beside --ic, whose file says that"),
        (("--source-directory", "src"), 2, "--source-directory: is given beside --ic, whose file says that"),
        (("--environment", "myenv.yml"), 2, "--environment: is given beside --ic, whose file says that"),
        (("--ic", "gone.json"), 3, "gone.json: there is no such inference configuration"),
        (("--ic", "wrong.json"), 2, "wrong.json: line 1: entryScript must be a .py file, and is missing; line 1"),
        (("--ic", "named.json"), 3, "environment nothing:4 not found"),
        (("--ic", "steps.json"), 2, "extraDockerfileSteps: steps of a Dockerfile must be executed"),
    ],
)  # fmt: skip
def test_a_wrong_command_says_what_to_do(words: tuple[str, ...], code: int, says: str) -> None:
    Path("wrong.json").write_text('{"enableGp": true}')
    Path("named.json").write_text('{"entryScript": "score.py", "environment": {"name": "nothing", "version": "4"}}')
    Path("steps.json").write_text('{"entryScript": "score.py", "extraDockerfileSteps": "steps.txt"}')
    Path("good.json").write_text('{"entryScript": "score.py"}')
    done = typed(*(words if "--ic" in words else ("--ic", "good.json", *words)))
    assert done.code == code, done.stderr
    assert says in done.stderr
