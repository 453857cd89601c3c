"""How many threads a run may use: the CPUs of this process, or less where a cgroup gives less time."""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from edge_server.config.values import Runtime


def available_cpus(root: Path = Path("/")) -> int:
    """CPUs that this process may keep busy, at least 1.

    The smaller of the affinity mask and the cgroup's CPU time (version 2 ``cpu.max``, version 1
    ``cpu.cfs_quota_us``), rounded up. ``root`` is where the file systems are mounted.
    """
    cpus = float(len(os.sched_getaffinity(0)))
    return max(1, math.ceil(min([cpus, *_cgroup_limits(root)])))


def threads_per_process(runtime: Runtime) -> int:
    """Threads that one of the server's processes may keep busy: as configured, or its share of the CPUs."""
    return runtime.threads or max(1, available_cpus() // runtime.processes)


def _cgroup_limits(root: Path) -> list[float]:
    limits = []
    for controllers, group in _cgroups(root / "proc/self/cgroup"):
        if not controllers:
            mount = root / "sys/fs/cgroup"
        elif "cpu" in controllers.split(","):
            mount = root / "sys/fs/cgroup/cpu"
        else:
            continue
        # A limit on any group above binds too. Inside a container the path that /proc shows may lie
        # outside of what is mounted; the mount itself is then the container's own group.
        folder = mount / group.lstrip("/")
        while True:
            limit = _quota(folder)
            if limit is not None:
                limits.append(limit)
            if folder == mount or mount not in folder.parents:
                break
            folder = folder.parent
    return limits


def _cgroups(path: Path) -> list[tuple[str, str]]:
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return []
    return [(parts[1], parts[2]) for line in lines if len(parts := line.split(":", 2)) == 3]


def _quota(folder: Path) -> float | None:
    try:
        if (folder / "cpu.max").is_file():
            quota, period = (folder / "cpu.max").read_text().split()
        else:
            quota = (folder / "cpu.cfs_quota_us").read_text().strip()
            period = (folder / "cpu.cfs_period_us").read_text().strip()
        # "max" in version 2 and -1 in version 1 mean no limit.
        return None if quota in ("max", "-1") else int(quota) / int(period)
    except (OSError, ValueError, ZeroDivisionError):
        return None
