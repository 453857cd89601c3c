"""An inference configuration from the tree of what a file or a script says."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TypeVar

from edgepack.documents import raise_all
from edgepack.errors import EdgepackError, InvalidDocumentError
from edgepack.host.credentials import Credentials
from edgepack.names import EnvironmentRef
from edgepack.trees.text_file import read_text
from edgepack.trees.yaml_tree import NULL, Node, value_of
from packager.environments.azure import from_azure
from packager.environments.conda import parse_conda
from packager.environments.environment import Environment
from packager.environments.sources import completed
from packager.inference.configuration import BaseLogin, InferenceConfiguration
from packager.inference.configuration_rules import LOGIN, STEPS, Rules, registry_field
from packager.registries.logins import hold

_log = logging.getLogger(__name__)
# What an environment is called that nobody named.
_NAME = "inference"
_REF = ("name", "version")
_T = TypeVar("_T")
Find = Callable[[EnvironmentRef], Environment]


def configuration_of(
    rules: Rules,
    where: object,
    *,
    find: Find | None = None,
    environment: Environment | None = None,
    login: BaseLogin | None = None,
) -> InferenceConfiguration:
    """The configuration that ``rules`` are about, which ``where`` names in errors.

    ``find`` gives a registered environment. A script has the ``environment`` and the ``login`` as objects, and gives
    them beside. Raises ``InvalidDocumentError`` with every violation, then ``NotFoundError`` of ``find``.
    """
    return _Reading(rules, where, find, environment, login, rules.violations()).configuration()


@dataclass
class _Reading:
    rules: Rules
    where: object
    find: Find | None
    environment: Environment | None
    login: BaseLogin | None
    violations: list[str] = field(default_factory=list)

    def configuration(self) -> InferenceConfiguration:
        """Read the files that are named, and put it all together."""
        steps = self._steps()
        environment = self._environment()
        raise_all(self.where, self.violations)
        if isinstance(environment, EnvironmentRef):
            environment = None if self.find is None else self.find(environment)
        is_for_gpu = self.rules.is_true("enableGpu")
        if is_for_gpu:
            name = self.rules.spelled("enableGpu")
            _log.warning("%s: %s has no effect: what is in the base image decides about a GPU", self.where, name)
        return InferenceConfiguration(
            self.rules.text("entryScript") or "",
            self.rules.folder(),
            environment,
            steps,
            self.rules.text("description") or None,
            is_for_gpu,
            self.login or self._login(),
        )

    def _steps(self) -> str:
        for key in STEPS:
            if (path := self.rules.file(key)) is not None and path.is_file():
                return self._read(key, lambda: read_text(path, "file of Dockerfile steps")) or ""
        return ""

    def _environment(self) -> Environment | EnvironmentRef | None:
        if (given := self.environment) is not None:
            return self._read("environment", lambda: completed(given, f"environment {given.name}"))
        node = self._node("environment")
        if node.kind == "text":
            return self._read("environment", lambda: EnvironmentRef.parse(node.text))
        return self._described(node) if node.kind == "map" else self._legacy()

    def _described(self, node: Node) -> Environment | EnvironmentRef | None:
        """What names a registered one, or the environment that is described here."""
        name = node.fields.get("name", NULL)
        if name.kind != "text" or not self.rules.holds("environment"):
            return None  # which has been said
        version = node.fields.get("version", NULL)
        if all(value.kind == "null" for key, value in node.fields.items() if key not in _REF):
            text = name.text if version.kind == "null" else f"{name.text}:{version.text}"
            return self._read("environment", lambda: EnvironmentRef.parse(text))
        said = value_of(_without_password(node))
        return self._read(
            "environment", lambda: completed(from_azure(said, self.where, folder=Path()), f"environment {name.text}")
        )

    def _legacy(self) -> Environment | None:
        """The environment that the older fields describe; None where they say nothing of one."""
        path, image = self.rules.file("condaFile"), self.rules.text("baseImage") or None
        found: Environment | None = None
        if path is not None and path.is_file():
            found = self._read("condaFile", lambda: _conda(path))
        elif path is None and image is not None:
            found = Environment(_NAME, user_managed_dependencies=True)
        if found is None or self.violations:
            return None
        registry = self._node("baseImageRegistry")
        address, username = (registry_field(registry, key) or None for key in ("address", "username"))
        described = replace(found, base_image=image, base_registry_address=address, base_registry_username=username)
        return self._read("environment", lambda: completed(described, path or "inference configuration"))

    def _login(self) -> BaseLogin | None:
        for path in ("baseImageRegistry", "environment.docker.baseImageRegistry"):
            address, username, password = (registry_field(self._node(path), key) for key in LOGIN)
            if address and username and password:
                return base_login(address, username, password, f"{self.where}: {path}.password")
        return None

    def _node(self, path: str) -> Node:
        return self.rules.node(path) or NULL

    def _read(self, path: str, read: Callable[[], _T]) -> _T | None:
        """What ``read`` gives; its errors become violations of the field ``path``."""
        try:
            return read()
        except InvalidDocumentError as error:
            where = "" if error.where in (None, str(self.where)) else f"{error.where}: "
            self.violations += [
                self._node(path).at(f"{self.rules.spelled(path)}: {where}{violation}") for violation in error.violations
            ]
        except EdgepackError as error:
            self.violations.append(self._node(path).at(f"{self.rules.spelled(path)}: {error}"))
        return None


def base_login(address: str, username: str, password: str, source: str) -> BaseLogin:
    """A login that is known from ``source``; remembered, so that it gets into nothing that this process writes."""
    credentials = Credentials(username, password, source=source)
    hold(credentials)
    return BaseLogin(address, credentials)


def _conda(path: Path) -> Environment:
    return parse_conda(read_text(path, "conda file"), _NAME, path, folder=path.parent)


def _without_password(node: Node, path: tuple[str, ...] = ("docker", "baseImageRegistry", "password")) -> Node:
    """``node`` without the password of its base's registry, which no environment keeps."""
    first, *rest = path
    if first not in node.fields:
        return node
    kept = {key: value for key, value in node.fields.items() if key != first}
    if rest:
        kept[first] = _without_password(node.fields[first], tuple(rest))
    return replace(node, fields=kept)
