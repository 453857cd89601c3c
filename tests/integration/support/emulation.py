"""Images for arm64 run on another processor, by qemu's user mode and the kernel's binfmt_misc."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.integration.support.images import wait_healthy
from tests.support.ports import free_port
from tests.support.required import skip_or_fail
from tests.support.running import run


def missing_for_arm64() -> str | None:
    """Lets this machine run arm64 programs, or says what it lacks."""
    entries = Path("/proc/sys/fs/binfmt_misc")
    if not (entries / "register").exists():
        done = subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", entries], capture_output=True, check=False)
        if done.returncode != 0:
            return "binfmt_misc cannot be mounted"
    entry = entries / "qemu-aarch64"
    if not entry.exists():
        subprocess.run(["update-binfmts", "--enable", "qemu-aarch64"], capture_output=True, check=False)
    if not entry.exists():
        return "qemu-aarch64 is not registered with binfmt_misc"
    flags = next(line for line in entry.read_text().splitlines() if line.startswith("flags:"))
    return None if "F" in flags else "qemu-aarch64 is registered without the flag F, so that it does not reach a chroot"


@contextmanager
def emulated(rootfs: Path, root: Path) -> Iterator[int]:
    """The port of the server of the image that umoci unpacked to ``rootfs``, run in a copy of it at ``root``.

    A copy: unlike a container's, this tree can be written to, and other tests look at it. At the end of the block the
    server must end when it is asked to.
    """
    lacking = missing_for_arm64()
    if lacking is not None:
        skip_or_fail(lacking)
    port = free_port()
    run("cp", "-a", rootfs, root)
    config = json.loads((rootfs.parent / "config.json").read_bytes())["process"]
    assert config["user"] == {"uid": 10001, "gid": 10001}
    env = dict(pair.split("=", 1) for pair in config["env"]) | {
        "EDGEPACK_PORT": str(port), "EDGEPACK_HOST": "127.0.0.1"
    }  # fmt: skip
    log = root.with_suffix(".log")
    chroot = shutil.which("chroot") or "chroot"
    with log.open("wb") as out:
        server = subprocess.Popen(
            [chroot, "--userspec=10001:10001", str(root), *config["args"]], env=env, stdin=subprocess.DEVNULL,
            stdout=out, stderr=out, start_new_session=True,
        )  # fmt: skip
    try:
        wait_healthy(port, 240, lambda: server.poll() is None)  # on a busy machine the start takes minutes
        yield port
        server.send_signal(signal.SIGTERM)
        assert server.wait(60) == 0, log.read_text()
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
