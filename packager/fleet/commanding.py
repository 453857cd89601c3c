"""A signed command for a device at its broker, and the device's answer."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from edgepack.documents import canonical_json, parse_object
from edgepack.errors import EdgepackError, NotFoundError, UsageError, VerificationError
from edgepack.signing.envelope import sign
from edgepack.signing.keys import PrivateKey
from edgepack.state.commands import PAYLOAD_TYPE, Command, CommandAnswer, Verb
from edgepack.state.presence import DeviceStatus
from edgepack.state.reported import Answer
from edgepack.state.times import format_time
from edgepack.state.topics import DeviceTopics
from packager.fleet.registry import Deployment, DeviceRegistry, Target

if TYPE_CHECKING:
    from packager.fleet.broker import Connection

_ERRORS = {2: UsageError, 3: NotFoundError, 4: VerificationError}


@dataclass(frozen=True)
class Order:
    """What the device ``device`` is to do once, until ``until``; ``id`` is by what the answer is known."""

    device: str
    verb: Verb
    service: str | None
    issued_at: int
    until: int
    lines: int | None
    id: str

    @classmethod
    def new(cls, device: str, verb: Verb, service: str | None, valid_seconds: int, lines: int | None = None) -> Order:
        """An order from now on."""
        now = int(time.time())
        return cls(device, verb, service, now, now + valid_seconds, lines, secrets.token_hex(8))

    def sign(
        self, devices: DeviceRegistry, key: PrivateKey, send: Callable[[bytes], None], serial: int | None = None
    ) -> Deployment:
        """Give it the next serial, or ``serial``, and ``send`` it signed by ``key``; raises as ``devices.deploy``."""

        def write(number: int) -> dict[str, Any]:
            made = Command(
                self.device, self.id, number, self.verb, self.service, self.issued_at, self.until, self.lines
            )  # fmt: skip
            return parse_object(made.to_bytes(), "command")

        def signed(deployment: Deployment) -> None:
            send(sign(canonical_json(deployment.document), PAYLOAD_TYPE, key))

        return devices.deploy(Target("command", self.device), write, serial, send=signed)


def publish_order(connection: Connection, topics: DeviceTopics, signed: bytes) -> None:
    """Publish a signed order; raises ``EdgepackError`` where no device listens to it, as far as the broker says."""
    if not connection.publish(topics.command, signed):
        raise EdgepackError(
            "no device of this name was connected to the broker within a day", where=f"device {topics.name}",
            hint="nothing was done; start its agent, and see whether it has the same broker",
        )  # fmt: skip


def wait_for_answer(connection: Connection, topics: DeviceTopics, order: Order, seconds: float) -> CommandAnswer:
    """The device's answer; raises ``EdgepackError`` when none comes in time."""
    presence: DeviceStatus | None = None

    def read(topic: str, data: bytes) -> CommandAnswer | None:
        nonlocal presence
        try:
            if topic == topics.status:
                presence = DeviceStatus.from_bytes(data)
                return None
            found = CommandAnswer.from_bytes(data)
        except EdgepackError:  # what else is told there
            return None
        return found if found.id == order.id else None

    found = connection.wait_for(read, seconds)
    if found is None:
        how = "the broker has not heard of it" if presence is None else f"it is {presence.presence.value}"
        raise EdgepackError(
            f"has not answered within {seconds:g} seconds ({how})", where=f"device {topics.name}",
            hint=f"it may still do it until {format_time(order.until)}; wait longer with --timeout, and see that the "
            "broker lets this user read edgepack/v1/#",
        )  # fmt: skip
    return found


def raise_refused(found: CommandAnswer) -> None:
    """Raise the error that the command would have ended with on the device, if it did not work."""
    if found.status != Answer.OK:
        kind = _ERRORS.get(found.exit_code, EdgepackError)
        raise kind(f"{found.reason or 'it says no more'} ({found.status})", where=f"device {found.device}")
