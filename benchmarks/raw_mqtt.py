"""A small MQTT 5 client over asyncio: thousands fit into one process. For simulations only."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

CONNECT, PUBLISH, PUBACK, SUBSCRIBE, DISCONNECT = 1, 3, 4, 8, 14


def packet(first: int, body: bytes) -> bytes:
    """A packet with its length (MQTT 5.0, section 1.5.5)."""
    head, length = bytearray([first]), len(body)
    while True:
        length, low = length >> 7, length & 0x7F
        head.append(low | (0x80 if length else 0))
        if not length:
            return bytes(head) + body


def text(value: str) -> bytes:
    """A text with its length."""
    data = value.encode()
    return len(data).to_bytes(2, "big") + data


class RawClient(asyncio.Protocol):
    """A client ``name``: connects with a will, subscribes to ``topics``, acknowledges, publishes with QoS 1.

    ``on_message`` gets topic and data, ``on_ready`` is called with every answer to a subscription, ``on_lost`` when the
    connection has ended. With ``acknowledges`` off, ``acknowledge`` is called for each message by its number.
    """

    def __init__(
        self,
        name: str,
        topics: Sequence[str],
        *,
        will: tuple[str, bytes] | None = None,
        on_message: Callable[[str, bytes, int], None],
        on_ready: Callable[[], None] = lambda: None,
        on_lost: Callable[[], None] = lambda: None,
    ) -> None:
        self._name = name
        self._topics = topics
        self._will = will
        self._on_message = on_message
        self._on_ready = on_ready
        self._on_lost = on_lost
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._mid = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who it is."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        flags, tail = 2, b""
        if self._will is not None:
            topic, data = self._will
            flags |= 0x04 | 0x08 | 0x20
            tail = b"\0" + text(topic) + len(data).to_bytes(2, "big") + data
        self._send(packet(CONNECT << 4, text("MQTT") + bytes([5, flags]) + b"\0\0\0" + text(self._name) + tail))

    def data_received(self, data: bytes) -> None:
        """Take packets apart."""
        self._buffer += data
        while (found := self._next()) is not None:
            self._handle(*found)

    def _next(self) -> tuple[int, bytes] | None:
        length = 0
        for at, byte in enumerate(self._buffer[1:5]):
            length |= (byte & 0x7F) << (7 * at)
            if not byte & 0x80:
                start, end = 2 + at, 2 + at + length
                if len(self._buffer) < end:
                    return None
                first, body = self._buffer[0], bytes(self._buffer[start:end])
                del self._buffer[:end]
                return first, body
        return None

    def _handle(self, first: int, body: bytes) -> None:
        kind = first >> 4
        if kind == 2:
            if body[1] != 0:
                raise ConnectionRefusedError(f"{self._name}: code {body[1]}")
            for topic in self._topics:
                self._send(packet(SUBSCRIBE << 4 | 2, self._number() + b"\0" + text(topic) + b"\1"))
            if not self._topics:
                self._on_ready()
        elif kind == 9:
            self._on_ready()
        elif kind == PUBLISH:
            end = 2 + int.from_bytes(body[:2], "big")
            topic, mid = body[2:end].decode(), 0
            if first & 0x06:
                mid = int.from_bytes(body[end : end + 2], "big")
                end += 2
            properties = body[end]  # below 128 in what is sent here
            self._on_message(topic, body[end + 1 + properties :], mid)

    def acknowledge(self, mid: int) -> None:
        """Tell the broker that a message is kept."""
        if mid:
            self._send(packet(PUBACK << 4, mid.to_bytes(2, "big")))

    def publish(self, topic: str, data: bytes, *, retain: bool = True) -> None:
        """Send ``data`` with QoS 1."""
        self._send(packet(PUBLISH << 4 | 2 | retain, text(topic) + self._number() + b"\0" + data))

    def _number(self) -> bytes:
        self._mid = self._mid % 65535 + 1
        return self._mid.to_bytes(2, "big")

    def _send(self, data: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def connection_lost(self, error: Exception | None) -> None:
        """The end."""
        self._transport = None
        self._on_lost()

    def close(self) -> None:
        """Say goodbye."""
        if self._transport is not None:
            self._send(packet(DISCONNECT << 4, b""))
            self._transport.close()
