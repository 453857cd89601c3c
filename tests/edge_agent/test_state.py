"""The state file: what is there after each write, for a new reader, and after a kill at any moment."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from edge_agent.state.database import StateFile, read_services, read_state
from edge_agent.state.records import Outcome, ServiceRecord
from edgepack.errors import EdgepackError, NoSpaceError, UsageError
from edgepack.oci.digest import Digest
from edgepack.state.reported import ServiceState
from edgepack.state.service_auth import KeyAuth
from tests.edge_agent.support.fake_runtime import V1, V2, V3, image, service
from tests.support.sampling import times

ROOT = Path(__file__).parents[2]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "agent.db"


def read(path: Path) -> ServiceRecord:
    """As the next process sees it."""
    return StateFile(path).services()["churn"]


def healthy(path: Path, image: Digest, *, returning: bool = False, **fields: object) -> None:
    state = StateFile(path)
    state.finish(
        state.begin(service(image, **fields), "process", returning=returning),
        Outcome.HEALTHY, ServiceState.HEALTHY, None,
    )  # fmt: skip


def test_a_new_file_knows_nothing(path: Path) -> None:
    assert (StateFile(path).services(), StateFile(path).serial()) == ({}, None)


def test_what_is_begun_is_there_before_anything_happens(path: Path) -> None:
    healthy(path, V1)
    spec = service(V2, env={"LEVEL": "debug"}, memory_bytes=1 << 30, cpus=0.5, health_timeout_seconds=7.5)
    StateFile(path).begin(spec, "crun", holder="process")

    found = read(path)
    assert (found.state, found.runtime, found.current.spec) == (ServiceState.TRANSITIONING, "process", spec)
    assert (found.current.outcome, found.current.runtime) == (Outcome.TRYING, "crun")
    assert found.last_good is not None
    assert found.last_good.spec.image == V1
    StateFile(path).moved(found.current)
    assert read(path).runtime == "crun"


def test_what_failed_is_never_what_a_rollback_returns_to(path: Path) -> None:
    healthy(path, V1)
    state = StateFile(path)
    state.finish(state.begin(service(V2), "process"), Outcome.FAILED, ServiceState.FAILED, "it exited with code 1")
    found = read(path)
    assert (found.state, found.reason, found.last_good and found.last_good.spec.image) == (
        ServiceState.FAILED, "it exited with code 1", V1,
    )  # fmt: skip
    healthy(path, V3)
    last = read(path).last_good
    assert last is not None
    assert last.spec.image == V1


def test_a_return_gives_up_newer_images_only_when_it_is_healthy(path: Path) -> None:
    for one in (V1, V2, V3):
        healthy(path, one)
    state = StateFile(path)
    back = state.begin(service(V2), "process", returning=True)
    between = read(path)
    assert between.last_good == back
    assert [one.spec.image for one in between.healthy] == [V3, V2, V1]
    state.finish(back, Outcome.HEALTHY, ServiceState.HEALTHY, None)
    after = read(path)
    assert [one.spec.image for one in after.healthy] == [V2, V2, V1]
    assert after.last_good is not None
    assert after.last_good.spec.image == V1


def test_no_return_brings_a_replaced_key_back(path: Path) -> None:
    old, new = (KeyAuth(f"sha256:{letter * 64}", f"sha256:{'b' * 64}") for letter in "ac")
    healthy(path, V1, auth=old)
    healthy(path, V2, auth=old)
    StateFile(path).begin(service(V2, auth=new), "process")
    assert [one.spec.auth for one in read(path).healthy] == [old, old]
    healthy(path, V2, auth=new)
    assert {one.spec.auth for one in read(path).healthy} == {new}
    assert read(path).last_good is not None
    healthy(path, V3)  # which asks for nothing: what asked for keys asks for them when it is returned to
    assert [one.spec.auth for one in read(path).healthy][:2] == [None, new]


def test_stopping_is_written_down_first(path: Path) -> None:
    healthy(path, V1)
    StateFile(path).stopping(read(path))

    assert (read(path).state, read(path).current.outcome) == (ServiceState.TRANSITIONING, Outcome.HEALTHY)


def test_the_past_is_kept_short_and_the_last_good_image_however_long_ago(path: Path) -> None:
    healthy(path, V1)
    for number in range(60):
        healthy(path, V2, env={"N": str(number)})
    with sqlite3.connect(path) as db:
        (count,) = db.execute("SELECT COUNT(*) FROM deployments").fetchone()
    db.close()

    assert count <= 41
    last = read(path).last_good
    assert last is not None
    assert last.spec.image == V1


def test_the_serial_is_kept(path: Path) -> None:
    StateFile(path).set_serial(4, V1)
    StateFile(path).set_serial((1 << 63) - 1, V2)

    assert StateFile(path).serial() == ((1 << 63) - 1, V2)


WRITER = """
import sys
from pathlib import Path
from edge_agent.state.records import Outcome
from edge_agent.state.database import StateFile, read_services
from edgepack.state.desired import DesiredService
from edgepack.oci.digest import Digest
from edgepack.state.reported import ServiceState
state = StateFile(Path(sys.argv[1]))
for number in range(1_000_000):
    spec = DesiredService("churn", Digest.of(str(number).encode()), 6789)
    state.finish(state.begin(spec, "process"), Outcome.HEALTHY, ServiceState.HEALTHY, str(number))
    sys.stdout.write(f"{number}\\n")
    sys.stdout.flush()
