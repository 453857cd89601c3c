"""A broker's bytes on their way to the MQTT client: packets that are too large are cut, whatever the broker says.

The client reads each packet whole into memory, and a packet may have 256 MB. What is cut is the end of a PUBLISH: its
topic and more than the longest document remain, so that it can be refused by name. Every other packet from a broker is
small; a long one is not MQTT.
"""

from __future__ import annotations

import socket
import ssl

from edgepack.limits import LIMITS

# MQTT 5.0, section 2.1.2: the type is in the upper half of the first byte.
_PUBLISH = 3
# What a broker may begin with: CONNACK, or in version 5 DISCONNECT and AUTH.
_FIRST = (2, 14, 15)
# Section 2.1.4: a length has at most four bytes, each with seven bits.
_LENGTH_BYTES = 4
# Room for the topic (at most 64 KiB) and the properties before a document.
PUBLISH_BYTES = LIMITS.desired_state_bytes + LIMITS.broker_packet_bytes
# SUBACK has a byte for each topic; CONNACK and DISCONNECT may have a sentence and some properties.
OTHER_BYTES = LIMITS.broker_packet_bytes
_CHUNK = 64 << 10


class NotMqttError(ConnectionError):
    """The other side does not speak MQTT."""


class Inlet:
    """A connected, non-blocking socket as the MQTT client uses one."""

    def __init__(self, sock: socket.socket, publish_bytes: int = PUBLISH_BYTES, other_bytes: int = OTHER_BYTES) -> None:
        self._sock = sock
        self._publish_bytes = publish_bytes
        self._other_bytes = other_bytes
        self._buffer = bytearray()
        self._head = b""  # of the packet that is being read, as far as it was not handed on
        self._passed = 0  # bytes to hand on
        self._dropped = 0  # bytes to drop after them
        self._starved = False
        self._begun = False
        self.fault: OSError | None = None
        """How the connection broke; the client keeps no more than that it did."""

    def recv(self, size: int) -> bytes:
        """At most ``size`` bytes, none at the end; raises ``BlockingIOError`` and ``NotMqttError``."""
        try:
            return self._recv(size)
        except BlockingIOError:
            self._starved = True
            raise
        except OSError as error:
            self.fault = error
            raise

    def _recv(self, size: int) -> bytes:
        while not self._head and not self._passed:
            if self._dropped:
                if not (self._buffer or self._fill()):
                    return b""
                self._dropped -= len(self._take(self._dropped))
            elif not self._begin() and not self._fill():
                return b""
        if self._head:
            found, self._head = self._head[:size], self._head[size:]
            return found
        if not self._buffer and not self._fill():
            return b""
        data = self._take(min(size, self._passed))
        self._passed -= len(data)
        return data

    def _take(self, size: int) -> bytes:
        found = bytes(self._buffer[:size])
        del self._buffer[:size]
        return found

    def _fill(self) -> bool:
        """Read what has come; False at the end."""
        try:
            data = self._sock.recv(_CHUNK)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error
        self._starved = False
        self._buffer += data
        return bool(data)

    def _begin(self) -> bool:
        """Read the head of the next packet; False when it has not all come."""
        length = 0
        for at, byte in enumerate(self._buffer[1 : 1 + _LENGTH_BYTES]):
            length |= (byte & 0x7F) << (7 * at)
            if not byte & 0x80:
                self._start_packet(self._buffer[0], length, 2 + at)
                return True
        if len(self._buffer) > _LENGTH_BYTES:
            raise NotMqttError("the length of a packet has more than four bytes")
        return False

    def _start_packet(self, first: int, length: int, head: int) -> None:
        kept = length
        if not self._begun and first >> 4 not in _FIRST:
            raise NotMqttError("it begins otherwise")
        self._begun = True
        if first >> 4 == _PUBLISH:
            kept = min(length, self._publish_bytes)
        elif length > self._other_bytes:
            raise NotMqttError(f"a packet of type {first >> 4} with {length} bytes")
        del self._buffer[:head]
        self._head = bytes([first]) + _encoded(kept)
        self._passed, self._dropped = kept, length - kept

    def send(self, data: bytes | bytearray) -> int:
        """Send some of ``data``; how much."""
        try:
            return self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error
        except BlockingIOError:
            raise
        except OSError as error:
            self.fault = self._last_word() or error
            raise

    def _last_word(self) -> OSError | None:
        """Why the other side has closed, where it said so before it did: an alert of TLS."""
        try:
            self._sock.recv(1)
        except BlockingIOError:
            return None
        except ssl.SSLError as error:
            return None if isinstance(error, ssl.SSLWantReadError) else error
        except OSError:
            return None
        return None

    def pending(self) -> int:
        """Whether something can be read that no poll of the socket shows."""
        inside = self._sock.pending() if isinstance(self._sock, ssl.SSLSocket) else 0
        return inside or (0 if self._starved else len(self._buffer) + len(self._head))

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def setblocking(self, flag: bool) -> None:
        """As the socket's."""
        self._sock.setblocking(flag)

    def close(self) -> None:
        """Close the socket."""
        self._sock.close()


def _encoded(length: int) -> bytes:
    """A length as MQTT writes it (section 1.5.5)."""
    found = bytearray()
    while True:
        length, low = length >> 7, length & 0x7F
        found.append(low | (0x80 if length else 0))
        if not length:
            return bytes(found)
