"""Files are there whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import click
import pytest

from edgepack.errors import NotFoundError, UsageError
from edgepack.host.console import report_errors
from edgepack.host.files import (
    BY_UMASK,
    atomic_write,
    discard,
    locked,
    make_dirs,
    mode_of_new_folder,
    replacing,
    sweep,
    temporary_beside,
)
from edgepack.host.scratch import scratch_folder, sweep_scratch


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_write_replaces_the_file_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic_write(path, b"old")

    atomic_write(path, b"new")

    assert path.read_bytes() == b"new"
    assert names(tmp_path) == ["a.json"]


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_umask_does_not_decide_the_mode(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        atomic_write(tmp_path / "key", b"secret", 0o600)
        atomic_write(tmp_path / "page", b"public", 0o644)
    finally:
        os.umask(before)

    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "page").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize(("umask", "mode"), [(0o000, 0o666), (0o027, 0o640), (0o077, 0o600)])
def test_what_is_written_for_the_user_has_the_mode_that_the_umask_leaves(tmp_path: Path, umask: int, mode: int) -> None:
    before = os.umask(umask)
    try:
        atomic_write(tmp_path / "report", b"1", BY_UMASK)
        with replacing(tmp_path / "bundle", BY_UMASK) as file:
            file.write(b"2")
        folder = mode_of_new_folder(tmp_path)
    finally:
        os.umask(before)

    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("report", "bundle")] == [mode, mode]
    assert folder == 0o777 & ~umask
    assert names(tmp_path) == ["bundle", "report"]


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    atomic_write(path, b"old")

    def fail_halfway() -> None:
        with replacing(path) as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()

    assert path.read_bytes() == b"old"
    assert names(tmp_path) == ["a.json"]


def test_what_a_killed_writer_left_is_swept_by_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    code = (
        "import os, sys; from pathlib import Path; from edgepack.host.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    assert len(names(tmp_path)) == 1
    assert not path.exists()

    atomic_write(path, b"new")

    assert names(tmp_path) == ["a.json"]


def test_a_living_writer_is_not_swept(tmp_path: Path) -> None:
    path = tmp_path / "a.json"

    with replacing(path) as file:
        file.write(b"first to begin, last to end")
        atomic_write(path, b"between")
        assert path.read_bytes() == b"between"

    assert path.read_bytes() == b"first to begin, last to end"
    assert names(tmp_path) == ["a.json"]


LEAVE = """
import os, sys; from pathlib import Path; from edgepack.host.files import discard, temporary_beside
target = Path(sys.argv[1])
with temporary_beside(target) as folder:
    (folder / "half").mkdir()
    if sys.argv[2] == "filling":
        os.kill(os.getpid(), 9)
    folder.rename(target)
