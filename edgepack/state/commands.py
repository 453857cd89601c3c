"""What a device is asked to do once: a signed command, and the device's answer.

A command is for one device, is done at most once, and not after its end. Its serial is above that of every command that
the device took before, which is what keeps one from being sent again by somebody else.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast, get_args

from edgepack.documents import Fields, canonical_json, parse_object, raise_all
from edgepack.errors import UsageError
from edgepack.limits import LIMITS
from edgepack.names import check_device_name, check_service_name
from edgepack.state.desired import MAX_SERIAL
from edgepack.state.times import format_time, parse_time

SCHEMA = "edgepack.command/v1"
ANSWER_SCHEMA = "edgepack.answer/v1"
PAYLOAD_TYPE = "application/vnd.edgepack.command.v1+json"
Verb = Literal["restart", "rollback", "stop", "start", "logs", "gc", "report", "ping"]
VERBS: tuple[Verb, ...] = get_args(Verb)
OF_SERVICE: frozenset[Verb] = frozenset({"restart", "rollback", "stop", "start", "logs"})
"""The verbs that name a service; the others are about the device."""
LINES, MAX_LINES = 100, 10_000
"""How many lines of a log are sent when nothing is said, and how many may be asked for."""
MAX_VALID_SECONDS = 31 * 24 * 3600
"""How long after it was signed a command may be done at most."""
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_WAY_OUT = "send it with: edgepack device command"


@dataclass(frozen=True)
class Command:
    """``verb`` for the ``service``, if it is about one, of ``device``; ``id`` is by what the answer is known.

    ``issued_at`` and ``not_after`` are in seconds since 1970. ``lines`` is for ``logs`` alone.
    """

    device: str
    id: str
    serial: int
    verb: Verb
    service: str | None
    issued_at: int
    not_after: int
    lines: int | None = None

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "command") -> Command:
        """Read a command; raises ``InvalidDocumentError`` naming every wrong field."""
        violations: list[str] = []
        fields = Fields(parse_object(data, where, hint=_WAY_OUT), "", violations)
        fields.schema(SCHEMA)
        device = fields.parsed("device", check_device_name) or ""
        id_ = fields.parsed("id", check_command_id) or ""
        serial = fields.take("serial", int, required=True)
        if serial is not None and not 1 <= serial <= MAX_SERIAL:
            fields.wrong("serial", f"must be from 1 to {MAX_SERIAL}")
        verb = fields.take("verb", str, required=True)
        if verb is not None and verb not in VERBS:
            fields.wrong("verb", f"must be one of {', '.join(VERBS)}")
        service = fields.parsed("service", check_service_name, required=verb in OF_SERVICE)
        if service is not None and verb in VERBS and verb not in OF_SERVICE:
            fields.wrong("service", f"is not for {verb}, which is about the device")
        issued, until = fields.parsed("issued_at", parse_time), fields.parsed("not_after", parse_time)
        if issued is not None and until is not None and not 0 < until - issued <= MAX_VALID_SECONDS:
            fields.wrong("not_after", f"must be after issued_at, and at most {MAX_VALID_SECONDS // 86400} days later")
        arguments = fields.child("arguments")
        lines = arguments.take("lines", int) if verb == "logs" else None
        if lines is not None and not 0 < lines <= MAX_LINES:
            arguments.wrong("lines", f"must be from 1 to {MAX_LINES}")
        arguments.finish()
        fields.finish()
        raise_all(where, violations, hint=_WAY_OUT)
        return cls(device, id_, serial or 0, cast(Verb, verb), service, issued or 0, until or 0, lines)

    def to_bytes(self) -> bytes:
        """The canonical document."""
        value: dict[str, object] = {
            "schema": SCHEMA, "device": self.device, "id": self.id, "serial": self.serial, "verb": self.verb,
            "issued_at": format_time(self.issued_at), "not_after": format_time(self.not_after),
        }  # fmt: skip
        if self.service is not None:
            value["service"] = self.service
        if self.lines is not None:
            value["arguments"] = {"lines": self.lines}
        return canonical_json(value)

    def __str__(self) -> str:
        return self.verb if self.service is None else f"{self.verb} {self.service}"


def check_command_id(text: str) -> str:
    """``text`` where it may be the id of a command; raises ``UsageError``."""
    if not _ID.fullmatch(text):
        raise UsageError("must have at most 64 letters, digits, '.', '_' and '-', and begin with a letter or digit")
    return text


@dataclass(frozen=True)
class CommandAnswer:
    """What became of the command ``id``, which is ``None`` where what came could not be read so far.

    ``status`` and ``reason`` are as for documents; ``exit_code`` is the one that the same command has when it is typed
    on the device. ``payload`` is what was asked for, such as the lines of a log. ``time`` is in seconds since 1970.
    """

    device: str
    id: str | None
    status: int
    reason: str | None = None
    exit_code: int = 0
    verb: str | None = None
    service: str | None = None
    serial: int | None = None
    time: float = 0.0
    payload: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "answer") -> CommandAnswer:
        """Read an answer; raises ``InvalidDocumentError``. Fields that a later version adds are passed over."""
        return cls.of_json(parse_object(data, where), where)

    @classmethod
    def of_json(cls, value: Mapping[str, Any], where: object = "answer") -> CommandAnswer:
        """The answer that ``to_json`` wrote; raises ``InvalidDocumentError``."""
        violations: list[str] = []
        fields = Fields(value, "", violations)
        fields.schema(ANSWER_SCHEMA)
        found = cls(
            fields.parsed("device", check_device_name) or "",
            fields.parsed("id", check_command_id, required=False),
            fields.take("status", int, required=True) or 0,
            fields.take("reason", str),
            fields.take("exit_code", int, 0) or 0,
            fields.take("verb", str),
            fields.take("service", str),
            fields.take("serial", int),
            fields.parsed("time", parse_time, required=False) or 0,
            fields.take("payload", dict, {}) or {},
        )
        raise_all(where, violations)
        return found

    def to_json(self) -> dict[str, Any]:
        """The answer as it is published, and as the JSON interface shows it."""
        return {
            "schema": ANSWER_SCHEMA, "device": self.device, "id": self.id, "serial": self.serial, "verb": self.verb,
            "service": self.service, "status": int(self.status), "reason": self.reason, "exit_code": self.exit_code,
            "time": format_time(self.time), "payload": dict(self.payload),
        }  # fmt: skip

    def to_bytes(self) -> bytes:
        """The canonical document; with a payload for which there is no room, without it."""
        data = canonical_json(self.to_json())
        if len(data) <= LIMITS.answer_bytes:
            return data
        return canonical_json(self.to_json() | {"payload": {}})


def tail_of(
    text: str, lines: int, most_bytes: int = LIMITS.answer_bytes - LIMITS.answer_margin_bytes
) -> dict[str, Any]:
    """The last ``lines`` lines of a log as a payload of at most ``most_bytes``, and whether there were more of them.

    Of a line that is longer than that its end is sent.
    """
    found = text.splitlines()[-lines:]
    taken: list[str] = []
    left = most_bytes
    for line in reversed(found):
        left -= len(canonical_json(line)) + 1
        if left < 0:
            break
        taken.append(line)
    if found and not taken:
        # Of one character there are at most twelve bytes in JSON.
        taken.append(found[-1][-(most_bytes // 12) :])
    return {"lines": taken[::-1], "is_cut": left < 0}
