"""Run a module of ours on an untrusted file: own process, limits, and Linux namespaces where there are any.

The caller's process never touches the untrusted bytes. The child gets an environment of a few fixed
variables, a limit on time, memory and file size, and, where the kernel allows unprivileged user
namespaces, a root file system of nothing but the interpreter, its input and its output, with no network
and no sight of other processes (see ``converters.sandbox.jail``).
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from converters.sandbox.jail import Confinement
from edgepack.host.home import home_folder
from edgepack.host.scratch import scratch_folder

UNSHARE = ("--user", "--map-root-user", "--mount", "--net", "--pid", "--ipc", "--uts", "--fork", "--kill-child")
# Given to the frameworks: one thread and plain arithmetic for equal bytes, no accelerator, no messages, no name lookup.
QUIET = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_ENABLE_ONEDNN_OPTS": "0",
    "TF_CPP_MIN_LOG_LEVEL": "3",
    "KERAS_BACKEND": "tensorflow",
    "CUDA_VISIBLE_DEVICES": "",
    "ORT_DISABLE_TELEMETRY": "1",
    "USER": "nobody",
    "LOGNAME": "nobody",
}
# Facts about the machine's processor, without which a numeric library may pick code that it cannot run.
PASSED_ON = ("OPENBLAS_CORETYPE", "OPENBLAS_L2_SIZE", "LD_LIBRARY_PATH")
_OURS = Path(__file__).resolve().parents[2]
STDERR_TAIL = 4000
NAMESPACE_END_SECONDS = 10


@dataclass(frozen=True)
class Limits:
    """``seconds`` of wall time, bytes of address space, bytes in one written file."""

    seconds: float = 600
    memory: int = 16 << 30
    file_size: int = 4 << 30


@dataclass(frozen=True)
class Interpreter:
    """A Python to run: its executable, where its packages are, and the further folders that it needs."""

    python: Path
    packages: tuple[Path, ...]
    roots: tuple[Path, ...]

    def paths(self) -> list[Path]:
        """What it needs to run and to import: its installation, installed packages, and our own two; nothing else."""
        ours = [_OURS / "converters", _OURS / "edgepack"]
        prefixes = [Path(sys.base_prefix), Path(sys.base_prefix).resolve()]
        home = home_folder() or Path("/")
        # An interpreter installed straight into "/" or into the home folder must not open these to the model.
        hidden = {home, *home.parents}
        wanted = dict.fromkeys([*self.roots, *prefixes, *self.packages, *ours])
        return [path for path in wanted if path.is_dir() and path not in hidden]


def installed() -> Interpreter:
    """This Python, with the packages that are installed beside us."""
    return Interpreter(Path(sys.executable), tuple(package_folders()), (Path(sys.prefix),))


@dataclass(frozen=True)
class Isolation:
    """How the untrusted code was isolated from the machine; ``reason`` says why not further."""

    kind: str  # "namespaces" or "process"
    network: str
    files: str
    processes: str
    reason: str | None

    def to_json(self) -> dict[str, str | None]:
        """The report's field ``isolation``."""
        return asdict(self)


@dataclass(frozen=True)
class Outcome:
    """How the child ended: its exit code (negative: the signal), the end of its stderr, and whether time ran out."""

    code: int
    stderr: str
    timed_out: bool


NAMESPACES = Isolation(
    kind="namespaces",
    network="none",
    files="reads the input, the interpreter and system libraries; writes the output only",
    processes="sees only its own",
    reason=None,
)


