"""What is to be published: the newest retained document of each topic for ever, others until they were taken."""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from dataclasses import dataclass

# Answers and events that wait for a connection. The reported state alone must not be lost.
_WAITING = 100
_WAITING_BYTES = 1 << 20


@dataclass(frozen=True, eq=False)
class Outgoing:
    """A message to be published, with the data by which whoever asked knows the answer."""

    topic: str
    data: bytes
    retain: bool
    correlation: bytes | None = None


class Outbox:
    """What is to be published, put in by any thread and taken out by the link's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._retained: OrderedDict[str, Outgoing] = OrderedDict()
        self._due: set[str] = set()
        self._waiting: deque[Outgoing] = deque()
        self._sent: list[Outgoing] = []

    def put(self, message: Outgoing) -> int:
        """Take ``message``, which replaces an older retained one of its topic; how many were dropped for it."""
        with self._lock:
            if message.retain:
                self._retained[message.topic] = message
                self._due.add(message.topic)
                return 0
            self._waiting.append(message)
            dropped = 0
            while len(self._waiting) > _WAITING or sum(len(one.data) for one in self._waiting) > _WAITING_BYTES:
                self._waiting.popleft()
                dropped += 1
            return dropped

    def again(self) -> None:
        """With a new connection everything retained is due, and everything that the broker has not confirmed."""
        with self._lock:
            self._due = set(self._retained)
            self._waiting.extendleft(reversed(self._sent))
            self._sent.clear()

    def take(self) -> Outgoing | None:
        """The next message to publish."""
        with self._lock:
            for topic, message in self._retained.items():
                if topic in self._due:
                    self._due.remove(topic)
                    return message
            if not self._waiting:
                return None
            message = self._waiting.popleft()
            self._sent.append(message)
            return message

    def confirm(self, message: Outgoing) -> None:
        """The broker has answered for ``message``, or it can never be sent."""
        with self._lock:
            if message in self._sent:
                self._sent.remove(message)

    @property
    def is_empty(self) -> bool:
        """Whether nothing is to be sent on this connection any more."""
        with self._lock:
            return not self._due and not self._waiting and not self._sent
