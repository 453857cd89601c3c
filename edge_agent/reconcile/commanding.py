"""Which commands the device takes, and with what they are refused; pure.

Rules:

- a command is signed by a key that the device trusts, whatever the configuration says of documents;
- it is sent to this device, and not kept by a broker: a retained one would be done again by a device that was set up
  anew;
- serials only grow: no command is taken twice, nor one that is older than another one that was taken;
- it is not taken after its end, by the device's time, which is never before what was seen or signed.
"""

from __future__ import annotations

import base64
from collections.abc import Collection
from dataclasses import dataclass, replace

from edge_agent.reconcile.opening import COMMAND, opened, refusal_of
from edge_agent.state.commands import Taken
from edge_agent.state.goals import Refusal
from edgepack.documents import parse_object
from edgepack.errors import InvalidDocumentError, UsageError
from edgepack.limits import LIMITS
from edgepack.signing.keys import PublicKey
from edgepack.state.commands import PAYLOAD_TYPE, SCHEMA, Command, check_command_id
from edgepack.state.reported import Answer
from edgepack.state.times import format_time

_AGAIN = "send another one with: edgepack device command"


@dataclass(frozen=True)
class Arrival:
    """How a command came to the ``device``, and when: ``now`` is the device's time in seconds since 1970.

    ``retained`` is whether a broker had kept it, ``again`` whether it is judged again because its job was ended.
    """

    device: str
    now: float
    retained: bool = False
    again: bool = False


def is_command(data: bytes) -> bool:
    """Whether ``data`` is in an envelope of commands, good or not."""
    if len(data) > LIMITS.command_bytes:
        return False
    try:
        return parse_object(data, "document").get("payloadType") == PAYLOAD_TYPE
    except InvalidDocumentError:
        return False


def read_command(data: bytes, trusted: Collection[PublicKey]) -> Command | Refusal:
    """The command in ``data``, which must be signed by one of the ``trusted`` keys."""
    payload = opened(data, trusted, form=COMMAND)
    if isinstance(payload, Refusal):
        return payload
    try:
        return Command.from_bytes(payload)
    except InvalidDocumentError as error:
        try:
            ours = parse_object(payload, "command").get("schema") == SCHEMA
        except InvalidDocumentError:
            ours = True
        return refusal_of(Answer.INVALID if ours else Answer.PRECONDITION_FAILED, error.what, error.hint)


def claimed_id(data: bytes) -> str | None:
    """The id that the command in ``data`` has by its own word, by which its sender knows the answer."""
    try:
        value = parse_object(data[: LIMITS.command_bytes], "command")
        if isinstance(value.get("payload"), str):
            value = parse_object(base64.b64decode(value["payload"], validate=True), "command")
        return check_command_id(str(value.get("id") or ""))
    except (InvalidDocumentError, UsageError, ValueError):
        return None


def judge(command: Command, taken: Taken, arrival: Arrival) -> Command | Refusal:
    """``command``, when it is to be done, given what was ``taken`` before; else why not."""
    if command.device != arrival.device:
        return _refused(
            command, Answer.PRECONDITION_FAILED,
            f"it is for device {command.device}, and came to device {arrival.device}", _AGAIN,
        )  # fmt: skip
    if arrival.retained:
        return _refused(
            command, Answer.PRECONDITION_FAILED, "the broker had kept it, and a command is never retained",
            "remove it from the broker: publish an empty retained message on its topic",
        )  # fmt: skip
    if command.serial <= taken.serial:
        if arrival.again and any((one.serial, one.id) == (command.serial, command.id) for one in taken.begun):
            return _refused(command, Answer.FAILED, "it was begun, and ended before it was done", _AGAIN)
        what = f"serial {command.serial} is older than serial {taken.serial}, which this device has taken"
        if command.serial == taken.serial:
            what = f"this device has taken serial {taken.serial} before, and does nothing twice"
        return _refused(command, Answer.CONFLICT, what, f"send another one, with a serial above {taken.serial}")
    if command.serial > taken.serial + LIMITS.serial_step:
        what = f"serial {command.serial} is more than {LIMITS.serial_step} above {taken.serial}"
        return _refused(command, Answer.CONFLICT, what, "give it a lower serial")
    # A device that is behind knows by the command itself that it is at least that late.
    now = max(arrival.now, float(command.issued_at))
    if now > command.not_after:
        what = f"it was to be done until {format_time(command.not_after)}, and it is {format_time(now)} on this device"
        return _refused(command, Answer.PRECONDITION_FAILED, what, "send another one, or set the clock that is wrong")
    return command


def _refused(command: Command, status: Answer, reason: str, hint: str) -> Refusal:
    return replace(refusal_of(status, reason, hint), serial=command.serial)
