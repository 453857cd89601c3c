"""The options that every command has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edgepack.errors import UsageError
from edgepack.host.commands import debug_option, output_option
from packager.workspace import Workspace

_F = TypeVar("_F", bound=Callable[..., Any])


def _workspace(_ctx: click.Context, _param: click.Parameter, value: Path | None) -> Workspace:
    return Workspace(value)


def common(function: _F) -> _F:
    """Add ``--workspace``, ``--output`` and ``--debug``; the command gets a ``Workspace`` and the output's name."""
    for option in (
        debug_option,
        output_option,
        click.option(
            "--workspace",
            type=click.Path(file_okay=False, path_type=Path),
            envvar="EDGEPACK_WORKSPACE",
            callback=_workspace,
            help="Folder of the workspace.  [default: the user's data folder]",
        ),
    ):
        function = option(function)
    return function


offline = click.option("--offline", is_flag=True, envvar="EDGEPACK_OFFLINE", help="Never use the network.")


def pairs(items: tuple[str, ...], option: str, example: str = "team=blue") -> dict[str, str]:
    """Read ``K=V`` items; raises ``UsageError``, with ``example`` as the way to write one."""
    found = {}
    for item in items:
        key, equals, value = item.partition("=")
        if not key or not equals:
            raise UsageError(f"{item!r} is not KEY=VALUE", where=option, hint=f"write it as {option} {example}")
        if key in found:
            raise UsageError(f"{key!r} is given twice", where=option, hint="give each key once")
        found[key] = value
    return found
