"""Where credentials come from: Docker's ``config.json`` and the helpers that it names.

Nothing here is ever logged, printed or put into an error; ``repr`` hides what is secret.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import re
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edgepack.errors import AuthenticationError, InvalidDocumentError, MissingPartError
from edgepack.host.logins import login_files
from edgepack.oci.reference import DOCKER_HUB, DOCKER_HUB_HOST

# The key under which Docker keeps what belongs to Docker Hub.
_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
# docker-credential-helpers: the user name that says that the secret is an identity token.
_TOKEN_USER = "<token>"  # noqa: S105
_NOT_FOUND = "credentials not found"
_HELPER_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_HELPER_SECONDS = 30


@dataclass(frozen=True)
class Credentials:
    """A user name and password, or an identity token (an OAuth2 refresh token) in place of both."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)

    @property
    def basic(self) -> str:
        """The value of a Basic Authorization header (RFC 7617)."""
        return "Basic " + base64.b64encode(f"{self.username}:{self.password}".encode()).decode()


# Gives the credentials for a registry (``host[:port]`` as in a reference), or None for anonymous access.
CredentialLookup = Callable[[str], Credentials | None]


def anonymous(registry: str) -> Credentials | None:
    """No credentials for anybody."""
    return None


@dataclass(frozen=True)
class DockerConfig:
    """Docker's ``config.json``; a lookup of credentials, in Docker's order: credHelpers, credsStore, auths."""

    path: Path

    @classmethod
    def default(cls) -> DockerConfig:
        """The file in ``$DOCKER_CONFIG``, or in ``~/.docker``."""
        return cls(login_files()[0])

    def __call__(self, registry: str) -> Credentials | None:
        """The credentials for ``registry``.

        Raises ``InvalidDocumentError`` for a broken file, ``MissingPartError`` and ``AuthenticationError`` for a
        helper that is not there or fails.
        """
        config = self._load()
        key = _DOCKER_HUB_KEY if registry in (DOCKER_HUB, DOCKER_HUB_HOST) else registry
        helper = self._section(config, "credHelpers").get(key) or config.get("credsStore")
        if helper is not None and helper != "":
            return self._from_helper(helper, key)
        for name, entry in self._section(config, "auths").items():
            if name == key or _host(name) == registry:
                return self._from_entry(name, entry)
        return None

    def stored(self) -> Mapping[str, Credentials]:
        """What the file itself holds, by the registry's host; no helper is asked, entries that are broken are left out.

        Raises ``InvalidDocumentError`` for a file that cannot be read.
        """
        found = {}
        for name, entry in self._section(self._load(), "auths").items():
            with contextlib.suppress(InvalidDocumentError):
                if (credentials := self._from_entry(name, entry)) is not None:
                    found[_host(name)] = credentials
        return found

    def _load(self) -> dict[str, Any]:
        try:
            value = json.loads(self.path.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise InvalidDocumentError(self.path, [f"cannot be read ({error.strerror})"]) from None
        except (ValueError, RecursionError):
            # The cause would carry the file's content, so it is left out.
            raise InvalidDocumentError(self.path, ["cannot be read as JSON"]) from None
        if not isinstance(value, dict):
            raise InvalidDocumentError(self.path, ["must be a JSON object"])
        return value

    def _section(self, config: dict[str, Any], name: str) -> Mapping[str, Any]:
        value = config.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise InvalidDocumentError(self.path, [f"{name} must be an object"])
        return value

    def _from_entry(self, name: str, entry: object) -> Credentials | None:
        field_name = f"auths[{_host(name)}]"
        if not isinstance(entry, dict):
            raise InvalidDocumentError(self.path, [f"{field_name} must be an object"])
        token = entry.get("identitytoken")
        if isinstance(token, str) and token:
            return Credentials(identity_token=token)
        if isinstance(entry.get("username"), str) and isinstance(entry.get("password"), str):
            return Credentials(entry["username"], entry["password"])
        if not entry.get("auth"):
            return None
        try:
            username, colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        except (binascii.Error, ValueError, TypeError):
            colon = ""
        if not colon:
            raise InvalidDocumentError(
                self.path, [f"{field_name}.auth is not user:password in base64"], hint="log in again with docker login"
            )
        return Credentials(username, password.rstrip("\0"))

    def _from_helper(self, helper: object, key: str) -> Credentials | None:
        if not isinstance(helper, str) or not _HELPER_NAME.fullmatch(helper):
            raise InvalidDocumentError(self.path, ["names a credential helper whose name is not a valid program name"])
        program = f"docker-credential-{helper}"
        try:
            done = subprocess.run(
                [program, "get"], input=key.encode(), capture_output=True, timeout=_HELPER_SECONDS, check=False
            )
        except FileNotFoundError:
            raise MissingPartError(
                f"{program} is not installed", where=self.path, hint="install it or log in again with docker login"
            ) from None
        except (OSError, subprocess.TimeoutExpired):
            raise AuthenticationError(f"{program} could not be run or did not answer", where=key) from None
        if done.returncode != 0 and _NOT_FOUND.encode() in done.stdout + done.stderr:
            return None
        try:
            if done.returncode != 0:
                raise ValueError
            answer = json.loads(done.stdout)
            username, secret = answer["Username"], answer["Secret"]
            if not isinstance(username, str) or not isinstance(secret, str):
                raise TypeError
        except (ValueError, KeyError, TypeError, RecursionError):
            # What a helper printed may be a secret, so it is not repeated.
            raise AuthenticationError(
                f"{program} failed (exit code {done.returncode})", where=key, hint=f"run docker login {key} again"
            ) from None
        if username == _TOKEN_USER:
            return Credentials(identity_token=secret)
        return Credentials(username, secret)


@dataclass(frozen=True)
class Logins:
    """The files of Docker and of Podman, whose form is Docker's; a lookup that takes the first that knows."""

    configs: tuple[DockerConfig, ...]

    @classmethod
    def default(cls) -> Logins:
        """Those of this user."""
        return cls(tuple(DockerConfig(path) for path in login_files()))

    def __call__(self, registry: str) -> Credentials | None:
        """The credentials for ``registry``; raises as ``DockerConfig`` does."""
        for config in self.configs:
            if (found := config(registry)) is not None:
                return found
        return None


def _host(key: str) -> str:
    """The host of a key of ``auths``, which may be an address: ``https://host:port/v1/``."""
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]
