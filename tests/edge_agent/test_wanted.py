"""What is desired, in the device's database: documents, goals, quarantine, time; and version 1 brought along."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent.reconcile.acceptance import Receiver, judge
from edge_agent.state.clock import Uptime, WallTime
from edge_agent.state.database import StateFile, read_services, read_state
from edge_agent.state.goals import AcceptedDocument, Goal, Stage
from edge_agent.state.records import Outcome
from edgepack.errors import EdgepackError, NoSpaceError
from edgepack.oci.digest import Digest
from edgepack.state.desired import Desired, DesiredService
from edgepack.state.reported import Answer, ServiceState
from edgepack.state.topics import COMMAND, DEVICE
from tests.edge_agent.support.fake_runtime import V1, V2, V3, service

ROOT = Path(__file__).parents[2]
# Written by the agent of version 1 in every state that it could leave, one of them as a kill left it with its log.
OLD = Path(__file__).with_name("support") / "version1.tar.xz"
RECEIVER = Receiver("press-1", ("site",))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "agent.db"


@pytest.fixture
def state(path: Path) -> StateFile:
    path.parent.mkdir()
    return StateFile(path)


def accepted(state: StateFile, scope: str, serial: int, *specs: DesiredService, **more: Any) -> None:
    found = state.decide(lambda wanted: judge(Desired(specs, serial, **more), scope, RECEIVER, wanted))
    assert found.refusal is None


def again(state: StateFile) -> StateFile:
    """As the next process sees it."""
    return StateFile(state._path)


def test_a_new_file_desires_nothing(state: StateFile, path: Path) -> None:
    wanted = state.wanted()
    assert (wanted.documents, wanted.goals, wanted.refused, wanted.quarantined, wanted.session) == ({}, {}, {}, {}, 0)
    assert read_state(path) == ({}, wanted)


def test_a_document_and_its_goals_are_there_at_once(state: StateFile) -> None:
    accepted(state, DEVICE, 4, service(V1), service(V2, "other", 7000))
    document = Desired((service(V1), service(V2, "other", 7000)), 4).to_bytes()

    assert again(state).documents() == {DEVICE: AcceptedDocument(DEVICE, 4, Digest.of(document), document)}
    assert again(state).goals() == {
        "churn": Goal(service(V1), DEVICE, 4), "other": Goal(service(V2, "other", 7000), DEVICE, 4),
    }  # fmt: skip


def test_a_service_that_a_document_leaves_as_it_is_goes_on_where_it_is(state: StateFile) -> None:
    accepted(state, DEVICE, 1, service(V1), service(V1, "other", 7000))
    for name in ("churn", "other"):
        state.set_stage(name, Stage.DOWNLOADING, "10 of 20 MB", counted=True)
    before = state.goals()
    accepted(state, DEVICE, 2, service(V1), service(V2, "other", 7000))
    after = again(state).goals()

    assert after["churn"] == replace(before["churn"], serial=2)
    assert after["churn"].number == before["churn"].number
    assert after["other"] == Goal(service(V2, "other", 7000), DEVICE, 2)
    assert after["other"].number not in {one.number for one in before.values()}


def test_what_failed_is_tried_again_when_a_new_document_names_it_and_not_before(state: StateFile) -> None:
    accepted(state, DEVICE, 1, service(V1))
    state.quarantine(V1, "it crashes")
    state.set_stage("churn", Stage.FAILED, "it crashes", counted=True)
    accepted(state, "group site", 5, service(V2, "other", 7000))
    accepted(state, DEVICE, 1, service(V1))
    assert again(state).goals()["churn"] == Goal(service(V1), DEVICE, 1, Stage.FAILED, 1, "it crashes", Answer.FAILED)
    assert again(state).quarantined() == {V1: "it crashes"}
    accepted(state, DEVICE, 2, service(V1))
    assert again(state).goals()["churn"] == Goal(service(V1), DEVICE, 2)
    assert again(state).quarantined() == {}


def test_what_an_operator_asks_for_again_begins_again(state: StateFile) -> None:
    first = state.set_goal(service(V1), COMMAND, None)
    state.set_stage("churn", Stage.DONE)
    state.quarantine(V1, "it crashed once")
    second = state.set_goal(service(V1), COMMAND, None)
    assert (second.stage, second.number > first.number, state.quarantined()) == (Stage.WANTED, True, {})
    state.set_stage("churn", Stage.DONE)
    state.accept(AcceptedDocument(COMMAND, None, V3, b"", 9), [Goal(service(V1), COMMAND, None, sequence=9)])
    assert state.goals()["churn"].stage is Stage.WANTED


def test_a_stage_counts_its_failures_and_belongs_to_its_goal(state: StateFile) -> None:
    goal = state.set_goal(service(V1), COMMAND, 3)
    assert state.set_stage("churn", Stage.SWITCHING, number=goal.number) == replace(goal, stage=Stage.SWITCHING)
    for count in (1, 2):
        found = state.set_stage("churn", Stage.WANTED, "it exited", counted=True, number=goal.number)
        assert found is not None
        assert (found.attempts, found.reason) == (count, "it exited")
    assert again(state).goals()["churn"] == Goal(service(V1), COMMAND, 3, Stage.WANTED, 2, "it exited")
    # What finishes late must not say of another goal that it is done.
    state.set_goal(service(V2), COMMAND, 4)
    assert state.set_stage("churn", Stage.DONE, number=goal.number) is None
    assert state.set_stage("nobody", Stage.DONE) is None
    assert again(state).goals() == {"churn": Goal(service(V2), COMMAND, 4)}


def test_starts_are_counted(state: StateFile) -> None:
    assert [again(state).next_session() for _ in range(3)] == [1, 2, 3]
    assert state.wanted().session == 3


def test_the_time_never_goes_back_and_1970_changes_nothing(state: StateFile) -> None:
    now = 1_790_000_000.0
    assert state.time_floor(now) == now
    assert now <= again(state).time_floor(0.0) < now + 60
    assert state.time_floor(now + 90) == now + 90
    # What was signed is late enough to be believed; what was signed earlier is not news.
    accepted(state, DEVICE, 1, signed_at=int(now) + 86400)
    assert 0 <= again(state).time_floor(3.0) - (now + 86400) < 60
    accepted(state, DEVICE, 2, signed_at=100)
    assert 0 <= again(state).time_floor(3.0) - (now + 86400) < 60
    # Signed again it is the same document, and a later time.
    accepted(state, DEVICE, 2, signed_at=int(now) + 2 * 86400)
    assert 0 <= again(state).time_floor(3.0) - (now + 2 * 86400) < 60
    # The way out where a clock once was far ahead.
    state.accept(AcceptedDocument(COMMAND, None, V1, b"", 5), [], reset=True)
    assert again(state).time_floor(now) == now


def test_the_time_of_day_goes_on_from_what_was_known() -> None:
    found = WallTime(1_790_000_000.0, 50.0)
    assert found.now(clock=100.0, monotonic=60.0) == 1_790_000_010.0
    assert found.now(clock=1_790_000_500.0, monotonic=70.0) == 1_790_000_500.0
    # The clock went back: the time does not.
    assert found.now(clock=100.0, monotonic=71.0) == 1_790_000_501.0
    found = WallTime(time.time(), time.monotonic())
    found.learn(4_000_000_000.0)
    found.learn(100.0)
    assert found.now() >= 4_000_000_000.0
    assert WallTime(0.0, time.monotonic()).now() >= time.time() - 1


def test_on_a_device_without_a_clock_the_time_goes_on_in_every_process_and_over_starts(state: StateFile) -> None:
    known = 1_790_000_000.0
    state.time_floor(known, Uptime("first", 10.0))
    assert again(state).time_floor(5.0, Uptime("first", 310.0)) == known + 300
    assert again(state).time_floor(9.0, Uptime("first", 1010.0)) == known + 1000
    # Of the second boot nobody knows how long after the first one it is.
    assert again(state).time_floor(3.0, Uptime("second", 4.0)) == known + 1000
    assert again(state).time_floor(3.0, Uptime("", 0.0)) == known + 1000


def test_the_time_is_written_seldom(state: StateFile, path: Path) -> None:
    state.time_floor(1_790_000_000.0)
    before = path.read_bytes()
    for second in range(0, 600, 30):
        state.time_floor(1_790_000_000.0 + second)
    assert path.read_bytes() == before


def test_what_two_accept_at_once_is_all_there(state: StateFile) -> None:
    """Each decides by what the others have written."""

    def send(number: int) -> None:
        accepted(StateFile(state._path), "group site" if number % 2 else DEVICE, number + 1,
                 service(V1, f"service-{number % 2}", 7000 + number % 2))  # fmt: skip

    wrong: list[BaseException] = []

    def tried(number: int) -> None:
        try:
            send(number)
        except AssertionError as error:  # an older serial came second
            wrong.append(error)

    threads = [threading.Thread(target=tried, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    found = state.documents()
    assert {scope: one.serial for scope, one in found.items()} == {DEVICE: 7, "group site": 8}
    assert len({one.sequence for one in found.values()}) == 2
    assert state.goals().keys() == {"service-0", "service-1"}


CHANGES: dict[str, Callable[[StateFile], object]] = {
    "accept": lambda state: accepted(state, DEVICE, 2, service(V2), service(V3, "third", 7002)),
    "set_goal": lambda state: state.set_goal(service(V3), COMMAND, None),
    "set_stage": lambda state: state.set_stage("churn", Stage.SWITCHING, "now", counted=True),
    "quarantine": lambda state: state.quarantine(V1, "it crashes"),
    "refuse": lambda state: accepted_or_refused(state),
}


def accepted_or_refused(state: StateFile) -> None:
    state.decide(lambda wanted: judge(Desired((), 0), DEVICE, RECEIVER, wanted))


@pytest.mark.parametrize("name", CHANGES)
def test_of_a_write_that_was_torn_all_is_there_or_nothing(state: StateFile, path: Path, name: str) -> None:
    """Cut at every boundary in the log and between them: by both readers, and without damage."""
    accepted(state, DEVICE, 1, service(V1))
    held = sqlite3.connect(path, isolation_level=None)
    held.execute("SELECT * FROM facts").fetchall()  # keeps the log from being moved into the database
    state.set_stage("churn", Stage.DOWNLOADING)
    log = Path(f"{path}-wal")
    length, before = log.stat().st_size, read_state(path)
    CHANGES[name](state)
    after, data, database = read_state(path), log.read_bytes(), path.read_bytes()
    held.close()
    assert after != before
    ends = {*range(length, len(data) + 1, 1024), *(end + 24 for end in range(length, len(data), 4120)), len(data) - 1}
    copy = path.parent.parent / "copy" / path.name
    for end in sorted(end for end in ends if end <= len(data)):
        shutil.rmtree(copy.parent, ignore_errors=True)
        copy.parent.mkdir()
        copy.write_bytes(database)
        Path(f"{copy}-wal").write_bytes(data[:end])
        expected = after if end == len(data) else before
        assert read_state(copy) == expected, end
        assert (StateFile(copy).services(), StateFile(copy).wanted()) == expected, end


def test_a_full_disk_leaves_what_was(state: StateFile, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accepted(state, DEVICE, 1, service(V1))
    before = read_state(path)
    real = sqlite3.connect

    def small(*args: object, **kwargs: object) -> sqlite3.Connection:
        db = real(*args, **kwargs)  # type: ignore[call-overload]
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
        return db  # type: ignore[no-any-return]

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(NoSpaceError, match="no space left"):
        accepted(state, DEVICE, 2, service(V2, env={"A": "x" * 100_000}))
    monkeypatch.undo()
    assert read_state(path) == before
    accepted(state, DEVICE, 2, service(V2))


WRITER = """
import sys
from pathlib import Path
from edge_agent.reconcile.acceptance import Receiver, judge
from edge_agent.state.database import StateFile
from edge_agent.state.goals import Stage
from edgepack.oci.digest import Digest
from edgepack.state.desired import Desired, DesiredService
state = StateFile(Path(sys.argv[1]))
for number in range(1, 1_000_000):
    desired = Desired((DesiredService("churn", Digest.of(str(number).encode()), 6789),), number)
    state.decide(lambda wanted: judge(desired, "device", Receiver("d"), wanted))
    state.set_stage("churn", Stage.SWITCHING)
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_a_killed_writer_leaves_a_document_with_its_goals(path: Path) -> None:
    path.parent.mkdir()
    writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=ROOT)
    assert writer.stdout is not None
    told = [int(writer.stdout.readline()) for _ in range(20)]
    writer.send_signal(signal.SIGKILL)
    told += [int(line) for line in writer.stdout.read().split()]
    writer.wait()
    wanted = StateFile(path).wanted()
    document, goal = wanted.documents[DEVICE], wanted.goals["churn"]
    assert (document.serial or 0) >= told[-1]
    assert (goal.serial, goal.spec.image) == (document.serial, Digest.of(str(document.serial).encode()))
    assert goal.stage in (Stage.WANTED, Stage.SWITCHING)


