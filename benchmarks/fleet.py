"""A fleet on one Mosquitto: simulated agents, all of which get a new desired state, act on it and report it.

Each agent has its own folder and database, verifies the signature, accepts the document, takes its service through the
recorded stages, and publishes what it reports: with the code of the real agent. Its runtime and its clock are fake, its
connection a raw client. The agents of one process take turns, so what they need is their processor time together.

    python -m benchmarks.fleet [COUNT...]     # 10 100 1000
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import edgepack
from benchmarks.raw_mqtt import RawClient
from edge_agent.link.backoff import Backoff
from edge_agent.reconcile import looking, status
from edge_agent.reconcile.acceptance import Receiver
from edge_agent.reconcile.receive import receive
from edge_agent.reconcile.runner import Clock, Runner
from edge_agent.state.goals import Stage
from edgepack.oci.digest import Digest
from edgepack.signing.envelope import sign
from edgepack.signing.keys import PrivateKey, PublicKey, create_key
from edgepack.state.desired import PAYLOAD_TYPE, Desired, DesiredService
from edgepack.state.presence import DeviceStatus, Presence
from edgepack.state.reported import Answer, ReportedDevice, ReportedDocument, ServiceState
from edgepack.state.topics import DeviceTopics, group_desired, scope_of
from tests.edge_agent.support.fake_runtime import FakeDevice, World
from tests.support.ports import free_port

COUNTS = (10, 100, 1000)
GROUP = "line"
# So many connections are made at once: a broker's queue of them has an end.
_AT_ONCE = 100
_SECONDS = 1200.0
_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of its own is made in it


class _NoReserve:
    """In place of the 4 MiB that a device holds back for a full disk."""

    def use(self) -> None:
        """Nothing is held."""

    def fill(self) -> None:
        """Nothing is held."""


class SimulatedDevice(FakeDevice):
    """A real folder and database, with a runtime of its own world."""

    @property
    def _reserve(self) -> Any:
        return _NoReserve()


class Agent:
    """A simulated agent: the real one between the message that comes and the message that goes."""

    def __init__(self, fleet: Fleet, name: str) -> None:
        self.name = name
        self.topics = DeviceTopics(name)
        self._fleet = fleet
        self._world = World()
        self._device = SimulatedDevice(fleet.folder / name, self._world, "process")
        self._device.create()
        self._now = 0.0
        self._runner = Runner(self._device, clock=Clock(lambda: self._now, self._sleep))
        self._session = self._device.state.next_session()
        self._connections = 0
        self._backoff = Backoff()
        self._taken: dict[str, bytes] = {}
        self.seconds = 0.0
        """Processor time for the last document."""
        self.client: RawClient | None = None

    def _sleep(self, seconds: float) -> None:
        self._now += seconds

    async def connect(self) -> None:
        """Make a connection, and make it again whenever it is lost."""
        self._connections += 1
        will = self._status(Presence.LOST)
        topics = (self.topics.desired, group_desired(GROUP), self.topics.command)
        client = RawClient(
            self.name, topics, will=(self.topics.status, will), on_message=self._take, on_ready=self._ready,
            on_lost=self._lost,
        )  # fmt: skip
        self.client = client
        try:
            await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", self._fleet.port)
        except OSError:
            self._lost()

    def _status(self, presence: Presence) -> bytes:
        return DeviceStatus(
            self.name, presence, self._session, self._connections, "0" * 12, edgepack.__version__
        ).to_bytes()  # fmt: skip

    def _ready(self) -> None:
        self._fleet.subscribed += 1
        if self._fleet.subscribed % 3 == 0 and self.client is not None:
            self.client.publish(self.topics.status, self._status(Presence.ONLINE))

    def _lost(self) -> None:
        if self._fleet.is_open:
            loop = asyncio.get_running_loop()
            loop.call_later(self._backoff.pause(), lambda: self._fleet.keep(loop.create_task(self.connect())))

    def _take(self, topic: str, data: bytes, mid: int) -> None:
        """Note when the message came, and take a turn at acting on it."""
        self._fleet.delivered[self.name] = time.monotonic()
        if self._taken.get(topic) == data:  # again, with a new connection
            if self.client is not None:
                self.client.acknowledge(mid)
            return
        self._fleet.turns.put_nowait((self, topic, data, mid))

    def act(self, topic: str, data: bytes, mid: int) -> None:
        began = time.process_time()
        scope = scope_of(topic, self.name, [GROUP])
        with self._fleet.world(self._world):
            receiver = Receiver(self.name, [GROUP])
            receive(self._device.state, data, scope, receiver, [self._fleet.trusted])
            self._taken[topic] = data
            if self.client is not None:
                self.client.acknowledge(mid)
            for service, goal in self._device.state.goals().items():
                if goal.stage not in (Stage.DONE, Stage.FAILED):
                    self._runner.bring(service)
            report = self._report()
        if self.client is not None:
            self.client.publish(self.topics.reported, report)
        self.seconds = time.process_time() - began

    def _report(self) -> bytes:
        documents = tuple(
            ReportedDocument(scope, one.serial, one.digest, Answer.OK)
            for scope, one in self._device.state.documents().items()
        )
        services = status.status(self._device)
        return ReportedDevice(
            self.name, edgepack.__version__, self._session, time.time(), 1 << 30, documents, services
        ).to_bytes()  # fmt: skip


class Fleet:
    """All agents, and the broker that they connect to."""

    def __init__(self, folder: Path, port: int, trusted: PublicKey) -> None:
        self.folder = folder
        self.port = port
        self.trusted = trusted
        self.is_open = True
        self.subscribed = 0
        self.delivered: dict[str, float] = {}
        self._world: World | None = None
        self.turns: asyncio.Queue[tuple[Agent, str, bytes, int]] = asyncio.Queue()
        self._tasks: set[asyncio.Task[None]] = set()

    async def work(self) -> None:
        """Let the agents act, one at a time, and messages come in between: other agents would have them by then."""
        while True:
            agent, topic, data, mid = await self.turns.get()
            agent.act(topic, data, mid)
            await asyncio.sleep(0)

    def keep(self, task: asyncio.Task[None]) -> None:
        """Hold a task until it is done."""
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    @contextmanager
    def world(self, world: World) -> Iterator[None]:
        """Let health checks be answered by the services of one agent."""
        self._world = world
        try:
            yield
        finally:
            self._world = None

    @contextmanager
    def probing(self) -> Iterator[None]:
        """Let every health check in this process be one of the fleet's."""
        before = looking.probe, status.probe
        looking.probe = status.probe = self.probe  # type: ignore[assignment]
        try:
            yield
        finally:
            looking.probe, status.probe = before

    def probe(self, address: str, port: int, path: str, timeout: float = 2.0, *, connect: object = None) -> Any:
        """In place of a health check over the network."""
        assert self._world is not None
        return self._world.probe(address, port, path, timeout)


