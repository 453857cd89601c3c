"""An environment of scripts as the record that the registry keeps."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol, TypeVar

from edgepack.documents import raise_all
from edgepack.errors import InvalidDocumentError, UsageError
from edgepack.names import EnvironmentRef
from edgepack.trees.text_file import read_text
from packager.environments.conda import parse_conda
from packager.environments.environment import Environment as Record
from packager.environments.environment import has_from, violations_of
from packager.environments.secrets import check_secrets
from packager.layers.secrets import MIN_LENGTH, Secret
from packager.sdk.arguments import path_of
from packager.sdk.conda_dependencies import CondaDependencies
from packager.sdk.container_registry import ContainerRegistry
from packager.sdk.environment_sections import INTERPRETER, DockerSection, PythonSection

_log = logging.getLogger(__name__)
# About where a container is built and how it is started.
_LEFT_OUT = ("platform", "arguments", "shm_size")
_Part = TypeVar("_Part")


class Described(Protocol):
    """What an environment of scripts says of itself."""

    name: str
    version: str | None
    environment_variables: dict[str, str]
    python: PythonSection
    docker: DockerSection
    inferencing_stack_version: str | None


def record_of(environment: Described) -> Record:
    """``environment`` as a record, without the password of its base's registry.

    Files that it names are read. Raises ``NotFoundError`` without them, ``InvalidDocumentError`` with every violation,
    ``EdgepackError`` where the password is anywhere else in it.
    """
    where = f"environment {environment.name}"
    python, docker, packages, registry = _parts(environment, where)
    violations: list[str] = []
    found = _packages(python, packages, violations)
    for name in _LEFT_OUT:
        if getattr(docker, name):
            _log.warning("%s: docker.%s is about how a container is built or started, and is left out", where, name)
    if registry.registry_identity is not None:
        violations.append(
            "docker.base_image_registry.registry_identity exists only in Azure; log in with: docker login"
        )
    if python.base_conda_environment:
        violations.append(
            "python.base_conda_environment names an environment of one machine; list its packages instead"
        )
    managed: object = python.user_managed_dependencies
    if not isinstance(managed, bool | None):
        violations.append("python.user_managed_dependencies must be True or False")
    interpreter = _text(python.interpreter_path, "python.interpreter_path", violations)
    record = replace(
        found,
        name=environment.name,
        variables={**found.variables, **_variables(environment.environment_variables, violations)},
        base_image=_text(docker.base_image, "docker.base_image", violations),
        base_dockerfile=_text(_dockerfile(docker.base_dockerfile), "docker.base_dockerfile", violations),
        base_registry_address=_text(registry.address, "docker.base_image_registry.address", violations),
        base_registry_username=_text(registry.username, "docker.base_image_registry.username", violations),
        user_managed_dependencies=managed is True,
        interpreter_path=None if interpreter == INTERPRETER else interpreter,
        inferencing_stack_version=_text(environment.inferencing_stack_version, "inferencing_stack_version", violations),
    )
    raise_all(where, [*violations, *violations_of(record)])
    password = str(registry.password or "").encode("utf-8", "surrogateescape")
    if len(password) >= MIN_LENGTH:
        # It must not have found another way in, such as the Dockerfile.
        check_secrets(record, [Secret("docker.base_image_registry.password", password)])
    if environment.version is None:
        return record
    return replace(record, version=EnvironmentRef.parse(f"{record.name}:{environment.version}").version)


def _parts(
    environment: Described, where: str
) -> tuple[PythonSection, DockerSection, CondaDependencies, ContainerRegistry]:
    """Its parts, when each is what it is to be; the packages and the registry may be None, which is none."""
    python = _part(environment.python, PythonSection, "python", where)
    docker = _part(environment.docker, DockerSection, "docker", where)
    return (
        python,
        docker,
        _part(python.conda_dependencies or CondaDependencies(), CondaDependencies, "python.conda_dependencies", where),
        _part(
            docker.base_image_registry or ContainerRegistry(), ContainerRegistry, "docker.base_image_registry", where
        ),
    )


def _part(value: object, kind: type[_Part], name: str, where: str) -> _Part:
    if not isinstance(value, kind):
        raise UsageError(f"{name} is a {type(value).__name__}", where=where, hint=f"give it a {kind.__name__}")
    return value


def _packages(python: PythonSection, packages: CondaDependencies, violations: list[str]) -> Record:
    """What is to be installed, by the conda file that is named or by the packages."""
    path = path_of(python.conda_dependencies_file)
    if path is None:
        return packages._record
    if not packages._is_empty:
        violations.append("python.conda_dependencies_file is given beside python.conda_dependencies; keep one")
        return packages._record
    try:
        return parse_conda(read_text(path, "conda file"), packages._record.name, path, folder=path.parent)
    except InvalidDocumentError as error:
        violations += [f"python.conda_dependencies_file {path}: {violation}" for violation in error.violations]
        return packages._record


def _text(value: object, name: str, violations: list[str]) -> str | None:
    """A text, None for an empty one as for none."""
    if isinstance(value, str | None):
        return value or None
    violations.append(f"{name} must be text, is a {type(value).__name__}")
    return None


def _variables(value: object, violations: list[str]) -> dict[str, str]:
    if not isinstance(value, Mapping | None):
        violations.append(f"environment_variables must be a dictionary, is a {type(value).__name__}")
        return {}
    found = {}
    for name, text in (value or {}).items():
        if isinstance(name, str) and isinstance(text, str):
            found[name] = text
        else:
            violations.append(f"environment_variables: {name!r} and its value must be text; write them in quotes")
    return found


def _dockerfile(said: object) -> object:
    """The text of a Dockerfile: Azure takes the text itself, or the path of a file."""
    is_path = isinstance(said, os.PathLike) or (isinstance(said, str) and said and "\n" not in said)
    if is_path and not (isinstance(said, str) and has_from(said)):
        return read_text(Path(str(said)).expanduser(), "Dockerfile")
    return said
