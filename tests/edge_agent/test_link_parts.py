"""The parts of a link that need no broker: pauses, the next attempt, cut packets, what waits, whose death counts."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_agent.config.configuration import Broker
from edge_agent.link.backoff import STABLE_SECONDS, Backoff
from edge_agent.link.base import Link, LinkState, LinkStatus
from edge_agent.link.course import Course, Ended, Kind, Version
from edge_agent.link.inlet import Inlet, NotMqttError
from edge_agent.link.mqtt import MqttLink
from edge_agent.link.outbox import Outbox, Outgoing
from edgepack.errors import InvalidDocumentError
from edgepack.state.presence import DeviceStatus, Presence
from tests.support.broker_simulator import packet, text


def test_pauses_grow_to_a_limit_and_differ_between_devices() -> None:
    pauses = [Backoff() for _ in range(200)]
    first = [one.pause() for one in pauses]

    assert all(0.5 <= seconds <= 1.0 for seconds in first)
    assert len(set(first)) > 190
    for one in pauses:
        for _ in range(2000):
            last = one.pause()
        assert 60 <= last <= 120


def test_pauses_begin_anew_after_a_connection_that_lasted() -> None:
    one = Backoff()
    for _ in range(5):
        one.pause()

    one.lasted(STABLE_SECONDS - 1)
    assert one.pause() > 4
    one.lasted(STABLE_SECONDS)
    assert one.pause() <= 1


def ended(kind: Kind, seconds: float = 0.0) -> Ended:
    return Ended(kind, f"it was {kind}", seconds)


def versions(*kinds: Kind) -> list[Version]:
    """The version of each attempt, when the attempts end so."""
    course, found = Course("gate-7"), []
    for kind in kinds:
        found.append(course.attempt.version)
        course.after(ended(kind, 100.0), 0.0)
    return [*found, course.attempt.version]


FIVE, OLD = Version.MQTT5, Version.MQTT311


def test_a_broker_that_does_not_take_mqtt_5_is_asked_for_the_older_one_at_once() -> None:
    course = Course("gate-7")

    assert course.after(ended(Kind.OTHER_VERSION), 0.0)[0] == 0.0
    assert course.attempt.version is OLD
    # One that takes neither is not asked again at once.
    assert course.after(ended(Kind.OTHER_VERSION), 0.0)[0] > 0


@pytest.mark.parametrize(
    ("kinds", "expected"),
    [
        ((Kind.UNREACHABLE, Kind.UNREACHABLE), [FIVE, FIVE, FIVE]),
        ((Kind.UNANSWERED, Kind.UNANSWERED, Kind.UNANSWERED), [FIVE, OLD, FIVE, OLD]),
        ((Kind.REFUSED, Kind.REFUSED), [FIVE, FIVE, FIVE]),
        ((Kind.OTHER_VERSION, Kind.LOST, Kind.LOST), [FIVE, OLD, OLD, OLD]),
        # What once worked is kept when the broker hangs or is away.
        ((Kind.OTHER_VERSION, Kind.LOST, Kind.UNANSWERED, Kind.UNREACHABLE), [FIVE, OLD, OLD, OLD, OLD]),
        ((Kind.LOST, Kind.LOST), [FIVE, FIVE, FIVE]),
    ],
)
def test_the_version_of_the_next_attempt(kinds: tuple[Kind, ...], expected: list[Version]) -> None:
    assert versions(*kinds) == expected


def test_a_broker_of_the_older_version_is_asked_for_the_newer_one_an_hour_later() -> None:
    course = Course("gate-7")
    course.after(ended(Kind.OTHER_VERSION), 0.0)
    course.after(ended(Kind.LOST, 50.0), 50.0)
    course.after(ended(Kind.LOST, 3000.0), 3050.0)
    assert course.attempt.version is OLD

    course.after(ended(Kind.LOST, 700.0), 3750.0)
    assert course.attempt.version is FIVE


def test_what_a_broker_cannot_keep_or_confirm_is_not_asked_for_again() -> None:
    course = Course("gate-7")

    assert course.after(ended(Kind.NO_RETAIN), 0.0)[0] == 0.0
    assert course.after(ended(Kind.NO_QOS), 0.0)[0] == 0.0
    assert (course.attempt.retain, course.attempt.qos) == (False, 0)
    # It said so although it was not asked for: that would go on for ever.
    assert course.after(ended(Kind.NO_QOS), 0.0)[0] > 0


def test_two_devices_of_one_name_are_told_apart_from_a_single_take_over_and_wait_longer() -> None:
    course = Course("gate-7")
    pause, once = course.after(ended(Kind.TAKEN_OVER, 500.0), 0.0)
    assert pause >= 10
    assert "another client has connected with the name gate-7" in once

    pauses = [course.after(ended(Kind.TAKEN_OVER, 500.0), at * 100.0) for at in range(1, 9)]
    assert "again and again, which ended 9 connections within an hour: give each device a name of its own" in (
        pauses[-1][1]
    )  # fmt: skip
    # Connections that lasted long do not make the pauses short: both devices would fight for ever.
    assert pauses[-1][0] >= 60
    # After a day it is a single one again.
    assert "again and again" not in course.after(ended(Kind.TAKEN_OVER), 90_000.0)[1]


def test_a_broker_that_closes_soon_again_and_again_is_said_to_have_a_reason() -> None:
    course = Course("gate-7")
    said = [course.after(ended(Kind.LOST, 2.0), float(at))[1] for at in range(4)]

    assert [("another client may connect with the name gate-7" in one) for one in said] == [False, False, True, True]
    assert "the name" not in course.after(ended(Kind.LOST, 100.0), 100.0)[1]


@contextmanager
def inlet(data: bytes, publish_bytes: int = 100, other_bytes: int = 50) -> Iterator[Inlet]:
    """An inlet whose other side has sent ``data`` and closed."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        theirs.sendall(data)
        theirs.close()
        ours.setblocking(False)
        yield Inlet(ours, publish_bytes, other_bytes)


