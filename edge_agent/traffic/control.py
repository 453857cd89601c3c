"""HAProxy while it runs: asked and changed by its socket, without a reload."""

from __future__ import annotations

import csv
import os
import socket
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from edge_agent.traffic.router import BACKEND, BUCKETS, SOCKET, Router, Version, read_buckets, server, write_buckets
from edgepack.errors import RuntimeFailedError

_TIMEOUT_SECONDS = 5.0
# How long requests that a version answers already may take before it is taken out.
DRAIN_SECONDS = 30.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Counts:
    """What a version has done since its router was started: requests that ended, and how.

    ``errors`` are answers with a status from 500, and those that never came. ``latency_ms`` is the mean of the last
    1024 requests, ``None`` before the first one.
    """

    requests: int = 0
    errors: int = 0
    latency_ms: float | None = None
    latency_most_ms: float | None = None


@dataclass(frozen=True)
class Seen:
    """A version as its router knows it: where it is, its weight, what it does now, and its counts."""

    name: str
    place: str
    weight: int
    is_up: bool
    now: int
    counts: Counts


class Control:
    """The socket of the router in ``folder``; every call raises ``RuntimeFailedError`` where nothing answers."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def ask(self, command: str) -> str:
        """What HAProxy answers to one command."""
        try:
            # By the folder's descriptor: the path of a socket has at most 107 bytes.
            opened = os.open(self._folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as one:
                    one.settimeout(_TIMEOUT_SECONDS)
                    one.connect(f"/proc/self/fd/{opened}/{SOCKET}")
                    one.sendall(command.encode() + b"\n")
                    found = bytearray()
                    while data := one.recv(65536):
                        found += data
            finally:
                os.close(opened)
        except OSError as error:
            raise RuntimeFailedError(f"does not answer ({error})", where=f"router in {self._folder}") from error
        return found.decode("utf-8", "replace").strip()

    def info(self) -> Mapping[str, str]:
        """What it says of itself."""
        lines = (line.partition(": ") for line in self.ask("show info").splitlines())
        return {key: value for key, _, value in lines}

    def seen(self) -> dict[str, Seen]:
        """The versions that it knows, by their names."""
        return read_statistics(self.ask("show stat"))

    def buckets(self) -> dict[int, str]:
        """The map that it uses."""
        return read_buckets("\n".join(line.partition(" ")[2] for line in self.ask(f"show map {BUCKETS}").splitlines()))

    def change(self, router: Router, wanted: Mapping[int, str]) -> None:
        """Share requests out as ``router`` says and by the buckets ``wanted``; raises ``RuntimeFailedError``.

        New versions come first, and those that are left out go when they have answered what they were asked.
        """
        seen = self.seen()
        for version in router.versions:
            self._put(version, seen.get(version.name), router)
        if self.buckets() != wanted:
            self._map(wanted)
        gone = [name for name in seen if name not in router.shares]
        for name in gone:
            self._tell(f"set server {BACKEND}/{name} state drain")
        end = time.monotonic() + DRAIN_SECONDS
        for name in gone:
            self._take_out(name, end)

    def _put(self, version: Version, known: Seen | None, router: Router) -> None:
        name = f"{BACKEND}/{version.name}"
        if known is None:
            self._tell(f"add server {name} {server(version, router.endpoint)}", "New server registered")
            self._tell(f"enable health {name}")
            # A new one waits for this, and looks well before.
            self._tell(f"enable server {name}")
            return
        if known.place != version.place:
            self._tell(f"set server {name} addr {version.address} port {version.port}", "changed")
        if known.weight != version.share:
            self._tell(f"set server {name} weight {version.share}")

    def _map(self, wanted: Mapping[int, str]) -> None:
        """Exchange the map as a whole: no request sees half of it."""
        number = self.ask(f"prepare map {BUCKETS}").rpartition(" ")[2]
        self._tell(f"add map @{number} {BUCKETS} <<\n{write_buckets(wanted)}")
        self._tell(f"commit map @{number} {BUCKETS}")

    def _take_out(self, name: str, end: float) -> None:
        while (one := self.seen().get(name)) is not None and one.now and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        self._tell(f"set server {BACKEND}/{name} state maint")
        while "deleted" not in (said := self.ask(f"del server {BACKEND}/{name}")).lower():
            if time.monotonic() >= end + _TIMEOUT_SECONDS:
                raise RuntimeFailedError(f"does not take {name} out ({said})", where=f"router in {self._folder}")
            self.ask(f"shutdown sessions server {BACKEND}/{name}")
            time.sleep(_POLL_SECONDS)

    def _tell(self, command: str, answer: str = "") -> None:
        """Raise ``RuntimeFailedError`` unless the answer is empty, or has the word ``answer``."""
        said = self.ask(command)
        if (answer and answer not in said) or (said and not answer):
            first = command.partition("\n")[0]
            raise RuntimeFailedError(f"did not take {first!r}: {said[:200]}", where=f"router in {self._folder}")


def read_statistics(text: str) -> dict[str, Seen]:
    """The versions in the answer to ``show stat``, by their names; pure."""
    rows = csv.DictReader(text.removeprefix("# ").splitlines())
    return {
        row["svname"]: _seen(row)
        for row in rows
        if row["pxname"] == BACKEND and row["svname"] not in ("FRONTEND", "BACKEND")
    }


def _seen(row: Mapping[str, str]) -> Seen:
    answers = [_number(row, f"hrsp_{kind}") for kind in ("1xx", "2xx", "3xx", "4xx", "5xx", "other")]
    unanswered = _number(row, "eresp") + _number(row, "econ")
    requests = sum(answers) + unanswered
    return Seen(
        row["svname"], row["addr"], _number(row, "weight"), row["status"].startswith(("UP", "no check")),
        _number(row, "scur") + _number(row, "qcur"),
        Counts(
            requests, _number(row, "hrsp_5xx") + unanswered, float(_number(row, "ttime")) if requests else None,
            float(_number(row, "ttime_max")) if requests else None,
        ),
    )  # fmt: skip


def _number(row: Mapping[str, str], key: str) -> int:
    text = row.get(key) or "0"
    return int(text) if text.isdecimal() else 0