def test_an_altered_byte_of_a_document_is_damage(state: StateFile, path: Path) -> None:
    accepted(state, DEVICE, 1, service(V1, env={"LEVEL": "debug"}))
    data = path.read_bytes()
    at = data.index(b'"LEVEL":"debug"')
    path.write_bytes(data[:at] + data[at:].replace(b"debug", b"dEbug", 1))
    for read in (read_state, lambda where: StateFile(where).wanted()):
        with pytest.raises(EdgepackError, match=r"damaged.*run: mv "):
            read(path)


def test_a_number_of_a_version_that_is_lost_is_damage(state: StateFile, path: Path) -> None:
    accepted(state, DEVICE, 1, service(V1))
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 0")
    db.close()
    for read in (read_state, read_services, StateFile):
        with pytest.raises(EdgepackError, match="the number of its version is missing"):
            read(path)


@pytest.fixture(scope="module")
def old(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("old")
    with tarfile.open(OLD) as archive:
        archive.extractall(folder, filter="data")
    return folder


# What an operator's goals become of it: stage, image by its name, status; and the serial.
MIGRATED: dict[str, tuple[dict[str, tuple[Stage, Digest, str]], int | None]] = {
    "empty": ({}, None),
    "serial": ({"churn": (Stage.DONE, V2, "running")}, 7),
    "several": (
        {
            "bad": (Stage.FAILED, V3, "running"), "churn": (Stage.DONE, V1, "running"),
            "other": (Stage.DONE, V2, "stopped"), "third": (Stage.DONE, V3, "running"),
        },
        None,
    ),
    "trying": ({"churn": (Stage.SWITCHING, V2, "running")}, 1),
    "first": ({"churn": (Stage.SWITCHING, V1, "running")}, None),
    "returning": ({"churn": (Stage.RETURNING, V1, "running")}, None),
    "stopping": ({"churn": (Stage.WANTED, V1, "stopped")}, None),
    "returned": ({"churn": (Stage.DONE, V1, "running")}, None),
    "long": ({"churn": (Stage.DONE, V2, "running")}, None),
    "unhashed": ({"churn": (Stage.DONE, V1, "running")}, 3),
    "killed": ({"churn": (Stage.SWITCHING, V3, "running")}, 2),
}  # fmt: skip


def brought(old: Path, name: str, path: Path) -> Path:
    """The database of version 1 called ``name``, with its log if it has one, as ``path``."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for side in ("", "-wal"):
        if Path(f"{old / name}.db{side}").exists():
            shutil.copyfile(f"{old / name}.db{side}", f"{path}{side}")
    return path


def test_every_database_of_version_1_is_tried(old: Path) -> None:
    assert {one.name.removesuffix(".db") for one in old.glob("*.db")} == MIGRATED.keys()
    assert (old / "killed.db-wal").exists()


@pytest.mark.parametrize("name", MIGRATED)
def test_a_database_of_version_1_is_read_and_migrated_with_all_that_it_has(old: Path, path: Path, name: str) -> None:
    brought(old, name, path)
    before = {one.name: one.read_bytes() for one in path.parent.iterdir()}
    read = read_state(path)
    assert {one.name: one.read_bytes() for one in path.parent.iterdir()} == before, "reading writes nothing"
    with sqlite3.connect(f"file:{brought(old, name, path.parent / 'raw' / 'agent.db')}", uri=True) as db:
        records = db.execute("SELECT name, state, reason, deployment FROM services ORDER BY name").fetchall()
        deployments = db.execute("SELECT id, spec, runtime, outcome FROM deployments ORDER BY id").fetchall()
    db.close()

    state = StateFile(path)
    assert (state.services(), state.wanted()) == read
    assert read_state(path) == read
    assert [(one.name, one.state, one.reason, one.current.id) for one in state.services().values()] == records
    with sqlite3.connect(path) as db:
        assert db.execute("SELECT id, spec, runtime, outcome FROM deployments ORDER BY id").fetchall() == deployments
        assert db.execute("PRAGMA user_version").fetchone() == (2,)
    db.close()
    goals, serial = MIGRATED[name]
    found = state.goals()
    assert {one.service: (one.stage, one.spec.image, one.spec.status) for one in found.values()} == goals
    assert {one.origin for one in found.values()} <= {COMMAND}
    assert {one.serial for one in found.values()} <= {serial}
    assert {scope: one.serial for scope, one in state.documents().items()} == (
        {} if serial is None else {COMMAND: serial}
    )
    # And it can be written to.
    state.set_goal(service(V1, "new", 7100), COMMAND, None)
    accepted(state, DEVICE, 1, service(V2, "churn"))
    assert again(state).goals()["churn"].origin == DEVICE
    assert read_state(path)[1].goals.keys() == goals.keys() | {"new", "churn"}


@pytest.mark.parametrize("name", ["serial", "several", "killed"])
def test_a_migration_that_is_cut_off_is_done_again(
    old: Path, path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each of its statements, by a full disk or a power cut; the records are readable in between."""
    brought(old, name, path)
    wanted = read_state(path)
    real = sqlite3.connect
    statements = 0

    class Cut(sqlite3.Connection):
        left = 1 << 30

        def execute(self, sql: str, *args: Any) -> sqlite3.Cursor:
            nonlocal statements
            statements += 1
            Cut.left -= 1
            if Cut.left < 0:
                raise KeyboardInterrupt
            return super().execute(sql, *args)

    monkeypatch.setattr(sqlite3, "connect", lambda *args, **more: real(*args, **more, factory=Cut))
    copy = path.parent / "whole.db"
    for side in ("", "-wal"):
        if Path(f"{path}{side}").exists():
            shutil.copyfile(f"{path}{side}", f"{copy}{side}")
    StateFile(copy)
    for at in range(statements):
        Cut.left = at
        with pytest.raises(KeyboardInterrupt):
            StateFile(path)
        Cut.left = 1 << 30
        assert read_state(path) == wanted, at
    StateFile(path)
    assert read_state(path) == wanted


def test_altered_bytes_of_version_1_are_damage_and_not_migrated(old: Path, path: Path) -> None:
    brought(old, "serial", path)
    data = path.read_bytes()
    path.write_bytes(data.replace(b"healthy", b"failed ", 1))
    for read in (read_state, StateFile):
        with pytest.raises(EdgepackError, match="its records are not those that were written"):
            read(path)
    assert path.read_bytes().count(b"failed ") == 1


def test_records_without_a_hash_get_it(old: Path, path: Path) -> None:
    StateFile(brought(old, "unhashed", path))
    data = path.read_bytes()
    assert data.count(b"healthy") == 1
    path.write_bytes(data.replace(b"healthy", b"failed "))
    with pytest.raises(EdgepackError, match="its records are not those that were written"):
        read_state(path)


def test_a_removed_service_keeps_what_a_rollback_needs(state: StateFile) -> None:
    for image in (V1, V2):
        state.finish(state.begin(service(image), "process"), Outcome.HEALTHY, ServiceState.HEALTHY, None)
    record = state.services()["churn"]
    state.stopping(record)
    state.finish(record.current, Outcome.HEALTHY, ServiceState.REMOVED, None)
    found = again(state).services()["churn"]
    assert found.last_good is not None
    assert (found.state, found.last_good.spec.image) == (ServiceState.REMOVED, V2)