class Judge:
    """Reads what the agents report, by ``mosquitto_sub``, which knows nothing of ours."""

    def __init__(self, port: int) -> None:
        self.good: dict[str, float] = {}
        """The devices that run what is expected of them, and when they said so."""
        self._expected: tuple[object, ...] = ()
        self._port = port
        self._process: asyncio.subprocess.Process | None = None

    async def watch(self) -> None:
        """Read until the end."""
        words = ["-h", "127.0.0.1", "-p", str(self._port), "-q", "1", "-t", "edgepack/v1/devices/+/reported"]
        self._process = await asyncio.create_subprocess_exec(
            "mosquitto_sub", *words, stdout=asyncio.subprocess.PIPE, limit=1 << 20
        )
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self._judge(json.loads(line))

    def expect(self, serial: int, image: Digest) -> None:
        """Begin anew: every device is to run ``image``, healthily, by the document ``serial``."""
        self.good.clear()
        self._expected = ("churn", ServiceState.HEALTHY.value, str(image), serial, Stage.DONE.value)

    def _judge(self, value: dict[str, Any]) -> None:
        fields = ("name", "state", "digest", "serial", "stage")
        services = [tuple(one[name] for name in fields) for one in value["services"]]
        if value["status"] == Answer.OK and services == [self._expected]:
            self.good.setdefault(value["device"], time.monotonic())

    async def close(self) -> None:
        """End it."""
        if self._process is not None:
            self._process.terminate()
            await self._process.wait()


@dataclass(frozen=True)
class Costs:
    """What a fleet of ``count`` took: seconds, but for ``broker_bytes``, which its connections cost.

    ``broker_cpu`` and ``agent_cpu`` are processor time for one new version, the broker's in all and an agent's own.
    """

    count: int
    connected: float
    delivered: float
    reported: float
    broker_cpu: float
    agent_cpu: float
    broker_bytes: int
    back: float


def _pss(pid: int) -> int:
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            return int(line.split()[1]) << 10
    return 0


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


async def _until(ask: Any, what: str) -> float:
    """Seconds until ``ask`` is true."""
    began = time.monotonic()
    while not ask():
        if time.monotonic() - began > _SECONDS:
            sys.exit(f"{what}: it did not happen within {_SECONDS:g} s")
        await asyncio.sleep(0.01)
    return time.monotonic() - began


