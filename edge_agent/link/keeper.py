"""The link's thread: it makes a connection, stays with it to its end, waits, and makes the next one.

What the network or the broker does ends in ``status`` and in the log; nothing of it reaches who uses the link.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

from edge_agent.config.configuration import Broker
from edge_agent.link.base import LinkState, LinkStatus, Message
from edge_agent.link.course import Attempt, Course, Ended, Kind, Version
from edge_agent.link.outbox import Outbox, Outgoing
from edgepack import __version__
from edgepack.errors import EdgepackError
from edgepack.oci.reference import is_loopback
from edgepack.state.presence import DeviceStatus, Presence
from edgepack.state.topics import DeviceTopics, group_desired

_log = logging.getLogger(__name__)
_JOIN_SECONDS = 5.0


class Keeper(ABC):
    """The ``Link`` of ``device`` to ``broker``, for its own topics and those of its ``groups``.

    ``session`` counts the agent's starts. ``now`` is the wall clock, but never behind a moment that has surely passed.
    """

    def __init__(
        self,
        broker: Broker,
        device: str,
        groups: Sequence[str],
        session: int,
        *,
        now: Callable[[], float] = time.time,
    ) -> None:
        own = DeviceTopics(device)
        self.broker = broker
        self.device = device
        self.topics = (own.desired, *map(group_desired, groups), own.command)
        self.status_topic, self.command_topic = own.status, own.command
        self.outbox = Outbox()
        self.now = now
        self.closing = threading.Event()
        self.instance = os.urandom(6).hex()
        self._session = session
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._status = LinkStatus(broker=broker.url)
        self._attempts = 0
        self._thread: threading.Thread | None = None
        self._on_message: Callable[[Message], None] = _ignore
        self._said: str | None = None
        self._warned = False

    def __del__(self) -> None:
        # Not before: whoever still has a message to acknowledge would write to what has this number by then.
        if hasattr(self, "_wake"):
            os.close(self._wake)

    @abstractmethod
    def connect(self, attempt: Attempt) -> Ended:
        """Make a connection, and stay until it ends; raises ``EdgepackError`` for files of the configuration."""

    @property
    def status(self) -> LinkStatus:
        """How the link is now."""
        return self._status

    def start(self, on_message: Callable[[Message], None]) -> None:
        """Connect and stay connected."""
        self._on_message = on_message
        self._thread = threading.Thread(target=self._run, name="link", daemon=True)
        self._thread.start()

    def publish(self, topic: str, data: bytes, *, retain: bool = False, correlation: bytes | None = None) -> None:
        """Send ``data`` when there is a connection."""
        if dropped := self.outbox.put(Outgoing(topic, data, retain, correlation)):
            _log.warning("%d messages that waited for a connection to %s were dropped", dropped, self.broker.url)
        self.wake()

    def close(self) -> None:
        """Say goodbye and end."""
        self.closing.set()
        self.wake()
        if self._thread is not None:
            self._thread.join(_JOIN_SECONDS)

    # What a connection uses.

    def wake(self) -> None:
        """Let the link's thread look at what there is to do."""
        os.eventfd_write(self._wake, 1)

    def wait(self, poll: select.poll, seconds: float) -> list[tuple[int, int]]:
        """What is ready among ``poll`` after at most ``seconds``; a call of ``wake`` ends the wait too."""
        poll.register(self._wake, select.POLLIN)
        ready = poll.poll(max(0.0, seconds) * 1000)
        if any(fd == self._wake for fd, _ in ready):
            os.eventfd_read(self._wake)
        return [pair for pair in ready if pair[0] != self._wake]

    def presence(self, presence: Presence) -> bytes:
        """What the device says of itself with this connection."""
        one = DeviceStatus(self.device, presence, self._session, self._attempts, self.instance, __version__)
        return one.to_bytes()

    def deliver(self, message: Message) -> None:
        """Hand a message on."""
        try:
            self._on_message(message)
        except Exception:  # noqa: BLE001 - another part's error must not end the connection; the message comes again
            _log.exception("a message on %s could not be taken", message.topic)

    def connected(self, version: Version) -> None:
        """A connection is ready."""
        self._said = None
        _log.info("connected to %s by %s", self.broker.url, version)
        self._set(LinkState.CONNECTED, None, version, made=1)

    def remark(self, reason: str | None) -> None:
        """Something is refused although there is a connection, or with None nothing is any more."""
        if reason is not None:
            _log.warning("%s: %s", self.broker.url, reason)
        one = self._status
        self._status = LinkStatus(one.state, one.broker, reason, one.protocol, one.connections)

    def warn_of_plain_password(self) -> None:
        """Say once that the password can be read on the way; on this machine there is no way."""
        if not self._warned and not is_loopback(self.broker.host):
            self._warned = True
            _log.warning("the password goes to %s without TLS: others may read it; use mqtts://", self.broker.url)

    def _set(self, state: LinkState, reason: str | None, version: Version | None = None, *, made: int = 0) -> None:
        protocol = None if version is None else version.value
        self._status = LinkStatus(state, self.broker.url, reason, protocol, self._status.connections + made)

    def _run(self) -> None:
        course = Course(self.device)
        while not self.closing.is_set():
            self._set(LinkState.CONNECTING, self._status.reason)
            self._attempts += 1
            ended = self._attempt(course.attempt)
            if self.closing.is_set():
                break
            pause, reason = course.after(ended, time.monotonic())
            self._set(LinkState.WAITING, reason)
            self._warn(reason, pause)
            self._pause(pause)
        self._set(LinkState.CLOSED, None)

    def _attempt(self, attempt: Attempt) -> Ended:
        try:
            return self.connect(attempt)
        except EdgepackError as error:
            return Ended(Kind.UNREACHABLE, str(error))
        except Exception as error:  # noqa: BLE001 - the outermost edge of the thread: what a broker sends must not end it
            _log.warning("the connection to %s failed", self.broker.url, exc_info=True)
            return Ended(Kind.UNANSWERED, f"what it sent could not be read ({type(error).__name__})")

    def _warn(self, reason: str, pause: float) -> None:
        # A broker that is away for a week is not worth a line every two minutes.
        level = logging.DEBUG if reason == self._said else logging.WARNING
        self._said = reason
        _log.log(level, "no connection to %s: %s; the next try is in %.0f s", self.broker.url, reason, pause)

    def _pause(self, seconds: float) -> None:
        end, poll = time.monotonic() + seconds, select.poll()
        while not self.closing.is_set() and (left := end - time.monotonic()) > 0:
            self.wait(poll, left)


def _ignore(message: Message) -> None:
    """Nobody listens yet."""
