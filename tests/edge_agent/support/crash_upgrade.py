"""The crash matrix of the agent's own upgrade: the real launcher, and two versions that are this agent.

Each version is a file that becomes the agent of this checkout. Both the job that brings the new version and the
launcher that tries it are killed wherever they put something on record. A service runs beside, and must answer.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sqlite3
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from edge_agent.config.configuration import Configuration
from edge_agent.jobs import upgrade
from edge_agent.sources.sources import Sources
from edge_agent.state.goals import AcceptedDocument
from edge_agent.upgrade import launch
from edge_agent.upgrade.versions import Versions
from edgepack.errors import EdgepackError
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Manifest
from edgepack.state.desired import Desired
from tests.edge_agent.support.agent import ROOT, Agent, Images
from tests.edge_agent.support.crash_faults import break_it, heal, kept_open, tear
from tests.edge_agent.support.crash_matrix import Bench, Row, clear, heard
from tests.edge_agent.support.crash_resident import OffDisk, resident
from tests.edge_agent.support.points import Points, in_fork

NEW = "agent-2"
OLD = "0" * 64
WHOLE = ["brought", "noted", "proposed", "trial 1", "current", "closed"]
# What a start records, by what was recorded last before the crash.
AFTER = {
    "": WHOLE,
    "brought": WHOLE,
    "noted": WHOLE[2:],
    "proposed": WHOLE[3:],
    "trial 1": ["trial 2", "current", "closed"],
    "current": ["closed"],
    "closed": [],
}
# What the job that brings the new version meets.
_MET = {
    "404": "NotFoundError", "500": "RegistryUnavailableError", "nothing": "RegistryUnavailableError",
    "wrong bytes": "VerificationError",
}  # fmt: skip
_NAMES = {"edge-agent.pyz": "brought", "image": "noted", "current": "current", "refused.json": "refused"}


def version(number: int) -> bytes:
    """A zip application that is the agent of this checkout."""
    code = (
        f"# {number}\nimport os, sys\nfrom pathlib import Path\n"
        "os.environ['EDGEPACK_LAUNCHER'] = str(Path(sys.argv[0]).absolute().parents[1] / 'edge-agent')\n"
        f"os.environ['PYTHONPATH'] = {str(ROOT)!r}\n"
        f"os.execv({sys.executable!r}, [{sys.executable!r}, '-P', '-m', 'edge_agent', *sys.argv[1:]])\n"
    )
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        archive.writestr(zipfile.ZipInfo("__main__.py"), code)
    return made.getvalue()


def add_agent(images: Images) -> None:
    """Make the image of the new version."""
    store = images.store
    layer = store.put_bytes(version(2), mediatypes.AGENT)
    config = ImageConfig(platform=Platform.host(), diff_ids=(layer.digest,))
    manifest = Manifest(store.put_bytes(config.to_bytes(), mediatypes.CONFIG), (layer,))
    image = store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST)
    store.tag(f"{NEW}:1", image)
    images.digests[NEW] = image.digest  # type: ignore[index]


def _device(bench: Bench) -> Agent:
    """A device with the agent as one file, and a service that runs, of which a newer agent is desired."""
    agent = bench.agent("gc")
    folder = agent.root / "agent"
    (folder / OLD).mkdir(parents=True)
    (folder / OLD / "edge-agent.pyz").write_bytes(version(1))
    shutil.copy(launch.__file__, folder / "edge-agent")
    (folder / "current").symlink_to(OLD)
    data = Desired((), 1, agent=bench.images.digests[NEW]).to_bytes()
    bench.device(agent.root).state.accept(AcceptedDocument("device", 1, Digest.of(data), data), ())
    return agent


def _bring(bench: Bench, agent: Agent) -> None:
    """As the agent's job does."""
    task: Any = SimpleNamespace(
        words=(str(bench.images.digests[NEW]), "1"), device=bench.device(agent.root),
        configuration=Configuration(state_dir=agent.root), tell=lambda **_: None,
    )  # fmt: skip
    upgrade.run(task)


def _launch(made: OffDisk) -> None:
    """As the device's start does: a version that is to be tried is, and then the current one would be started."""
    launch.main(made.device.root / "agent", ["run", "--config", str(made.file)])


def _prepared(bench: Bench) -> None:
    """In a fork: the sources of the bench, a short trial, and an end instead of the agent that stays."""
    Sources.of = lambda device, *_: bench.sources(device.root)  # type: ignore[method-assign, assignment]
    Versions.propose.__defaults__ = (60.0, 0.3, None)
    launch._start = lambda *_: None


def _hear(agent: Agent, into: Callable[[str], None]) -> None:
    """Tell what is recorded of the upgrade, in its order."""
    folder = str(agent.root / "agent")

    def hear(event: str, words: tuple[Any, ...]) -> None:
        if event == "os.rename" and os.fsdecode(words[1]).startswith(folder):
            name = Path(os.fsdecode(words[1])).name
            if name == "trial.json":
                starts = json.loads(Path(os.fsdecode(words[0])).read_bytes())["starts"]
                into(f"trial {starts}" if starts else "proposed")
            elif name in _NAMES:
                into(_NAMES[name])
        elif event == "os.remove" and os.fsdecode(words[0]) == f"{folder}/trial.json" and os.path.exists(words[0]):  # noqa: PTH110
            into("closed")

    sys.addaudithook(hear)


