"""A device without engines: an in-memory runtime whose faults are switched on by image, and power cuts on demand."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from edge_agent.device import Device
from edge_agent.reconcile import bring, looking, status
from edge_agent.reconcile.probe import Health
from edge_agent.reconcile.progress import EVENT
from edge_agent.reconcile.runner import Clock, Rules, Runner
from edge_agent.runtimes.base import Instance, Runtime, Watch
from edge_agent.sources.base import Fetcher, OnProgress, unseen
from edge_agent.state.database import StateFile
from edge_agent.state.goals import Goal, Stage
from edgepack.errors import (
    EdgepackError,
    IncompatibleError,
    MissingPartError,
    NoSpaceError,
    NotFoundError,
    RuntimeFailedError,
    SignatureError,
)
from edgepack.oci.digest import Digest
from edgepack.state.desired import Desired, DesiredService


def image(name: str) -> Digest:
    """An image of that name."""
    return Digest.of(name.encode())


V1, V2, V3 = image("v1"), image("v2"), image("v3")


@dataclass(frozen=True)
class Faults:
    """What goes wrong with an image.

    ``exits_after`` counts the probes that its service lives through, ``unhealthy_after`` those after which it is not
    healthy any more, and ``healthy_after`` those after which it is again.
    """

    prepare_fails: bool = False
    start_fails: bool = False
    start_refused: bool = False
    disk_full_at_start: bool = False
    never_healthy: bool = False
    exits_after: int | None = None
    unhealthy_after: int | None = None
    healthy_after: int | None = None


@dataclass
class Running:
    """A service that a runtime has."""

    by: str
    spec: DesiredService
    probes: int = 0
    exited: bool = False


@dataclass
class World:
    """What outlives a power cut of the agent: services, and what is wrong with images."""

    running: dict[tuple[str, str], Running] = field(default_factory=dict)
    faults: dict[Digest, Faults] = field(default_factory=dict)
    prepared: set[tuple[str, Digest]] = field(default_factory=set)
    missing_engines: set[str] = field(default_factory=set)
    unsigned: set[Digest] = field(default_factory=set)
    absent: set[Digest] = field(default_factory=set)
    rotten: set[Digest] = field(default_factory=set)
    log: list[str] = field(default_factory=list)
    overlaps: int = 0

    def of(self, image: Digest) -> Faults:
        return self.faults.get(image, Faults())

    def runs(self, service: str) -> list[Running]:
        """Every living instance of a service, whoever has it."""
        return [one for (_, name), one in self.running.items() if name == service and not one.exited]

    def probe(self, address: str, port: int, path: str, timeout: float = 2.0, *, connect: object = None) -> Health:
        """In place of ``edge_agent.reconcile.probe.probe``."""
        for one in self.running.values():
            if one.spec.port == port and not one.exited:
                faults = self.of(one.spec.image)
                one.probes += 1
                if faults.exits_after is not None and one.probes >= faults.exits_after:
                    one.exited = True
                weak = faults.unhealthy_after is not None and one.probes >= faults.unhealthy_after
                if faults.healthy_after is not None and one.probes >= faults.healthy_after:
                    weak = False
                if faults.never_healthy or weak or one.spec.image in self.rotten:
                    return Health(False, "answered 503")
                return Health(True)
        return Health(False, "no answer")


class FakeRuntime:
    """Keeps the protocol of ``edge_agent.runtimes.base``."""

    def __init__(self, name: str, world: World) -> None:
        self.name = name
        self.world = world

    def prepare(self, image: Digest) -> None:
        if self.world.of(image).prepare_fails:
            raise NoSpaceError("no space left on the disk", where=f"image {image}")
        self.world.prepared.add((self.name, image))

    def mend(self, image: Digest) -> bool:
        if image not in self.world.rotten:
            return False
        self.world.rotten.remove(image)
        return True

    def start(self, spec: DesiredService) -> Instance:
        faults = self.world.of(spec.image)
        if (self.name, spec.image) not in self.world.prepared:
            raise NotFoundError("is not prepared", where=spec.image)
        if faults.start_fails:
            raise RuntimeFailedError("cannot be started", where=f"service {spec.name}", hint="look at its entrypoint")
        if faults.start_refused:
            raise IncompatibleError("its path has a colon", where=f"service {spec.name}", hint="use another folder")
        if faults.disk_full_at_start:
            raise NoSpaceError("no space left on the disk", where="its log")
        if any(one.spec.port == spec.port and not one.exited for one in self.world.running.values()):
            raise RuntimeFailedError(f"port {spec.port} cannot be used", where=f"service {spec.name}")
        self.world.log.append(f"start {spec.name}")
        self.world.running[self.name, spec.name] = Running(self.name, spec)
        return Instance(spec.name, spec.image, "running", spec.port)

    def stop(self, service: str, timeout: float = 10.0) -> None:
        if self.world.running.pop((self.name, service), None) is not None:
            self.world.log.append(f"stop {service}")

    def inspect(self, service: str) -> Instance | None:
        one = self.world.running.get((self.name, service))
        if one is None:
            return None
        return Instance(service, one.spec.image, "exited" if one.exited else "running", one.spec.port, 3)

    def logs(self, service: str, lines: int = 100, *, since_start: bool = False) -> str:
        return "starting\nlast \x1b[31mwords\x07\n\n"

    def follow(self, service: str, lines: int = 0) -> Iterator[str]:
        yield self.logs(service, lines)

    def watch(self, service: str) -> Watch | None:
        return None

    def forget_image(self, image: Digest) -> None:
        self.world.prepared.discard((self.name, image))


class FakeDevice(Device):
    """A real folder and a real state file; images and engines are the world's."""

    def __init__(self, root: Path, world: World, runtime: str = "auto") -> None:
        super().__init__(root, runtime)
        self.world = world

    def _chosen(self, name: str) -> Runtime:
        name = "docker" if name == "auto" else name
        if name in self.world.missing_engines:
            raise MissingPartError(f"{name} does not answer", hint="start it")
        return self._runtimes.setdefault(name, FakeRuntime(name, self.world))

    def manifest_of(self, image: Digest, platform: object = None) -> Digest:
        if image in self.world.absent:
            raise NotFoundError("was not imported", where=image)
        return image

    def check_signed(self, image: Digest, *, allow_unsigned: bool) -> None:
        if image in self.world.unsigned and not allow_unsigned:
            raise SignatureError("has no signature", where=image)


