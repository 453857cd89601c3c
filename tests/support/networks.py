"""Bad networks: a cable to a namespace that loses, is slow or is cut, and a way that takes long.

Packets are lost by the far end's firewall: a kernel may have no ``tc netem``. What is slow is so by ``tc tbf``.
"""

from __future__ import annotations

import queue
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass

from tests.support.ports import hold_a_number
from tests.support.running import finish, run


@dataclass(frozen=True)
class Cable:
    """Between this namespace, where it is ``near``, and the namespace ``name``, whose address is ``host``."""

    name: str
    near: str
    host: str

    @property
    def inside(self) -> tuple[str, ...]:
        """The words before a command that runs at the far end."""
        return ("ip", "netns", "exec", self.name)

    def lose(self, share: float) -> None:
        """Lose this share of the packets in each direction; 1 is a cut that nobody is told of."""
        self.mend()
        rule = ["-m", "statistic", "--mode", "random", "--probability", str(share)] if share < 1 else []
        for chain, way in (("INPUT", "-i"), ("OUTPUT", "-o")):
            run(*self.inside, "iptables", "-A", chain, way, "far", *rule, "-j", "DROP")

    def slow(self, bits_per_second: int) -> None:
        """Let no more through in each direction."""
        self.mend()
        words = ("tbf", "rate", f"{bits_per_second}bit", "burst", "2000", "latency", "2s")
        for prefix, device in ((), self.near), (self.inside, "far"):
            run(*prefix, "tc", "qdisc", "add", "dev", device, "root", *words)

    def mend(self) -> None:
        """Let everything through again."""
        run(*self.inside, "iptables", "-F")
        for prefix, device in ((), self.near), (self.inside, "far"):
            finish(*prefix, "tc", "qdisc", "delete", "dev", device, "root")


@contextmanager
def cable() -> Iterator[Cable]:
    """A namespace with a cable to it, until the end of the block."""
    number = hold_a_number("namespaces", 250)
    one = Cable(f"edp-n{number}", f"edpn{number}", f"10.151.{number}.2")
    finish("ip", "netns", "delete", one.name)  # of a run that was killed: a live one would hold the number
    run("ip", "netns", "add", one.name)
    try:
        run("ip", "link", "add", one.near, "type", "veth", "peer", "name", "far", "netns", one.name)
        run("ip", "address", "add", f"10.151.{number}.1/24", "dev", one.near)
        run("ip", "link", "set", one.near, "up")
        run(*one.inside, "ip", "address", "add", f"{one.host}/24", "dev", "far")
        for device in ("far", "lo"):
            run(*one.inside, "ip", "link", "set", device, "up")
        yield one
    finally:
        finish("ip", "link", "delete", one.near)
        finish("ip", "netns", "delete", one.name)


@contextmanager
def far_away(port: int, seconds: float) -> Iterator[int]:
    """A port from which everything gets to ``port``, and back, after so many seconds each way."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        ends: list[socket.socket] = []

        def serve() -> None:
            while True:
                try:
                    near, _ = server.accept()
                except OSError:
                    return
                far = socket.create_connection(("127.0.0.1", port))
                ends.extend((near, far))
                _delay(near, far, seconds)
                _delay(far, near, seconds)

        threading.Thread(target=serve, daemon=True).start()
        try:
            yield server.getsockname()[1]
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for end in ends:
                with suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)
                end.close()


def _delay(source: socket.socket, sink: socket.socket, seconds: float) -> None:
    waiting: queue.Queue[tuple[float, bytes]] = queue.Queue()

    def read() -> None:
        data = b"begin"
        while data:
            try:
                data = source.recv(65536)
            except OSError:
                data = b""
            waiting.put((time.monotonic() + seconds, data))

    def write() -> None:
        while True:
            at, data = waiting.get()
            time.sleep(max(0.0, at - time.monotonic()))
            with suppress(OSError):
                if data:
                    sink.sendall(data)
                else:
                    sink.shutdown(socket.SHUT_WR)
            if not data:
                return

    for work in (read, write):
        threading.Thread(target=work, daemon=True).start()
