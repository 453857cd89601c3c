"""What runs first in the agent as one file: ``python3 edge-agent.pyz ...``, on a device with nothing but Python.

Compiled modules cannot be imported from an archive, so it unpacks itself once, for the Python that it is started with,
into ``STATE_DIR/agent/<SHA-256 of the file>/``, with a copy of itself beside; and goes on as the Python of an
environment there, whose paths everything that it starts has too. The first file on a device becomes the version that
``STATE_DIR/agent/edge-agent`` starts. This module is in the archive as ``__main__.py`` and imports only the standard
library.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import json
import os
import shutil
import stat
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

_DEFAULT = "/var/lib/edgepack"
_OLDEST = (3, 11)
_MADE = ".made-"
_FILE, _CURRENT, _LAUNCHER = "edge-agent.pyz", "current", "edge-agent"


def main(archive: Path, arguments: list[str]) -> None:
    """Unpack ``archive`` where that was not done yet, and go on with it; does not return."""
    if sys.version_info[:2] < _OLDEST:
        _fail(f"needs Python 3.11 or later, and this is {sys.version_info[0]}.{sys.version_info[1]}")
    with zipfile.ZipFile(archive) as opened:
        about = json.loads(opened.read("agent.json"))
        python = f"{sys.version_info[0]}.{sys.version_info[1]}"
        if python not in about["pythons"]:
            _fail(f"has its parts for Python {', '.join(about['pythons'])}, and this is {python}")
        machine = {"x86_64": "linux/amd64", "aarch64": "linux/arm64"}.get(os.uname().machine)
        if about["platform"] != machine:
            _fail(f"is for {about['platform']}, and this device is {machine or os.uname().machine}")
        home = archive.parent
        if home.name != _digest(archive) or home.parent.name != "agent":
            home = _kept(archive, _folder(arguments))
        site = _unpacked(opened, home, python)
    environment = dict(os.environ)
    environment["EDGEPACK_LAUNCHER"] = str(home.parent / _LAUNCHER)
    # As modules of the environment, without the current folder on their path.
    program = str(site / "bin" / "python3")  # by which Python finds the environment, so the whole path
    os.execve(program, [program, "-P", "-m", "edge_agent", *arguments], environment)  # noqa: S606


def _fail(text: str) -> None:
    sys.stderr.write(f"edge-agent: this file {text}; make another one with: edgepack bundle create --with agent\n")
    sys.exit(1)


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _folder(arguments: list[str]) -> Path:
    """``agent`` in the state folder that the command line names; it is the command that says what is wrong with one."""
    found = os.environ.get("EDGEPACK_STATE_DIR") or _DEFAULT
    for at, word in enumerate(arguments):
        if word == "--state-dir" and at + 1 < len(arguments):
            found = arguments[at + 1]
        elif word.startswith("--state-dir="):
            found = word.partition("=")[2]
    folder = Path(found).absolute()
    place = next(one for one in (folder, *folder.parents) if one.exists())
    if not os.access(place, os.W_OK | os.X_OK):
        sys.stderr.write(
            f"edge-agent: {folder}: this user cannot write to {place}; run it as root, or give a folder of your own: "
            "python3 edge-agent.pyz --state-dir DIR\n"
        )
        sys.exit(2)
    return folder / "agent"


def _kept(archive: Path, folder: Path) -> Path:
    """The folder of this version, with a copy of the archive; the first version becomes the current one."""
    if not folder.parent.is_dir():
        folder.parent.mkdir(parents=True)
        folder.parent.chmod(0o711)  # as the agent makes it
    if not folder.is_dir():
        folder.mkdir(exist_ok=True)
        folder.chmod(0o755)
    _check_own(folder)
    home = folder / _digest(archive)
    home.mkdir(exist_ok=True)
    home.chmod(0o755)
    if not (home / _FILE).exists():
        with tempfile.NamedTemporaryFile(dir=home, prefix=_MADE, delete=False) as made, archive.open("rb") as source:
            shutil.copyfileobj(source, made)
            os.fchmod(made.fileno(), 0o644)
            os.fsync(made.fileno())
        Path(made.name).rename(home / _FILE)
    with zipfile.ZipFile(archive) as opened, contextlib.suppress(FileExistsError):
        launcher = opened.read("any/edge_agent/upgrade/launch.py")
        _write_new(folder / _LAUNCHER, launcher, 0o755)
    with contextlib.suppress(FileExistsError):
        (folder / _CURRENT).symlink_to(home.name)
    _sync(folder)
    return home


def _check_own(folder: Path) -> None:
    """End when another user could change what is about to be run."""
    found = folder.stat()
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        sys.stderr.write(f"edge-agent: {folder}: other users may change it; give it to this user, with mode 0755\n")
        sys.exit(4)


def _write_new(path: Path, data: bytes, mode: int) -> None:
    """Write a file that must not be there; it appears whole."""
    with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as made:
        made.write(data)
        os.fchmod(made.fileno(), mode)
        made.flush()
        os.fsync(made.fileno())
    try:
        os.link(made.name, path)
    finally:
        os.unlink(made.name)  # noqa: PTH108


def _unpacked(opened: zipfile.ZipFile, home: Path, python: str) -> Path:
    """An environment for this Python with what the archive has; made whole, by one rename."""
    tag = f"cp{python.replace('.', '')}"
    place = home / tag
    base = Path(getattr(sys, "_base_executable", "") or sys.executable)
    if _is_for(place, base):  # it appeared whole; where nothing can be written any more, what is there still runs
        return place
    with _locked(home):  # a second process waits, and finds it
        if not _is_for(place, base):
            _sweep(home)
            _unpack(opened, home, place, base)
    return place


def _is_for(place: Path, base: Path) -> bool:
    link = place / "bin" / "python3"
    return link.exists() and os.readlink(link) == str(base)  # noqa: PTH115


@contextlib.contextmanager
def _locked(folder: Path) -> Iterator[None]:
    fd = os.open(folder / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def _sweep(home: Path) -> None:
    """Remove what a process left half made that was killed."""
    for path in home.glob(f"{_MADE}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _unpack(opened: zipfile.ZipFile, home: Path, place: Path, base: Path) -> None:
    tag = place.name
    python = f"{sys.version_info[0]}.{sys.version_info[1]}"
    made = Path(tempfile.mkdtemp(dir=home, prefix=_MADE))
    try:
        site = made / "lib" / f"python{python}" / "site-packages"
        for item in opened.infolist():
            room, _, name = item.filename.partition("/")
            if room not in ("any", tag) or not name:
                continue
            path = site / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(opened.read(item))
        (made / "pyvenv.cfg").write_text(f"home = {base.parent}\ninclude-system-site-packages = false\n", "utf-8")
        (made / "bin").mkdir()
        (made / "bin" / "python3").symlink_to(base)
        for folder, _, names in os.walk(made):  # whatever the umask: a service's own user may have to read them
            Path(folder).chmod(0o755)
            for name in names:
                if not Path(folder, name).is_symlink():
                    Path(folder, name).chmod(0o644)
        os.sync()  # one call for thousands of files
        if place.exists():  # of a Python that was exchanged
            shutil.rmtree(place, ignore_errors=True)
        made.rename(place)
        _sync(home)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _sync(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _start() -> None:
    """``main``, with one sentence for a disk that is full or cannot be written."""
    archive = Path(sys.argv[0]).resolve()
    try:
        main(archive, sys.argv[1:])
    except OSError as error:
        sys.stderr.write(
            f"edge-agent: {error.filename or archive}: {error.strerror or error}; it unpacks itself into the state "
            "folder, so make room there, or give another one: python3 edge-agent.pyz --state-dir DIR\n"
        )
        sys.exit(1 if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EIO) else 2)


if __name__ == "__main__":
    _start()
