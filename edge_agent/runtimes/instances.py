"""What the runtimes without an engine keep of each service: its record ``spec.json``, its lock, its log."""

from __future__ import annotations

import binascii
import codecs
import fcntl
import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from edgepack.documents import canonical_json
from edgepack.errors import InvalidReferenceError, RuntimeFailedError, disk_errors
from edgepack.host.files import atomic_write, make_dirs
from edgepack.limits import LIMITS
from edgepack.names import check_service_name
from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService
from edgepack.state.host_access import DeviceNode, Mount
from edgepack.state.service_auth import KeyAuth, ServiceAuth, TokenAuth

_FOLLOW_SECONDS = 0.2
# How long a connection of this machine to itself may take; and how long a rule of an engine stays that has just ended a
# container.
_ARRIVAL_SECONDS, _RULE_SECONDS = 0.5, 2.0
# Where in the log what an instance writes begins.
_MARK = "log.json"
_BEGINNING_BYTES = 256
Mark = tuple[int, int]
_LISTS: Mapping[str, Callable[[Any], object]] = {
    "mounts": lambda one: Mount(**one), "devices": lambda one: DeviceNode(**one), "secrets": str,
}  # fmt: skip

# What an instance is recorded with, by its mode.
_MODES: Mapping[str, ServiceAuth] = {KeyAuth.mode: KeyAuth("", ""), TokenAuth.mode: TokenAuth("", "")}


def spec_json(spec: DesiredService) -> bytes:
    """The canonical JSON of the values that an instance runs with: not of ``status``, the health check, the restarts.

    Of ``auth`` there is the mode alone: the rest of it is in a file, which an instance reads again.

    What earlier versions did not have is there only where it is set: an agent that was updated must find its services
    running as they are desired, and restart none.
    """
    value: dict[str, object] = {
        "name": spec.name,
        "image": str(spec.image),
        "port": spec.port,
        "address": spec.address,
        "env": dict(spec.env),
        "memory_bytes": spec.memory_bytes,
        "cpus": spec.cpus,
    }
    later = {
        "mounts": [one.to_json() for one in spec.mounts],
        "devices": [one.to_json() for one in spec.devices],
        "secrets": list(spec.secrets),
        "network": spec.network,
        "log_bytes": spec.log_bytes,
        "auth": None if spec.auth is None else spec.auth.mode,
    }
    return canonical_json(value | {name: found for name, found in later.items() if found})


def spec_hash(spec: DesiredService) -> str:
    """A short name of ``spec_json``, from which the values of the environment cannot be read."""
    return Digest.of(spec_json(spec)).hex[:32]


def write_spec(folder: Path, spec: DesiredService) -> None:
    """Record ``spec``, readable by its owner alone: its environment may hold secrets."""
    data = spec_json(spec)
    atomic_write(folder / "spec.json", canonical_json({**json.loads(data), "sha256": Digest.of(data).hex}), 0o600)


def read_spec(folder: Path) -> DesiredService | None:
    """What was recorded; ``None`` when nothing was, or the record is damaged."""
    try:
        value = json.loads((folder / "spec.json").read_bytes())
        written = value.pop("sha256", None)  # which earlier versions did not write
        value["image"] = Digest.parse(value["image"])
        for name, read in _LISTS.items():
            value[name] = tuple(read(one) for one in value.get(name, ()))
        if "auth" in value:
            value["auth"] = _MODES[value["auth"]]
        found = DesiredService(**value)
        return found if written in (None, Digest.of(spec_json(found)).hex) else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (ValueError, KeyError, TypeError, AttributeError, InvalidReferenceError):
        return None


def is_recorded(folder: Path, spec: DesiredService) -> bool:
    """Whether the instance recorded in ``folder`` is run with what ``spec`` says."""
    recorded = read_spec(folder)
    return recorded is not None and spec_json(recorded) == spec_json(spec)


def all_specs(root: Path) -> Iterator[DesiredService]:
    """The records of all services below ``root``."""
    if root.is_dir():
        for folder in sorted(root.iterdir()):
            spec = read_spec(folder)
            if spec is not None:
                yield spec


def check_address(spec: DesiredService) -> None:
    """Raise ``RuntimeFailedError`` when the address of ``spec`` is not one of this device's."""
    _bind(spec, 0)


def check_port(spec: DesiredService) -> None:
    """Raise ``RuntimeFailedError`` when the port of ``spec`` is in use, or its address not one of this device's.

    And where what listens there would not be reached, since the kernel leads connections to the port elsewhere: an
    engine that was killed leaves such rules behind.
    """
    _bind(spec, spec.port)
    end = time.monotonic() + _RULE_SECONDS
    while not _is_reached(spec):
        if time.monotonic() > end:
            raise RuntimeFailedError(
                f"connections to port {spec.port} on {spec.address} do not arrive there: a rule of the kernel leads"
                " them elsewhere or drops them", where=f"service {spec.name}",
                hint=f"find it with: iptables-save | grep {spec.port}, or nft list ruleset; a container engine that was"
                " killed may have left it; remove it, or give the service another port",
            )  # fmt: skip
        time.sleep(_RULE_SECONDS / 10)


