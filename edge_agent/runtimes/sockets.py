"""The listening sockets of services: opened here, kept by their supervisors, handed from one version to the next.

A socket that listens goes on as long as anybody holds it. What connects while nobody takes connections from it waits in
the kernel's queue, so a switch from one version to another loses nothing (listen(2), unix(7) SCM_RIGHTS).
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

from edge_agent.runtimes.instances import port_taken
from edge_agent.runtimes.supervisor import CONTROL, PROBE
from edgepack.errors import disk_errors
from edgepack.oci.config import ImageConfig
from edgepack.state.desired import DesiredService

_BACKLOG = 2048
_PATIENCE_SECONDS = 2.0
# Where an image that edgepack built has the part of its server that takes sockets which were handed over.
_TAKES = "opt/edgepack/server/edge_server/listening.py"


@dataclass(frozen=True)
class Sockets:
    """The listening socket of a service's address, and one on which its own supervisor's service alone is asked."""

    listener: socket.socket
    probe: socket.socket

    @property
    def descriptors(self) -> tuple[int, int]:
        """For whom they are handed to."""
        return self.listener.fileno(), self.probe.fileno()

    def close(self) -> None:
        """Close them here."""
        self.listener.close()
        self.probe.close()


def takes_sockets(config: ImageConfig, layers: Iterable[Path]) -> bool:
    """Whether an image's server takes sockets that were opened for it: ours does, since it has a part for that.

    ``layers`` are the folders in which the image is unpacked.
    """
    return "edge_server" in (*config.entrypoint, *config.cmd) and any((one / _TAKES).is_file() for one in layers)


def open_listener(spec: DesiredService) -> socket.socket:
    """A socket that listens at the address of ``spec``; raises ``RuntimeFailedError`` when that cannot be had."""
    family = socket.AF_INET6 if ":" in spec.address else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((spec.address, spec.port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)  # a mode that all who hold it share: whoever accepts must not wait for another one
    except OSError as error:
        listener.close()
        raise port_taken(spec, error) from error
    return listener


def open_probe(folder: Path) -> socket.socket:
    """A socket that listens in ``folder``, which only the agent's user may enter."""
    probe = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    with disk_errors(folder), _Folder(folder) as near:
        (folder / PROBE).unlink(missing_ok=True)
        probe.bind(f"{near}/{PROBE}")
    # Whoever gets here may connect, the service's user for one.
    probe.listen(16)
    return probe


def connect_probe(folder: Path, timeout: float) -> socket.socket:
    """A connection to the service in ``folder`` and to no other version of it; raises ``OSError``."""
    return _connect(folder, PROBE, timeout)


def listener_of(folder: Path) -> socket.socket | None:
    """The listening socket that the supervisor of the service in ``folder`` keeps; ``None`` where there is none."""
    try:
        with _connect(folder, CONTROL, _PATIENCE_SECONDS) as supervisor:
            supervisor.sendall(b"socket")
            _, descriptors, _, _ = socket.recv_fds(supervisor, 1, 1)
    except OSError:
        return None
    if not descriptors:
        return None
    os.set_inheritable(descriptors[0], False)
    found = socket.socket(fileno=descriptors[0])
    found.setblocking(False)  # as it is; else a copy would change that for all who hold it
    return found


def tell(folder: Path, word: str) -> bool:
    """Say ``word`` to the supervisor of the service in ``folder`` (``supervisor.control``); whether it did it."""
    return _asked(folder, word) == b"+"


def last_words(folder: Path) -> str:
    """The last that the service in ``folder``, which runs, wrote."""
    return _asked(folder, "words").decode("utf-8", "replace")


def has_address(listener: socket.socket, spec: DesiredService) -> bool:
    """Whether ``listener`` is at the address and port of ``spec``."""
    return has_port(listener, spec) and ip_address(listener.getsockname()[0]) == ip_address(spec.address)


def has_port(listener: socket.socket, spec: DesiredService) -> bool:
    """Whether ``listener`` is at the port of ``spec``, at whatever address."""
    return bool(listener.getsockname()[1] == spec.port)


def _asked(folder: Path, word: str) -> bytes:
    data = b""
    try:
        with _connect(folder, CONTROL, _PATIENCE_SECONDS) as supervisor:
            supervisor.sendall(word.encode("ascii"))
            while part := supervisor.recv(4096):
                data += part
    except OSError:
        return b""
    return data


def _connect(folder: Path, name: str, timeout: float) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(timeout)
        with _Folder(folder) as near:
            connection.connect(f"{near}/{name}")
    except OSError:
        connection.close()
        raise
    return connection


class _Folder:
    """A short name of a folder while it is open: a socket's path may have 107 bytes (unix(7))."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> str:
        self._fd = os.open(self._folder, os.O_PATH | os.O_CLOEXEC)
        return f"/proc/self/fd/{self._fd}"

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)