@functools.cache
def available() -> Isolation:
    """The isolation that this machine provides, found by building an empty jail once."""
    unshare = shutil.which("unshare")
    if unshare is None:
        return _process_only("unshare (util-linux) is not installed")
    command = [unshare, *UNSHARE, "--", sys.executable, "-P", "-m", "converters.sandbox.jail"]
    try:
        with scratch_folder("root") as root:
            command += [str(root), *map(str, installed().paths())]
            probe = subprocess.run(command, env=environment(installed()), capture_output=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return _process_only(f"unshare does not work here: {error}")
    if probe.returncode != 0:
        lines = probe.stderr.decode(errors="replace").strip().splitlines() or ["refused"]
        return _process_only(f"this kernel gives no namespaces: {lines[-1]}")
    return NAMESPACES


def _process_only(reason: str) -> Isolation:
    return Isolation(kind="process", network="the machine's", files="the user's", processes="the user's", reason=reason)


# Becomes its arguments, unless its parent is another process than the one given.
_UNLESS_ORPHANED = '[ "$PPID" = "$0" ] || exit 1; exec "$@"'


def run(
    module: str,
    job: Mapping[str, object],
    *,
    interpreter: Interpreter,
    isolation: Isolation,
    readable: Sequence[Path],
    folder: Path,
    limits: Limits,
) -> Outcome:
    """Run ``python -m module folder/request.json`` by ``interpreter`` and wait for its end, or end it.

    The request holds ``confinement`` (see ``jail.Confinement``), which the module takes before anything
    untrusted, and ``job``; ``folder`` is all that it can write. Nothing that it started is left running where
    there are namespaces; else nothing that stayed in its session.
    """
    jailed = isolation.kind == "namespaces"
    with contextlib.ExitStack() as stack:
        root = str(stack.enter_context(scratch_folder("root"))) if jailed else None
        stderr = stack.enter_context(tempfile.TemporaryFile())
        confinement = Confinement(
            root=root,
            readable=tuple(map(str, (*interpreter.paths(), *readable))),
            writable=(str(folder),),
            memory=limits.memory,
            file_size=limits.file_size,
        )
        request = folder / "request.json"
        request.write_text(json.dumps({"confinement": asdict(confinement), "job": dict(job)}))
        command = [str(interpreter.python), "-P", "-m", module, str(request)]
        if jailed:
            command = [shutil.which("unshare") or "unshare", *UNSHARE, "--", *command]
        if (setpriv := shutil.which("setpriv")) is not None:
            # Without the caller there is no time limit: when it has been killed, the child ends too. When that was
            # before the child had asked for the signal, it has another parent by then.
            still_there = ["/bin/sh", "-c", _UNLESS_ORPHANED, str(_caller())]
            command = [setpriv, "--pdeathsig", "KILL", "--", *still_there, *command]
        # Scratch files go to the disk, not to the jail's /tmp, which is memory.
        scratch = folder / "tmp"
        scratch.mkdir()
        child = subprocess.Popen(
            command,
            env={**environment(interpreter), "TMPDIR": str(scratch)},
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            start_new_session=True,
        )
        ended = False
        try:
            ended = _await(child.pid, limits.seconds)
        finally:
            _end(child, jailed=jailed)
        stderr.seek(max(0, stderr.seek(0, os.SEEK_END) - STDERR_TAIL))
        return Outcome(child.returncode, stderr.read().decode(errors="replace").strip(), not ended)


def _caller() -> int:
    return os.getpid()


def _await(pid: int, seconds: float) -> bool:
    """Wait for a child's end without reaping it, so that its number stays ours until its group is ended."""
    handle = os.pidfd_open(pid)
    try:
        waiter = select.poll()
        waiter.register(handle, select.POLLIN)
        return bool(waiter.poll(seconds * 1000))
    finally:
        os.close(handle)


def _end(child: subprocess.Popen[bytes], *, jailed: bool) -> None:
    """Kill the namespace's first process, with which all others in it end, then the session, and reap."""
    for pid in _children(child.pid):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
    if jailed:
        # unshare ends when the first process has, and that ends when all others have: then nothing is left.
        _await(child.pid, NAMESPACE_END_SECONDS)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()


def _children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []  # a kernel without this file: the group and the parent-death signal remain


def environment(interpreter: Interpreter) -> Mapping[str, str]:
    """The child's environment variables: one thread and fixed seeds, for equal bytes."""
    # Our own folder comes last: where edgepack is installed, packages of another version are beside it.
    search = [*interpreter.packages, *(() if _OURS in interpreter.packages else (_OURS,))]
    fixed = {
        "PATH": "/usr/bin:/bin",
        "HOME": "/tmp",  # noqa: S108 - private inside the jail
        "LANG": "C.UTF-8",
        "PYTHONHASHSEED": "0",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONNOUSERSITE": "1",
        "PYTHONPATH": os.pathsep.join(map(str, search)),
        **QUIET,
    }
    return fixed | {name: os.environ[name] for name in PASSED_ON if name in os.environ}


def package_folders() -> list[Path]:
    """Where the caller finds installed packages."""
    found = [Path(entry) for entry in sys.path if Path(entry).name in ("site-packages", "dist-packages")]
    return list(dict.fromkeys(path for path in found if path.is_dir()))
