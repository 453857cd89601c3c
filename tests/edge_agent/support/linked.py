"""A link to a broker, with what came by it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from edge_agent.config.configuration import Broker
from edge_agent.link.base import LinkState, Message
from edge_agent.link.mqtt import MqttLink
from tests.support.waiting import wait_until


@dataclass
class Linked:
    """A link; ``acknowledges`` says whether messages are acknowledged as they come."""

    link: MqttLink
    acknowledges: bool = True
    messages: list[Message] = field(default_factory=list)

    def take(self, message: Message) -> None:
        """Keep a message."""
        self.messages.append(message)
        if self.acknowledges:
            message.acknowledge()

    @property
    def seen(self) -> list[tuple[str, bytes]]:
        """The topics, without what they begin with, and the data."""
        return [(one.topic.removeprefix("edgepack/v1/"), one.data) for one in self.messages]

    @property
    def reason(self) -> str:
        """What the link says is wrong."""
        return self.link.status.reason or ""

    def wait(self, ask: Callable[[], object]) -> None:
        """Wait until something is so, and name the link's state when it does not come."""
        try:
            wait_until(ask, 30)
        except AssertionError:
            seen = [(topic, data[:40]) for topic, data in self.seen]
            raise AssertionError(f"{self.link.status}, seen {seen}") from None

    def connected(self, times: int = 1) -> None:
        """Wait until it was connected so often, and is."""
        self.wait(
            lambda: self.link.status.connections >= times and self.link.status.state is LinkState.CONNECTED
        )  # fmt: skip

    def says(self, *reasons: str) -> None:
        """Wait until the link's state names one of these reasons."""
        self.wait(lambda: any(reason in self.reason for reason in reasons))

    def receives(self, *expected: tuple[str, bytes]) -> None:
        """Wait until these messages have come, in this order."""
        self.wait(lambda: self.seen == list(expected))


@contextmanager
def linked(
    broker: Broker,
    device: str = "gate-7",
    groups: Sequence[str] = (),
    session: int = 1,
    *,
    acknowledges: bool = True,
    **more: Any,
) -> Iterator[Linked]:
    """A started link until the end of the block."""
    one = Linked(MqttLink(broker, device, groups, session, **more), acknowledges)
    one.link.start(one.take)
    try:
        yield one
    finally:
        one.link.close()


def fields(data: str | bytes, *names: str) -> tuple[object, ...]:
    """Fields of a JSON document."""
    value = json.loads(data)
    return tuple(value[name] for name in names)
