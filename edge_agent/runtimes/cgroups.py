"""Control groups of services: made with their limits, joined by processes, removed (Linux, cgroup-v1, cgroup-v2).

A service has the group ``edgepack/<name>``; of version 1 in each hierarchy that is needed, of version 2 in the only
one. Where both versions are mounted, a controller is where the device has it.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edge_agent.runtimes.kills import CONTROL, EVENTS, counters_in
from edgepack.errors import RuntimeFailedError
from edgepack.oci.digest import Digest

ROOT = Path("/sys/fs/cgroup")
_TOP = "edgepack"
_PERIOD = 100_000
_PATIENCE_SECONDS = 2.0


class ControlGroupError(RuntimeFailedError):
    """A control group that cannot be set up."""


@dataclass(frozen=True)
class Limits:
    """Of a group: bytes of memory, and CPUs; ``None`` for no limit."""

    memory_bytes: int | None = None
    cpus: float | None = None

    @property
    def controllers(self) -> tuple[str, ...]:
        """The controllers that keep these limits."""
        wanted = {"memory": self.memory_bytes, "cpu": self.cpus}
        return tuple(name for name, limit in wanted.items() if limit is not None)


def group_name(folder: Path, service: str) -> str:
    """The name of the group of the service whose instance is in ``folder``: another state folder has another one."""
    return f"{Digest.of(os.fsencode(folder)).hex[:12]}-{service}"


def trial_name() -> str:
    """The name of a group that is made to see whether it can be."""
    return f"trial-{os.getpid()}"


@dataclass(frozen=True)
class ControlGroup:
    """The group ``name`` of a service, in the folder of each hierarchy that it needs, by controller."""

    name: str
    folders: Mapping[str, Path]

    @property
    def joined(self) -> tuple[Path, ...]:
        """The files to which a process writes 0 to join."""
        return tuple(folder / "cgroup.procs" for folder in dict.fromkeys(self.folders.values()))

    @property
    def memory_events(self) -> Path | None:
        """The file that counts what was killed for lack of memory."""
        folder = self.folders.get("memory")
        if folder is None:
            return None
        return folder / (EVENTS if (folder / EVENTS).exists() else CONTROL)


def create(name: str, limits: Limits, root: Path = ROOT) -> ControlGroup:
    """Make the group with its limits, or set them anew; raises ``ControlGroupError``, saying what is in the way."""
    folders = {}
    try:
        for controller in limits.controllers:
            folders[controller] = _make(_parent(controller, root), name)
        if (folder := folders.get("memory")) is not None:
            _limit_memory(folder, limits.memory_bytes or 0)
        if (folder := folders.get("cpu")) is not None:
            _limit_cpu(folder, limits.cpus or 1.0)
    except OSError as error:
        remove(name, root)
        raise ControlGroupError(f"{error.filename or root}: {error.strerror}") from error
    return ControlGroup(name, folders)


def kill_counters(name: str, root: Path = ROOT) -> tuple[Path, ...]:
    """The files that count what is killed in the group for lack of memory."""
    return counters_in(_existing(name, root))


def counters_of(pid: int, mark: str, root: Path = ROOT) -> tuple[Path, ...]:
    """As ``kill_counters`` of the group that the process ``pid`` is in, if ``mark`` is in that group's name."""
    try:
        lines = Path(f"/proc/{pid}/cgroup").read_text("ascii").splitlines()
    except (OSError, UnicodeDecodeError):
        return ()
    groups = [line.split(":", 2)[1:] for line in lines if line.count(":") >= 2]
    folders = [
        root / controllers / group.lstrip("/")
        for controllers, group in groups
        if controllers in ("memory", "") and mark in group
    ]
    return counters_in(folders)


def remove(name: str, root: Path = ROOT) -> None:
    """Kill what is left in the group and remove it; absent is fine. What cannot be removed is left."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    for folder in _existing(name, root):
        while folder.is_dir():
            try:
                for below in folder.iterdir():
                    if below.is_dir():
                        below.rmdir()
                folder.rmdir()
            except OSError:
                if time.monotonic() > deadline:
                    break
                _kill(folder)
                time.sleep(0.02)


def _kill(folder: Path) -> None:
    for listing in (folder / "cgroup.procs", *folder.glob("*/cgroup.procs")):
        try:
            pids = [int(line) for line in listing.read_text("ascii").split()]
        except OSError:
            continue
        for pid in pids:
            try:
                os.kill(pid, signal.SIGKILL)
            except OSError:
                continue


def _existing(name: str, root: Path) -> list[Path]:
    """The groups of that name in whichever hierarchy: a container's are in all of them."""
    found = [root / _TOP / name, *root.glob(f"*/{_TOP}/{name}")]
    if os.geteuid() != 0 and (root / "cgroup.controllers").exists():
        found.append(root / _own(root).parent / _TOP / name)
    return found


def _parent(controller: str, root: Path) -> Path:
    """The group in which ours are made; raises ``OSError`` where the device does not have ``controller``."""
    if (root / controller / "cgroup.procs").exists():
        return root / controller
    if not (root / "cgroup.controllers").exists():
        raise FileNotFoundError(2, f"no control groups of {controller}", str(root))
    # Without root only what a service manager has given away, beside the group of this process, can be changed.
    return root if os.geteuid() == 0 else root / _own(root).parent


def _own(root: Path) -> Path:
    """The group of version 2 that this process is in, from the root."""
    for line in Path("/proc/self/cgroup").read_text("ascii").splitlines():
        if line.startswith("0::/"):
            return Path(line.removeprefix("0::/"))
    raise FileNotFoundError(2, "this process is in no control group", str(root))


def _make(parent: Path, name: str) -> Path:
    folder = parent / _TOP / name
    if (parent / "cgroup.controllers").exists():
        for above in (parent, parent / _TOP):
            above.mkdir(exist_ok=True)
            _enable(above)
    (parent / _TOP).mkdir(exist_ok=True)
    if (hierarchical := parent / _TOP / "memory.use_hierarchy").exists() and hierarchical.read_text().strip() == "0":
        hierarchical.write_text("1")
    folder.mkdir(exist_ok=True)
    return folder


def _enable(group: Path) -> None:
    """Let the groups below ``group`` have limits; raises ``OSError``."""
    enabled = (group / "cgroup.subtree_control").read_text("ascii").split()
    for controller in ("memory", "cpu"):
        if controller not in enabled and controller in (group / "cgroup.controllers").read_text("ascii").split():
            (group / "cgroup.subtree_control").write_text(f"+{controller}", "ascii")


def _limit_memory(folder: Path, limit: int) -> None:
    modern = folder / "memory.max"
    (modern if modern.exists() else folder / "memory.limit_in_bytes").write_text(str(limit), "ascii")


def _limit_cpu(folder: Path, cpus: float) -> None:
    quota = max(1000, int(cpus * _PERIOD))  # the kernel takes no less
    if (folder / "cpu.max").exists():
        (folder / "cpu.max").write_text(f"{quota} {_PERIOD}", "ascii")
    else:
        (folder / "cpu.cfs_period_us").write_text(str(_PERIOD), "ascii")
        (folder / "cpu.cfs_quota_us").write_text(str(quota), "ascii")
