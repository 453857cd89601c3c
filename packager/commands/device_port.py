"""The port of a service on the machine that runs it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import replace
from typing import Any, TypeVar, cast

import click

from edgepack.host.commands import Number
from packager.exports.workload import Workload

_F = TypeVar("_F", bound=Callable[..., Any])


def device_port(function: _F) -> _F:
    """Add ``--port``; the command gets its ``Workload`` with it."""

    @click.option("--port", type=Number(1, 65535, kind=int), metavar="PORT",
                  help="On the machine's loopback address.  [default: as deployed, or that of the image]")  # fmt: skip
    @functools.wraps(function)
    def command(*, workload: Workload, port: int | None, **rest: Any) -> Any:
        return function(workload=workload if port is None else replace(workload, host_port=port), **rest)

    return cast(_F, command)
