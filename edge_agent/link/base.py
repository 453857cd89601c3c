"""What a link is: messages come, documents go, and its state says what is wrong while the rest keeps running."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol


@dataclass(frozen=True)
class Message:
    """What came on a topic, such as a desired state.

    ``acknowledge`` is called, from any thread, when the message is on the disk or needs not be: until then the broker
    keeps it and sends it again with the next connection. ``data`` is never empty: an empty message says nothing. What
    is longer than ``LIMITS.desired_state_bytes`` was cut somewhere behind that length, and is too large to be judged.
    ``retained`` is True for what the broker kept, and False for what was sent while the device listened; of a command
    it is also True for one that was sent to be kept, where the broker tells so (MQTT 5).
    """

    topic: str
    data: bytes
    retained: bool
    acknowledge: Callable[[], None]
    reply_to: str | None = None
    correlation: bytes | None = None


class LinkState(StrEnum):
    """``WAITING`` is the pause after a failure; ``CLOSED`` is before the start and after the end."""

    CLOSED = "closed"
    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"


@dataclass(frozen=True)
class LinkStatus:
    """How a link is. ``reason`` says why it is not connected, or what the broker refuses although it is.

    ``protocol`` is what is spoken, such as ``MQTT 5``; ``connections`` counts those that were made.
    """

    state: LinkState = LinkState.CLOSED
    broker: str = ""
    reason: str | None = None
    protocol: str | None = None
    connections: int = 0

    def to_json(self) -> dict[str, object]:
        """The status as the JSON interface shows it."""
        return {
            "state": self.state.value,
            "broker": self.broker,
            "reason": self.reason,
            "protocol": self.protocol,
            "connections": self.connections,
        }


class Link(Protocol):
    """A connection that makes itself again, for ever. No method raises for what the network or the broker does."""

    @property
    def status(self) -> LinkStatus:
        """How it is now."""

    def start(self, on_message: Callable[[Message], None]) -> None:
        """Connect and stay connected. ``on_message`` is called on the link's thread, and returns soon."""

    def publish(self, topic: str, data: bytes, *, retain: bool = False, correlation: bytes | None = None) -> None:
        """Send ``data`` when there is a connection.

        The newest retained document of each topic is kept and sent again with every connection, since a broker may have
        lost it. Of others a bounded number waits for a connection; the oldest are dropped first.
        """

    def close(self) -> None:
        """Say goodbye and end, within a few seconds whatever the broker does. Nothing is sent afterwards."""
