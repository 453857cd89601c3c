"""The logins that a user gives to a command, before those that Docker and Podman keep.

In this order: a password on standard input, a file, variables, then ``docker login`` and ``podman login`` with their
helpers. What was found is remembered, so that it gets into nothing that this process writes.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import UsageError
from edgepack.host.credentials import CredentialLookup, Credentials
from edgepack.oci import docker_config
from edgepack.oci.docker_config import DockerConfig, Logins

# One registry's login, as CI systems give it; the file has those of any number.
HOST, USERNAME, PASSWORD = "EDGEPACK_REGISTRY", "EDGEPACK_REGISTRY_USERNAME", "EDGEPACK_REGISTRY_PASSWORD"
FILE = "EDGEPACK_REGISTRY_CREDENTIALS"

_held: dict[Credentials, None] = {}


@dataclass(frozen=True)
class GivenLogins:
    """What was given: ``typed`` is for the registry that the command names and no other, ``file`` for those in it."""

    typed: Credentials | None = None
    file: DockerConfig | None = None

    @classmethod
    def of(cls, file: Path | None, username: str | None, password: str | None) -> GivenLogins:
        """As the options have them; raises what ``login_file`` raises, ``UsageError`` for half a login."""
        typed = None
        if username is not None or password is not None:
            if username is None:
                raise UsageError("a password without a user", where="--password-stdin", hint="give --username too")
            if not username:
                raise UsageError("is empty", where="--username", hint="give the name to log in with")
            if not password:
                hint = "pipe the password in: --password-stdin < FILE"
                raise UsageError("a user without a password", where="--username", hint=hint)
            typed = Credentials(username, password, source="standard input")
            hold(typed)
        return cls(typed, None if file is None else login_file(file))

    def lookup(self, named: str | None = None) -> CredentialLookup:
        """What gives the login for a registry; ``named`` is the one that the command names.

        The lookup raises ``UsageError`` for variables that are incomplete, and what ``login_file`` and ``DockerConfig``
        raise.
        """

        def find(registry: str) -> Credentials | None:
            found = self.typed if self.typed is not None and registry == named else self._given(registry)
            found = Logins.default()(registry) if found is None else found
            if found is not None:
                hold(found)
            return found

        return find

    def _given(self, registry: str) -> Credentials | None:
        if self.file is not None and (found := self.file(registry)) is not None:
            return found
        host, login = variable_login(os.environ)
        if host == registry:
            return login
        path = os.environ.get(FILE)
        return login_file(Path(path))(registry) if path and self.file is None else None

    def registries(self) -> tuple[str, ...]:
        """The registries that there is a login for, or a helper."""
        file, path = self.file, os.environ.get(FILE)
        if file is None and path:
            file = login_file(Path(path))
        host, _ = variable_login(os.environ)
        names = (*(() if file is None else file.registries()), *filter(None, [host]), *Logins.default().registries())
        return tuple(dict.fromkeys(names))


def login_file(path: Path) -> DockerConfig:
    """The logins in a file, read once: it may be a pipe; raises ``UsageError`` for one that others may read."""
    return docker_config.login_file(path).read()


def variable_login(variables: Mapping[str, str]) -> tuple[str | None, Credentials | None]:
    """The registry and the login that ``variables`` have; raises ``UsageError`` when one of the three is missing."""
    values = {name: variables.get(name, "") for name in (HOST, USERNAME, PASSWORD)}
    missing = [name for name, value in values.items() if not value]
    if not values[PASSWORD] and not values[USERNAME]:
        return None, None
    if missing:
        raise UsageError(
            f"the login in the environment lacks {' and '.join(missing)}",
            where=PASSWORD if values[PASSWORD] else USERNAME,
            hint=f"set {HOST}, {USERNAME} and {PASSWORD} together",
        )
    return values[HOST], Credentials(values[USERNAME], values[PASSWORD], source=f"the variable {PASSWORD}")


def hold(credentials: Credentials) -> None:
    """Remember that this process knows ``credentials``."""
    _held[credentials] = None


def held() -> tuple[Credentials, ...]:
    """What was remembered."""
    return tuple(_held)