class UpgradePoints(Points):
    """As ``Points``, with what is recorded named by what it means."""

    def __init__(self, agent: Agent, at: int, log: Path) -> None:
        super().__init__(agent.root, at, log)
        self._agent = agent

    def install(self) -> None:
        _hear(self._agent, self._meant)
        super().install()

    def _meant(self, name: str) -> None:
        self._name = name

    def reach(self, name: str) -> None:
        # What is heard is about to happen: the point before it is the one after what was recorded last.
        super().reach(f"before {self._name}" if name.startswith(("rename agent", "remove agent")) else name)


def upgrade_points(bench: Bench) -> list[str]:
    """The points of an upgrade that goes well, in order."""
    agent = _device(bench)
    log = bench.folder.parent / "upgrade.log"
    log.unlink(missing_ok=True)
    try:
        with resident(bench, agent) as made:
            made.configure()
            _, error = in_fork(lambda: _whole(bench, agent, made), UpgradePoints(agent, 0, log).install)
            assert error is None, error
        return log.read_text().splitlines()
    finally:
        clear(bench, agent)


def _whole(bench: Bench, agent: Agent, made: OffDisk) -> None:
    _prepared(bench)
    _bring(bench, agent)
    _launch(made)


def _restart(bench: Bench, agent: Agent, made: OffDisk) -> tuple[list[str], str | None]:
    """The device starts: the launcher, then the job that the document asks for, then the launcher; what is recorded."""

    def run() -> list[str]:
        _prepared(bench)
        seen: list[str] = []
        _hear(agent, seen.append)
        _launch(made)
        bench.runner(agent.root).recover()
        try:
            _bring(bench, agent)
        except (EdgepackError, OSError) as error:
            seen.append(type(error).__name__)
        _launch(made)
        bench.start_again(agent.root)
        return seen

    return in_fork(run)


def try_upgrade(bench: Bench, at: int, fault: str, *, device_too: bool) -> Row:
    """Kill an upgrade at its ``at``-th point, start again with ``fault``, and then without."""
    agent = _device(bench)
    try:
        with resident(bench, agent, broker=fault == "broker gone") as made:
            made.configure()
            return _tried(bench, agent, made, at, fault, device_too=device_too)
    finally:
        heal(bench.simulator, bench.folder)
        clear(bench, agent)


def _tried(bench: Bench, agent: Agent, made: OffDisk, at: int, fault: str, *, device_too: bool) -> Row:
    log = bench.folder.parent / "upgrade.log"
    log.unlink(missing_ok=True)
    watch = UpgradePoints(agent, at, log)
    held: list[sqlite3.Connection] = []

    def prepare() -> None:
        watch.install()
        if fault == "torn write":
            held.append(kept_open(agent))

    _, error = in_fork(lambda: _whole(bench, agent, made), prepare)
    assert error == "killed", error
    names = log.read_text().splitlines()
    if fault == "torn write":
        tear(agent)
    if device_too:
        bench.down(agent)
    found = _found(names)
    where = (bench.runtime, "upgrade", f"{at} {names[-1]}", fault)
    assert heard(agent) == (None if device_too else "v1"), where
    break_it(bench.simulator, bench.folder, fault)
    chain, error = _restart(bench, agent, made)
    versions, new = Versions.of(agent.root), Digest.of(version(2)).hex
    assert versions.current in (OLD, new), (where, versions.current)
    if fault == "full disk":
        assert error is None or "NoSpaceError" in error, (where, error)
    else:
        assert error is None, (where, error)
        assert chain in expected(found, fault), (where, found, chain, made.log[-2000:])
    answers = heard(agent)
    assert answers == "v1" or error is not None, (where, found, chain)
    heal(bench.simulator, bench.folder)
    if versions.refused(new) is not None:  # a newer document asks for it again
        (agent.root / "agent" / "refused.json").unlink()
    _, error = _restart(bench, agent, made)
    assert error is None, (where, error)
    assert (versions.current, versions.trial, heard(agent)) == (new, None, "v1"), (where, chain, made.log[-2000:])
    return Row(*where, found or "-", tuple(chain or ()), answers, heard(agent))


def _found(names: list[str]) -> str:
    """What was recorded last when the process ended at the last of ``names``, before which it is."""
    meant = [name.removeprefix("before ") for name in names if name.startswith("before ")]
    ended = names[-1].startswith("before ")
    recorded = meant[:-1] if ended else meant
    return recorded[-1] if recorded else ""


def expected(found: str, fault: str) -> list[list[str]]:
    """The records of a start that finds ``found``: one list, or two where all may have come before the crash."""
    whole = AFTER[found]
    if found == "" and fault in ("404", "500", "nothing", "wrong bytes"):
        kinds = (
            "NotFoundError",
            "RegistryUnavailableError",
            "SourceGoneError",
            "VerificationError",
            "DigestMismatchError",
        )
        return [whole, *([kind] for kind in kinds)]
    return [whole]
