"""Whether two versions of a service may run at the same time, while one takes over from the other."""

from __future__ import annotations

from pathlib import Path

from edge_agent.runtimes.base import Alone
from edgepack.limits import LIMITS
from edgepack.state.desired import DesiredService
from edgepack.text import human_memory

_MEMORY = Path("/proc/meminfo")
# How much more than the version that runs a new one may need.
_GROWTH = 1.5


def why_alone(spec: DesiredService, now: DesiredService, used_bytes: int, memory: Path = _MEMORY) -> Alone | None:
    """Why ``spec`` may not run beside ``now``, which uses ``used_bytes`` of memory; ``None`` where it may."""
    devices = {one.path for one in spec.devices} & {one.path for one in now.devices}
    if devices:
        return Alone(f"both use device {min(devices)}")
    written = {one.source for one in spec.mounts if not one.read_only} & {
        one.source for one in now.mounts if not one.read_only
    }
    if written:
        return Alone(f"both write to {min(written)}")
    needed = (spec.memory_bytes or int(used_bytes * _GROWTH)) + LIMITS.switch_reserve_bytes
    available = _available_bytes(memory)
    if available is not None and available < needed:
        left, both = human_memory(available), human_memory(needed)
        what = f"the device has {left} of memory left, and two versions at once need {both}"
        return Alone(what, short_of_memory=True)
    return None


def _available_bytes(memory: Path) -> int | None:
    """What can be had of the device's memory (proc(5), ``/proc/meminfo``); ``None`` where it does not say."""
    try:
        for line in memory.read_text("ascii").splitlines():
            name, _, rest = line.partition(":")
            if name == "MemAvailable":
                return int(rest.split()[0]) * 1024
    except (OSError, ValueError, IndexError):
        pass
    return None
