"""How a service is to run, as commands are told: by a file, or on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import UsageError

if TYPE_CHECKING:
    from packager.services.configuration.rules import Configuration


def configuration_of(file: Path | None, port: int | None = None) -> Configuration:
    """What ``--dc`` says; without a file a service on this machine, at ``port`` or a free one."""
    from packager.services.configuration.read import read_deployment
    from packager.services.configuration.rules import Configuration
    from packager.services.configuration.values import LocalDeployment

    if file is None:
        written = {"computeType": "local"} | ({} if port is None else {"port": port})
        return Configuration(LocalDeployment(port), written)
    if port is not None:
        raise UsageError("is given beside --dc, whose file says that", where="--port", hint="keep one of the two")
    return read_deployment(file)
