"""The crash matrix: the agent is killed where something is put on record, and started again, with a fault or without.

Each operation runs in a fork on a real device with a real runtime, and ends itself with SIGKILL at its n-th point:
after a stage or a transaction is recorded, and before a file gets its name or is removed.
"""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edge_agent.config.configuration import RegistrySource
from edge_agent.device import Device
from edge_agent.reconcile.probe import alive, probe
from edge_agent.reconcile.progress import EVENT
from edge_agent.reconcile.runner import Runner
from edge_agent.reconcile.space import collect
from edge_agent.sources.meter import Caps
from edge_agent.sources.sources import Sources
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
from tests.edge_agent.support.crash_faults import break_it, heal, kept_open, tear
from tests.edge_agent.support.points import Points, in_fork
from tests.edgepack.support.registry_simulator import Simulator
from tests.support.ports import free_port
from tests.support.waiting import wait_until

NAME = "churn"
CAPS = Caps(
    stalled_seconds=0, first_wait=0.01, longest_wait=0.02, attempts=2, backoff=0.01, read_timeout=1
)  # fmt: skip
REGISTRY_FAULTS = ("404", "500", "nothing", "slow", "wrong bytes")
FAULTS = ("none", "full disk", "torn write", "1970", *REGISTRY_FAULTS)
COLUMNS = (*FAULTS, "broker gone", "full at start", "job killed")
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


HEAD = (
    "runtime | operation | killed at | fault | stage on record | stages after the start | answers | answers at the end"
)


def table(lines: Sequence[str]) -> list[str]:
    """The rows with their head, what failed, and how many cases there were of each fault on each runtime."""
    rows = [line for line in lines if not line.startswith("FAILED")]
    failed = [line for line in lines if line.startswith("FAILED")]
    counts = Counter((words[0], words[1], words[3]) for words in (row.split(" | ") for row in rows))
    faults = [one for one in COLUMNS if any(fault == one for _, _, fault in counts)]
    sums = [" | ".join(("runtime", "operation", *faults, "all"))]
    for runtime, operation in dict.fromkeys(key[:2] for key in counts):
        numbers = [counts[runtime, operation, fault] for fault in faults]
        sums.append(" | ".join((runtime, operation, *map(str, numbers), str(sum(numbers)))))
    return [HEAD, *sorted(rows), "", *sums, "", f"{len(rows)} cases ended in old or new, {len(failed)} failed", *failed]


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

    def warm(self) -> None:
        """Let an engine have the layers that all images share, once for all cases."""
        if self.kind == "docker":
            root = self.folder / "warm"
            device = self.device(root)
            device.create()
            shutil.copytree(self.images.store.root, device.store.root)
            _, error = in_fork(lambda: device.runtime_named(self.kind).prepare(self.images.digests["absent"]))
            assert error is None, error
            shutil.rmtree(root)

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
            self.start_again(agent.root)
            return seen

        return in_fork(run)

    def start_again(self, root: Path) -> None:
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

    def reason(self, agent: Agent) -> str | None:
        """Why the service is as it is."""
        services, wanted = self.device(agent.root).recorded()
        found = [one.reason for one in (*wanted.goals.values(), *services.values()) if one.reason]
        return "; ".join(found) or None

    def goal(self, agent: Agent) -> Stage | None:
        """The stage that is on record."""
        _, wanted = self.device(agent.root).recorded()
        return None if NAME not in wanted.goals else wanted.goals[NAME].stage


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
        for image in (bench.images.digests[name] for name in ("v1", "v2")):
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
        heal(bench.simulator, bench.folder)
        clear(bench, agent)


def old_and_new(operation: str) -> tuple[str | None, str]:
    """What answers before ``operation``, and after it."""
    known: dict[str, tuple[str | None, str]] = {
        "install": (None, "v1"), "update": ("v1", "v2"), "rollback": ("v2", "v1"),
    }  # fmt: skip
    return known.get(operation, ("v1", "v1"))


def killed_at(bench: Bench, agent: Agent, operation: str, at: int, *, torn: bool = False) -> str:
    """Ask for ``operation``, and kill it at its ``at``-th point; what that is called. ``torn``: its last write too."""
    bench.desire(agent, operation)
    log = bench.folder / "log"
    log.unlink(missing_ok=True)
    watch = Points(agent.root, at, log)
    held: list[sqlite3.Connection] = []

    def prepare() -> None:
        watch.install()
        if torn:
            held.append(kept_open(agent))

    _, error = in_fork(lambda: bench.operate(agent, operation), prepare)
    assert error == "killed", error
    if torn:
        tear(agent)
    return log.read_text().splitlines()[-1]


def finished(bench: Bench, agent: Agent, operation: str, where: tuple[str, ...]) -> None:
    """See that, with nothing in the way, all of ``operation`` is done in the end."""
    new = old_and_new(operation)[1]
    if operation in ("install", "update") and bench.goal(agent) is Stage.FAILED:
        bench.device(agent.root).state.set_goal(bench.spec(agent, new, 0.2), "device", 2)  # a newer document
    _, error = bench.restart(agent)
    assert error is None, (where, error)
    if operation not in ("install", "update"):
        if operation != "rollback" or heard(agent) != new:
            _, error = in_fork(lambda: bench.operate(agent, operation))
            assert error is None, (where, error)
        if operation in ("pull", "import"):
            assert has(bench, agent, "v2"), where
    assert heard(agent) == new, (where, heard(agent), bench.reason(agent))


def _tried(bench: Bench, agent: Agent, operation: str, at: int, fault: str, *, device_too: bool) -> Row:
    old, new = old_and_new(operation)
    name = killed_at(bench, agent, operation, at, torn=fault == "torn write")
    if device_too:
        bench.down(agent)
    found = bench.goal(agent)
    where = (bench.runtime, operation, f"{at} {name}", fault)
    break_it(bench.simulator, bench.folder, fault)
    chain, error = bench.restart(agent, clock=fault == "1970")
    if fault == "full disk":
        # It may be that nothing can be recorded; what runs is another question.
        assert error is None or "NoSpaceError" in error, (where, error)
    else:
        assert error is None, (where, error)
        assert chain == expected(bench, agent, operation, found, fault, chain), (
            where,
            found,
            chain,
            bench.reason(agent),
        )
    answers = heard(agent)
    assert answers in (old, new) or error is not None, (where, found, chain, answers, bench.reason(agent))
    heal(bench.simulator, bench.folder)
    finished(bench, agent, operation, where)
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


def publish(images: Images, simulator: Simulator, *names: str, repository: str = NAME) -> None:
    """Put images into the registry, signed."""
    simulator.referrers_api = True
    for name in names:
        root = images.store.describe(images.digests[name])
        attach(images.store, root, f"{name}:1", images.key)
        for one in (root, *images.store.referrers(images.digests[name])):
            for part in walk(images.store, one):
                data = images.store.path(part.digest).read_bytes()
                if part.media_type in mediatypes.MANIFESTS | mediatypes.INDEXES:
                    simulator.put_manifest(repository, part.digest.hex, data, part.media_type)
                else:
                    simulator.blobs[str(part.digest)] = data


__all__ = ["FAULTS", "OPERATIONS", "REGISTRY_FAULTS", "Bench", "Digest", "Row", "points", "publish", "try_case"]
