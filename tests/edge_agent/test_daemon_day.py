"""A day of the resident agent in seconds: its own loop on a fake clock, over a runtime whose services end and hang."""

from __future__ import annotations

import gc
import logging
import random
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from edge_agent.config.configuration import Configuration
from edge_agent.daemon import loop, observe
from edge_agent.daemon.loop import Agent
from edge_agent.daemon.notify import Notifier
from edge_agent.link.base import LinkStatus, Message
from edge_agent.reconcile.probe import Health
from edge_agent.state.clock import WallTime
from tests.edge_agent.support.fake_runtime import V1, FakeDevice, Lab, lab, service
from tests.support.sampling import times
from tests.support.waiting import wait_until

HOUR = 3600.0
__all__ = ["lab"]


@dataclass
class Line:
    """A link that counts what is published."""

    published: int = 0
    last: bytes = b""
    status: LinkStatus = field(default_factory=LinkStatus)

    def start(self, on_message: Callable[[Message], None]) -> None: ...

    def publish(self, topic: str, data: bytes, *, retain: bool = False, correlation: bytes | None = None) -> None:
        self.published, self.last = self.published + 1, data

    def close(self) -> None: ...


class Simulated(Agent):
    """The agent with a clock that is as fast as the machine."""

    now = 0.0

    def _take(self, seconds: float) -> None:
        # What threads do takes no time of the simulation.
        wait_until(lambda: not self._watch.busy or bool(self._events))
        while self._events:
            self._events.popleft()()
        if not self._watch.busy:
            Simulated.now += max(seconds, 0.5)

    def hour(self, live: Callable[[], None]) -> None:
        """Turns for an hour."""
        end = Simulated.now + HOUR
        while Simulated.now < end:
            live()
            self._turn()


def test_a_day_leaves_memory_and_disk_as_an_hour_does(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn, silent, line = random.Random(1), set[int](), Line()  # noqa: S311
    names = [f"svc{number}" for number in range(3)]
    lab.apply(*(service(V1, name, 7000 + number) for number, name in enumerate(names)))

    def probe(address: str, port: int, path: str) -> Health:
        return Health(False, "no answer") if port in silent else lab.world.probe(address, port, path)

    def live() -> None:
        for running in lab.world.running.values():
            if drawn.random() < 0.02:
                running.exited = True
                silent.discard(running.spec.port)
            elif drawn.random() < 0.005:
                silent.add(running.spec.port)
            elif drawn.random() < 0.05:
                silent.discard(running.spec.port)

    monkeypatch.setattr(logging.root.manager, "disable", logging.CRITICAL)  # pytest keeps what is logged
    monkeypatch.setattr(observe, "probe", probe)
    monkeypatch.setattr(loop, "_TURN_SECONDS", 20.0)
    Simulated.now = 0.0
    agent = Simulated(
        FakeDevice(lab.root, lab.world), Configuration(state_dir=lab.root, inbox=(), report_seconds=3600), None,
        session=1, after_boot=False, wall=WallTime(0.0, 0.0), links=lambda *_: line, notifier=Notifier({}), version="1",
        clock=lambda: Simulated.now,
    )  # fmt: skip
    agent._read_records()
    agent._open_link()
    try:
        agent.hour(live)
        started = sum(one.startswith("start ") for one in lab.world.log)
        lab.world.log.clear()
        gc.collect()
        tracemalloc.start()
        before, disk = tracemalloc.get_traced_memory()[0], held(lab.root)
        for _ in range(times(23, 1)):
            agent.hour(live)
            started += sum(one.startswith("start ") for one in lab.world.log)
            lab.world.log.clear()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
        agent._close()

    assert started > 8, "services have ended, and were started again"
    assert line.published > 10
    assert b'"name":"svc2"' in line.last
    assert grown < 100_000, "bytes"
    assert abs(held(lab.root) - disk) < 100_000, "bytes"
    assert len([*Path("/proc/self/fd").iterdir()]) < 200


def held(folder: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in folder.rglob("*") if path.is_file())
