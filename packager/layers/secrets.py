"""No image holds a credential that this workstation knows: what a user's files go into is searched for them.

Known are the passwords and tokens in Docker's ``config.json``, in the addresses of package indexes that pip and uv are
told of, in ``.netrc``, in ``EDGEPACK_…`` variables, and what this command was given or got from a helper. They are
looked for in contents and in names, in every form of ``encodings``. Private keys are found by their own marks. A value
is never shown; an error names its source.
"""

from __future__ import annotations

import json
import netrc
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from edgepack.errors import EdgepackError, InvalidDocumentError
from edgepack.host.home import home_folder
from edgepack.host.logins import login_files
from edgepack.limits import LIMITS
from edgepack.oci.docker_config import DockerConfig
from edgepack.oci.layer import LayerEntry
from packager.layers.encodings import compact, compact_forms, literal_forms
from packager.layers.ignore import IGNORE_FILE
from packager.layers.needles import Needles
from packager.registries.logins import FILE, held

# Shorter ones would be found everywhere.
MIN_LENGTH = 8
# A user name without a password is a token when it is as long as one.
_MIN_TOKEN = 20
_USERINFO = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*://([^/\s@:\"']*)(?::([^/\s@\"']*))?@")
_SECRET_NAME = re.compile(r"(?:PASSWORD|PASSWD|TOKEN|SECRET)$")
_INDEXES = ("PIP_", "UV_")
_OWN = "EDGEPACK_"
# A key in PEM (RFC 7468), OpenSSH's and PGP's armour, or PuTTY's format; a mark alone, as in sources, is not a key.
_KEY_MARKS = (b"PRIVATE KEY", b"PuTTY-User-Key")
_PRIVATE_KEY = re.compile(
    rb"-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:\s|\\[nr]|[A-Za-z-]+: [^\n]*\n)+[A-Za-z0-9+/=]{32}"
    rb"|PuTTY-User-Key-File-[0-9]: "
)
_KEY_OVERLAP = 1000
# No source of a credential is called so.
_MARK = "\0key"


@dataclass(frozen=True)
class Secret:
    """A credential, and ``source``, where it is known from."""

    source: str
    value: bytes = field(repr=False)


class SecretSearch:
    """Searches what passes through for ``secrets``, on its way ``into`` something."""

    def __init__(self, secrets: Iterable[Secret], into: str = "an image") -> None:
        self._into = into
        listing = tuple(secrets)
        literal = [(form, secret.source) for secret in listing for form in literal_forms(secret.value)]
        self._literal = Needles([*((mark, _MARK) for mark in _KEY_MARKS), *literal])
        self._compact = Needles((form, secret.source) for secret in listing for form in compact_forms(secret.value))
        self._overlap = max(_KEY_OVERLAP, self._literal.longest)

    def check(self, pieces: Iterable[bytes], where: object, *, keys: bool = False) -> None:
        """Raise ``EdgepackError`` when the bytes of ``pieces``, one after the other, hold what ``passing`` refuses."""
        for _ in self.passing(pieces, where, keys=keys):
            pass

    def passing(self, pieces: Iterable[bytes], where: object, *, keys: bool = False) -> Iterator[bytes]:
        """The pieces as they come, each once it was searched; raises ``EdgepackError`` naming ``where``.

        With ``keys`` private keys are searched for too, whoever they belong to.
        """
        tail, letters, held = b"", b"", b""
        for piece in pieces:
            window = tail + piece
            found = self._literal.found(window)
            if keys and _MARK in found and _PRIVATE_KEY.search(window):
                raise EdgepackError(
                    f"holds a private key, which must not get into {self._into}",
                    where=where,
                    hint=f"remove it, or list it in {IGNORE_FILE}, where a line with ! and its path lets it through",
                )
            tail = window[-self._overlap :]
            source = _first(found)
            if self._compact and source is None:
                text = held + piece
                # A written line break may be cut in two.
                text, held = (text[:-1], text[-1:]) if text.endswith(b"\\") else (text, b"")
                letters = letters[-self._compact.longest :] + compact(text)
                source = _first(self._compact.found(letters))
            if source is not None:
                raise EdgepackError(
                    f"contains the credential from {source}, which must not get into {self._into}",
                    where=where,
                    hint="remove it there, or remove it from its source if it is not a secret",
                )
            yield piece

    def check_name(self, path: str) -> None:
        """Raise ``EdgepackError`` when ``path`` holds a credential; only the part before it is shown."""
        source = self._source_of(path)
        if source is not None:
            parts = path.split("/")
            clean = max(at for at in range(len(parts)) if self._source_of("/".join(parts[:at])) is None)
            raise EdgepackError(
                f"a name here contains the credential from {source}, which must not get into {self._into}",
                where="/".join(parts[:clean]) or "the files",
                hint="rename it",
            )

    def check_entries(self, entries: Iterable[LayerEntry]) -> None:
        """Raise ``EdgepackError`` when a file among ``entries`` holds a credential, or a name does."""
        for entry in entries:
            self.check_name(entry.path)
            self.check_name(entry.linkname)
            if entry.content is not None and self._compact:
                with entry.content() as file:
                    self.check(iter(lambda: file.read(LIMITS.chunk_bytes), b""), entry.path)

    def _source_of(self, name: str) -> str | None:
        data = name.encode("utf-8", "surrogateescape")
        return _first(self._literal.found(data)) or _first(self._compact.found(compact(data)))