os.fsync = lambda fd: os.kill(os.getpid(), 9)
discard(target)
"""


@pytest.mark.parametrize("killed", ["filling", "removing"])
@pytest.mark.parametrize("next_one", ["fills", "removes", "sweeps"])
def test_a_folder_that_a_killed_process_left_is_swept_by_the_next(tmp_path: Path, killed: str, next_one: str) -> None:
    target = tmp_path / "a [1]"
    subprocess.run([sys.executable, "-c", LEAVE, str(target), killed], check=False, timeout=60)
    (left,) = tmp_path.iterdir()
    assert (left / "half").is_dir()

    if next_one == "fills":
        with temporary_beside(target) as folder:
            assert names(tmp_path) == [folder.name]
            folder.rename(target)
        assert names(tmp_path) == [target.name]
        assert names(target) == []
    elif next_one == "removes":
        discard(target)
        assert names(tmp_path) == []
    else:
        sweep(tmp_path, ".*.tmp")
        assert names(tmp_path) == []


def test_a_folder_that_a_living_process_fills_is_not_swept(tmp_path: Path) -> None:
    with temporary_beside(tmp_path / "a") as first:
        with temporary_beside(tmp_path / "a") as second:
            assert names(tmp_path) == sorted([first.name, second.name])
        discard(tmp_path / "a")
        assert names(tmp_path) == [first.name]

    assert names(tmp_path) == []


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_the_umask_does_not_decide_who_enters_a_folder(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with temporary_beside(tmp_path / "a", 0o755) as open_to_all, temporary_beside(tmp_path / "b") as private:
            modes = [open_to_all.stat().st_mode & 0o777, private.stat().st_mode & 0o777]
    finally:
        os.umask(before)

    assert modes == [0o755, 0o700]


def test_impossible_targets_are_told_clearly(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    (tmp_path / "folder").mkdir()

    with pytest.raises(NotFoundError, match="no such folder"):
        atomic_write(tmp_path / "absent" / "a", b"")
    with pytest.raises(UsageError, match="is a folder"):
        atomic_write(tmp_path / "folder", b"")
    with pytest.raises(UsageError):
        atomic_write(tmp_path / "file" / "a", b"")
    with pytest.raises(UsageError):
        atomic_write(tmp_path / ("n" * 300), b"")
    with pytest.raises(UsageError, match="is a file where a folder is needed"):
        make_dirs(tmp_path / "file" / "below")


def test_a_lock_is_held_against_threads_and_freed_by_death(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import os, sys; from pathlib import Path; from edgepack.host.files import locked\n"
        "with locked(Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(path)], check=False)
    order = []

    def second() -> None:
        with locked(path):
            order.append("second")

    with locked(path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.2)
        order.append("first")
    thread.join(60)

    assert order == ["first", "second"]


def test_what_is_kept_recent_or_another_users_is_not_swept(tmp_path: Path) -> None:
    for name in ("a.tmp", "b.tmp", "c.tmp"):
        (tmp_path / name).write_bytes(b"")
    os.utime(tmp_path / "a.tmp", (1, 1))

    sweep(tmp_path, "*.tmp", idle_seconds=3600)
    assert names(tmp_path) == ["b.tmp", "c.tmp"]

    sweep(tmp_path, "*.tmp", keep=["c.tmp"])
    assert names(tmp_path) == ["c.tmp"]

    if os.geteuid() == 0:
        os.chown(tmp_path / "c.tmp", 12345, 12345)
        sweep(tmp_path, "*.tmp", own=True)
        assert names(tmp_path) == ["c.tmp"]


SCRATCH = """
import os, sys, tempfile
from edgepack.host.scratch import scratch_folder, sweep_scratch
with scratch_folder("test") as folder:
    (folder / "half").mkdir()
    print(folder, flush=True)
    if sys.argv[1] == "wait":
        sys.stdin.read()
    os.kill(os.getpid(), 9)
"""


def test_the_scratch_folder_of_a_killed_process_is_swept_by_the_next_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    environment = {**os.environ, "TMPDIR": str(tmp_path)}

    def start(word: str) -> tuple[subprocess.Popen[str], Path]:
        argv = [sys.executable, "-c", SCRATCH, word]
        process = subprocess.Popen(argv, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    living, used = start("wait")
    dead, left = start("go")
    dead.communicate()
    assert (used / "half").is_dir()
    assert (left / "half").is_dir()
    assert left.stat().st_mode & 0o777 == 0o700

    with scratch_folder("other") as folder:
        assert sorted(tmp_path.iterdir()) == sorted([used, folder])
    assert list(tmp_path.iterdir()) == [used]
    living.communicate()

    report_errors(click.Command("x", callback=lambda: None), "x", "X")
    assert list(tmp_path.iterdir()) == []


def test_sweeping_writes_nothing_and_never_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A full disk, or no folder for temporary files, must not keep a command from what it can do."""
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr("tempfile.gettempdir", lambda: pytest.fail("it writes a file to find out"))
    for name in ("TMPDIR", "TEMP", "TMP"):
        monkeypatch.setenv(name, str(tmp_path / "absent"))
    sweep_scratch()
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    (tmp_path / "edgepack-x.scratch").mkdir()
    sweep_scratch()
    assert list(tmp_path.iterdir()) == []
    sweep_scratch(tmp_path / "absent")


def test_only_living_processes_of_a_command_have_scratch_folders() -> None:
    """Folders of tempfile alone stay for ever when their process is killed."""
    rooms = Path(__file__).resolve().parents[2]
    # The launcher of the agent's versions uses nothing of any version; a socket is all that it leaves.
    inside_the_sandbox = ("tensorflow/", "boosters/", "optimize/", "bases/debian/__main__", "upgrade/launch")
    found = [
        str(path.relative_to(rooms))
        for room in ("edgepack", "packager", "converters", "edge_agent")
        for path in (rooms / room).rglob("*.py")
        if "TemporaryDirectory(" in path.read_text("utf-8")
    ]
    assert [name for name in found if not any(part in name for part in inside_the_sandbox)] == []
