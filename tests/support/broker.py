"""A Mosquitto on loopback, with TLS, passwords and an access list where a test asks; and its own two clients."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from edge_agent.config.configuration import Broker
from tests.edgepack.support.authority import Authority
from tests.support.http_client import listens
from tests.support.ports import free_port
from tests.support.running import run
from tests.support.waiting import wait_until

ACCESS = """pattern readwrite edgepack/v1/devices/%c/#
pattern read edgepack/v1/groups/#
user manager
topic readwrite edgepack/v1/#
"""


@dataclass
class Mosquitto:
    """A broker in ``folder``, which can be stopped and started again on the same port.

    ``users`` are names with passwords; without any, everybody may connect. ``authority`` signs its certificate; with
    ``asks_for_certificates`` it takes certificates of the authority alone. ``more`` are lines of its configuration,
    ``inside`` are words before its command.
    """

    folder: Path
    users: dict[str, str] = field(default_factory=dict)
    access: str | None = None
    authority: Authority | None = None
    asks_for_certificates: bool = False
    host: str = "127.0.0.1"
    names: Sequence[str] = ("IP:127.0.0.1", "DNS:localhost")
    more: Sequence[str] = ()
    persistence: bool = True
    inside: Sequence[str] = ()
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def socket(self) -> Path:
        """Where it listens on this machine, beside its port."""
        return self.folder / "s"

    @property
    def log(self) -> str:
        """What it has written."""
        return (self.folder / "log").read_text(errors="replace")

    @property
    def pid(self) -> int:
        """Its process."""
        assert self._process is not None
        return self._process.pid

    def write(self) -> None:
        """Write its files."""
        self.folder.mkdir(parents=True, exist_ok=True)
        lines = ["user root", "log_dest file " + str(self.folder / "log"), "log_type all"]
        lines += ["connection_messages true", f"allow_anonymous {'false' if self.users else 'true'}"]
        if self.persistence:
            lines += ["persistence true", f"persistence_location {self.folder}/"]
        if self.users:
            passwords = self.folder / "passwords"
            passwords.write_text("".join(f"{name}:{word}\n" for name, word in self.users.items()))
            run("mosquitto_passwd", "-U", passwords)
            lines.append(f"password_file {passwords}")
        if self.access is not None:
            (self.folder / "access").write_text(self.access)
            lines.append(f"acl_file {self.folder / 'access'}")
        lines += [*self.more, f"listener {self.port} {self.host}"]
        if self.authority is not None:
            certificate, key = self.authority.signed("broker", *self.names)
            lines += [f"certfile {certificate}", f"keyfile {key}", f"cafile {self.authority.file}"]
            if self.asks_for_certificates:
                lines += ["require_certificate true", "use_identity_as_username true"]
        lines.append(f"listener 0 {self.socket}")
        (self.folder / "conf").write_text("\n".join(lines) + "\n")

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "out").open("ab") as out:
            argv = [*self.inside, "mosquitto", "-c", str(self.folder / "conf")]
            self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        process = self._process
        wait_until(lambda: process.poll() is not None or (self.socket.exists() and listens(self.port, self.host)))
        assert process.poll() is None, (self.folder / "out").read_text()

    def stop(self, *, kill: bool = False) -> None:
        """Stop it; killed, it saves nothing."""
        assert self._process is not None
        if kill:
            self._process.kill()
        else:
            self._process.terminate()
        self._process.wait(30)
        self.socket.unlink(missing_ok=True)

    def forget(self) -> None:
        """Remove what it saved: retained messages and sessions."""
        (self.folder / "mosquitto.db").unlink(missing_ok=True)

    def place(self, **more: Any) -> Broker:
        """The broker as a device's configuration has it."""
        if self.authority is not None:
            more = {"ca_file": self.authority.file, **more}
        return Broker(self.host, self.port, self.authority is not None, **more)

    def _words(self) -> list[object]:
        # Its own clients come by the socket, as the user who may do everything.
        words: list[object] = ["--unix", self.socket]
        if self.users:
            words += ["-u", "manager", "-P", self.users["manager"]]
        return words

    def publish(self, topic: str, data: bytes | str, *more: str, retain: bool = True) -> None:
        """Publish by ``mosquitto_pub``."""
        text = data.decode() if isinstance(data, bytes) else data
        words = [*self._words(), "-q", "1", "-t", topic, *(["-r"] if retain else []), *more]
        run("mosquitto_pub", *words, *(["-s"] if text else ["-n"]), given=text)

    def read(self, topic: str, seconds: int = 10) -> str:
        """The retained message, or the next one, of ``topic``, by ``mosquitto_sub``."""
        return run("mosquitto_sub", *self._words(), "-q", "1", "-C", "1", "-W", seconds, "-t", topic).removesuffix("\n")

    @contextmanager
    def watching(self, *topics: str) -> Iterator[Path]:
        """A file to which ``mosquitto_sub`` writes each message of ``topics`` as ``TOPIC DATA``, a line each."""
        path = self.folder / f"seen-{time.monotonic_ns()}"
        words = [*map(str, self._words()), "-q", "1", "-v", *(word for topic in topics for word in ("-t", topic))]
        before = self.log.count("SUBSCRIBE")
        with path.open("wb") as out:
            watcher = subprocess.Popen(["mosquitto_sub", *words], stdin=subprocess.DEVNULL, stdout=out)
        try:
            wait_until(lambda: self.log.count("SUBSCRIBE") > before)
            yield path
        finally:
            watcher.terminate()
            watcher.wait(30)


@contextmanager
def running(broker: Mosquitto) -> Iterator[Mosquitto]:
    """A broker from its start to the end of the block."""
    broker.write()
    broker.start()
    try:
        yield broker
    finally:
        broker.stop(kill=True)