def _is_reached(spec: DesiredService) -> bool:
    """Whether who listens on the port of ``spec``, which nobody does now, would be connected to."""
    family = socket.AF_INET6 if ":" in spec.address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener, socket.socket(family, socket.SOCK_STREAM) as client:
        for one in (listener, client):
            one.settimeout(_ARRIVAL_SECONDS)
        # No state of this connection is left that would hold the port.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((spec.address, spec.port))
            listener.listen()
        except OSError:  # it was taken a moment ago, which the start of the service tells
            return True
        try:
            client.connect((spec.address, spec.port))
            listener.accept()[0].close()
        except OSError:
            return False
        return True


def _bind(spec: DesiredService, port: int) -> None:
    family = socket.AF_INET6 if ":" in spec.address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            # As servers do: connections that have ended must not hold the port, listeners still do.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind((spec.address, port))
    except OSError as error:
        if port:
            raise port_taken(spec, error) from error
        raise RuntimeFailedError(
            f"address {spec.address} cannot be used ({error.strerror})", where=f"service {spec.name}",
            hint="give the service an address of this device, such as 127.0.0.1",
        ) from error  # fmt: skip


def port_taken(spec: DesiredService, error: OSError) -> RuntimeFailedError:
    """The error for a port of ``spec`` that cannot be had."""
    return RuntimeFailedError(
        f"port {spec.port} on {spec.address} cannot be used ({error.strerror})", where=f"service {spec.name}",
        hint="stop what listens there, or give the service another port",
    )  # fmt: skip


@contextmanager
def service_lock(root: Path, service: str) -> Iterator[int]:
    """Hold the lock of ``service`` and yield its descriptor.

    A process that inherits the descriptor keeps the lock until it closes it, even when this one is killed.
    """
    make_dirs(root, 0o700)
    with disk_errors(root):
        fd = os.open(root / f".{check_service_name(service)}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def log_path(state: Path, service: str) -> Path:
    """What ``service`` writes, in the device's folder ``state``; the part that was set aside is beside it."""
    return state / "logs" / f"{check_service_name(service)}.log"


def forget_log(state: Path, service: str) -> None:
    """Remove what ``service``, which does not run, wrote; where an engine keeps it, it went with the container."""
    path = log_path(state, service)
    with disk_errors(path):
        for one in (path, _set_aside(path)):
            one.unlink(missing_ok=True)


def _set_aside(path: Path) -> Path:
    return path.with_name(f"{path.name}.1")


def write_mark(folder: Path, log: Path) -> None:
    """Record in ``folder`` where ``log`` ends, before an instance writes to it; nothing depends on that it can be."""
    with suppress(OSError):
        mark = [0, 0]
        with suppress(OSError), log.open("rb") as file:
            mark = [file.seek(0, os.SEEK_END), _beginning(file)]
        (folder / _MARK).write_text(json.dumps(mark), "ascii")


def read_mark(folder: Path) -> Mark | None:
    """The byte from which on what the instance in ``folder`` wrote is in its log, and which file that was then."""
    try:
        size, beginning = json.loads((folder / _MARK).read_bytes())
        return int(size), int(beginning)
    except (OSError, ValueError, TypeError):
        return None


def _beginning(file: BinaryIO, size: int = _BEGINNING_BYTES) -> int:
    """What tells a log from the one that takes its place, whose inode may be the same."""
    file.seek(0)
    return binascii.crc32(file.read(min(size, _BEGINNING_BYTES)))


def tail(path: Path, lines: int, since: Mark | None = None) -> str:
    """The last ``lines`` lines of a log and of the part that was set aside, from at most their last mebibyte.

    With ``since`` only what was written after that mark.
    """
    data, whole = _end_of(path, LIMITS.log_tail_bytes, since)
    if whole and data.count(b"\n") < lines and len(data) < LIMITS.log_tail_bytes:
        data = _end_of(_set_aside(path), LIMITS.log_tail_bytes - len(data), since)[0] + data
    text = data.decode("utf-8", "replace")
    return "".join(text.splitlines(keepends=True)[-lines:]) if lines > 0 else ""


def follow(path: Path, lines: int) -> Iterator[str]:
    """The last ``lines`` lines of a log and then what is written to it, over every file that takes its place."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    file = _opened_at_end(path)
    yield tail(path, lines)
    while True:
        if file is not None:
            while data := file.read(LIMITS.chunk_bytes):
                yield decoder.decode(data)
            if file.tell() > os.fstat(file.fileno()).st_size:  # cut short where it is
                file.seek(0)
        try:
            replaced = file is None or not os.path.samestat(path.stat(), os.fstat(file.fileno()))
        except FileNotFoundError:
            replaced = False
        if replaced:
            if file is not None:
                yield decoder.decode(file.read())  # written before it was set aside
                file.close()
            file = path.open("rb")
            continue
        time.sleep(_FOLLOW_SECONDS)


def _opened_at_end(path: Path) -> BinaryIO | None:
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    file.seek(0, os.SEEK_END)
    return file


def _end_of(path: Path, size: int, since: Mark | None) -> tuple[bytes, bool]:
    """The last ``size`` bytes of a file, and whether what was written before it counts too."""
    try:
        with path.open("rb") as file:
            end, first = file.seek(0, os.SEEK_END), 0
            marked = since is not None and 0 < since[0] <= end and _beginning(file, since[0]) == since[1]
            if marked and since is not None:
                first = since[0]
            file.seek(max(first, end - size))
            return file.read(size), not marked
    except FileNotFoundError:
        return b"", True
