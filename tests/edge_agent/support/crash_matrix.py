"""The crash matrix: the agent is killed where something is put on record, and started again, with a fault or without.

Each operation runs in a fork on a real device with a real runtime, and ends itself with SIGKILL at its n-th point:
after a stage or a transaction is recorded, and before a file gets its name or is removed.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edge_agent.config.configuration import RegistrySource
from edge_agent.device import Device
from edge_agent.reconcile.probe import alive, probe
from edge_agent.reconcile.progress import EVENT
from edge_agent.reconcile.runner import Runner
from edge_agent.reconcile.space import collect
from edge_agent.sources.meter import Caps
from edge_agent.sources.sources import Sources
from edge_agent.state.file import DatabaseFile
from edge_agent.state.goals import Stage
from edgepack.bundle.read import import_bundle
from edgepack.errors import EdgepackError
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.graph import walk
from edgepack.signing.statement import attach
from edgepack.state.desired import DesiredService
from edgepack.state.reported import ServiceState
from tests.edge_agent.support.agent import Agent, Images
from tests.edgepack.support.registry_simulator import Simulator
from tests.support.ports import free_port
from tests.support.waiting import wait_until

NAME = "churn"
CAPS = Caps(
    stalled_seconds=0, first_wait=0.01, longest_wait=0.02, attempts=2, backoff=0.01, read_timeout=1
)  # fmt: skip
FAULTS = ("none", "full disk", "torn write", "1970", "404", "500", "nothing", "slow", "wrong bytes")
REGISTRY_FAULTS = FAULTS[4:]
OPERATIONS = ("install", "update", "rollback", "gc", "pull", "import")
# What follows a crash in each stage, of a service that was healthy before, and of one that was not there.
PROVEN = ["Switching", "Probation", "Done"]
AFTER = {
    "Wanted": ["Downloading", "Staged", *PROVEN],
    "Downloading": ["Staged", *PROVEN],
    "Staged": PROVEN,
    "Switching": ["Returning", "Wanted", "Staged", *PROVEN],
    "Probation": ["Probation", "Done"],
    "Returning": ["Returning", "Done"],
    "Done": [],
}
AFTER_INSTALL = AFTER | {"Switching": ["Wanted", "Staged", *PROVEN]}


@dataclass(frozen=True)
class Row:
    """One case of the matrix, and what came of it."""

    runtime: str
    operation: str
    point: str
    fault: str
    found: str
    chain: tuple[str, ...]
    answers: str | None
    end: str | None

    def __str__(self) -> str:
        words = (self.runtime, self.operation, self.point, self.fault, self.found, " ".join(self.chain))
        return " | ".join((*words, self.answers or "-", self.end or "-"))


@dataclass
class Bench:
    """Where cases are tried: images, a registry that has them, a runtime, and a folder for devices."""

    folder: Path
    images: Images
    simulator: Simulator
    runtime: str = "process"
    stock: dict[str, Path] = field(default_factory=dict)

    def agent(self, operation: str) -> Agent:
        """A device as it is before ``operation``."""
        root = self.folder / "device"
        if operation not in self.stock:
            made = Agent(self.folder / f"stock-{operation}", self.images, 1)
            names = {"rollback": ("v1", "v2"), "gc": ("v1", "v2", "absent"), "install": ()}.get(operation, ("v1",))
            made.ok("trust", str(self.images.folder / "key.pub"))
            if names:
                made.ok("import", str(self.images.bundle(*names)))
            self.stock[operation] = made.root
        shutil.copytree(self.stock[operation], root, symlinks=True)
        agent = Agent(root, self.images, free_port())
        for name in {"install": (), "rollback": ("v1", "v2")}.get(operation, ("v1",)):
            _, error = in_fork(lambda name=name: self.runner(root).deploy(self.spec(agent, name)))  # type: ignore[misc]
            assert error is None, error
        return agent

    @property
    def kind(self) -> str:
        """What the agent calls the runtime."""
        return {"podman": "docker", "runc": "crun"}.get(self.runtime, self.runtime)

    def device(self, root: Path) -> Device:
        return Device(root, self.kind)

    def down(self, agent: Agent) -> None:
        """Let nothing run any more."""
        if self.runtime != "process":
            in_fork(lambda: self.device(agent.root).runtime_named(self.kind).stop(NAME, 0.1))
        agent.close()

    def runner(self, root: Path) -> Runner:
        return Runner(self.device(root))

    def sources(self, root: Path) -> Sources:
        registry = RegistrySource(f"127.0.0.1:{self.simulator.port}", plain_http=True)
        return Sources(self.device(root), [registry], floor_bytes=0, caps=CAPS)

    def spec(self, agent: Agent, image: str, probation: float = 0.0) -> DesiredService:
        return DesiredService(
            NAME, self.images.digests[image], agent.port, probation_seconds=probation, health_interval_seconds=1.0
        )

    def desire(self, agent: Agent, operation: str) -> None:
        """What the operation is asked to do, on record before it begins."""
        if operation in ("install", "update"):
            image = "v1" if operation == "install" else "v2"
            self.device(agent.root).state.set_goal(self.spec(agent, image, 0.2), "device", 1)

    def operate(self, agent: Agent, operation: str) -> None:
        """Do it, from the start or from where it was interrupted."""
        root = agent.root
        device = self.device(root)
        if operation in ("install", "update"):
            self.runner(root).bring(NAME, self.sources(root))
        elif operation == "rollback":
            self.runner(root).rollback(NAME)
        elif operation == "gc":
            with device.changing():
                collect(device, dry_run=False)
        elif operation == "pull":
            self.sources(root).fetch(self.images.digests["v2"], names=[NAME])
        else:
            with device.receiving():
                import_bundle(
                    self.images.bundle("v2"), device.store, device.trust.keys(), platform=Platform.host()
                )  # fmt: skip

    def restart(self, agent: Agent, *, clock: bool = False) -> tuple[list[str], str | None]:
        """The agent starts again: the stages that are recorded then, and what went wrong."""

        def run() -> list[str]:
            if clock:
                begun = time.monotonic()
                time.time = lambda: time.monotonic() - begun
            seen: list[str] = []
            sys.addaudithook(lambda event, words: seen.append(words[1]) if event == EVENT else None)
            self.runner(agent.root).recover()
            for name in self.device(agent.root).state.goals():
                self.runner(agent.root).bring(name, self.sources(agent.root))
            self._start_again(agent.root)
            return seen

        return in_fork(run)

    def _start_again(self, root: Path) -> None:
        """As the resident agent does after the start of a device."""
        device = self.device(root)
        for name, record in device.state.services().items():
            runtime = device.runtime_named(record.runtime)
            if record.state is ServiceState.HEALTHY and not alive(runtime.inspect(name)).healthy:
                with device.using(name):
                    device.make_room()
                    image = device.manifest_of(record.current.spec.image)
                    runtime.prepare(image)
                    runtime.start(replace(record.current.spec, image=image))
                wait_until(lambda: probe("127.0.0.1", record.current.spec.port, "/").healthy)  # noqa: B023 - at once

    def goal(self, agent: Agent) -> Stage | None:
        """The stage that is on record."""
        _, wanted = self.device(agent.root).recorded()
        return None if NAME not in wanted.goals else wanted.goals[NAME].stage


def in_fork(job: Callable[[], Any], prepare: Callable[[], None] | None = None) -> tuple[Any, str | None]:
    """What ``job`` returns in a process of its own, and the error that it raised, or ``killed``."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            os.close(reading)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            if prepare is not None:
                prepare()
            answer: tuple[Any, str | None]
            try:
                answer = (job(), None)
            except (EdgepackError, OSError) as error:
                answer = (None, f"{type(error).__name__}: {error}")
            os.write(writing, json.dumps(answer).encode() if _plain(answer) else json.dumps([None, answer[1]]).encode())
            code = 0
        finally:
            os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as file:
        data = file.read()
    _, status = os.waitpid(pid, 0)
    if not data:
        return None, "killed" if os.WIFSIGNALED(status) else f"ended with {status}"
    value, error = json.loads(data)
    return value, error