CONNACK = packet(0x20, b"\0\0\0")


def read_all(one: Inlet, size: int) -> bytes:
    found = b""
    while data := one.recv(size):
        assert len(data) <= size
        found += data
    return found


PACKETS = st.lists(
    st.tuples(st.sampled_from([0x20, 0x30, 0x33, 0x40, 0x90, 0xD0]), st.binary(max_size=300)).filter(
        lambda one: one[0] >> 4 == 3 or len(one[1]) <= 50
    ),
    max_size=20,
)


@given(PACKETS, st.integers(1, 400))
def test_packets_pass_as_they_are_and_long_messages_are_cut(packets: list[tuple[int, bytes]], size: int) -> None:
    with inlet(CONNACK + b"".join(packet(first, body) for first, body in packets)) as one:
        assert read_all(one, size) == CONNACK + b"".join(packet(first, body[:100]) for first, body in packets)


@given(st.binary(max_size=2000), st.integers(1, 100))
def test_any_bytes_end_or_are_refused(data: bytes, size: int) -> None:
    with inlet(data) as one, suppress(NotMqttError):
        read_all(one, size)
        assert one.fault is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"\x20\xff\xff\xff\xff\x01", "more than four bytes"),
        (CONNACK + packet(0x90, bytes(51)), "a packet of type 9 with 51 bytes"),
        (packet(0x90, bytes(5)), "it begins otherwise"),
    ],
)
def test_what_is_not_mqtt_is_named(data: bytes, reason: str) -> None:
    with inlet(data) as one, pytest.raises(NotMqttError, match=reason):
        read_all(one, 10)


def test_what_has_not_come_yet_is_not_said_to_be_there() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        one = Inlet(ours)
        theirs.sendall(packet(0x20, text("t") + b"data")[:4])
        assert one.recv(1) == b"\x20"
        assert one.pending() > 0
        assert one.recv(1) + one.recv(10) == b"\x07\x00\x01"
        with pytest.raises(BlockingIOError):
            one.recv(5)
        assert one.pending() == 0  # else the link's thread would never rest
        theirs.sendall(b"\xd0")
        assert one.recv(5) == b"\xd0"


def message(topic: str, data: bytes = b"x", *, retain: bool = False) -> Outgoing:
    return Outgoing(topic, data, retain)


