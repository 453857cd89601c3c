"""Which start of the kernel this is."""

from __future__ import annotations

import functools
from pathlib import Path


@functools.cache
def boot_id() -> str:
    """The kernel's id of this boot (proc(5), ``/proc/sys/kernel/random/boot_id``); no process outlives its boot."""
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
