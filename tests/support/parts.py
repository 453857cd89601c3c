"""Real parts that tests start, each stopped by its process id: a registry, a Docker engine; and what they leave."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.support.http_client import SECONDS, ask_on, listens
from tests.support.ports import free_port, hold_a_number
from tests.support.running import finish, run


@contextmanager
def started(
    argv: list[str],
    log: Path,
    ready: Callable[[], bool],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> Iterator[subprocess.Popen[bytes]]:
    """A daemon, from when it is ready to the end of the block; stopped by its process id."""
    with log.open("wb") as out:
        daemon = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=env, cwd=cwd)
    try:
        deadline = time.monotonic() + 120
        while not ready():
            text = log.read_text(errors="replace")[-2000:]
            assert daemon.poll() is None, f"{argv[0]} has ended: {text}"
            assert time.monotonic() < deadline, f"{argv[0]} is not ready: {text}"
            time.sleep(0.03)
        yield daemon
    finally:
        daemon.terminate()
        try:
            daemon.wait(60)
        except subprocess.TimeoutExpired:
            daemon.kill()
            daemon.wait()


@contextmanager
def docker_registry(
    folder: Path,
    user: str | None = None,
    password: str = "",
    *,
    relative: bool = False,
    host: str = "127.0.0.1",
    tls: Mapping[str, object] | None = None,
    auth: Mapping[str, object] | None = None,
    inside: Sequence[str] = (),
) -> Iterator[int]:
    """A registry with storage below ``folder``, and a user where one is given; gives its port.

    ``relative``: it answers with locations that name no host. ``tls`` and ``auth`` are those sections of its
    configuration. ``inside`` are words before its command, such as those that run it in a namespace.
    """
    folder.mkdir(parents=True)
    port = free_port()
    config: dict[str, object] = {
        "version": 0.1,
        "log": {"level": "error"},
        "storage": {"filesystem": {"rootdirectory": str(folder / "data")}},
        "http": {
            "addr": f"{host}:{port}",
            "relativeurls": relative,
            "secret": "for-a-test",
            "tls": dict(tls or {}),
        },
    }
    if auth is not None:
        config["auth"] = auth
    if user is not None:
        (folder / "users").write_text(run("htpasswd", "-Bbn", user, password))
        config["auth"] = {"htpasswd": {"realm": "test", "path": str(folder / "users")}}
    (folder / "config.yml").write_text(json.dumps(config))  # JSON is YAML
    argv = [*inside, "docker-registry", "serve", str(folder / "config.yml")]
    with started(argv, folder / "log", lambda: listens(port, host.strip("[]")), {"PATH": os.environ["PATH"]}):
        yield port


@contextmanager
def docker_engine(folder: Path) -> Iterator[str]:
    """A Docker engine below ``folder`` with a bridge of its own; gives its address."""
    number = hold_a_number("bridges", 250)
    bridge = f"edt{number}"
    address = f"unix://{folder}/docker.sock"
    if Path("/sys/class/net", bridge).exists():  # of a run that was killed: a live one would hold the number
        run("ip", "link", "delete", bridge)
    run("ip", "link", "add", bridge, "type", "bridge")
    try:
        run("ip", "address", "add", f"10.150.{number}.1/24", "dev", bridge)
        run("ip", "link", "set", bridge, "up")
        argv = ["dockerd", "--host", address, "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec"]
        argv += ["--pidfile", f"{folder}/pid", "--bridge", bridge, "--iptables=false", "--ip6tables=false"]
        with started(argv, folder / "log", lambda: _engine_answers(folder / "docker.sock")):
            yield address
    finally:
        unmount_below(folder)
        finish("ip", "link", "delete", bridge)


def _engine_answers(path: Path) -> bool:
    """What ``docker version`` asks, which takes a tenth of a second of the processor each time."""
    connection = http.client.HTTPConnection("localhost")
    with socket.socket(socket.AF_UNIX) as connection.sock:
        connection.sock.settimeout(SECONDS)
        try:
            connection.sock.connect(str(path))
            return ask_on(connection, "GET", "/version").status == 200
        except (OSError, http.client.HTTPException):
            return False


def mounts_below(folder: Path) -> list[str]:
    """What is mounted below ``folder``."""
    lines = Path("/proc/self/mounts").read_text().splitlines()
    return [line for line in lines if line.split()[1].startswith(f"{folder}/")]


def unmount_below(folder: Path) -> None:
    """Take away what an engine that has ended leaves mounted below ``folder``: its storage, its network's name."""
    for line in reversed(mounts_below(folder)):
        run("umount", line.split()[1])


def processes_with(text: str) -> list[str]:
    """The command lines of living processes that have ``text`` in them; this process and zombies are left out."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                words = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            except OSError:
                continue
            if text in words:
                found.append(words)
    return found


def remove_tree(folder: Path) -> None:
    """Remove ``folder`` when nothing is mounted below it."""
    assert mounts_below(folder) == []
    shutil.rmtree(folder, ignore_errors=True)
