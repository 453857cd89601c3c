"""What several verbs share: options, the file of an argument, the answer about services."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any

import click

from edge_agent.device import PATIENCE_SECONDS, Device
from edgepack.errors import NotFoundError, UntrustedKeyError, UsageError
from edgepack.host.commands import Choice, Number, SharedOption, debug_option, output_option
from edgepack.host.console import UnknownWordError, answer, human
from edgepack.limits import LIMITS
from edgepack.oci.digest import short_digests
from edgepack.state.reported import ReportedDocument, ReportedService, Stage
from edgepack.state.reported_endpoints import ReportedEndpoint
from edgepack.text import human_memory

allow_unsigned = click.option(
    "--allow-unsigned", is_flag=True, envvar="EDGEPACK_ALLOW_UNSIGNED",
    help="Accept what no trusted key has signed. Anybody could have made it.",
)  # fmt: skip


class Variable(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic since click 8.2
    """A variable of an environment, ``NAME=VALUE``."""

    name = "variable"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, str]:
        """Name and value."""
        if isinstance(value, tuple):
            return value
        name, equals, text = value.partition("=")
        if not name or not equals:
            raise UnknownWordError(f"{_option(param)} must be NAME=VALUE, not {value!r}", "", ctx)
        return name, text


class Size(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # as above
    """A number of bytes, with K, M or G for 1024, 1024² and 1024³ of them."""

    name = "size"

    def __init__(self, least: int) -> None:
        self._least = least

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes."""
        found = _SIZE.fullmatch(str(value))
        size = 0 if found is None else int(float(found[1]) * 1024 ** _UNITS.index(found[2].upper()))
        if size < self._least:
            least = human_memory(self._least)
            what = f"{_option(param)} must be a size of at least {least}, such as 512M, not {value!r}"
            raise UnknownWordError(what, "", ctx)
        return size


def _option(param: click.Parameter | None) -> str:
    return param.opts[-1] if param is not None else "the value"


_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?)([KMGkmg]?)(?:i?B)?")
_UNITS = ("", "K", "M", "G")
PORT = Number(1, 65535, kind=int)
MEMORY = Size(1 << 20)

state_dir_option = SharedOption(
    "--state-dir",
    {
        "type": click.Path(file_okay=False, readable=False, path_type=Path),
        "envvar": "EDGEPACK_STATE_DIR",
        "default": Path("/var/lib/edgepack"),
        "show_default": True,
        "help": "The device's folder.",
    },
)
runtime_option = SharedOption(
    "--runtime",
    {
        "type": Choice(["auto", "docker", "crun", "process"]),
        "envvar": "EDGEPACK_RUNTIME",
        "default": "auto",
        "show_default": True,
        "help": "What runs services; auto keeps each service where it runs, and chooses the first that works for a new"
        " one.",
    },
)
wait_option = SharedOption(
    "--wait",
    {
        "type": Number(0),
        "envvar": "EDGEPACK_WAIT",
        "default": PATIENCE_SECONDS,
        "show_default": True,
        "metavar": "SECONDS",
        "help": "How long to wait for another command that is changing the device.",
    },
)


def on_device(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--state-dir``, ``--runtime``, ``--wait`` and ``--debug``; the command gets the ``device``."""

    @wraps(function)
    def command(state_dir: Path, runtime: str, wait: float, **arguments: Any) -> Any:
        return function(device=Device(state_dir, runtime, wait), **arguments)

    return state_dir_option(runtime_option(wait_option(debug_option(command))))


def common(function: Callable[..., Any]) -> Callable[..., Any]:
    """As ``on_device``, with ``--output``; the command gets the output's name too."""
    return output_option(on_device(function))


@contextmanager
def naming_trust() -> Iterator[None]:
    """Let the refusal of what an unknown key has signed name the command that trusts a key."""
    try:
        yield
    except UntrustedKeyError as error:
        raise UntrustedKeyError(
            error.what, where=error.where, hint="if you know the owner of that key, run: edge-agent trust KEY.pub"
        ) from error


def read_file(file: Path, hint: str) -> bytes:
    """The bytes of a small file; raises ``NotFoundError`` with the ``hint``, or ``UsageError``."""
    try:
        with file.open("rb") as opened:
            data = opened.read(LIMITS.desired_state_bytes + 1)
    except FileNotFoundError:
        raise NotFoundError("there is no such file", where=file, hint=hint) from None
    except IsADirectoryError:
        raise UsageError("is a folder", where=file, hint=f"give a file; {hint}") from None
    except PermissionError:
        raise UsageError("cannot be read (permission denied)", where=file, hint="check its owner and mode") from None
    if len(data) > LIMITS.desired_state_bytes:
        what = f"is longer than {human(LIMITS.desired_state_bytes)}"
        raise UsageError(what, where=file, hint="check which file that is")
    return data


def short_keys(ids: Iterable[str]) -> str | None:
    """Keys as a table shows them, by the beginnings of their ids."""
    return ", ".join(f"{one[:12]}…" for one in ids) or None


def answer_status(
    output: str,
    services: tuple[ReportedService, ...],
    documents: tuple[ReportedDocument, ...] | None = None,
    broker: Mapping[str, object] | None = None,
    endpoints: tuple[ReportedEndpoint, ...] = (),
) -> None:
    """Print the services: images by their tags, and by their digests where they have none.

    ``endpoints`` follow. ``documents``, and ``broker``, which is how the link of the device's agent is, are in JSON
    only, and so are whole digests. The stage is shown while a service is on its way.
    """
    reasons = any(one.reason for one in services) or any(one.reason for one in endpoints)
    on_the_way = any(one.stage not in (None, Stage.DONE) for one in services)

    def row(one: ReportedService) -> dict[str, object]:
        found: dict[str, object] = {
            "name": one.name,
            "state": one.state.value,
            **({"stage": one.stage} if on_the_way else {}),
            "image": one.tag or (one.digest and f"sha256:{one.digest.short}"),
            "model": " ".join(one.models) or None,
            "url": one.url,
            "last_good": one.last_good_tag or (one.last_good and f"sha256:{one.last_good.short}"),
            "runtime": one.runtime or None,
        }
        if reasons:
            found["reason"] = one.reason and short_digests(one.reason)
        return found

    def endpoint_row(one: ReportedEndpoint) -> dict[str, object]:
        shares = ", ".join(f"{version.name} {version.weight} %" for version in one.versions)
        found = {"name": one.name, "state": one.state.value, "model": shares, "url": one.url, "runtime": "haproxy"}
        return found | ({"reason": one.reason} if reasons else {})

    value: dict[str, object] = {"services": [one.to_json() for one in services]}
    if endpoints:
        value["endpoints"] = [one.to_json() for one in endpoints]
    if documents is not None:
        value["documents"] = [one.to_json() for one in documents]
    if broker is not None:
        value["broker"] = dict(broker)
    answer(output, value, [*(row(one) for one in services), *(endpoint_row(one) for one in endpoints)])
