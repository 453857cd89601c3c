"""The options by which a command reaches a broker."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from edgepack.host.commands import INPUT

_OPTIONS = (
    click.option(
        "--broker", metavar="URL", help="Publish it to this MQTT broker, such as mqtts://broker.example:8883."
    ),
    click.option("--ca-file", type=INPUT, help="The authority of the broker's certificate, in PEM."),
    click.option("--certificate-file", type=INPUT, help="The own certificate at the broker, in PEM."),
    click.option("--key-file", type=INPUT, help="The private key of that certificate, in PEM."),
    click.option("--user", help="The user name at the broker."),
    click.option("--password-file", type=INPUT, help="A file with the password at the broker."),
)


def broker_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add ``--broker`` and what one logs in with; the command gets ``access``, which is ``None`` without a broker."""

    @wraps(function)
    def command(
        broker: str | None,
        ca_file: Path | None,
        certificate_file: Path | None,
        key_file: Path | None,
        user: str | None,
        password_file: Path | None,
        **arguments: Any,
    ) -> Any:
        from packager.fleet.broker import BrokerAccess
        from packager.fleet.reach import read_password

        access = None
        if broker is not None:
            access = BrokerAccess(broker, ca_file, certificate_file, key_file, user, read_password(password_file))
        return function(access=access, **arguments)

    for option in reversed(_OPTIONS):
        command = option(command)
    return command
