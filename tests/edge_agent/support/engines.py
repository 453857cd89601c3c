"""Podman as tests start it; ``tests.support.parts`` has Docker."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.parts import started
from tests.support.running import finish


@contextmanager
def podman_engine(folder: Path) -> Iterator[str]:
    """Podman's Docker-compatible socket, with everything that it keeps below ``folder``; gives its address."""
    address = f"unix://{folder}/podman.sock"
    # Its monitor leaves an empty file where it was started when it sees a lack of memory.
    argv = ["env", f"--chdir={folder}", "podman", "--runtime", "runc", "--cgroup-manager", "cgroupfs"]
    argv += ["--root", f"{folder}/root", "--runroot", f"{folder}/run"]
    try:
        with started([*argv, "system", "service", "--time=0", address], folder / "log", lambda: _answers(address)):
            yield address
    finally:
        # A container has rules in the kernel that lead its ports to it, and would lead those of later tests there.
        finish(*argv, "rm", "--all", "--force", "--time", "0")
        # Podman keeps its storage mounted on itself.
        subprocess.run(["umount", "--lazy", f"{folder}/root/overlay"], check=False, capture_output=True)


def _answers(address: str) -> bool:
    from edge_agent.runtimes.engine.connect import connect
    from edgepack.errors import MissingPartError

    try:
        connect(address)
    except MissingPartError:
        return False
    return True
