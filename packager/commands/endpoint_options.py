"""What commands about endpoints are told: versions and settings."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from edgepack.errors import UsageError
from edgepack.host.commands import INPUT, Number
from packager.commands.deployment_options import configuration_of
from packager.commands.image_inputs import ImageInputs

if TYPE_CHECKING:
    from packager.services.endpoint_deploying import Settings, Version

_F = TypeVar("_F", bound=Callable[..., Any])
_VERSION = (
    click.option("--version", "version", required=True, metavar="NAME", help="The version's name, such as v1."),
    click.option("--dc", type=INPUT, metavar="FILE", help="A deployment configuration; on this machine without one."),
    click.option(
        "--traffic", type=Number(0, 100, kind=int), default=0, metavar="PERCENT",
        help="Its share of the requests; the default version gets what the others leave.",
    ),
    click.option("--control", is_flag=True, help="Compare the other versions with this one."),
)  # fmt: skip
_SETTINGS = (
    click.option("--port", type=Number(1, 65535, kind=int), help="Where it answers.  [default: a free port]"),
    click.option(
        "--caller-header", metavar="NAME",
        help="Requests with the same value of this header go to the same version.  [default: x-request-id]",
    ),
    click.option(
        "--max-connections", type=Number(1, 100_000, kind=int), metavar="N",
        help="Requests that a version gets at the same time; others wait.",
    ),
    click.option(
        "--queue-ms", type=Number(1, 3_600_000, kind=int), metavar="MS",
        help="How long they wait, before the answer is 503.  [default: 500]",
    ),
    click.option(
        "--tls", nargs=2, metavar="CERTIFICATE KEY", help="Files of the machine that it answers on, in PEM.",
    ),
    click.option("--description", help="What the endpoint is for."),
    click.option("--tag", "tags", multiple=True, metavar="KEY=VALUE", help="A tag of it; may be given again."),
    click.option("--property", "properties", multiple=True, metavar="KEY=VALUE", help="A property of it; the same."),
)  # fmt: skip
# The names under which a command gets what ``settings_options`` adds.
_NAMES = ("port", "caller_header", "max_connections", "queue_ms", "tls", "description", "tags", "properties")


def version_options(function: _F) -> _F:
    """Add ``--version``, ``--dc``, ``--traffic`` and ``--control``."""
    for option in reversed(_VERSION):
        function = option(function)
    return function


def settings_options(function: _F) -> _F:
    """Add what an endpoint is beside its versions; ``settings_of`` takes it from what the command gets."""
    for option in reversed(_SETTINGS):
        function = option(function)
    return function


def settings_of(given: dict[str, Any]) -> Settings:
    """What was typed of ``settings_options``, which is taken out of ``given``."""
    from edgepack.state.endpoints import EndpointTls
    from packager.commands.options import pairs
    from packager.services.endpoint_deploying import Settings

    one = {name: given.pop(name) for name in _NAMES}
    tls = None
    if one["tls"]:
        for file in one["tls"]:
            if not Path(file).is_absolute():
                raise UsageError(f"{file!r} is not an absolute path", where="--tls", hint="begin it with /")
        tls = EndpointTls(*one["tls"])
    return Settings(
        one["port"], one["caller_header"] and one["caller_header"].lower(), one["max_connections"],
        None if one["queue_ms"] is None else one["queue_ms"] / 1000, tls, one["description"],
        pairs(one["tags"], "--tag") if one["tags"] else None,
        pairs(one["properties"], "--property") if one["properties"] else None,
    )  # fmt: skip


def version_of(
    inputs: ImageInputs, name: str, dc: Path | None, target: str | None, traffic: int, *, control: bool,
    is_default: bool = False,
) -> Version:  # fmt: skip
    """The version that was typed."""
    from packager.services.endpoint_deploying import Version
    from packager.services.plan import Request

    if not inputs.refs and inputs.script is None:
        raise UsageError("has no model", where=f"version {name}", hint="name one: -m NAME[:VERSION]")
    request = Request(name, inputs.refs, inputs.options, configuration_of(dc), target, inputs.source)
    return Version(name, request, traffic, is_default, control)


def shares_of(words: tuple[str, ...]) -> dict[str, int]:
    """Shares as ``v1=80``; raises ``UsageError``."""
    found: dict[str, int] = {}
    for word in words:
        name, equals, percent = word.partition("=")
        if not name or not equals or not percent.isascii() or not percent.isdecimal():
            raise UsageError(f"{word!r} is not VERSION=PERCENT", where="set-traffic", hint="write it as v1=80")
        if name in found:
            raise UsageError(f"version {name!r} is given twice", where="set-traffic", hint="give each version once")
        found[name] = int(percent)
    return found