def check_written(data: bytes, where: object, into: str) -> None:
    """Raise ``EdgepackError`` when ``data``, which is about to be written ``into`` something, holds a credential."""
    SecretSearch(known_secrets(), into).check([data], where)


def check_record(value: object, where: object) -> None:
    """As ``check_written``, for what a database is to keep: texts, numbers, mappings of them, dataclasses."""
    text = json.dumps(value, default=_plain, ensure_ascii=False)
    check_written(text.encode("utf-8", "surrogateescape"), where, "a record")


def _plain(value: Any) -> object:
    return asdict(value) if is_dataclass(value) and not isinstance(value, type) else str(value)


def _first(found: Iterable[str]) -> str | None:
    return next((source for source in found if source != _MARK), None)


def known_secrets(environment: Mapping[str, str] | None = None) -> tuple[Secret, ...]:
    """The credentials that this workstation knows, each value once; no program is run to find them."""
    variables = os.environ if environment is None else environment
    found: dict[bytes, Secret] = {}
    for source, text in (*_of_docker(), *_of_variables(variables), *_of_pip(variables), *_of_netrc(variables)):
        value = text.encode("utf-8", "surrogateescape")
        if len(value) >= MIN_LENGTH:
            found.setdefault(value, Secret(source, value))
    for credentials in held():
        for secret in credentials.secrets:
            value = secret.encode("utf-8", "surrogateescape")
            if len(value) >= MIN_LENGTH:
                found.setdefault(value, Secret(credentials.source, value))
    return tuple(found.values())


def _of_docker() -> Iterator[tuple[str, str]]:
    named = os.environ.get(FILE)
    for path in (*login_files(), *([Path(named)] if named else [])):
        try:
            stored = DockerConfig(path).stored()
        except InvalidDocumentError:
            continue  # reported when a registry is needed; a file that cannot be read reveals no credential
        for registry, credentials in stored.items():
            for text in (credentials.password, credentials.identity_token):
                yield f"{path} for {registry}", text


def _of_variables(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for name, value in variables.items():
        source = f"the variable {name}"
        if name.startswith((*_INDEXES, _OWN)):
            for text in credentials_in(value):
                yield source, text
            if _SECRET_NAME.search(name):
                yield source, value


def _of_netrc(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """Where pip and uv find the passwords of indexes whose addresses have none."""
    home = Path(variables.get("HOME") or _home())
    named = variables.get("NETRC")
    for path in [Path(named)] if named else [home / ".netrc", home / "_netrc"]:
        try:
            hosts = netrc.netrc(str(path)).hosts
        except (OSError, UnicodeDecodeError, netrc.NetrcParseError):
            continue
        for host, (_, _, password) in hosts.items():
            yield f"{path} for {host}", password or ""


def _of_pip(variables: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    for path in _settings_files(variables):
        try:
            content = path.read_text("utf-8", "surrogateescape")
        except OSError:
            continue
        for text in credentials_in(content):
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
    """The user's home, or a path that names nothing for a user without one."""
    return home_folder() or Path("~")


def credentials_in(text: str) -> Iterator[str]:
    """The passwords, and the user names as long as a token, of the addresses in ``text``."""
    for user, password in _USERINFO.findall(text):
        secret = password or (user if len(user) >= _MIN_TOKEN else "")
        yield from {secret, unquote(secret)} - {""}
