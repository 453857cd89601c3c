"""Who may ask a service, and the files that say so, for exports that can carry them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from edgepack.errors import NotFoundError, UsageError
from edgepack.host.commands import Choice
from edgepack.limits import LIMITS
from packager.exports.secrets import Credentials
from packager.exports.workload import AUTH_FILES, TLS_FILES, Auth, Workload

_F = TypeVar("_F", bound=Callable[..., Any])


def secrets(function: _F) -> _F:
    """Add ``--auth`` and ``--with-secrets``; the command gets its ``Workload`` and ``Credentials``."""

    @click.option(
        "--auth", type=Choice(["none", "key", "token"]), help="What callers show.  [default: as deployed, or none]"
    )
    @click.option(
        "--with-secrets", "secrets_folder", type=click.Path(path_type=Path, file_okay=False), metavar="DIR",
        help="Write the keys.json or tokens.json, tls.crt and tls.key of this folder as secrets, mode 0600.",
    )  # fmt: skip
    @functools.wraps(function)
    def command(*, workload: Workload, auth: Auth | None, secrets_folder: Path | None, **rest: Any) -> Any:
        if auth is not None:
            workload = replace(workload, auth=auth)
        credentials = Credentials() if secrets_folder is None else _read(workload, secrets_folder)
        return function(workload=workload, credentials=credentials, **rest)

    return cast(_F, command)


def _read(workload: Workload, folder: Path) -> Credentials:
    """The files of ``folder`` that the service needs; raises ``NotFoundError`` for one that is not there."""
    if not workload.mounted:
        raise UsageError(
            f"the service {workload.name} has neither keys nor TLS", where="--with-secrets",
            hint="leave it out, or give --auth key",
        )  # fmt: skip
    auth = [AUTH_FILES[workload.auth]] if workload.auth != "none" else []
    return Credentials(
        {name: _content(folder / name) for name in auth},
        {name: _content(folder / name) for name in (TLS_FILES if workload.tls else ())},
    )


def _content(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(LIMITS.error_bytes + 1)
        data.decode()
    except FileNotFoundError:
        raise NotFoundError("there is no such file", where=path, hint="make it, or leave out --with-secrets") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"cannot be read ({error})", where=path, hint="give a folder with the files") from error
    if len(data) > LIMITS.error_bytes:
        raise UsageError("is too large for a secret", where=path, hint="give the file of the service")
    return data
