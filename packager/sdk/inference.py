"""``InferenceConfig``: what serves models: an entry script and its environment."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import ClassVar

from edgepack.documents import raise_all
from edgepack.trees.yaml_tree import json_tree
from packager.exceptions import translated
from packager.inference.configuration import BaseLogin, InferenceConfiguration
from packager.inference.configuration_rules import LOGIN, Rules
from packager.inference.configuration_tree import base_login, configuration_of
from packager.sdk.arguments import PathLike
from packager.sdk.container_registry import ContainerRegistry
from packager.sdk.environment import Environment
from packager.sdk.environment_records import record_of
from packager.sdk.section import Section

_WHERE = "inference configuration"
# The fields of a file, and what they are called in Python.
_NAMES = {
    "entryScript": "entry_script",
    "sourceDirectory": "source_directory",
    "description": "description",
    "runtime": "runtime",
    "condaFile": "conda_file",
    "extraDockerfileSteps": "extra_docker_file_steps",
    "enableGpu": "enable_gpu",
    "cudaVersion": "cuda_version",
    "baseImage": "base_image",
    "baseImageRegistry": "base_image_registry",
}


class InferenceConfig(Section):
    """An entry script with its environment.

    ``entry_script`` is relative to ``source_directory``, which is shipped whole; without one, the script alone is.
    """

    _NAMES: ClassVar[tuple[str, ...]] = (*_NAMES.values(), "environment")

    @translated
    def __init__(
        self,
        entry_script: PathLike,
        runtime: str | None = None,
        conda_file: PathLike | None = None,
        extra_docker_file_steps: PathLike | None = None,
        source_directory: PathLike | None = None,
        enable_gpu: bool | None = None,
        description: str | None = None,
        base_image: str | None = None,
        base_image_registry: ContainerRegistry | None = None,
        cuda_version: str | None = None,
        environment: Environment | None = None,
    ) -> None:
        self.entry_script = entry_script
        self.runtime = runtime
        self.conda_file = conda_file
        self.extra_docker_file_steps = extra_docker_file_steps
        self.source_directory = source_directory
        self.enable_gpu = enable_gpu
        self.description = description
        self.base_image = base_image
        self.base_image_registry = base_image_registry
        self.cuda_version = cuda_version
        self.environment = environment
        self.validate_configuration()

    def __repr__(self) -> str:
        said = {name: getattr(self, name) for name in self._NAMES}
        return f"InferenceConfig({', '.join(f'{name}={value!r}' for name, value in said.items() if value is not None)})"

    @translated
    def validate_configuration(self) -> None:
        """Check all that it says; raises ``InvalidDocumentError`` with every violation."""
        raise_all(_WHERE, [*self._of_objects(), *self._rules().violations()])

    def to_configuration(self) -> InferenceConfiguration:
        """What it says as a value, with the files that it names read.

        Raises ``InvalidDocumentError`` with every violation, ``NotFoundError`` without a file of its environment.
        """
        self.validate_configuration()
        if self.environment is None:
            return configuration_of(self._rules(), _WHERE, login=_login(self.base_image_registry))
        environment, registry = record_of(self.environment), self.environment.docker.base_image_registry
        return configuration_of(self._rules(), _WHERE, environment=environment, login=_login(registry))

    def _of_objects(self) -> Iterator[str]:
        """What only Python can get wrong: objects of another class."""
        environment: object = self.environment
        if environment is not None and not isinstance(environment, Environment):
            yield f"environment is a {type(environment).__name__} and not an Environment; take ws.environments[NAME]"
        registry: object = self.base_image_registry
        if registry is not None and not isinstance(registry, ContainerRegistry):
            yield f"base_image_registry is a {type(registry).__name__} and not a ContainerRegistry"

    def _rules(self) -> Rules:
        said = {key: _plain(getattr(self, name)) for key, name in _NAMES.items()}
        given = {key: value for key, value in said.items() if value is not None}
        return Rules(json_tree(given, _WHERE), _spelled, has_environment=self.environment is not None)


def _plain(value: object) -> object:
    """``value`` as JSON would have it."""
    if isinstance(value, ContainerRegistry):
        return {name: getattr(value, name) for name in LOGIN}
    return os.fspath(value) if isinstance(value, os.PathLike) else value


def _spelled(path: str) -> str:
    """The field ``path`` of a file by the names that scripts have for it."""
    name, dot, rest = path.partition(".")
    return f"{_NAMES.get(name, name)}{dot}{rest}"


def _login(registry: ContainerRegistry | None) -> BaseLogin | None:
    if registry is None or not (registry.address and registry.username and registry.password):
        return None
    return base_login(registry.address, registry.username, registry.password, "base_image_registry.password")
