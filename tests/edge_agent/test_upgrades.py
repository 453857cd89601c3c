"""Which agent is desired, and when the one that runs brings it and makes way."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent.daemon.upgrades import Upgrades
from edge_agent.jobs import upgrade
from edge_agent.reconcile.acceptance import WantedAgent, agent_of
from edge_agent.state.goals import AcceptedDocument
from edge_agent.upgrade import install
from edge_agent.upgrade.versions import LAUNCHED, TRIED, Versions
from edgepack.errors import InvalidDocumentError, NoSpaceError
from edgepack.oci.digest import Digest
from edgepack.state.desired import Desired
from edgepack.state.reported import Answer
from edgepack.state.topics import COMMAND, DEVICE, group_scope

ONE, TWO = Digest("1" * 64), Digest("2" * 64)


def document(scope: str, agent: Digest | None, sequence: int) -> AcceptedDocument:
    data = Desired((), 1, agent=agent).to_bytes()
    return AcceptedDocument(scope, 1, Digest.of(data), data, sequence)


def documents(*found: AcceptedDocument) -> dict[str, AcceptedDocument]:
    return {one.scope: one for one in found}


def test_a_desired_state_may_name_the_agent() -> None:
    desired = Desired((), 1, agent=ONE)
    assert Desired.from_bytes(desired.to_bytes()) == desired
    assert b"agent" not in replace(desired, agent=None).to_bytes()
    with pytest.raises(InvalidDocumentError, match="agent: 'edge-agent:1' is not a digest"):
        Desired.from_bytes(b'{"schema": "edgepack.desired/v1", "services": [], "agent": "edge-agent:1"}')


@pytest.mark.parametrize(
    ("found", "wanted"),
    [
        ((), None),
        ((document(DEVICE, None, 1),), None),
        ((document(group_scope("a"), ONE, 1),), WantedAgent(ONE, 1)),
        ((document(group_scope("other"), ONE, 1),), None),
        ((document(group_scope("b"), ONE, 2), document(group_scope("a"), TWO, 1)), WantedAgent(TWO, 1)),
        ((document(DEVICE, ONE, 1), document(group_scope("a"), TWO, 2)), WantedAgent(ONE, 1)),
        ((document(DEVICE, None, 3), document(group_scope("a"), TWO, 2)), WantedAgent(TWO, 2)),
        ((document(COMMAND, ONE, 3), document(DEVICE, TWO, 2)), WantedAgent(ONE, 3)),
        ((document(COMMAND, ONE, 3), document(DEVICE, TWO, 4)), WantedAgent(TWO, 4)),
    ],
)
def test_the_documents_say_which_agent_is_desired(
    found: tuple[AcceptedDocument, ...], wanted: WantedAgent | None
) -> None:
    assert agent_of(documents(*found), ("a", "b")) == wanted


class Jobs:
    """The jobs that were started, and the time."""

    def __init__(self) -> None:
        self.started: list[WantedAgent] = []
        self.now = 0.0
        self.works = True

    def start(self, wanted: WantedAgent) -> bool:
        self.started.append(wanted)
        return self.works


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "agent" / ("0" * 64)).mkdir(parents=True)
    (tmp_path / "agent" / "edge-agent").touch()
    (tmp_path / "agent" / "current").symlink_to("0" * 64)
    return tmp_path


def upgrades(root: Path, jobs: Jobs, environment: Mapping[str, str] | None = None) -> Upgrades:
    launched = {LAUNCHED: str(root / "agent" / "edge-agent")}
    return Upgrades(root, jobs.start, lambda: jobs.now, launched if environment is None else environment)


def test_what_is_desired_is_brought_once_and_again_after_a_failure(root: Path) -> None:
    jobs = Jobs()
    found = upgrades(root, jobs)
    found.go_on()
    found.look(documents(document(DEVICE, ONE, 1)), ())
    found.go_on()
    found.go_on()
    assert jobs.started == [WantedAgent(ONE, 1)]
    found.ended(1, {"error": "no source has it"})
    assert found.reason == "no source has it"
    found.go_on()
    assert len(jobs.started) == 1
    jobs.now = 31
    found.go_on()
    assert len(jobs.started) == 2
    found.ended(0, {})
    jobs.now = 99_999
    found.go_on()
    assert (len(jobs.started), found.reason) == (2, None)
    found.look(documents(document(DEVICE, TWO, 2)), ())
    jobs.works = False  # no memory, no processes
    found.go_on()
    found.go_on()
    assert len(jobs.started) == 3


def test_a_refused_version_is_told(root: Path) -> None:
    jobs = Jobs()
    found = upgrades(root, jobs)
    found.look(documents(document(DEVICE, ONE, 1)), ())
    found.go_on()
    found.ended(0, {"refused": "it was tried and given up: it hung"})
    assert found.reason == "it was tried and given up: it hung"
    (problem,) = found.problems
    assert (problem.status, problem.reason) == (Answer.FAILED, found.reason)


def test_it_makes_way_for_a_version_that_is_to_be_tried(root: Path) -> None:
    launched = {LAUNCHED: str(root / "agent" / "edge-agent")}
    found = upgrades(root, Jobs())
    assert not found.due
    Versions.of(root).propose("1" * 64)
    assert found.due
    assert not upgrades(root, Jobs(), {**launched, TRIED: "1" * 64}).due, "it is what is tried"
    assert not upgrades(root, Jobs(), {}).due, "nothing would start the other one"


def test_an_agent_that_is_not_one_file_says_so_and_does_nothing(tmp_path: Path) -> None:
    jobs = Jobs()
    found = upgrades(tmp_path, jobs)
    found.look(documents(document(DEVICE, ONE, 1)), ())
    found.go_on()
    assert jobs.started == []
    assert found.reason == "the agent was not installed as one file, so it cannot be exchanged"


class Task:
    """What a job is given, for a version that is here already."""

    def __init__(self, root: Path, *words: str) -> None:
        self.words = words
        self.device = type("Device", (), {"root": root})
        self.configuration: Any = None
        self.told: dict[str, Any] = {}

    def tell(self, **told: Any) -> None:
        self.told |= told


def test_a_version_that_was_given_back_is_tried_again_only_when_a_new_document_names_it(root: Path) -> None:
    versions = Versions.of(root)
    (versions.folder / ("1" * 64)).mkdir()
    (versions.folder / ("1" * 64) / "edge-agent.pyz").touch()
    versions.note_image("1" * 64, ONE)

    upgrade.run(Task(root, str(ONE), "7"))  # type: ignore[arg-type]
    assert versions.trial == "1" * 64
    (versions.folder / "trial.json").rename(versions.folder / "refused.json")
    text = (versions.folder / "refused.json").read_text()
    (versions.folder / "refused.json").write_text(text.replace("{", '{"reason": "it hung", ', 1))

    task = Task(root, str(ONE), "7")
    upgrade.run(task)  # type: ignore[arg-type]
    assert (versions.trial, task.told) == (None, {"refused": "it was tried and given up: it hung"})
    upgrade.run(Task(root, str(ONE), "8"))  # type: ignore[arg-type]
    assert versions.trial == "1" * 64


def test_the_version_that_runs_is_not_tried(root: Path) -> None:
    versions = Versions.of(root)
    (versions.folder / ("0" * 64) / "edge-agent.pyz").touch()
    versions.note_image("0" * 64, ONE)
    upgrade.run(Task(root, str(ONE), "7"))  # type: ignore[arg-type]
    assert versions.trial is None


def test_a_version_that_has_no_room_to_unpack_itself_is_not_tried_before_it_has(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = Versions.of(root)
    place = versions.folder / ("1" * 64)
    place.mkdir()
    with zipfile.ZipFile(place / "edge-agent.pyz", "w") as archive:
        archive.writestr("any/edge_agent/large", bytes(100_000))
        archive.writestr("cp39/of_another_python", bytes(100_000))
    versions.note_image("1" * 64, ONE)
    monkeypatch.setattr(install, "free", lambda _: 50_000)
    said = "104096 bytes are needed to unpack the agent, and 50000 are free"
    with pytest.raises(NoSpaceError, match=said):
        upgrade.run(Task(root, str(ONE), "7"))  # type: ignore[arg-type]
    assert (versions.trial, versions.refused("1" * 64)) == (None, None)
    monkeypatch.setattr(install, "free", lambda _: 150_000)
    upgrade.run(Task(root, str(ONE), "7"))  # type: ignore[arg-type]
    assert versions.trial == "1" * 64