class PowerCutError(BaseException):
    """The agent is gone between two of its steps."""


@contextmanager
def power_cut(at: int, *, after: bool) -> Iterator[list[str]]:
    """Cut the agent off before, or after, the ``at``-th of its writes and effects; the list names them."""
    calls: list[str] = []
    patch = pytest.MonkeyPatch()

    def watched(owner: type, name: str) -> None:
        real: Callable[..., Any] = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            calls.append(name)
            mine = len(calls)
            if mine == at and not after:
                raise PowerCutError(name)
            try:
                return real(*args, **kwargs)
            finally:
                if mine == at and after:
                    raise PowerCutError(name)

        patch.setattr(owner, name, call)

    for name in ("begin", "moved", "stopping", "finish", "judge", "accept", "set_goal", "set_stage", "quarantine"):
        watched(StateFile, name)
    for name in ("prepare", "start", "stop"):
        watched(FakeRuntime, name)
    try:
        yield calls
    finally:
        patch.undo()


_listeners: list[list[tuple[str, str]]] = []
_kills: set[int | str] = set()


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if event == EVENT:
        for one in _listeners:
            one.append((arguments[0], arguments[1]))
            if _kills & {len(one), arguments[1]}:
                raise PowerCutError(arguments[1])


@contextmanager
def stages(cut_at: int = 0) -> Iterator[list[tuple[str, str]]]:
    """The services and stages that are recorded meanwhile; the agent is gone after the ``cut_at``-th of them."""
    if not _heard:
        sys.addaudithook(_hear)  # for good: one cannot be taken away again
        _heard.append(True)
    seen: list[tuple[str, str]] = []
    _listeners.append(seen)
    _kills.clear()
    if cut_at:
        _kills.add(cut_at)
    try:
        yield seen
    finally:
        _listeners.remove(seen)
        _kills.clear()


