"""Whether the device was started since an agent last saw to its services."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from edge_agent.runtimes.processes import boot_id
from edgepack.errors import EdgepackError
from edgepack.host.files import atomic_write

_FILE = "boot"


def after_boot(root: Path) -> bool:
    """Whether services of the device in ``root`` may have ended with the device, and not by themselves."""
    try:
        return (root / "state" / _FILE).read_text("ascii").strip() != boot_id()
    except (OSError, UnicodeDecodeError):
        return False


def note(root: Path) -> None:
    """Record that every service was started, or seen running, in this boot."""
    with suppress(OSError, EdgepackError):
        if after_boot(root) or not (root / "state" / _FILE).exists():
            atomic_write(root / "state" / _FILE, f"{boot_id()}\n".encode(), 0o600)
