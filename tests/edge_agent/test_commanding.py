"""Which commands a device takes: each threat of the field, each wrong field, and a clock that is wrong."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent.config.configuration import Configuration
from edge_agent.jobs import accept
from edge_agent.jobs.command import obey
from edge_agent.jobs.task import Task
from edgepack import __version__
from edgepack.limits import LIMITS
from edgepack.signing.envelope import sign
from edgepack.signing.keys import PrivateKey, create_key
from edgepack.state import commands, desired
from edgepack.state.commands import Command, CommandAnswer, tail_of

NOW = 1_800_000_000


class Told(Task):
    """A job that keeps what it tells."""

    def tell(self, **told: Any) -> None:
        self.lines.append(told)

    @property
    def lines(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.__dict__.setdefault("kept", [])
        return found


class Place:
    """A device called dev1 that trusts one key, and what time its clock shows."""

    def __init__(self, folder: Path, key: PrivateKey) -> None:
        self.configuration = Configuration(device="dev1", state_dir=folder, runtime="process")
        self.key = key
        Told(self.configuration, (), {}).device.trust.add(key.public.to_pem())

    def command(self, **fields: Any) -> Command:
        return replace(Command("dev1", "c-1", 7, "ping", None, NOW, NOW + 600), **fields)

    def obeys(self, data: bytes | Command, **given: Any) -> dict[str, Any]:
        """What is answered; nothing for what is told in the log alone."""
        if isinstance(data, Command):
            data = sign(data.to_bytes(), commands.PAYLOAD_TYPE, self.key)
        task = Told(self.configuration, (), given)
        obey(task, data)
        # That it is taken, or not, is told before the answer.
        assert isinstance(task.lines[0]["status"], int)
        found: dict[str, Any] = task.lines[-1].get("answer", {})
        assert len(json.dumps(found)) <= LIMITS.answer_bytes
        return found


@pytest.fixture(scope="module")
def key() -> PrivateKey:
    return create_key()


@pytest.fixture
def place(tmp_path: Path, key: PrivateKey, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setattr("edge_agent.jobs.command.time.time", lambda: float(NOW))
    return Place(tmp_path / "device", key)


def envelope(place: Place, **changes: Any) -> bytes:
    value = json.loads(sign(place.command().to_bytes(), commands.PAYLOAD_TYPE, place.key))
    return json.dumps(value | changes).encode()


def raw(place: Place, **fields: Any) -> bytes:
    """A signed command with fields as they are given."""
    value = json.loads(place.command().to_bytes())
    value = {name: one for name, one in (value | fields).items() if one is not ...}
    return sign(json.dumps(value).encode(), commands.PAYLOAD_TYPE, place.key)


OTHER = base64.b64encode(b"{}").decode()
BAD: dict[str, tuple[Callable[[Place], bytes], int, str]] = {
    "another device's": (lambda at: raw(at, device="dev2"), 412, "it is for device dev2, and came to device dev1"),
    "an unknown signer": (
        lambda at: sign(at.command().to_bytes(), commands.PAYLOAD_TYPE, create_key()), 412, "no such key is trusted",
    ),
    "nobody signed": (lambda at: sign(at.command().to_bytes(), commands.PAYLOAD_TYPE), 412, "is not signed"),
    "plain": (lambda at: at.command().to_bytes(), 412, "it is not signed"),
    "another payload": (lambda at: envelope(at, payload=OTHER), 412, "is not valid for this content"),
    "a desired state": (
        lambda at: sign(b'{"schema":"edgepack.desired/v1","services":[]}', desired.PAYLOAD_TYPE, at.key), 412,
        "payload type",
    ),
    "a command signed as a desired state": (
        lambda at: sign(at.command().to_bytes(), desired.PAYLOAD_TYPE, at.key), 412, "payload type",
    ),
    "the type of another": (lambda at: envelope(at, payloadType=desired.PAYLOAD_TYPE), 412, "is not valid for this"),
    "another version": (lambda at: raw(at, schema="edgepack.command/v2"), 412, "schema must be edgepack.command/v1"),
    "huge": (lambda at: raw(at, id="x" * LIMITS.command_bytes), 400, "longer than"),
    "deep": (lambda at: b"[" * 8000, 400, "JSON"),
    "nonsense": (lambda at: b"\xff\0", 400, "UTF-8"),
    "empty": (lambda at: b"\n", 417, "it is empty"),
    "a field twice": (lambda at: b'{"payload":"","payload":""}', 400, "twice"),
    "an unknown field": (lambda at: raw(at, force=True), 400, "force is not a known field"),
    "an unknown verb": (lambda at: raw(at, verb="reboot"), 400, "verb must be one of"),
    "an unknown argument": (lambda at: raw(at, arguments={"lines": 3}), 400, "arguments.lines is not a known field"),
    "too many lines": (
        lambda at: raw(at, verb="logs", service="churn", arguments={"lines": 1 << 40}), 400, "arguments.lines must be",
    ),
    "no service": (lambda at: raw(at, verb="stop"), 400, "service is missing"),
    "a service too many": (lambda at: raw(at, service="churn"), 400, "service is not for ping"),
    "no serial": (lambda at: raw(at, serial=...), 400, "serial is missing"),
    "serial 0": (lambda at: raw(at, serial=0), 400, "serial must be from 1"),
    "a serial that shuts out all others": (lambda at: raw(at, serial=1 << 62), 409, "is more than"),
    "for ever": (lambda at: raw(at, not_after="9999-12-31T23:59:59Z"), 400, "not_after must be after issued_at"),
    "ends before it begins": (lambda at: raw(at, not_after="2001-01-01T00:00:00Z"), 400, "not_after must be after"),
    "no end": (lambda at: raw(at, not_after=...), 400, "not_after is missing"),
    "an id that is none": (lambda at: raw(at, id="a b"), 400, "id: must have at most 64 letters"),
}  # fmt: skip


def test_what_is_not_to_be_taken_is_refused_and_takes_no_serial(place: Place) -> None:
    for name, (make, status, reason) in BAD.items():
        found = place.obeys(make(place))
        assert (found["status"], found["payload"], found["device"]) == (status, {}, "dev1"), name
        assert reason in found["reason"], name
        assert found["exit_code"] == (2 if status == 400 else 4), name
        assert len(found["reason"]) < 3000
    for name in ("another device's", "an unknown signer", "plain", "another version", "a service too many"):
        assert place.obeys(BAD[name][0](place))["id"] == "c-1", name
    assert place.obeys(BAD["huge"][0](place))["id"] is None
    assert place.obeys(place.command(serial=1))["status"] == 200


def test_a_command_is_taken_once(place: Place) -> None:
    data = sign(place.command().to_bytes(), commands.PAYLOAD_TYPE, place.key)
    assert place.obeys(data, retained=True)["status"] == 412
    assert place.obeys(data)["status"] == 200
    for again in (data, place.command(id="other"), place.command(serial=6)):
        found = place.obeys(again)
        assert (found["status"], found["exit_code"]) == (409, 4)
    assert "serial 6 is older than serial 7, which this device has taken" in found["reason"]
    assert place.obeys(place.command(serial=8))["status"] == 200
    # A file is there for a long time: nobody is told again and again.
    assert place.obeys(data, path="/stick/command.json") == {}
    assert place.obeys(BAD["plain"][0](place), path="/stick/command.json")["status"] == 412


def test_a_command_in_a_file_is_told_from_a_document(place: Place, tmp_path: Path) -> None:
    def judged(data: bytes) -> list[dict[str, Any]]:
        (tmp_path / "file.json").write_bytes(data)
        task = Told(place.configuration, (), {"path": str(tmp_path / "file.json"), "scope": None})
        accept.run(task)
        return task.lines

    lines = judged(sign(place.command().to_bytes(), commands.PAYLOAD_TYPE, place.key))
    assert [one.get("status") for one in lines] == [200, None]
    assert (lines[1]["answer"]["id"], lines[1]["answer"]["payload"]) == ("c-1", {"agent": __version__})
    document = b'{"schema":"edgepack.desired/v1","serial":1,"services":[]}'
    assert judged(sign(document, desired.PAYLOAD_TYPE, place.key)) == [{"status": 200}]


def test_a_command_that_was_begun_is_not_begun_again(place: Place) -> None:
    """The job is killed once the command is on record: neither the next job nor the next agent does it."""
    state = Told(place.configuration, (), {}).device.state
    state.take_command(lambda _: place.command(verb="restart", service="churn"))
    found = place.obeys(place.command(verb="restart", service="churn"), again=True)
    assert (found["status"], found["exit_code"]) == (500, 1)
    assert "it was begun, and ended before it was done" in found["reason"]
    assert state.left_commands() == ()

    state.take_command(lambda _: place.command(serial=8, verb="restart", service="churn"))
    assert [(one.id, one.serial, one.verb, one.service) for one in state.left_commands()] == [
        ("c-1", 8, "restart", "churn")
    ]
    assert state.left_commands() == ()
    assert place.obeys(place.command(serial=8))["status"] == 409


@pytest.mark.parametrize(("clock", "until", "status"), [
    (0.0, NOW + 600, 200),  # 1970: by the command itself it is at least as late as it says
    (NOW + 500.0, NOW + 600, 200),
    (NOW + 601.0, NOW + 600, 412),
])  # fmt: skip
def test_the_devices_clock(
    place: Place, monkeypatch: pytest.MonkeyPatch, clock: float, until: int, status: int
) -> None:
    monkeypatch.setattr("edge_agent.jobs.command.time.time", lambda: clock)
    found = place.obeys(place.command(not_after=until))
    assert found["status"] == status
    if status != 200:
        assert "it was to be done until 2027-01-15T08:10:00Z, and it is 2027-01-15T08:10:01Z" in found["reason"]


def test_a_clock_in_1970_does_not_bring_an_old_command_back(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was seen or signed once is the least that it can be."""
    assert place.obeys(place.command(issued_at=NOW + 1000, not_after=NOW + 2000))["status"] == 200
    monkeypatch.setattr("edge_agent.jobs.command.time.time", lambda: 12.0)
    assert place.obeys(place.command(serial=8))["status"] == 412
    assert place.obeys(place.command(serial=8, not_after=NOW + 1500))["status"] == 200


def test_lines_of_a_log_are_bounded() -> None:
    assert tail_of("a\nb\nc\n", 2) == {"lines": ["b", "c"], "is_cut": False}
    assert tail_of("", 2) == {"lines": [], "is_cut": False}
    long = "\n".join(f"{at} {chr(1) * 400}" for at in range(1000))
    found = tail_of(long, 1000)
    assert found["is_cut"]
    assert found["lines"][-1] == long.splitlines()[-1]
    answer = CommandAnswer("dev1", "c-1", 200, payload=found)
    assert len(answer.to_bytes()) <= LIMITS.answer_bytes
    assert CommandAnswer.from_bytes(answer.to_bytes()) == answer
    one = tail_of("\U0001f4a9" * (1 << 20), 5)
    assert one["is_cut"]
    assert len(one["lines"]) == 1
    assert len(CommandAnswer("dev1", "c-1", 200, payload=one).to_bytes()) <= LIMITS.answer_bytes
