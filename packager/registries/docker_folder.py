"""A folder for ``DOCKER_CONFIG``: logins in a file of Docker's, in a place that no build context has."""

from __future__ import annotations

import json
import shlex
import stat
from collections.abc import Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from edgepack.errors import UsageError, disk_errors
from edgepack.hidden import HiddenBytes, HiddenObject
from edgepack.host.files import atomic_write, make_dirs
from edgepack.oci.docker_config import config_key
from packager.registries.issue import RegistryLogin

FILE = "config.json"
# What makes a folder one that is sent to an engine, with all that is below it.
_OF_CONTEXTS = ("Dockerfile", "Containerfile", "Dockerfile.*", "*.Dockerfile", ".dockerignore", ".containerignore")


def write_docker_config(folder: Path, logins: Sequence[RegistryLogin]) -> tuple[Path, bool]:
    """Write the ``logins`` to ``config.json`` in ``folder``, mode 0600 in 0700; whether other logins were there, kept.

    Of a file that is there the other logins stay. Raises ``UsageError`` for a folder in a build context or open to
    others, and for a file with more than logins, which would win over them.
    """
    path = folder / FILE
    with disk_errors(folder):
        _check_outside(folder)
        if not folder.is_dir():
            make_dirs(folder, 0o700)
            folder.chmod(0o700)
        mode = stat.S_IMODE(folder.stat().st_mode)
        if mode & 0o077:
            hint = f"chmod 700 {shlex.quote(str(folder))}"
            raise UsageError(f"others can read this folder (mode {mode:04o})", where=folder, hint=hint)
        kept = _others(path, [config_key(login.address) for login in logins])
        atomic_write(path, _document(kept, logins), 0o600)
    return path, bool(kept)


def _check_outside(folder: Path) -> None:
    """Raise for a folder that an engine would get with a build context."""
    whole = folder.absolute().resolve()
    for place in (whole, *whole.parents):
        try:
            names = sorted(entry.name for entry in place.iterdir())
        except OSError:
            continue  # it is made below, or closed to us
        found = next((name for name in names if any(fnmatch(name, pattern) for pattern in _OF_CONTEXTS)), None)
        if found is not None:
            raise UsageError(
                f"is in a build context ({found} is in {place}), and would be sent to an engine with it",
                where=folder,
                hint='give a folder elsewhere: --write-docker-config "$(mktemp -d)"',
            )


def _others(path: Path, ours: Sequence[str]) -> dict[str, Any]:
    """The logins in ``path`` for other registries."""
    if path.is_symlink():
        raise UsageError("is a link", where=path, hint="give another folder")
    try:
        data = HiddenBytes(path.read_bytes())
    except FileNotFoundError:
        return {}
    try:
        found = json.loads(data, object_hook=HiddenObject)
    except (ValueError, RecursionError):
        found = None
    auths = found.get("auths", {}) if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(auths, dict):
        raise UsageError("is not a configuration of Docker's", where=path, hint="move it away, or give another folder")
    if more := sorted(set(found) - {"auths"}):
        raise UsageError(
            f"has {', '.join(more)} beside logins, which is not touched", where=path, hint="give another folder"
        )
    return HiddenObject({key: value for key, value in auths.items() if key not in ours})


def _document(kept: dict[str, Any], logins: Sequence[RegistryLogin]) -> HiddenBytes:
    auths = HiddenObject(kept)
    for login in logins:
        auths[config_key(login.address)] = _entry(login)
    return HiddenBytes(f"{json.dumps({'auths': auths}, indent=2)}\n".encode())


def _entry(login: RegistryLogin) -> dict[str, Any]:
    """As docker login writes it; a bearer token has a field of its own (Docker's API, "AuthConfig")."""
    if login.token is not None:
        return HiddenObject(registrytoken=str(login.token.value))
    credentials = login.credentials
    if credentials is None:
        return HiddenObject()
    if credentials.identity_token:
        return HiddenObject(auth=str(credentials.encoded), identitytoken=str(credentials.identity_token))
    return HiddenObject(auth=str(credentials.encoded))