_heard: list[bool] = []


@contextmanager
def killed_in(stage: str) -> Iterator[None]:
    """Let the agent be gone whenever it has recorded ``stage``."""
    _kills.add(stage)
    try:
        yield
    finally:
        _kills.discard(stage)


class FakeFetcher:
    """Brings images that are absent, or fails as it is told to; one after the other."""

    def __init__(self, world: World, *errors: EdgepackError) -> None:
        self._world = world
        self._errors = list(errors)
        self.calls = 0

    def fetch(self, image: Digest, on_progress: OnProgress = unseen, *, names: Sequence[str] = ()) -> None:
        self.calls += 1
        on_progress(1, 2)
        if self._errors:
            raise self._errors.pop(0)
        self._world.absent.discard(image)
        self._world.unsigned.discard(image)
        on_progress(2, 2)


class Lab:
    """A device and its world. Every command is a new agent: nothing but folder and world outlives it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.world = World()
        self.now = 0.0
        self.relief = 0  # bytes that making room on the disk frees

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def device(self, runtime: str = "auto") -> FakeDevice:
        return FakeDevice(self.root, self.world, runtime)

    def runner(self, runtime: str = "auto", *, allow_unsigned: bool = False, reset_serial: bool = False) -> Runner:
        clock = Clock(lambda: self.now, self.sleep)
        return Runner(self.device(runtime), allow_unsigned=allow_unsigned, reset_serial=reset_serial, clock=clock)

    def apply(self, *services: DesiredService, serial: int | None = None, runtime: str = "auto") -> None:
        self.runner(runtime).apply(Desired(services, serial))

    def desire(self, *services: DesiredService, serial: int = 1) -> None:
        """Let a document of the device's own ask for ``services``."""
        for one in services:
            self.device().state.set_goal(one, "device", serial)

    def bring(
        self, name: str = "churn", fetcher: Fetcher | None = None, rules: Rules | None = None
    ) -> tuple[Stage, list[str]]:
        """Take a service to its goal as far as it goes; where it is then, and the stages on the way."""
        with stages() as seen:
            clock = Clock(lambda: self.now, self.sleep)
            stage = Runner(self.device(), clock=clock, rules=rules).bring(name, fetcher)
        return stage, [entered for service, entered in seen if service == name]

    def recover(self) -> dict[str, Stage]:
        """As an agent that starts."""
        return self.runner().recover()

    def goal(self, name: str = "churn") -> Goal:
        """What is desired of a service, and how far it is."""
        return self.device().state.goals()[name]

    def rollback(self, name: str = "churn") -> None:
        self.runner().rollback(name)

    def status(self, name: str = "churn") -> dict[str, object]:
        return {one.name: one.to_json() for one in status.status(self.device())}[name]

    def image_of(self, name: str = "churn") -> Digest | None:
        """What really runs; ``None`` for nothing, and never two of them."""
        found = self.world.runs(name)
        assert len(found) <= 1
        return found[0].spec.image if found else None


def service(image: Digest, name: str = "churn", port: int = 6789, **more: Any) -> DesiredService:
    """A service that is wanted."""
    return DesiredService(name, image, port, **more)


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    """A fresh device; import this fixture where it is used."""
    made = Lab(tmp_path / "device")
    monkeypatch.setattr(looking, "probe", made.world.probe)
    monkeypatch.setattr(bring, "relieve", lambda _: made.relief)
    monkeypatch.setattr(status, "probe", made.world.probe)
    return made
