"""HAProxy while it runs: asked and changed by its socket, without a reload."""

from __future__ import annotations

import csv
import time
from collections.abc import Mapping
from dataclasses import dataclass

from edge_agent.runtimes.haproxy.control import TIMEOUT_SECONDS, Control
from edge_agent.runtimes.haproxy.process import DRAIN_SECONDS
from edge_agent.traffic.router import BACKEND, BUCKETS, Router, Version, read_buckets, server, write_buckets
from edgepack.errors import RuntimeFailedError

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


class RouterControl(Control):
    """The socket of an endpoint's router."""

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
            self.tell(f"set server {BACKEND}/{name} state drain")
        end = time.monotonic() + DRAIN_SECONDS
        for name in gone:
            self._take_out(name, end)

    def _put(self, version: Version, known: Seen | None, router: Router) -> None:
        name = f"{BACKEND}/{version.name}"
        if known is None:
            self.tell(f"add server {name} {server(version, router.endpoint)}", "New server registered")
            self.tell(f"enable health {name}")
            # A new one waits for this, and looks well before.
            self.tell(f"enable server {name}")
            return
        if known.place != version.place:
            self.tell(f"set server {name} addr {version.address} port {version.port}", "changed")
        if known.weight != version.share:
            self.tell(f"set server {name} weight {version.share}")

    def _map(self, wanted: Mapping[int, str]) -> None:
        """Exchange the map as a whole: no request sees half of it."""
        number = self.ask(f"prepare map {BUCKETS}").rpartition(" ")[2]
        self.tell(f"add map @{number} {BUCKETS} <<\n{write_buckets(wanted)}")
        self.tell(f"commit map @{number} {BUCKETS}")

    def _take_out(self, name: str, end: float) -> None:
        while (one := self.seen().get(name)) is not None and one.now and time.monotonic() < end:
            time.sleep(_POLL_SECONDS)
        self.tell(f"set server {BACKEND}/{name} state maint")
        while "deleted" not in (said := self.ask(f"del server {BACKEND}/{name}")).lower():
            if time.monotonic() >= end + TIMEOUT_SECONDS:
                raise RuntimeFailedError(f"does not take {name} out ({said})", where=f"router in {self.folder}")
            self.ask(f"shutdown sessions server {BACKEND}/{name}")
            time.sleep(_POLL_SECONDS)


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
