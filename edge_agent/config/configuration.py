"""The configuration of the agent as values, each with the default that it has without a file.

Nothing here reads a file or imports more than the standard library's small parts: the resident process imports it.
"""

from __future__ import annotations

import os
import re
import socket
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from edge_agent.config.windows import Window

STATE_DIR = Path("/var/lib/edgepack")
CONFIGURATION_FILE = Path("/etc/edge-agent.yml")
FILE_NAME = "edge-agent.yml"
"""What the file is called in a state folder that is not the default one."""
Runtime = Literal["auto", "docker", "crun", "process"]
Power = Literal["any", "mains"]
_PORTS = {True: 8883, False: 1883}
_MIB = 1 << 20


@dataclass(frozen=True)
class Broker:
    """An MQTT broker: at ``host`` and ``port``, with TLS or without, or at ``socket`` of this machine.

    The password is in ``password_file``, which is read at each connection. ``key_file`` is None where the key is in
    ``certificate_file``; ``ca_file`` is None for the system's authorities.
    """

    host: str = ""
    port: int = 0
    tls: bool = True
    socket: Path | None = None
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    keepalive_seconds: int = 60

    @classmethod
    def at(cls, url: str) -> Broker:
        """The broker at ``url``, which is of the form that the schema has."""
        scheme, _, rest = url.partition("://")
        if scheme == "unix":
            return cls(tls=False, socket=Path(rest))
        tls = scheme == "mqtts"
        found = re.fullmatch(r"\[(.+)\](?::(\d+))?|([^:]+)(?::(\d+))?", rest.removesuffix("/"))
        if found is None:
            raise ValueError(url)
        return cls(found[1] or found[3], int(found[2] or found[4] or _PORTS[tls]), tls)

    @property
    def url(self) -> str:
        """Where it is, as the configuration says it."""
        if self.socket is not None:
            return f"unix://{self.socket}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'mqtts' if self.tls else 'mqtt'}://{host}:{self.port}"


@dataclass(frozen=True)
class RegistrySource:
    """An image registry: ``registry`` is ``host[:port]``, ``prefix`` what its repositories begin with, or empty.

    Credentials come from the program ``docker-credential-HELPER``, or from ``credentials_file`` in the form of Docker's
    ``config.json``; without either from the files of Docker and Podman.
    """

    registry: str
    prefix: str = ""
    credential_helper: str | None = None
    credentials_file: Path | None = None
    ca_file: Path | None = None
    plain_http: bool = False

    @property
    def name(self) -> str:
        """What it is, for a message."""
        return f"{self.registry}/{self.prefix}" if self.prefix else self.registry


@dataclass(frozen=True)
class FolderSource:
    """A folder of bundles, such as where a stick is mounted; it need not be there now."""

    folder: Path

    @property
    def name(self) -> str:
        """What it is, for a message."""
        return str(self.folder)


@dataclass(frozen=True)
class NeighbourSource:
    """Another device, or the site's registry, which serves its store read-only at ``url``."""

    url: str
    ca_file: Path | None = None

    @property
    def name(self) -> str:
        """What it is, for a message."""
        return self.url


Source = RegistrySource | FolderSource | NeighbourSource


@dataclass(frozen=True)
class BandwidthWindow:
    """A rate that holds in ``window``; None is as fast as it goes, 0 is not at all."""

    window: Window
    bytes_per_second: int | None = None


@dataclass(frozen=True)
class Bandwidth:
    """How fast everything together may be downloaded: the first window that is open, else ``bytes_per_second``."""

    bytes_per_second: int | None = None
    windows: tuple[BandwidthWindow, ...] = ()

    def at(self, moment: datetime) -> int | None:
        """Bytes a second at ``moment`` in local time; None without a limit, 0 where nothing may be downloaded."""
        for one in self.windows:
            if one.window.contains(moment):
                return one.bytes_per_second
        return self.bytes_per_second


@dataclass(frozen=True)
class Updates:
    """When a service may be exchanged for another version: what is needed for its start is not held to these.

    In one of ``windows``, where there are any; while nobody holds ``lock_file``; with ``power`` from the mains, where
    that is asked; with ``free_memory_bytes`` of memory available.
    """

    windows: tuple[Window, ...] = ()
    lock_file: Path | None = None
    power: Power = "any"
    free_memory_bytes: int = 32 * _MIB


@dataclass(frozen=True)
class Share:
    """Where the device's own store is served to others, read-only."""

    address: str = "0.0.0.0"  # noqa: S104 - it is shared only where the configuration says so
    port: int = 5000


def host_name() -> str:
    """What the device is called without a configuration: by its host, with "-" for what a topic may not have."""
    name = os.fsencode(socket.gethostname()).decode("utf-8", "replace")
    return re.sub("[^A-Za-z0-9._-]+", "-", name).strip("-._")[:128] or "unnamed"


@dataclass(frozen=True)
class Configuration:
    """What ``edge-agent run`` does; without a file it is all defaults: no broker, no sources, one inbox.

    ``inbox`` holds the folders that are watched for documents and bundles: None is ``inbox`` in the state folder.
    ``groups`` are in the order of their precedence, the first one before the others. ``floor_bytes`` is the space that
    stays free: garbage is collected before less is left. ``report_seconds`` is how often the state is reported when
    nothing changes.
    """

    device: str = field(default_factory=host_name)
    groups: tuple[str, ...] = ()
    state_dir: Path = STATE_DIR
    runtime: Runtime = "auto"
    broker: Broker | None = None
    inbox: tuple[Path, ...] | None = None
    sources: tuple[Source, ...] = ()
    bandwidth: Bandwidth = field(default_factory=Bandwidth)
    updates: Updates = field(default_factory=Updates)
    allow_unsigned_documents: bool = False
    allow_unsigned_images: bool = False
    share: Share | None = None
    floor_bytes: int = 64 * _MIB
    report_seconds: int = 60

    @property
    def inbox_folders(self) -> tuple[Path, ...]:
        """The folders that are watched, which need not be there now."""
        return (self.state_dir / "inbox",) if self.inbox is None else self.inbox
