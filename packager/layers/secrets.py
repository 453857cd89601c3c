"""No image holds a credential that this workstation knows: what a user's files go into is searched for them.

Known are the passwords and tokens in Docker's ``config.json``, in the addresses of package indexes that pip and uv are
told of, and in ``EDGEPACK_…`` variables. They are looked for as they are and in base64, as in headers and
configuration files. A value is never shown; an error names its source.
"""

from __future__ import annotations

import base64
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote

from edgepack.errors import EdgepackError, InvalidDocumentError
from edgepack.limits import LIMITS
from edgepack.oci.layer import LayerEntry

# Shorter ones would be found everywhere.
MIN_LENGTH = 8
# A user name without a password is a token when it is as long as one.
_MIN_TOKEN = 20
_USERINFO = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://([^/\s@:\"']*)(?::([^/\s@\"']*))?@")
_SECRET_NAME = re.compile(r"(?:PASSWORD|PASSWD|TOKEN|SECRET)$")
_INDEXES = ("PIP_", "UV_")
_OWN = "EDGEPACK_"


@dataclass(frozen=True)
class Secret:
    """A credential, and ``source``, where it is known from."""

    source: str
    value: bytes = field(repr=False)

    @cached_property
    def forms(self) -> tuple[bytes, ...]:
        """How it may stand in a file: as it is, and in base64 at any place of a longer text (``user:password``)."""
        found = {self.value: None}
        for before in range(3):
            text = base64.b64encode(bytes(before) + self.value)
            # The characters at both ends also depend on the neighbours: 6 bits each, the first after `before` bytes.
            inner = text[-(-before * 8 // 6) : (before + len(self.value)) * 8 // 6]
            found |= {inner: None, inner.replace(b"+", b"-").replace(b"/", b"_"): None}
        return tuple(found)


class SecretSearch:
    """Searches what passes through for ``secrets``; with none of them it costs nothing."""

    def __init__(self, secrets: Iterable[Secret]) -> None:
        self._forms = [(form, secret.source) for secret in secrets for form in secret.forms]
        self._overlap = max((len(form) for form, _ in self._forms), default=1) - 1

    def check(self, pieces: Iterable[bytes], where: object) -> None:
        """Raise ``EdgepackError`` when the bytes of ``pieces``, one after the other, hold a credential."""
        for _ in self.passing(pieces, where):
            pass

    def passing(self, pieces: Iterable[bytes], where: object) -> Iterator[bytes]:
        """The pieces as they come, each once it was searched; raises ``EdgepackError`` naming ``where``."""
        tail = b""
        for piece in pieces:
            if self._forms:
                window = tail + piece
                for form, source in self._forms:
                    if form in window:
                        raise EdgepackError(
                            f"contains the credential from {source}, which must not get into an image",
                            where=where,
                            hint="remove it there, or remove it from its source if it is not a secret",
                        )
                tail = window[-self._overlap :]
            yield piece

    def check_entries(self, entries: Iterable[LayerEntry]) -> None:
        """Raise ``EdgepackError`` when a file among ``entries`` holds a credential."""
        for entry in entries:
            if entry.content is not None and self._forms:
                with entry.content() as file:
                    self.check(iter(lambda: file.read(LIMITS.chunk_bytes), b""), entry.path)


def known_secrets(environment: Mapping[str, str] | None = None) -> tuple[Secret, ...]:
    """The credentials that this workstation knows, each value once; no program is run to find them."""
    variables = os.environ if environment is None else environment
    found: dict[bytes, Secret] = {}
    for source, text in (*_of_docker(), *_of_variables(variables), *_of_pip(variables)):
        value = text.encode("utf-8", "surrogateescape")
        if len(value) >= MIN_LENGTH:
            found.setdefault(value, Secret(source, value))
    return tuple(found.values())


def _of_docker() -> Iterator[tuple[str, str]]:
    folder = os.environ.get("DOCKER_CONFIG")
    if not ((Path(folder) if folder else _home() / ".docker") / "config.json").exists():
        return  # the registry client is slow to import
    from edgepack.oci.remote.credentials import DockerConfig

    config = DockerConfig.default()
    try:
        stored = config.stored()
    except InvalidDocumentError:
        return  # reported when a registry is needed; a file that cannot be read reveals no credential
    for registry, credentials in stored.items():
        for text in (credentials.password, credentials.identity_token):
            yield f"{config.path} for {registry}", text


def _of_variables(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in variables.items():
        source = f"the variable {name}"
        if name.startswith((*_INDEXES, _OWN)):
            for text in _in_addresses(value):
                yield source, text
            if _SECRET_NAME.search(name):
                yield source, value


def _of_pip(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for path in _settings_files(variables):
        try:
            content = path.read_text("utf-8", "surrogateescape")
        except OSError:
            continue
        for text in _in_addresses(content):
            yield str(path), text


def _settings_files(variables: Mapping[str, str]) -> Iterator[Path]:
    """Where pip ("Configuration files") and uv ("Configuration files") look."""
    home = Path(variables.get("HOME") or _home())
    config = Path(variables.get("XDG_CONFIG_HOME") or home / ".config")
    system = [Path(folder) for folder in (variables.get("XDG_CONFIG_DIRS") or "/etc/xdg").split(":") if folder]
    yield from (folder / "pip/pip.conf" for folder in (*system, config))
    yield from (Path("/etc/pip.conf"), home / ".pip/pip.conf", Path(sys.prefix) / "pip.conf")
    yield from (folder / "uv/uv.toml" for folder in (Path("/etc"), *system, config))
    yield from (Path(variables[name]) for name in ("PIP_CONFIG_FILE", "UV_CONFIG_FILE") if variables.get(name))


def _home() -> Path:
    """The user's home; a number without a name, as containers have it, has none, and ``Path.home`` would raise."""
    return Path(os.path.expanduser("~"))  # noqa: PTH111


def _in_addresses(text: str) -> Iterator[str]:
    for user, password in _USERINFO.findall(text):
        secret = password or (user if len(user) >= _MIN_TOKEN else "")
        yield from {secret, unquote(secret)} - {""}
