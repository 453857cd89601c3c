"""File systems and locales that answer otherwise: NFS, disks that fail, names that the locale cannot write."""

from __future__ import annotations

import errno
import fcntl
import io
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgepack.host.encoding import print_anything
from edgepack.host.files import atomic_write, discard, locked, make_dirs, sweep, temporary_beside
from edgepack.host.locks import is_locked, locked_within
from edgepack.oci.store import Store


@pytest.fixture
def nfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """As NFSv4 mounts answer: exclusive locks need an open for writing, folders are neither locked nor synced."""
    flock, fsync = fcntl.flock, os.fsync

    def nfs_flock(fd: int, operation: int) -> None:
        writable = fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE != os.O_RDONLY
        if stat.S_ISDIR(os.fstat(fd).st_mode) or (operation & fcntl.LOCK_EX and not writable):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        flock(fd, operation)

    def nfs_fsync(fd: int) -> None:
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(fd)

    monkeypatch.setattr(fcntl, "flock", nfs_flock)
    monkeypatch.setattr(os, "fsync", nfs_fsync)


@pytest.mark.usefixtures("nfs")
def test_a_store_works_on_nfs(tmp_path: Path) -> None:
    make_dirs(tmp_path / "a" / "b", 0o700)
    store = Store.create(tmp_path / "store")
    one = store.put_bytes(b"x", "text/plain")
    with store.writer() as blob:
        blob.write(b"y")
        blob.commit()
    store.tag("a:1", one)
    assert store.resolve("a:1").digest == one.digest
    with locked(tmp_path / "lock"), locked_within(tmp_path / "other", 1, print):
        assert is_locked(tmp_path / "lock")
    with temporary_beside(tmp_path / "tree") as temporary:
        temporary.rename(tmp_path / "tree")
    discard(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


@pytest.mark.usefixtures("nfs")
def test_what_a_killed_process_left_is_removed_on_nfs(tmp_path: Path) -> None:
    (tmp_path / "old.tmp").mkdir()
    (tmp_path / "new.tmp").mkdir()
    (tmp_path / "file.tmp").touch()
    os.utime(tmp_path / "old.tmp", (0, time.time() - 2 * 86400))
    sweep(tmp_path, "*.tmp")
    assert [path.name for path in tmp_path.iterdir()] == ["new.tmp"]  # perhaps somebody's, for a day


@pytest.mark.parametrize("code", [errno.EIO, errno.ESTALE, errno.ENOLCK])
def test_a_disk_that_fails_is_told_of_with_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    store = Store.create(tmp_path / "store")
    for owner, name, use in (
        (os, "fsync", lambda: atomic_write(tmp_path / "file", b"x")),
        (os, "fsync", lambda: make_dirs(tmp_path / "new" / "er")),
        (os, "fsync", lambda: store.put_bytes(b"x", "text/plain")),
        (fcntl, "flock", lambda: locked(tmp_path / "file").__enter__()),
        (Path, "read_bytes", lambda: store.index()),
    ):
        with monkeypatch.context() as patch:
            patch.setattr(owner, name, fail)
            with pytest.raises(OSError, match=os.strerror(code)) as caught:
                use()
            assert str(caught.value.filename).startswith(str(tmp_path))


def test_what_cannot_be_encoded_is_printed_escaped(monkeypatch: pytest.MonkeyPatch) -> None:
    out = io.TextIOWrapper(io.BytesIO(), "ascii")
    monkeypatch.setattr(sys, "stdout", out)
    print_anything()
    sys.stdout.write("ger\u00e4t \udcff")
    out.flush()
    assert out.buffer.getvalue() == b"ger\\xe4t \\udcff"  # type: ignore[attr-defined]


@pytest.mark.parametrize("locale", [{"LC_ALL": "C"}, {"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"}])
def test_names_are_utf8_whatever_the_locale(tmp_path: Path, locale: dict[str, str]) -> None:
    program = (
        "import os, sys\nfrom edgepack.host.encoding import use_utf8\nuse_utf8()\n"
        "open(sys.argv[1] + '/ger\\u00e4t', 'w').close()\nprint(sys.flags.utf8_mode)"
    )
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0", **locale}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], env=environment, check=True, capture_output=True
    )
    assert done.stdout == b"1\n"
    assert [os.fsencode(path.name) for path in tmp_path.iterdir()] == ["ger\u00e4t".encode()]
