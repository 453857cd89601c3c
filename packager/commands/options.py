"""The options that every command has."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import click

from edgepack.errors import UsageError
from edgepack.host.commands import SharedOption, debug_option, output_option
from edgepack.host.console import note
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Platform
from packager.registries.access import Access
from packager.registries.logins import GivenLogins
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.models.query import Label

# The processors that onnxruntime and numpy have wheels for: ``packager.wheels.tags``, which is slow to import.
BUILT_FOR = ("linux/amd64", "linux/arm64")
# For which a user may have wheels of their own.
_WITH_WHEELHOUSE = ("linux/arm/v7",)
_F = TypeVar("_F", bound=Callable[..., Any])


workspace_option = SharedOption(
    "--workspace",
    {
        "type": click.Path(file_okay=False, path_type=Path),
        "envvar": "EDGEPACK_WORKSPACE",
        "help": "Folder of the workspace.  [default: the user's data folder]",
    },
    finish=lambda folder: Workspace(folder, create=False),
)
_new_workspace_option = workspace_option.finished_by(Workspace)


def common(function: _F) -> _F:
    """Add ``--workspace``, ``--output`` and ``--debug``; the command gets a ``Workspace`` and the output's name.

    The workspace must exist; see ``creating``.
    """
    return workspace_option(output_option(debug_option(function)))


def creating(function: Callable[..., Any]) -> Callable[..., Any]:
    """As ``common``, for a command that makes something: it creates the workspace where there is none, and says so."""

    @wraps(function)
    def command(workspace: Workspace, **arguments: Any) -> Any:
        existed = workspace.exists
        result = function(workspace=workspace, **arguments)
        if not existed and workspace.exists:
            note(f"created the workspace {workspace.root}")
        return result

    return _new_workspace_option(output_option(debug_option(command)))


_CREDENTIALS = (
    click.option(
        "--password-stdin", is_flag=True, envvar=None,
        help="Read the password of --username from standard input; it is for the registry that the command names.",
    ),
    click.option("--username", metavar="NAME", help="Log in as this user, with --password-stdin."),
    click.option(
        "--registry-credentials", type=click.Path(path_type=Path, dir_okay=False), metavar="FILE",
        envvar="EDGEPACK_REGISTRY_CREDENTIALS",
        help="Logins in Docker's form (auths), before those of docker login and podman login; mode 0600.",
    ),
)  # fmt: skip


def team_registry(function: _F) -> _F:
    """Add the ways to log in to a team's registry, which the workspace then has; for a command that names no other."""

    @functools.wraps(function)
    def command(
        *args: Any, registry_credentials: Path | None, username: str | None, password_stdin: bool, **rest: Any
    ) -> Any:
        rest["workspace"].logins = _logins(registry_credentials, username, password_stdin)
        return function(*args, **rest)

    for option in _CREDENTIALS:
        command = option(command)
    return cast(_F, command)


def _logins(file: Path | None, username: str | None, password_stdin: bool) -> GivenLogins:
    return GivenLogins.of(file, username, read_password() if password_stdin else None)


def read_password() -> str:
    """The password on standard input, without the line's end; a terminal does not show what is typed."""
    if sys.stdin.isatty():
        return str(click.prompt("Password", hide_input=True, err=True))
    data = sys.stdin.buffer.read(LIMITS.password_bytes + 1)
    if len(data) > LIMITS.password_bytes:
        raise UsageError("is more than a password", where="standard input", hint="pipe the password alone in")
    try:
        text = data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        text = "\n"
    if not text or "\n" in text:
        raise UsageError("has no password", where="standard input", hint="pipe it in, on one line")
    return text


def registries(function: _F) -> _F:
    """Add how to reach a registry and log in to it; the command gets an ``Access``."""

    @functools.wraps(function)
    def command(
        *args: Any,
        plain_http: tuple[str, ...],
        ca: Path | None,
        registry_credentials: Path | None,
        username: str | None,
        password_stdin: bool,
        **rest: Any,
    ) -> Any:
        logins = _logins(registry_credentials, username, password_stdin)
        # What is typed is for the registry that the command names, not for that of a team.
        rest["workspace"].logins = replace(logins, typed=None)
        return function(*args, access=Access.of(plain_http, ca, logins), **rest)

    for option in (
        *_CREDENTIALS,
        click.option(
            "--ca",
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            envvar="EDGEPACK_CA",
            help="Trust the authorities in this PEM file too, for a registry.",
        ),
        click.option(
            "--plain-http",
            multiple=True,
            metavar="HOST[:PORT]",
            envvar="EDGEPACK_PLAIN_HTTP",
            help="Talk to this registry without TLS; may be given again.",
        ),
    ):
        command = option(command)
    return cast(_F, command)


offline = click.option("--offline", is_flag=True, envvar="EDGEPACK_OFFLINE", help="Never use the network.")


def platforms_of(text: str | None, *, has_wheelhouse: bool = False) -> list[Platform]:
    """The platforms of ``--platform P[,P]`` that images can be built for, this machine's without; ``UsageError``.

    ``has_wheelhouse`` says that all wheels come from a user's lock and folders.
    """
    if text is None:
        return [Platform.host()]
    found = [Platform.parse(name) for name in text.split(",")]
    for one in found:
        if str(one) not in BUILT_FOR and not (has_wheelhouse and str(one) in _WITH_WHEELHOUSE):
            hint = f"build for {' or '.join(BUILT_FOR)}"
            if str(one) in _WITH_WHEELHOUSE:
                hint += (
                    ", or bring all wheels of your own: --lock FILE that names them, --find-links DIR that has them, "
                    "and --base with an image for it; onnxruntime and numpy publish none"
                )
            raise UsageError(f"images cannot be built for {one}", where="--platform", hint=hint)
    return found


def labels(items: tuple[str, ...], option: str) -> tuple[Label, ...]:
    """Read items of the form ``KEY`` or ``KEY=VALUE``, by which models are filtered; raises ``UsageError``."""
    from packager.models.query import Label  # which knows the frameworks, and help needs none

    found = []
    for item in items:
        key, equals, value = item.partition("=")
        if not key:
            raise UsageError(f"{item!r} is not KEY or KEY=VALUE", where=option, hint=f"write it as {option} team=blue")
        found.append(Label(key, value if equals else None))
    return tuple(found)


def pairs(items: tuple[str, ...], option: str, example: str = "team=blue", form: str = "KEY=VALUE") -> dict[str, str]:
    """Read items of the ``form``; raises ``UsageError``, with ``example`` as the way to write one."""
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise UsageError(f"{item!r} is not {form}", where=option, hint=f"write it as {option} {example}")
        if key in found:
            raise UsageError(f"{key!r} is given twice", where=option, hint="give each key once")
        found[key] = value
    return found
