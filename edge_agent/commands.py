"""The ``edge-agent`` command."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from edge_agent.device import Device
from edgepack import __version__
from edgepack.errors import NotFoundError, UsageError
from edgepack.host.console import answer, human, note, report_errors
from edgepack.oci.descriptor import Platform
from edgepack.oci.manifest import parse_object
from edgepack.state.desired import PAYLOAD_TYPE, Desired
from edgepack.state.reported import ReportedService

_F = TypeVar("_F", bound=Callable[..., Any])
# A desired state for a thousand services is a tenth of this.
_MAX_DOCUMENT = 4 << 20

_allow_unsigned = click.option(
    "--allow-unsigned", is_flag=True, envvar="EDGEPACK_ALLOW_UNSIGNED",
    help="Take what no trusted key has signed. Anybody could have made it.",
)  # fmt: skip
_debug = click.option("--debug", is_flag=True, expose_value=False, help="Show a traceback with an error.")
_output = click.option(
    "--output", type=click.Choice(["table", "json"]), default="table", envvar="EDGEPACK_OUTPUT",
    help="How to print the answer; JSON is the stable interface.",
)  # fmt: skip


def _common(function: _F) -> _F:
    """What every verb that answers has: ``--output``, ``--debug``, and the device."""
    return click.pass_obj(_output(_debug(function)))  # type: ignore[return-value]


@click.group("edge-agent", no_args_is_help=True)
@click.option(
    "--state-dir", type=click.Path(file_okay=False, readable=False, path_type=Path), envvar="EDGEPACK_STATE_DIR",
    default=Path("/var/lib/edgepack"), show_default=True, help="The device's folder.",
)  # fmt: skip
@click.option(
    "--runtime", type=click.Choice(["auto", "docker", "crun", "process"]), default="auto", show_default=True,
    envvar="EDGEPACK_RUNTIME",
    help="What runs services; auto leaves each where it runs, and takes the first that works for a new one.",
)  # fmt: skip
@_debug
@click.version_option(__version__, message="%(prog)s %(version)s")
@click.pass_context
def cli(context: click.Context, state_dir: Path, runtime: str) -> None:
    """Run signed scoring containers on this device, and return to the last good one when one fails."""
    context.obj = Device(state_dir, runtime)


@cli.command("trust", short_help="Trust the signatures of a public key.")
@click.argument("key", type=click.Path(path_type=Path))
@_common
def trust(device: Device, key: Path, output: str) -> None:
    """Trust what the holder of the public KEY (a PEM file) signs."""
    from edgepack.signing.keys import PublicKey

    data = _read(key, hint="write one with: edgepack key export")
    PublicKey.from_pem(data, key)  # so that its complaint names the file
    found = device.trust.add(data)
    answer(output, {"key_id": found.id}, [{"trusted": found.id}])


@cli.command("import", short_help="Take in a bundle.")
@click.argument("path", type=click.Path(path_type=Path))
@_allow_unsigned
@_common
def import_(device: Device, path: Path, allow_unsigned: bool, output: str) -> None:
    """Verify the bundle at PATH and take in what it carries; nothing is started."""
    from edgepack.bundle.read import import_bundle

    with device.changing():
        report = import_bundle(
            path, device.store, device.trust.keys(), allow_unsigned=allow_unsigned, platform=Platform.host()
        )
    images = [{"name": one.name, "digest": str(one.digest), "signed_by": list(one.key_ids)} for one in report.images]
    answer(
        output,
        {"images": images, "moved_bytes": report.moved_bytes, "present_bytes": report.present_bytes},
        [{"image": one.name, "digest": one.digest, "signed_by": ", ".join(one.key_ids)} for one in report.images],
    )
    note(f"{human(report.moved_bytes)} taken in, {human(report.present_bytes)} were here already")


@cli.command("apply", short_help="Make the device run a desired state.")
@click.argument("file", type=click.Path(path_type=Path))
@_allow_unsigned
@_common
def apply(device: Device, file: Path, allow_unsigned: bool, output: str) -> None:
    """Make the device run the desired state in FILE (JSON, or signed), and wait until it is healthy."""
    from edge_agent.reconcile.runner import Runner
    from edge_agent.reconcile.status import status

    Runner(device, allow_unsigned=allow_unsigned).apply(_read_desired(device, file))
    _answer_status(output, status(device))


def _read_desired(device: Device, file: Path) -> Desired:
    """A document that the operator wrote by hand, or one in an envelope, whose signature then counts."""
    from edgepack.signing.envelope import verify

    data = _read(file, hint="write a desired state, see the README")
    if "payloadType" in parse_object(data, file):
        data = verify(data, PAYLOAD_TYPE, device.trust.keys(), where=file).payload
    return Desired.from_bytes(data, file)


@cli.command("status", short_help="Show what runs.")
@_common
def status_(device: Device, output: str) -> None:
    """Show every service: its state, its image, and the image that a rollback returns to."""
    from edge_agent.reconcile.status import status

    found = status(device)
    if not found:
        note(f"no services in {device.root}; run some with: edge-agent apply FILE")
    _answer_status(output, found)


@cli.command("rollback", short_help="Return a service to its last good image.")
@click.argument("name")
@_allow_unsigned
@_common
def rollback(device: Device, name: str, allow_unsigned: bool, output: str) -> None:
    """Return service NAME to its last good image and run it; needs no network."""
    from edge_agent.reconcile.runner import Runner
    from edge_agent.reconcile.status import status

    Runner(device, allow_unsigned=allow_unsigned).rollback(name)
    _answer_status(output, status(device))


@cli.command("receipt", short_help="Write what the device holds.")
@click.option(
    "-o", "--out", "path", type=click.Path(dir_okay=False, path_type=Path), help="The file.  [default: stdout]"
)
@_debug
@click.pass_obj
def receipt(device: Device, path: Path | None) -> None:
    """Write what the device holds, so that the next bundle can leave it out: edgepack bundle create --since FILE."""
    from edgepack.bundle.receipt import Receipt
    from edgepack.host.files import atomic_write

    data = Receipt.of_store(device.store, device.name, Platform.host()).to_bytes()
    if path is None:
        click.echo(data.decode())
    else:
        atomic_write(path, data)


def _read(file: Path, hint: str) -> bytes:
    try:
        with file.open("rb") as opened:
            data = opened.read(_MAX_DOCUMENT + 1)
    except FileNotFoundError:
        raise NotFoundError("there is no such file", where=file, hint=hint) from None
    except IsADirectoryError:
        raise UsageError("is a folder", where=file, hint=f"give a file; {hint}") from None
    except PermissionError:
        raise UsageError("may not be read", where=file, hint="check who owns it") from None
    if len(data) > _MAX_DOCUMENT:
        raise UsageError(f"is longer than {human(_MAX_DOCUMENT)}", where=file, hint="check which file that is")
    return data


def _answer_status(output: str, services: tuple[ReportedService, ...]) -> None:
    def row(one: ReportedService) -> dict[str, object]:
        return {
            "name": one.name,
            "state": one.state.value,
            "digest": one.digest and f"sha256:{one.digest.short}",
            "last_good": one.last_good and f"sha256:{one.last_good.short}",
            "port": one.port,
            "runtime": one.runtime,
            "reason": one.reason,
        }

    answer(output, {"services": [one.to_json() for one in services]}, [row(one) for one in services])


def main() -> None:
    """Entry point of the ``edge-agent`` command."""
    sys.exit(report_errors(cli, "edge-agent", "EDGEPACK"))
