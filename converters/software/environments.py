"""Environments made by uv from a lock, kept in the cache folder, for models that need other software than ours.

An environment is made in a folder of its own and then renamed: one that is there is whole. It holds wheels only, every
one by its hash, so that making it runs nothing of theirs. torch is the exception; see ``torch_build``.
"""

from __future__ import annotations

import hashlib
import logging
import re
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from converters.software.torch_build import install_torch
from edgepack.errors import EdgepackError, IncompatibleError, MissingPartError, NoSpaceError, disk_errors
from edgepack.host.files import discard, locked, make_dirs, temporary_beside
from edgepack.host.uv import NO_INDEX, find_uv, unreachable_index, uv_environment
from edgepack.text import redacted

_log = logging.getLogger(__name__)

FORMAT = 1
# Below the cache. The name is an old one: those that were made by it are found again.
FOLDER = "worlds"
SECONDS = 3600
# Settings that would make uv read, or install into, something else than the arguments say.
_NOT_FOR_UV = (
    "VIRTUAL_ENV", "CONDA_PREFIX", "PYTHONPATH", "PYTHONHOME", "UV_PYTHON", "UV_SYSTEM_PYTHON", "UV_TARGET",
    "UV_PREFIX", "UV_CONSTRAINT", "UV_OVERRIDE", "UV_EXCLUDE_NEWER", "UV_TORCH_BACKEND", "UV_NO_BINARY",
)  # fmt: skip
_APART = re.compile(r"^# apart: torch==([\w.]+)$", re.MULTILINE)
_PREPARE = "run the same command once where a package index is reachable"


def digest(lock: Path) -> str:
    """What an environment is known by: its lock, this Python, this kind of machine."""
    parts = [str(FORMAT), sys.version.split()[0], sysconfig.get_platform(), sys.base_prefix]
    found = hashlib.sha256("\0".join(parts).encode())
    found.update(lock.read_bytes())
    return found.hexdigest()


def ready(lock: Path, cache: Path, *, offline: bool = False) -> Path:
    """The folder of the environment of ``lock``, made first where it is missing; ``offline`` asks no index.

    Any number of processes may call it at once, and be killed at any time. Raises ``MissingPartError`` (no uv, no
    reachable index), ``IncompatibleError`` (the lock has nothing for this machine or Python), ``NoSpaceError``.
    """
    folder = cache / FOLDER
    make_dirs(folder)
    target = folder.resolve() / f"{lock.stem}-{digest(lock)[:16]}"
    if _is_whole(target):
        return target
    with locked(target.with_name(f".{target.name}.lock")):
        if not _is_whole(target):
            _make(lock, target, offline)
    return target


def packages(folder: Path) -> Path:
    """Where an environment made by this Python keeps what is installed."""
    return folder / "lib" / f"python{sys.version_info[0]}.{sys.version_info[1]}" / "site-packages"


def _is_whole(folder: Path) -> bool:
    return (folder / "bin" / "python").exists()  # false also when the Python that it was made of is gone


def _make(lock: Path, target: Path, offline: bool) -> None:
    uv = find_uv()
    _log.info("making the environment %s, once", lock.stem)
    with disk_errors(target.parent), temporary_beside(target) as folder:
        _fill(uv, lock, folder, offline)
        discard(target)  # one whose Python is gone
        folder.rename(target)


def _fill(uv: str, lock: Path, folder: Path, offline: bool) -> None:
    settings = uv_environment()
    environment = {name: value for name, value in settings.items() if name not in _NOT_FOR_UV}
    general = ["--quiet", *(("--offline",) if offline else ())]
    making = [uv, "venv", *general, "--clear", "--no-python-downloads", "--python", sys.executable, str(folder)]
    _require(lock, offline, _run(making, environment, folder))
    install = [
        uv, "pip", "install", *general, "--python", str(folder / "bin" / "python"),
        "--only-binary", ":all:", "--compile-bytecode",
        *(("--no-index",) if environment.get(NO_INDEX) == "1" else ()),
    ]  # fmt: skip
    locked_ones = [*install, "--no-deps", "--require-hashes", "--requirements", str(lock)]
    _require(lock, offline, _run(locked_ones, environment, folder))
    if match := _APART.search(lock.read_text()):
        # The lock decides all the rest; of torch the user may have versions of their own.
        chosen = {name: settings[name] for name in ("UV_CONSTRAINT",) if name in settings}
        outcome = install_torch(
            match[1],
            lambda arguments, variables: _run([*install, *arguments], variables, folder),
            {**environment, **chosen},
            offline=offline,
        )
        _require(lock, offline, outcome.done, outcome.nowhere)


def _run(command: list[str], environment: Mapping[str, str], folder: Path) -> subprocess.CompletedProcess[bytes]:
    """Run uv where no project's settings are."""
    try:
        return subprocess.run(command, env=environment, cwd=folder, capture_output=True, check=False, timeout=SECONDS)
    except subprocess.TimeoutExpired as error:
        raise EdgepackError("uv took too long to fetch packages", hint="check the network and try again") from error


def _require(lock: Path, offline: bool, done: subprocess.CompletedProcess[bytes], nowhere: str | None = None) -> None:
    """Raise the error that uv's message means; ``nowhere`` says what it means that something was not found."""
    if done.returncode == 0:
        return
    said = " ".join(redacted(done.stderr.decode(errors="replace")).split())
    _log.debug("uv ended with %s: %s", done.returncode, said)
    what = f"the environment {lock.stem}, in which the model is to be converted,"
    if "No space left on device" in said or "os error 28" in said:
        raise NoSpaceError(f"no space for {what.rstrip(',')}", hint="free some space and run the same command again")
    unreachable = unreachable_index(said)
    if offline or unreachable is not None:
        why = "offline" if offline else f"now: {unreachable} cannot be reached"
        raise MissingPartError(
            f"{what} is not installed yet, and its packages cannot be fetched {why}",
            hint=f"{_PREPARE}, or prepare it with: python -m converters.prepare {lock.stem}",
        )
    if nowhere is not None:
        raise MissingPartError(
            f"{what} is not installed yet: {nowhere}",
            hint="name an index or a folder (find-links) that has it in pip's or uv's settings",
        )
    if "hash mismatch" in said.lower():
        raise MissingPartError(
            f"a package index gave a file for {what.rstrip(',')} that its lock does not name",
            hint="check which index pip's or uv's settings name",
        )
    raise IncompatibleError(
        f"{what} cannot be made on this machine with Python {sys.version.split()[0]} ({said[:300]})",
        hint="use Python 3.11 on x86-64 Linux, or export the model to ONNX and register that with --framework Onnx",
    )