"""


def test_a_killed_writer_loses_nothing_that_it_was_told_is_written(path: Path) -> None:
    for _ in range(4):
        path.unlink(missing_ok=True)
        for side in ("-wal", "-shm"):
            Path(f"{path}{side}").unlink(missing_ok=True)
        writer = subprocess.Popen([sys.executable, "-c", WRITER, str(path)], stdout=subprocess.PIPE, cwd=ROOT)
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(5)]
        time.sleep(int.from_bytes(os.urandom(1)) / 5000)
        writer.send_signal(signal.SIGKILL)
        told += [int(line) for line in writer.stdout.read().split()]
        writer.wait()
        found = read(path)
        at = next(n for n in range(told[-1] + 3) if found.current.spec.image == image(str(n)))
        assert at >= told[-1]
        if found.state is ServiceState.HEALTHY:
            assert (found.reason, found.current.outcome) == (str(at), Outcome.HEALTHY)
        else:
            assert (found.state, found.current.outcome) == (ServiceState.TRANSITIONING, Outcome.TRYING)


def test_many_may_open_a_new_file_at_once(path: Path) -> None:
    wrong: list[Exception] = []

    def open_and_write(number: int) -> None:
        try:
            StateFile(path).begin(service(V1, f"service-{number}", 7000 + number), "process")
        except EdgepackError as error:
            wrong.append(error)

    threads = [threading.Thread(target=open_and_write, args=(number,)) for number in range(8)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()

    assert wrong == []
    assert len(StateFile(path).services()) == 8


def test_a_damaged_file_is_told_of(path: Path) -> None:
    path.write_bytes(b"garbage" * 1000)

    with pytest.raises(EdgepackError, match="damaged") as caught:
        StateFile(path)
    assert caught.value.hint is not None


def test_the_file_of_a_later_version_is_left_alone(path: Path) -> None:
    StateFile(path)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = path.read_bytes()

    with pytest.raises(EdgepackError, match="another version"):
        StateFile(path)
    assert path.read_bytes() == before


def test_a_folder_that_is_not_there_is_wrong_usage(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be opened"):
        StateFile(tmp_path / "no" / "agent.db")


def test_a_full_disk_is_told_of_and_leaves_what_was(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    healthy(path, V1)
    real = sqlite3.connect

    def small(*args: object, **kwargs: object) -> sqlite3.Connection:
        db = real(*args, **kwargs)  # type: ignore[call-overload]
        (pages,) = db.execute("PRAGMA page_count").fetchone()
        db.execute(f"PRAGMA max_page_count = {pages}")
        return db  # type: ignore[no-any-return]

    monkeypatch.setattr(sqlite3, "connect", small)
    with pytest.raises(NoSpaceError, match="no space left"):
        StateFile(path).begin(service(V2, env={"A": "x" * 100_000}), "process")
    monkeypatch.undo()
    assert read(path).current.spec.image == V1


@pytest.mark.parametrize("end", ["closed", "in the log", "cut off", "rotten", "log of garbage", "being changed"])
def test_what_is_read_without_writing_is_what_sqlite_reads(path: Path, tmp_path: Path, end: str) -> None:
    """Byte for byte, whatever became of the write-ahead log."""
    for number in range(30):
        healthy(path, V1, env={"N": str(number) * 500})
    if end != "closed":
        state, held = StateFile(path), sqlite3.connect(path, isolation_level=None)
        for number in range(30):
            healthy(path, V2, env={"N": str(number) * 500})
        held.execute("BEGIN")
        held.execute("SELECT * FROM services").fetchall()
        healthy(path, V3)
        assert state.services()
    copy = tmp_path / "copy" / path.name
    copy.parent.mkdir()
    for side in ("", "-wal"):
        if Path(f"{path}{side}").exists():
            Path(f"{copy}{side}").write_bytes(Path(f"{path}{side}").read_bytes())
    log = Path(f"{copy}-wal")
    assert log.exists() == (end != "closed")
    if end == "cut off":
        log.write_bytes(log.read_bytes()[:-2000])
    elif end == "rotten":
        data = log.read_bytes()
        log.write_bytes(data[:-9000] + bytes([data[-9000] ^ 1]) + data[-8999:])
    elif end == "log of garbage":
        log.write_bytes(b"garbage" * 1000)
    elif end == "being changed":
        held.execute("COMMIT")
        held.execute("BEGIN IMMEDIATE")
        held.execute("UPDATE services SET reason = 'never committed'")
    before = {one: one.read_bytes() for one in copy.parent.iterdir()}
    found = read_services(copy)
    assert {one: one.read_bytes() for one in copy.parent.iterdir()} == before
    assert found["churn"].current.spec.env is not None
    assert found == StateFile(copy).services()
    if end in ("in the log", "being changed"):
        assert found["churn"].current.spec.image == V3
        assert read_services(path) == found
    if end != "closed":
        held.close()


DAMAGES = {
    "garbage": lambda data: b"garbage" * 1000,
    "half": lambda data: data[: len(data) // 2],
    "a page of zeros": lambda data: data[:4096] + bytes(4096) + data[8192:],
    "an altered table": lambda data: data.replace(b"TABLE services", b"TABLE servicez"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_whatever_damaged_it_is_told_of_with_a_way_out(path: Path, name: str) -> None:
    path = path.parent / "state" / path.name
    path.parent.mkdir()
    for number in range(30):
        healthy(path, V1, env={"N": str(number) * 500})
    damaged = DAMAGES[name](path.read_bytes())
    for read_all in (read_services, lambda where: StateFile(where).services()):
        path.write_bytes(damaged)
        with pytest.raises(EdgepackError, match=r"damaged.*run: mv .*/state .*/state\.damaged, and apply") as caught:
            read_all(path)
        assert caught.value.exit_code == 1


def all_of(path: Path) -> tuple[Any, ...]:
    state = StateFile(path)
    return read_state(path), state.services(), state.serial(), state.past(), state.wanted()


def test_no_altered_byte_changes_what_is_on_record_in_silence(path: Path) -> None:
    """Which is read as it was, or named as damage with the way out, by readers and writers; whichever byte it is."""
    for number, image_ in enumerate((V1, V2)):
        healthy(path, image_, env={"KEY": "value"})
        StateFile(path).set_serial(number, V3)
        StateFile(path).set_goal(service(image_), "device", number)
        StateFile(path).quarantine(V3, "it crashes")
    good, wanted = path.read_bytes(), all_of(path)
    drawn = random.Random(1)  # noqa: S311 - no secret
    used = [at for at, byte in enumerate(good) if byte]
    for at in drawn.sample(used, times(len(used), 200)):
        data = bytearray(good)
        data[at] ^= 1 << drawn.randrange(8)
        for left in path.parent.glob("agent.db*"):
            left.unlink()
        path.write_bytes(data)
        told = ""
        try:
            assert all_of(path) == wanted, at
        except EdgepackError as error:
            told = str(error)
        if told:
            # The number of the version is a byte too.
            assert "the device's state is damaged" in told or "by another version of edge-agent" in told, (at, told)
            assert "mv " in told, (at, told)
        # Writing does not make it good.
        with contextlib.suppress(EdgepackError):
            StateFile(path).clear_serial()
            assert read_services(path) == wanted[0][0], (at, told)
