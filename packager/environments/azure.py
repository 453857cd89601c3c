"""Azure's form of an environment: the ``environment`` of an inference configuration, and what its SDK saves.

``Environment.save_to_directory`` writes a folder: the JSON without what is in files of their own, the conda file, the
base Dockerfile. Fields of Azure's that are about training, or about where a container runs, are left out, and said.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from edgepack.documents import Fields, parse_object, raise_all
from edgepack.errors import EdgepackError, InvalidDocumentError, NotFoundError, UsageError
from edgepack.host.files import BY_UMASK, atomic_write, make_dirs
from edgepack.trees.text_file import read_text
from edgepack.trees.yaml_tree import json_tree
from packager.environments.conda import conda_json, conda_text, from_tree, parse_conda
from packager.environments.environment import Environment, has_from

_log = logging.getLogger(__name__)
DEFINITION = "azureml_environment.json"
CONDA_FILE = "conda_dependencies.yml"
DOCKERFILE = "BaseDockerfile"
_INTERPRETER = "python"
# What Azure's SDK writes besides: of another workspace, about training, about how a container is started.
_LEFT_OUT = ("version", "spark", "databricks", "hdi", "r", "assetId")
_DOCKER_LEFT_OUT = ("enabled", "sharedVolumes", "gpuSupport", "platform")
_DOCKER_SAID = ("arguments", "shmSize")
_USUAL_PLATFORM = {"os": "linux", "architecture": "amd64"}


def to_azure(environment: Environment) -> dict[str, Any]:
    """``environment`` as Azure's JSON; raises ``UsageError`` for constraints, which it cannot say."""
    return {
        "name": environment.name,
        "version": None if environment.version is None else str(environment.version),
        "environmentVariables": dict(environment.variables),
        "python": {
            "userManagedDependencies": environment.user_managed_dependencies,
            "interpreterPath": environment.interpreter_path or _INTERPRETER,
            "condaDependenciesFile": None,
            "baseCondaEnvironment": None,
            "condaDependencies": conda_json(environment),
        },
        "docker": {
            "enabled": False,
            "baseImage": environment.base_image,
            "baseDockerfile": environment.base_dockerfile,
            "baseImageRegistry": {
                "address": environment.base_registry_address,
                "username": environment.base_registry_username,
                "password": None,
            },
            "arguments": [],
            "sharedVolumes": True,
            "shmSize": None,
        },
        "inferencingStackVersion": environment.inferencing_stack_version,
    }


def from_azure(
    value: Mapping[str, Any], where: object, name: str | None = None, *, folder: Path | None = None
) -> Environment:
    """The environment in Azure's JSON, called ``name`` or as it says; files that it names are looked for in ``folder``.

    ``python`` is None where it names none. Raises ``InvalidDocumentError`` with every violation, among them a
    password of a registry, which no environment keeps.
    """
    violations: list[str] = []
    fields = Fields(_without_the_rest(value, where), "", violations)
    own = fields.take("name", str)
    variables = fields.take("environmentVariables", dict, {}) or {}
    for key, text in variables.items():
        if not isinstance(text, str):
            fields.wrong(f"environmentVariables.{key}", "must be text")
    base = _docker(Environment(name or own or ""), fields.child("docker"), folder)
    stack = fields.take("inferencingStackVersion", str)
    if not base.name:
        violations.append("name is missing")
    python = _python(base, fields.child("python"), where, folder, violations)
    fields.finish()
    raise_all(where, violations)
    return replace(
        python,
        variables={**python.variables, **variables},
        inferencing_stack_version=stack,
    )


def _without_the_rest(value: Mapping[str, Any], where: object) -> dict[str, Any]:
    """``value`` without what an environment here does not have."""
    kept = {key: item for key, item in value.items() if key not in _LEFT_OUT}
    docker = kept.get("docker")
    if isinstance(docker, Mapping):
        for key in _DOCKER_SAID:
            if docker.get(key):
                _log.warning("%s: docker.%s is about how a container is started and is left out", where, key)
        if (platform := _platform(docker.get("platform"))) is not None:
            said = "docker.platform is left out: a platform is of a build; give it there, as in --platform"
            _log.warning("%s: %s %s", where, said, platform)
        kept["docker"] = {key: item for key, item in docker.items() if key not in (*_DOCKER_SAID, *_DOCKER_LEFT_OUT)}
    return kept


def _platform(value: object) -> str | None:
    """The platform that Azure's JSON names, where it is not the usual one."""
    if not isinstance(value, Mapping):
        return None
    asked = {key: str(value.get(key) or usual).lower() for key, usual in _USUAL_PLATFORM.items()}
    return None if asked == _USUAL_PLATFORM else f"{asked['os']}/{asked['architecture']}"


