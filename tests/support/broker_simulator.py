"""A broker that does on purpose what a real one does not: refuses a version, hangs, closes, speaks nonsense."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

CONNECT, CONNACK, PUBLISH, PUBACK, SUBSCRIBE, SUBACK, PINGREQ, DISCONNECT = 1, 2, 3, 4, 8, 9, 12, 14
TAKEN_OVER = b"\xe0\x02\x8e\x00"
HTTP = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


def packet(first: int, body: bytes) -> bytes:
    """A packet with its length."""
    head, length = bytearray([first]), len(body)
    while True:
        length, low = length >> 7, length & 0x7F
        head.append(low | (0x80 if length else 0))
        if not length:
            return bytes(head) + body


def text(value: str) -> bytes:
    """A text with its length."""
    return len(value.encode()).to_bytes(2, "big") + value.encode()


@dataclass
class Client:
    """A connection of a client: what it said first, and what it sent since."""

    sock: socket.socket
    version: int = 0
    name: str = ""
    packets: list[tuple[int, bytes]] = field(default_factory=list)

    @property
    def is_5(self) -> bool:
        """Whether it speaks MQTT 5."""
        return self.version == 5

    def read(self) -> tuple[int, bytes]:
        """The next packet: its first byte and its body; raises ``EOFError``."""
        first = self._exactly(1)[0]
        length, shift = 0, 0
        while True:
            byte = self._exactly(1)[0]
            length |= (byte & 0x7F) << shift
            shift += 7
            if not byte & 0x80:
                break
        body = self._exactly(length)
        self.packets.append((first, body))
        return first, body

    def _exactly(self, size: int) -> bytes:
        found = b""
        while len(found) < size:
            data = self.sock.recv(size - len(found))
            if not data:
                raise EOFError
            found += data
        return found

    def hear_connect(self) -> None:
        """Read the first packet."""
        _, body = self.read()
        self.version = body[6]
        rest = body[10:]
        if self.is_5:
            rest = rest[1 + rest[0] :]
        self.name = rest[2 : 2 + int.from_bytes(rest[:2], "big")].decode()

    def accept(self, properties: bytes = b"") -> None:
        """Say that it is connected."""
        extra = bytes([len(properties)]) + properties if self.is_5 else b""
        self.send(packet(CONNACK << 4, b"\0\0" + extra))

    def refuse(self, code: int) -> None:
        """Say that it is not."""
        extra = b"\0" if self.is_5 and code >= 0x80 else b""
        self.send(packet(CONNACK << 4, bytes([0, code]) + extra))

    def publish(self, topic: str, data: bytes, *, mid: int = 1, retain: bool = True) -> None:
        """Send a message with QoS 1."""
        head = text(topic) + mid.to_bytes(2, "big") + (b"\0" if self.is_5 else b"")
        self.send(packet(PUBLISH << 4 | 2 | retain, head + data))

    def serve(self) -> None:
        """Confirm everything until the client leaves."""
        while True:
            first, body = self.read()
            if first >> 4 == SUBSCRIBE:
                self.send(packet(SUBACK << 4, body[:2] + (b"\0" if self.is_5 else b"") + b"\1"))
            elif first >> 4 == PUBLISH:
                at = 2 + int.from_bytes(body[:2], "big")
                self.send(packet(PUBACK << 4, body[at : at + 2]))
            elif first >> 4 == PINGREQ:
                self.send(b"\xd0\0")
            elif first >> 4 == DISCONNECT:
                return

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)


Script = Callable[[Client], None]


@dataclass
class BrokerSimulator:
    """Listens on ``port``, and does with each connection what ``script`` says; ``clients`` are those that came."""

    script: Script
    port: int = 0
    clients: list[Client] = field(default_factory=list)

    def _answer(self, client: Client) -> None:
        with client.sock, suppress(OSError, EOFError):
            self.script(client)

    def run(self, server: socket.socket) -> None:
        """Take connections until ``server`` is closed."""
        while True:
            try:
                sock, _ = server.accept()
            except OSError:
                return
            client = Client(sock)
            self.clients.append(client)
            threading.Thread(target=self._answer, args=(client,), daemon=True).start()


@contextmanager
def simulated(script: Script) -> Iterator[BrokerSimulator]:
    """A simulator until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        simulator = BrokerSimulator(script, server.getsockname()[1])
        thread = threading.Thread(target=simulator.run, args=(server,), daemon=True)
        thread.start()
        try:
            yield simulator
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for client in simulator.clients:
                with suppress(OSError):
                    client.sock.shutdown(socket.SHUT_RDWR)
    thread.join(10)


def accepting(client: Client) -> None:
    """A broker that does everything right, and keeps nothing."""
    client.hear_connect()
    client.accept()
    client.serve()
