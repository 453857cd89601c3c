"""What this machine's container engines are told of a registry: its certificates, and whether it may lack TLS.

Docker and Podman read a folder for each registry, named as in references (``registry.example:5000``), below ``certs.d``
(Docker, "Verify repository client with certificates"; containers-certs.d(5)). Registries without TLS are listed in
``registries.conf`` (containers-registries.conf(5)) and Docker's ``daemon.json``. Of a file that cannot be read nothing
is known, which is logged.
"""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.errors import UsageError
from edgepack.oci.reference import host_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class EngineFiles:
    """Where the engines' files are: below ``root``, and in the user's configuration folder ``user``."""

    root: Path
    user: Path

    @classmethod
    def default(cls, environment: Mapping[str, str] = os.environ) -> EngineFiles:
        """Those of this machine and user."""
        user = environment.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111 - never fails
        return cls(Path("/etc"), Path(user))

    def folders(self, registry: str) -> tuple[Path, ...]:
        """The folders of certificates for ``registry``, the user's own first."""
        places = (
            self.user / "containers", self.user / "docker", self.root / "containers", self.root / "docker",
        )  # fmt: skip
        return tuple(place / "certs.d" / registry for place in places)

    def insecure(self, name: str) -> Path | None:
        """The file that allows the registry of the repository ``name`` (host[:port]/repository) to lack TLS."""
        for path in self._configurations():
            if _listed(name, _registries(path) if path.suffix == ".conf" else _daemon(path)):
                return path
        return None

    def _configurations(self) -> Iterator[Path]:
        for place in (self.user, self.root):
            yield place / "containers/registries.conf"
            yield from (path for path in _entries(place / "containers/registries.conf.d") if path.suffix == ".conf")
            yield place / "docker/daemon.json"


@dataclass(frozen=True)
class Certificates:
    """The files of authorities to trust beside the system's, and a certificate to show with its key."""

    authorities: tuple[Path, ...] = ()
    shown: tuple[Path, Path] | None = None

    def __bool__(self) -> bool:
        return bool(self.authorities or self.shown)


def certificates(registry: str, files: EngineFiles) -> Certificates:
    """What ``certs.d`` holds for ``registry``: ``*.crt`` of authorities, ``*.cert`` with ``*.key`` to show.

    Raises ``UsageError`` for a certificate without its key.
    """
    authorities: list[Path] = []
    shown: list[tuple[Path, Path]] = []
    for folder in files.folders(registry):
        for path in _entries(folder):
            if path.suffix == ".crt" and _readable(path):
                authorities.append(path)
            elif path.suffix == ".cert":
                key = path.with_suffix(".key")
                if not key.exists():
                    raise UsageError(
                        f"has no key {key.name} beside it", where=path, hint="add it, or name an authority's file *.crt"
                    )
                if _readable(path) and _readable(key):
                    shown.append((path, key))
    return Certificates(tuple(authorities), shown[0] if shown else None)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        if _may_exist(folder):
            _log.warning("%s cannot be read (%s), so nothing in it is used", folder, error.strerror)
        return []


def _may_exist(path: Path) -> bool:
    """Not below another user's closed folder, such as root's home, of which nothing needs to be said."""
    return os.access(path.parent, os.X_OK)


def _readable(path: Path) -> bool:
    if os.access(path, os.R_OK):
        return True
    _log.warning("%s cannot be read by this user, so it is not used", path)
    return False


def _registries(path: Path) -> list[str]:
    """The registries that a ``registries.conf`` calls insecure: version 2's tables, and version 1's list."""
    value = _parsed(path, tomllib.loads)
    found = []
    for entry in _list(value.get("registry")):
        if isinstance(entry, dict) and entry.get("insecure") is True:
            found.append(entry.get("prefix") or entry.get("location"))
    old = value.get("registries")
    insecure = old.get("insecure") if isinstance(old, dict) else None
    found += _list(insecure.get("registries") if isinstance(insecure, dict) else None)
    return [one for one in found if isinstance(one, str)]


def _daemon(path: Path) -> list[str]:
    return [one for one in _list(_parsed(path, json.loads).get("insecure-registries")) if isinstance(one, str)]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _parsed(path: Path, parse: Any) -> dict[str, Any]:
    try:
        value = parse(path.read_text())
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError):
        if _may_exist(path):
            _log.warning("%s cannot be read, so what it says of registries is not known", path)
        return {}
    return value if isinstance(value, dict) else {}


def _listed(name: str, entries: list[str]) -> bool:
    return any(_matches(name, entry) for entry in entries)


def _matches(name: str, entry: str) -> bool:
    """Whether the repository ``name`` is below ``entry``: a host, a namespace, ``*.domain``, a network of addresses."""
    host = name.partition("/")[0]
    if entry.startswith("*."):
        return host.endswith(entry[1:]) or host_of(host).endswith(entry[1:])
    if name == entry or name.startswith(f"{entry}/"):
        return True
    try:
        address = ipaddress.ip_address(host_of(host).strip("[]"))
        return "/" in entry and address in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False