def _docker(environment: Environment, fields: Fields, folder: Path | None) -> Environment:
    image, dockerfile = fields.take("baseImage", str), fields.take("baseDockerfile", str)
    if dockerfile and folder is not None and "\n" not in dockerfile and not has_from(dockerfile):
        try:  # Azure takes the text itself, or the path of a file
            dockerfile = read_text(folder / dockerfile, "Dockerfile")
        except EdgepackError as error:
            fields.wrong("baseDockerfile", f"is neither the text of a Dockerfile nor a file of one ({error})")
            dockerfile = None
    if fields.take("buildContext", dict):
        fields.wrong("buildContext", "is a folder, which no environment keeps; give baseDockerfile, or a baseImage")
    registry = fields.child("baseImageRegistry")
    address, username = registry.take("address", str), registry.take("username", str)
    if registry.take("password", str):
        registry.wrong("password", "must not be in an environment; remove it, and log in with: docker login")
    registry.take("registryIdentity", dict)
    registry.finish()
    fields.finish()
    return replace(
        environment, base_image=image or None, base_dockerfile=dockerfile or None,
        base_registry_address=address or None, base_registry_username=username or None,
    )  # fmt: skip


def _python(
    environment: Environment, fields: Fields, where: object, folder: Path | None, violations: list[str]
) -> Environment:
    managed = fields.take("userManagedDependencies", bool, False) or False
    interpreter = fields.take("interpreterPath", str)
    if fields.take("baseCondaEnvironment", str):
        fields.wrong("baseCondaEnvironment", "names an environment of one machine; list its packages instead")
    file = fields.take("condaDependenciesFile", str)
    said = fields.take("condaDependencies", dict)
    fields.finish()
    found = environment
    try:
        if said is not None and file:
            fields.wrong("condaDependenciesFile", "is given beside condaDependencies; keep one")
        elif said is not None:
            found = from_tree(json_tree(said, where), environment.name, where, folder=folder)
        elif file and folder is None:
            fields.wrong("condaDependenciesFile", "names a file, which has no place here")
        elif file and folder is not None:
            path = folder / file
            found = parse_conda(read_text(path, "conda file"), environment.name, path, folder=path.parent)
    except InvalidDocumentError as error:
        place = "condaDependencies" if said is not None else "condaDependenciesFile"
        violations += [f"python.{place}: {violation}" for violation in error.violations]
    return replace(
        found, base_image=environment.base_image, base_dockerfile=environment.base_dockerfile,
        base_registry_address=environment.base_registry_address,
        base_registry_username=environment.base_registry_username, user_managed_dependencies=managed,
        interpreter_path=None if interpreter in (None, "", _INTERPRETER) else interpreter,
    )  # fmt: skip


def save_folder(environment: Environment, folder: Path, *, overwrite: bool = False) -> None:
    """Write ``environment`` as Azure's SDK saves one; raises ``UsageError`` where one is already."""
    if (folder / DEFINITION).exists() and not overwrite:
        raise UsageError("has an environment already", where=folder, hint="give another folder, or remove it first")
    value = to_azure(environment)
    del value["python"]["condaDependencies"]
    value["docker"]["baseDockerfile"] = None
    make_dirs(folder)
    atomic_write(folder / CONDA_FILE, conda_text(environment).encode(), BY_UMASK)
    if environment.base_dockerfile is not None:
        atomic_write(folder / DOCKERFILE, environment.base_dockerfile.encode(), BY_UMASK)
    else:
        (folder / DOCKERFILE).unlink(missing_ok=True)
    # The definition comes last: a folder that has it is whole.
    atomic_write(folder / DEFINITION, f"{json.dumps(value, indent=4, ensure_ascii=False)}\n".encode(), BY_UMASK)


def load_folder(folder: Path, name: str | None = None) -> Environment:
    """The environment in a folder that Azure's SDK or ``save_folder`` wrote, called ``name`` or as it says.

    Raises ``NotFoundError`` for another folder, ``InvalidDocumentError`` with every violation.
    """
    path = folder / DEFINITION
    if not path.exists():
        raise NotFoundError(f"has no {DEFINITION}", where=folder, hint="give a folder that Azure's SDK saved")
    value = dict(parse_object(read_text(path, "definition").encode(), path))
    conda, dockerfile = folder / CONDA_FILE, folder / DOCKERFILE
    if conda.exists() and isinstance(value.get("python", {}), dict):
        value["python"] = {**value.get("python", {}), "condaDependenciesFile": PurePosixPath(CONDA_FILE).name}
    if dockerfile.exists() and isinstance(value.get("docker", {}), dict):
        value["docker"] = {**value.get("docker", {}), "baseDockerfile": read_text(dockerfile, "Dockerfile")}
    return from_azure(value, path, name, folder=folder)