class Broker:
    """A Mosquitto of its own, which can be started again."""

    def __init__(self, folder: Path) -> None:
        self.port = free_port()
        self._conf = folder / "mosquitto.conf"
        self._conf.write_text(
            f"user root\nallow_anonymous true\npersistence true\npersistence_location {folder}/\n"
            f"log_type error\nlog_dest file {folder / 'log'}\nmax_queued_messages 10000\n"
            f"listener {self.port} 127.0.0.1\n"
        )
        self.process = self.start()

    def start(self) -> subprocess.Popen[bytes]:
        """Start it."""
        self.process = subprocess.Popen(
            ["mosquitto", "-c", str(self._conf)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        return self.process

    def stop(self) -> None:
        """Stop it; it saves what is retained."""
        self.process.terminate()
        self.process.wait()

    def publish(self, topic: str, data: bytes) -> None:
        """By ``mosquitto_pub``, retained."""
        words = ["mosquitto_pub", "-h", "127.0.0.1", "-p", str(self.port), "-q", "1", "-r", "-t", topic, "-s"]
        subprocess.run(words, input=data, check=True)


def document(key: PrivateKey, serial: int, image: Digest) -> bytes:
    """A signed desired state."""
    services = (DesiredService("churn", image, 6789),)
    return sign(Desired(services, serial, group=GROUP).to_bytes(), PAYLOAD_TYPE, key)


async def measure(count: int, folder: Path) -> Costs:
    """A fleet of ``count`` from its first connections to a new version, and over a restart of its broker."""
    key, broker = create_key(), Broker(folder)
    fleet, judge = Fleet(folder, broker.port, key.public), Judge(broker.port)
    await _until(lambda: _listens(broker.port), "the broker")
    tasks = [asyncio.create_task(judge.watch()), asyncio.create_task(fleet.work())]
    agents = [Agent(fleet, f"gate-{number:05d}") for number in range(count)]
    try:
        with fleet.probing():
            return await _measured(agents, fleet, judge, broker, key)
    finally:
        fleet.is_open = False
        await judge.close()
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        for one in agents:
            if one.client is not None:
                one.client.close()
        broker.stop()


async def _measured(agents: list[Agent], fleet: Fleet, judge: Judge, broker: Broker, key: PrivateKey) -> Costs:
    count, began, before = len(agents), time.monotonic(), _pss(broker.process.pid)
    for at in range(0, count, _AT_ONCE):
        await asyncio.gather(*(one.connect() for one in agents[at : at + _AT_ONCE]))
    await _until(lambda: fleet.subscribed == 3 * count, "subscriptions")
    connected, held = time.monotonic() - began, _pss(broker.process.pid)
    await _publish(1, agents, fleet, judge, broker, key)
    cpu, began = _cpu(broker.process.pid), time.monotonic()
    await _publish(2, agents, fleet, judge, broker, key)
    reported = max(judge.good.values()) - began
    delivered = max(fleet.delivered.values()) - began
    broker_cpu = _cpu(broker.process.pid) - cpu
    spent = statistics.median(one.seconds for one in agents)
    broker.stop()
    fleet.subscribed = 0
    broker.start()
    back = await _until(lambda: fleet.subscribed == 3 * count, "connections after a restart")
    return Costs(count, connected, delivered, reported, broker_cpu, spent, held - before, back)


async def _publish(
    serial: int, agents: list[Agent], fleet: Fleet, judge: Judge, broker: Broker, key: PrivateKey
) -> None:
    """Publish the version ``serial``, and wait until every device has reported that it runs it."""
    image = Digest.of(f"v{serial}".encode())
    judge.expect(serial, image)
    fleet.delivered.clear()
    await asyncio.to_thread(broker.publish, group_desired(GROUP), document(key, serial, image))
    await _until(lambda: len(judge.good) == len(agents), f"version {serial} on every device")


def _listens(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def main(*counts: int) -> list[Costs]:
    """Run it and print it."""
    if shutil.which("mosquitto") is None or shutil.which("mosquitto_sub") is None:
        sys.exit("mosquitto is not installed: run make setup-test")
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    found = []
    print("agents  connected  all have it  all report it  broker's CPU  an agent's CPU  broker's memory  all are back")
    for count in counts or COUNTS:
        with tempfile.TemporaryDirectory(prefix="edgepack-fleet-", dir=_MEMORY if _MEMORY.is_dir() else None) as folder:
            one = asyncio.run(measure(count, Path(folder)))
        found.append(one)
        print(
            f"{one.count:6}  {one.connected:7.2f} s  {one.delivered:9.2f} s  {one.reported:11.2f} s  "
            f"{one.broker_cpu:10.2f} s  {one.agent_cpu * 1000:11.1f} ms  {one.broker_bytes / 1000:12.0f} kB"
            f"  {one.back:16.2f} s",
            flush=True,
        )
    if len(found) > 1:
        print(_growth(found[0], found[-1]))
    return found


def _growth(least: Costs, most: Costs) -> str:
    """How costs grow with the number of agents."""
    times, more = most.count / least.count, most.count - least.count
    return (
        f"{times:g} times the agents: {most.agent_cpu / least.agent_cpu:.2f} times the processor time of each, "
        f"{(most.broker_bytes - least.broker_bytes) / more / 1000:.1f} kB of the broker for each, "
        f"{most.broker_cpu / most.count * 1e6:.0f} us of its processor time for each and version"
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
