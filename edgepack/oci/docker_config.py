"""Docker's ``config.json``, Podman's ``auth.json``, which has its form, and the helpers that they name.

Nothing here is ever logged, printed or put into an error.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import shlex
import stat
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgepack.errors import AuthenticationError, InvalidDocumentError, MissingPartError, UsageError
from edgepack.hidden import HiddenBytes, HiddenObject
from edgepack.host.credentials import Credentials
from edgepack.host.logins import login_files
from edgepack.oci.reference import DOCKER_HUB, DOCKER_HUB_HOST

# The key under which Docker keeps what belongs to Docker Hub.
DOCKER_HUB_KEY = "https://index.docker.io/v1/"
# docker-credential-helpers: the user name that says that the secret is an identity token.
TOKEN_USER = "<token>"  # noqa: S105
_NOT_FOUND = "credentials not found"
_HELPER_NAME = re.compile(r"[A-Za-z0-9_.-]+")
_HELPER_SECONDS = 30


@dataclass(frozen=True)
class DockerConfig:
    """Docker's ``config.json``; a lookup of credentials, in Docker's order: credHelpers, credsStore, auths."""

    path: Path
    content: HiddenObject | None = field(default=None, repr=False, compare=False)
    """What the file had when it was read, for one that can be read once, such as a pipe."""

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
        key = config_key(registry)
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
            credentials, _ = self._parsed(entry)
            if credentials is not None:
                found[_host(name)] = credentials
        return found

    def registries(self) -> tuple[str, ...]:
        """The registries that the file names, with a login of its own or with a helper; raises as ``stored`` does."""
        config = self._load()
        names = (*self._section(config, "auths"), *self._section(config, "credHelpers"))
        return tuple(dict.fromkeys(DOCKER_HUB if name == DOCKER_HUB_KEY else _host(name) for name in names))

    def read(self) -> DockerConfig:
        """The same with its content, which is not read again; raises ``InvalidDocumentError``."""
        return replace(self, content=HiddenObject(self._load()))

    def _load(self) -> dict[str, Any]:
        if self.content is not None:
            return self.content
        try:
            value = json.loads(self.path.read_bytes(), object_hook=HiddenObject)
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
        found, violation = self._parsed(entry)
        if violation:
            hint = "log in again with docker login" if violation.startswith(".") else None
            raise InvalidDocumentError(self.path, [f"auths[{_host(name)}]{violation}"], hint=hint)
        return found

    def _parsed(self, entry: object) -> tuple[Credentials | None, str]:
        """What an entry of ``auths`` has, and what is wrong about it; nothing of it is in a frame that raises."""
        source = str(self.path)
        if not isinstance(entry, dict):
            return None, " must be an object"
        token = entry.get("identitytoken")
        if isinstance(token, str) and token:
            return Credentials(identity_token=token, source=source), ""
        if isinstance(entry.get("username"), str) and isinstance(entry.get("password"), str):
            return Credentials(entry["username"], entry["password"], source=source), ""
        if not entry.get("auth"):
            return None, ""
        try:
            username, colon, password = base64.b64decode(entry["auth"], validate=True).decode().partition(":")
        except (binascii.Error, ValueError, TypeError):
            colon = ""
        if not colon:
            return None, ".auth is not user:password in base64"
        return Credentials(username, password.rstrip("\0"), source=source), ""

    def _from_helper(self, helper: object, key: str) -> Credentials | None:
        if not isinstance(helper, str) or not _HELPER_NAME.fullmatch(helper):
            raise InvalidDocumentError(self.path, ["names a credential helper whose name is not a valid program name"])
        return asked_helper(helper, key, self.path, again=f"run docker login {key} again")


@dataclass(frozen=True)
class Helper:
    """A lookup that asks the program ``docker-credential-<name>``, at each use; ``where`` names it, for errors."""

    name: str
    where: object

    def __call__(self, registry: str) -> Credentials | None:
        """The credentials for ``registry``; raises ``MissingPartError`` and ``AuthenticationError``."""
        key = config_key(registry)
        return asked_helper(self.name, key, self.where, again=f"try it: echo {key} | docker-credential-{self.name} get")


def asked_helper(name: str, key: str, where: object, *, again: str) -> Credentials | None:
    """What the helper called ``name`` has for ``key``; ``again`` is what to do when it fails."""
    program = f"docker-credential-{name}"
    try:
        code, said = _asked(program, key)
    except FileNotFoundError:
        raise MissingPartError(
            f"{program} is not installed", where=where, hint="install it or log in again with docker login"
        ) from None
    except (OSError, subprocess.TimeoutExpired):
        raise AuthenticationError(f"{program} could not be run or did not answer", where=key) from None
    if code != 0 and _NOT_FOUND.encode() in said:
        return None
    found = None if code != 0 else _answered(said, f"{program} of {where}")
    if found is None:
        # What a helper printed may be a secret, so it is not repeated.
        raise AuthenticationError(f"{program} failed (exit code {code})", where=key, hint=again)
    return found


def login_file(path: Path) -> DockerConfig:
    """The logins in a file of Docker's or Podman's form; raises ``UsageError`` for one that others may read."""
    try:
        found = path.stat()
    except FileNotFoundError:
        hint = "write it as docker login and podman login do, with mode 0600"
        raise UsageError("there is no such file of credentials", where=path, hint=hint) from None
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", where=path, hint="check who owns it") from None
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        raise UsageError(
            f"others can read these credentials (mode {mode:04o})",
            where=path,
            hint=f"chmod 600 {shlex.quote(str(path))}",
        )
    return DockerConfig(path)


def config_key(registry: str) -> str:
    """The key of ``auths`` that ``docker login`` gives to ``registry``."""
    return DOCKER_HUB_KEY if registry in (DOCKER_HUB, DOCKER_HUB_HOST) else registry


def _asked(program: str, key: str) -> tuple[int, bytes]:
    """The exit code of a helper that is asked for ``key``, and what it printed: on stdout, or all when it failed."""
    done = subprocess.run(
        [program, "get"], input=key.encode(), capture_output=True, timeout=_HELPER_SECONDS, check=False
    )
    return done.returncode, HiddenBytes(done.stdout if done.returncode == 0 else done.stdout + done.stderr)


def _answered(said: bytes, source: str) -> Credentials | None:
    """The credentials in what a helper printed; ``None`` for anything else."""
    try:
        answer = json.loads(said, object_hook=HiddenObject)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    if not isinstance(username, str) or not isinstance(secret, str):
        return None
    if username == TOKEN_USER:
        return Credentials(identity_token=secret, source=source)
    return Credentials(username, secret, source=source)


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

    def registries(self) -> tuple[str, ...]:
        """The registries that the files name; raises as ``DockerConfig`` does."""
        return tuple(dict.fromkeys(registry for config in self.configs for registry in config.registries()))


def _host(key: str) -> str:
    """The host of a key of ``auths``, which may be an address: ``https://host:port/v1/``."""
    return key.partition("://")[2].partition("/")[0] if "://" in key else key.partition("/")[0]