def taken(box: Outbox) -> list[tuple[str, bytes]]:
    found = []
    while (one := box.take()) is not None:
        found.append((one.topic, one.data))
    return found


def test_of_a_retained_document_the_newest_is_sent_with_every_connection() -> None:
    box = Outbox()
    for data in (b"1", b"2", b"3"):
        box.put(message("reported", data, retain=True))

    assert taken(box) == [("reported", b"3")]
    assert box.is_empty
    box.again()
    assert taken(box) == [("reported", b"3")]


def test_events_are_sent_again_until_they_are_confirmed_and_in_their_order() -> None:
    box = Outbox()
    for at in range(4):
        box.put(message(f"event {at}"))
    first, second = box.take(), box.take()
    assert first is not None
    assert second is not None
    box.confirm(first)

    box.again()
    assert [topic for topic, _ in taken(box)] == ["event 1", "event 2", "event 3"]
    assert not box.is_empty


def test_a_device_without_a_connection_keeps_the_newest_events_only() -> None:
    box = Outbox()

    assert sum(box.put(message(f"event {at}")) for at in range(150)) == 50
    assert taken(box)[0][0] == "event 50"
    assert box.put(message("large", bytes(2 << 20))) == 1


def status(presence: Presence, session: int, connection: int) -> DeviceStatus:
    return DeviceStatus("gate-7", presence, session, connection, "a1", "0.1.0")


def test_a_death_counts_for_its_own_birth_alone() -> None:
    birth = status(Presence.ONLINE, 4, 2)

    for session, connection in ((3, 9), (4, 1), (5, 1)):
        assert status(Presence.LOST, session, connection).after(birth) is birth
    assert replace(status(Presence.LOST, 4, 2), instance="b2").after(birth) is birth
    death = status(Presence.LOST, 4, 2)
    assert death.after(birth) is death
    assert death.after(None) is death
    # A device that was set up anew counts from one again.
    again = status(Presence.ONLINE, 1, 1)
    assert again.after(birth) is again


def test_a_status_is_read_as_it_was_written_and_every_fault_of_it_is_named() -> None:
    one = status(Presence.OFFLINE, 4, 2)
    assert DeviceStatus.from_bytes(one.to_bytes()) == one

    with pytest.raises(InvalidDocumentError) as refused:
        DeviceStatus.from_bytes(b'{"schema":"edgepack.status/v1","state":"here","session":"1","more":1}')
    assert len(refused.value.violations) == 7


def test_what_a_broker_refuses_is_reported_and_how_the_link_is_is_kept_for_a_command(tmp_path: Path) -> None:
    from edge_agent.daemon.links import LinkCopy, problems_of

    class Fake:
        status = LinkStatus(LinkState.CONNECTED, "mqtt://b:1883", None, "MQTT 5", 1)

    link, copy = cast(Link, Fake()), LinkCopy(tmp_path)
    assert problems_of(None) == problems_of(link) == ()
    assert copy.changed(link)
    assert not copy.changed(link)
    Fake.status = replace(Fake.status, reason="another client connects with the name gate-7")
    assert [(one.where, one.reason) for one in problems_of(link)] == [
        ("mqtt://b:1883", "another client connects with the name gate-7")
    ]  # fmt: skip
    assert copy.changed(link)
    assert json.loads((tmp_path / "broker.json").read_text())["reason"] == Fake.status.reason
    # That there is no connection is for the device alone: by the time it is reported there is one.
    Fake.status = replace(Fake.status, state=LinkState.WAITING)
    assert problems_of(link) == ()
    assert copy.changed(None)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "broker.json").write_text("of an earlier agent")
    assert LinkCopy(tmp_path).changed(None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("host", "times"), [("10.0.0.7", 1), ("127.0.0.1", 0), ("::1", 0), ("localhost", 0)])
def test_a_password_without_tls_is_warned_of_once_and_not_on_this_machine(
    host: str, times: int, caplog: pytest.LogCaptureFixture
) -> None:
    link = MqttLink(Broker(host, 1883, tls=False), "gate-7", (), 1)
    link.warn_of_plain_password()
    link.warn_of_plain_password()

    assert caplog.text.count("without TLS: others may read it; use mqtts://") == times
