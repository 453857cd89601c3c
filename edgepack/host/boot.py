"""Which start of the kernel this is."""

from __future__ import annotations

from pathlib import Path


def boot_id() -> str:
    """The kernel's id of this boot (proc(5), ``/proc/sys/kernel/random/boot_id``)."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
