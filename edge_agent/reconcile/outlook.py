"""What is seen of the machine, for the gates of steps."""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.reconcile.gates import LOCK_SECONDS, Outlook, UpdateLock
from edgepack.text import printable

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
_MEMORY = Path("/proc/meminfo")
_ROUTES = (Path("/proc/net/route"), Path("/proc/net/ipv6_route"))
_SUPPLIES = Path("/sys/class/power_supply")
_LOCK_BYTES = 4096
_OWNER_CHARACTERS = 80


def look(folder: Path, lock_file: Path | None = None, now: float | None = None) -> Outlook:
    """The machine now; ``folder`` is on the disk that counts, ``now`` the time as far as it is known."""
    boot_id = _first_line(_BOOT_ID)
    return Outlook(
        datetime.fromtimestamp(time.time() if now is None else now, UTC).astimezone(),
        boot_id, free_bytes(folder), _available_bytes(), _online(), _on_mains(),
        None if lock_file is None else read_lock(lock_file, boot_id),
    )  # fmt: skip


def free_bytes(folder: Path) -> int:
    """What is free for this user on the disk of ``folder``, or of the nearest folder above that exists."""
    place = next(path for path in (folder, *folder.parents) if path.exists())
    disk = os.statvfs(place)
    return disk.f_bavail * disk.f_frsize


def read_lock(path: Path, boot_id: str) -> UpdateLock | None:
    """The lock file at ``path``; ``None`` without one.

    It is a JSON object with ``owner``, ``boot_id`` (``/proc/sys/kernel/random/boot_id``), ``uptime_seconds`` (the first
    number of ``/proc/uptime``) and ``ttl_seconds``. What is missing, or all of it in a file that is something else, is
    taken from the file: its age from when it was written, one hour, and this boot if it is not older.
    """
    try:
        written = path.stat().st_mtime
        with path.open("rb") as file:
            data = file.read(_LOCK_BYTES)
    except OSError:
        return None
    value: object = None
    with suppress(ValueError):
        value = json.loads(data)
    fields = value if isinstance(value, dict) else {}
    uptime = time.clock_gettime(time.CLOCK_BOOTTIME)
    taken, ttl = _number(fields.get("uptime_seconds")), _number(fields.get("ttl_seconds"))
    age = time.time() - written if taken is None else uptime - taken
    owner, boot = fields.get("owner"), fields.get("boot_id")
    if not isinstance(boot, str):
        boot = boot_id if 0 <= age <= uptime else ""  # the clock was set meanwhile: nothing is known
    name = printable(owner)[:_OWNER_CHARACTERS] if isinstance(owner, str) and owner else str(path)
    return UpdateLock(name, boot, max(age, 0.0), LOCK_SECONDS if ttl is None else ttl)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _first_line(path: Path) -> str:
    with suppress(OSError):
        return path.read_text("ascii").strip()
    return ""


def _available_bytes() -> int | None:
    with suppress(OSError, ValueError, IndexError):
        for line in _MEMORY.read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) << 10
    return None


def _online() -> bool:
    """Whether a route leads to another interface than the loopback (proc(5), "net/route")."""
    known = False
    for path in _ROUTES:
        with suppress(OSError):
            words = [line.split() for line in path.read_text("ascii").splitlines()]
            known = True
            names = [line[0] if path is _ROUTES[0] else line[-1] for line in words if line]
            if any(name not in ("Iface", "lo") for name in names):
                return True
    return not known


def _on_mains() -> bool:
    """Whether power comes from outside, or nothing is said of it (Documentation/ABI/testing/sysfs-class-power)."""
    with suppress(OSError):
        supplies = [path for path in _SUPPLIES.iterdir() if _first_line(path / "scope") != "Device"]
        batteries = [path for path in supplies if _first_line(path / "type") == "Battery"]
        outside = [path for path in supplies if _first_line(path / "type") in ("Mains", "USB", "Wireless")]
        if any(_first_line(path / "online") == "1" for path in outside):
            return True
        return not any(_first_line(path / "status") == "Discharging" for path in batteries)
    return True
