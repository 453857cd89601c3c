"""What is written goes where its path leads: links stay, devices and pipes are written through."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack.errors import NoSpaceError, NotFoundError, UsageError
from edgepack.host.destinations import is_standard_output
from edgepack.host.files import atomic_write, replacing

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root makes device nodes and files of others")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def node(path: Path, minor: int) -> Path:
    os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, minor))
    return path


# ---- What is no regular file ----------------------------------------------------------------------------------------


@as_root
def test_a_device_is_written_through_and_stays(tmp_path: Path) -> None:
    null = node(tmp_path / "null", 3)
    (tmp_path / "link").symlink_to("null")
    for path in (null, tmp_path / "link"):
        atomic_write(path, b"gone")
    assert stat.S_ISCHR(null.lstat().st_mode)
    assert names(tmp_path) == ["link", "null"]


@as_root
def test_a_full_device_is_a_full_disk(tmp_path: Path) -> None:
    with pytest.raises(NoSpaceError):
        atomic_write(node(tmp_path / "full", 7), b"x" * 100_000)
    assert names(tmp_path) == ["full"]


def test_a_fifo_gets_the_bytes_and_stays(tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append(fifo.read_bytes()))
    reader.start()
    data = os.urandom(300_000)
    atomic_write(fifo, data)
    reader.join(30)
    assert read == [data]
    assert stat.S_ISFIFO(fifo.lstat().st_mode)
    assert names(tmp_path) == ["fifo"]


def test_a_socket_is_refused_and_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("s")
        with pytest.raises(UsageError, match="cannot write here"):
            atomic_write(tmp_path / "s", b"x")
    assert stat.S_ISSOCK((tmp_path / "s").lstat().st_mode)


OPEN_FILE = """
import sys
from pathlib import Path
from edgepack.host.destinations import is_standard_output
from edgepack.host.files import atomic_write
path = Path(sys.argv[1])
print("before", flush=True)
atomic_write(path, b"written\\n")
print("after" if is_standard_output(path) else "elsewhere", flush=True)
"""


@pytest.mark.parametrize("name", ["/proc/self/fd/1", "/dev/fd/1", "link", "/proc/thread-self/fd/1"])
@pytest.mark.parametrize("kind", ["pipe", "file"])
def test_standard_output_is_written_in_order_whatever_it_is(tmp_path: Path, name: str, kind: str) -> None:
    (tmp_path / "link").symlink_to("/proc/self/fd/1")
    path = tmp_path / name  # an absolute name stays what it is
    argv = [sys.executable, "-c", OPEN_FILE, str(path)]
    if kind == "pipe":
        shown = subprocess.run(argv, stdout=subprocess.PIPE, check=True, timeout=60).stdout
    else:  # as a shell's >> does: earlier content stays
        (tmp_path / "out").write_bytes(b"earlier\n")
        with (tmp_path / "out").open("ab") as out:
            subprocess.run(argv, stdout=out, check=True, timeout=60)
        earlier, _, shown = (tmp_path / "out").read_bytes().partition(b"\n")
        assert earlier == b"earlier"
    assert shown == b"before\nwritten\nafter\n"
    assert (tmp_path / "link").readlink() == Path("/proc/self/fd/1")


def test_a_number_that_is_not_open_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not an open file"):
        atomic_write(Path("/proc/self/fd/987"), b"x")


def test_another_file_is_not_standard_output(tmp_path: Path) -> None:
    atomic_write(tmp_path / "a", b"x")
    assert not is_standard_output(tmp_path / "a")
    assert not is_standard_output(tmp_path / "absent")
    assert not is_standard_output(None)


# ---- Links ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    for folder in ("a", "b", "b/deep"):
        (tmp_path / folder).mkdir()
    (tmp_path / "b/target").write_bytes(b"old")
    yield tmp_path
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.parametrize(
    ("link", "target", "real"),
    [
        ("a/link", "../b/target", "b/target"),
        ("a/link", "../b/new", "b/new"),
        ("a/link", "{}/b/target", "b/target"),
        ("a/link", "second", "b/target"),
        ("a/link", "below/../target", "b/target"),  # `below` is a link to b/deep
    ],
)
def test_a_link_stays_and_its_target_is_replaced(tree: Path, link: str, target: str, real: str) -> None:
    (tree / "a/second").symlink_to("../b/target")
    (tree / "a/below").symlink_to("../b/deep")
    (tree / link).symlink_to(target.format(tree))
    before = (tree / real).stat().st_ino if (tree / real).exists() else None
    atomic_write(tree / link, b"new")
    assert (tree / link).readlink() == Path(target.format(tree))
    assert (tree / real).read_bytes() == b"new"
    assert (tree / real).stat().st_ino != before
    assert not (tree / real).is_symlink()


def test_a_failed_write_leaves_the_links_target_as_it_was(tree: Path) -> None:
    (tree / "a/link").symlink_to("../b/target")

    def fail() -> None:
        with replacing(tree / "a/link") as file:
            file.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (tree / "b/target").read_bytes() == b"old"
    assert sorted(path.name for path in (tree / "b").iterdir()) == ["deep", "target"]


def test_what_a_killed_writer_left_beside_a_links_target_is_swept(tree: Path) -> None:
    (tree / "a/link").symlink_to("../b/target")
    code = (
        "import os, sys; from pathlib import Path; from edgepack.host.files import replacing\n"
        "with replacing(Path(sys.argv[1])) as file:\n"
        "    file.write(b'half'); file.flush(); os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code, str(tree / "a/link")], check=False, timeout=60)
    assert len(names(tree / "b")) == 3
    atomic_write(tree / "a/link", b"new")
    assert names(tree / "b") == ["deep", "target"]
    assert names(tree / "a") == ["link"]


def test_links_that_lead_nowhere_are_told(tree: Path) -> None:
    (tree / "a/loop").symlink_to("loop")
    (tree / "a/nowhere").symlink_to("absent/file")
    (tree / "a/folder").symlink_to("../b")
    with pytest.raises(UsageError, match="chain of links"):
        atomic_write(tree / "a/loop", b"x")
    with pytest.raises(NotFoundError, match="a/absent: there is no such folder"):
        atomic_write(tree / "a/nowhere", b"x")
    with pytest.raises(UsageError, match="is a folder"):
        atomic_write(tree / "a/folder", b"x")
    assert names(tree / "a") == ["folder", "loop", "nowhere"]


@as_root
def test_a_link_that_another_user_laid_out_is_not_followed(tree: Path) -> None:
    (tree / "a").chmod(0o1777)
    (tree / "a/link").symlink_to("../b/target")
    os.chown(tree / "a/link", 12345, 12345, follow_symlinks=False)
    with pytest.raises(UsageError, match="is a link of another user"):
        atomic_write(tree / "a/link", b"x")
    assert (tree / "b/target").read_bytes() == b"old"
    (tree / "a").chmod(0o755)
    atomic_write(tree / "a/link", b"new")
    assert (tree / "b/target").read_bytes() == b"new"