def _plain(answer: tuple[Any, str | None]) -> bool:
    return answer[0] is None or isinstance(answer[0], list)


class Points:
    """The points of an operation, counted; the process ends at the ``at``-th."""

    def __init__(self, root: Path, at: int, log: Path) -> None:
        self._root = str(root)
        self._at = at
        self._log = log
        self._count = 0

    def install(self) -> None:
        """Watch this process, a fork that ends with the operation."""
        real = DatabaseFile._transaction

        @contextmanager
        def transaction(this: Any) -> Iterator[sqlite3.Connection]:
            with real(this) as db:
                yield db
            self.reach("transaction")

        DatabaseFile._transaction = transaction  # type: ignore[method-assign, assignment]
        sys.addaudithook(self._hear)

    def _hear(self, event: str, words: tuple[Any, ...]) -> None:
        if event == EVENT:
            self.reach(words[1])
        elif event in ("os.rename", "os.remove"):
            path = os.fsdecode(words[1] if event == "os.rename" else words[0])
            if path.startswith(self._root):
                self.reach(f"{event[3:]} {path[len(self._root) + 1 :].partition('/')[0]}")

    def reach(self, name: str) -> None:
        self._count += 1
        fd = os.open(self._log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        os.write(fd, f"{name}\n".encode())
        os.close(fd)
        if self._count == self._at:
            os.kill(os.getpid(), signal.SIGKILL)


def points(bench: Bench, operation: str) -> list[str]:
    """The points of ``operation`` that goes well, in order."""
    agent = bench.agent(operation)
    try:
        bench.desire(agent, operation)
        log = bench.folder / "log"
        log.unlink(missing_ok=True)
        watch = Points(agent.root, 0, log)
        _, error = in_fork(lambda: bench.operate(agent, operation), watch.install)
        assert error is None, (operation, error)
        found = log.read_text().splitlines()
        log.unlink()
        return found
    finally:
        clear(bench, agent)


def clear(bench: Bench, agent: Agent) -> None:
    """Stop what runs, and remove the device."""
    bench.down(agent)

    def forget() -> None:
        for image in bench.images.digests.values():
            with contextlib.suppress(EdgepackError):
                bench.device(agent.root).runtime_named(bench.kind).forget_image(image)

    if bench.kind == "docker":
        in_fork(forget)
    shutil.rmtree(agent.root)


def try_case(bench: Bench, operation: str, at: int, fault: str = "none", *, device_too: bool = False) -> Row:
    """Kill ``operation`` at its ``at``-th point, start again with ``fault``, and then without; what came of it."""
    agent = bench.agent(operation)
    try:
        return _tried(bench, agent, operation, at, fault, device_too=device_too)
    finally:
        heal(bench, fault, agent)
        clear(bench, agent)


def _tried(bench: Bench, agent: Agent, operation: str, at: int, fault: str, *, device_too: bool) -> Row:
    old, new = {"install": (None, "v1"), "update": ("v1", "v2"), "rollback": ("v2", "v1")}.get(operation, ("v1", "v1"))
    bench.desire(agent, operation)
    log = bench.folder / "log"
    log.unlink(missing_ok=True)
    watch = Points(agent.root, at, log)
    held: list[sqlite3.Connection] = []

    def prepare() -> None:
        watch.install()
        if fault == "torn write":
            held.append(_kept_open(agent))

    _, error = in_fork(lambda: bench.operate(agent, operation), prepare)
    assert error == "killed", error
    name = log.read_text().splitlines()[-1]
    if fault == "torn write":
        tear(agent)
    if device_too:
        bench.down(agent)
    found = bench.goal(agent)
    where = (bench.runtime, operation, f"{at} {name}", fault)
    break_it(bench, fault, agent)
    chain, error = bench.restart(agent, clock=fault == "1970")
    if fault == "full disk":
        # It may be that nothing can be recorded; what runs is another question.
        assert error is None or "NoSpaceError" in error, (where, error)
    else:
        assert error is None, (where, error)
        assert chain == expected(bench, agent, operation, found, fault, chain), (where, found, chain)
    answers = heard(agent)
    assert answers in (old, new) or error is not None, (where, found, chain, answers)
    heal(bench, fault, agent)
    if operation in ("install", "update") and bench.goal(agent) is Stage.FAILED:
        bench.device(agent.root).state.set_goal(bench.spec(agent, str(new), 0.2), "device", 2)  # a newer document
    _, error = bench.restart(agent)
    assert error is None, (where, error)
    if operation not in ("install", "update"):
        if operation != "rollback" or heard(agent) != new:
            _, error = in_fork(lambda: bench.operate(agent, operation))
            assert error is None, (where, error)
        if operation in ("pull", "import"):
            assert has(bench, agent, "v2"), where
    assert heard(agent) == new, (where, found, chain, heard(agent))
    return Row(*where, found.value if found is not None else "-", tuple(chain or ()), answers, heard(agent))


def expected(
    bench: Bench, agent: Agent, operation: str, found: Stage | None, fault: str, chain: list[str]
) -> list[str]:
    """The stages that are to be recorded by a start that finds ``found``."""
    if operation in ("gc", "pull", "import") or found is None:
        return []
    whole = (AFTER_INSTALL if operation == "install" else AFTER)[found.value]
    if operation == "rollback" and found in (Stage.WANTED, Stage.STAGED):
        return ["Staged", "Switching", "Done"] if found is Stage.WANTED else ["Switching", "Done"]
    if found in (Stage.WANTED, Stage.DOWNLOADING) and fault in ("404", "500", "nothing", "wrong bytes"):
        end = "Failed" if fault in ("404", "wrong bytes") else "Waiting"
        here = ["Downloading"] if found is Stage.WANTED else []
        # All of it may have come before the crash.
        return whole if chain and chain[-1] == "Done" else [*here, end]
    if found is Stage.WANTED and chain[:1] == ["Staged"]:
        return whole[1:]
    return whole


def heard(agent: Agent) -> str | None:
    """What the service says that it is."""
    try:
        return agent.answer()
    except OSError:
        return None


def has(bench: Bench, agent: Agent, image: str) -> bool:
    """Whether the device has all of an image, whole."""
    store = bench.device(agent.root).store
    root = bench.images.store.describe(bench.images.digests[image])
    return all(store.check(one) for one in walk(bench.images.store, root))


def _kept_open(agent: Agent) -> sqlite3.Connection:
    """A connection that keeps what is written to the database in its log, as it is while a transaction is written."""
    db = sqlite3.connect(agent.root / "state/agent.db")
    db.execute("SELECT COUNT(*) FROM sqlite_master").fetchall()
    return db


def tear(agent: Agent) -> None:
    """Cut off the end of what was written last: of the database's log, or of what is being downloaded."""
    files = [agent.root / "state/agent.db-wal", *(agent.root / "store/ingest").glob("*.partial")]
    there = [path for path in files if path.exists() and path.stat().st_size > 100]
    if there:
        last = max(there, key=lambda path: path.stat().st_mtime_ns)
        os.truncate(last, last.stat().st_size - 100)


def break_it(bench: Bench, fault: str, agent: Agent) -> None:
    """Bring about the fault."""
    simulator = bench.simulator
    if fault == "404":
        simulator.manifests, bench.simulator.hidden = {}, simulator.manifests  # type: ignore[attr-defined]
    elif fault == "500":
        simulator.busy = [(500, None)] * 1000
    elif fault == "nothing":
        simulator.silent = True
    elif fault == "slow":
        simulator.piece_seconds = 0.05
    elif fault == "wrong bytes":
        simulator.altered = set(simulator.blobs)
    elif fault == "full disk":
        with (bench.folder / "ballast").open("ab", buffering=0) as file:
            for size in (1 << 20, 4096, 512, 1):
                with contextlib.suppress(OSError):
                    while True:
                        file.write(bytes(size))


def heal(bench: Bench, fault: str, agent: Agent) -> None:
    """Take the fault away again."""
    simulator = bench.simulator
    if hasattr(simulator, "hidden"):
        simulator.manifests = simulator.hidden
        del simulator.hidden
    simulator.busy, simulator.silent, simulator.piece_seconds, simulator.altered = [], False, 0.0, set()
    (bench.folder / "ballast").unlink(missing_ok=True)


def publish(images: Images, simulator: Simulator, *names: str) -> None:
    """Put images into the registry, signed."""
    simulator.referrers_api = True
    for name in names:
        root = images.store.describe(images.digests[name])
        attach(images.store, root, f"{name}:1", images.key)
        for one in (root, *images.store.referrers(images.digests[name])):
            for part in walk(images.store, one):
                data = images.store.path(part.digest).read_bytes()
                if part.media_type in mediatypes.MANIFESTS | mediatypes.INDEXES:
                    simulator.put_manifest(NAME, part.digest.hex, data, part.media_type)
                else:
                    simulator.blobs[str(part.digest)] = data


__all__ = ["FAULTS", "OPERATIONS", "REGISTRY_FAULTS", "Bench", "Digest", "Row", "points", "publish", "try_case"]
