"""What a broker may do wrong, done on purpose: the link says what it was, waits, and comes back."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.config.configuration import Broker
from edge_agent.link import mqtt
from edge_agent.link.backoff import Backoff
from edge_agent.link.base import LinkState
from tests.edge_agent.support.linked import Linked, linked
from tests.support.broker_simulator import (
    HTTP,
    PUBLISH,
    TAKEN_OVER,
    BrokerSimulator,
    Client,
    Script,
    packet,
    simulated,
    text,
)  # fmt: skip

DESIRED = "edgepack/v1/devices/gate-7/desired"


def place(simulator: BrokerSimulator, **more: object) -> Broker:
    return Broker("127.0.0.1", simulator.port, tls=False, **more)  # type: ignore[arg-type]


@pytest.fixture(autouse=True)
def no_long_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses begin with what a test can wait for."""
    monkeypatch.setattr("edge_agent.link.course._TAKEN_OVER_PAUSE", 0.1)
    monkeypatch.setattr(Backoff.__init__, "__defaults__", (0.05, 120.0, 0))
    monkeypatch.setattr(mqtt, "_GOODBYE_SECONDS", 0.2)


def old(refuse: Callable[[Client], None]) -> Script:
    """A broker that takes MQTT 3.1.1 only."""

    def script(client: Client) -> None:
        client.hear_connect()
        if client.is_5:
            refuse(client)
        else:
            client.accept()
            client.publish(DESIRED, b"1")
            client.serve()

    return script


@pytest.mark.parametrize(
    "refuse",
    [
        lambda client: client.refuse(0x01),  # as brokers of 3.1.1 say it
        lambda client: client.refuse(0x84),
        lambda client: None,  # some close without a word
        lambda client: client.send(b"\x20\x02\x00\x55"),  # or with one that does not exist
        lambda client: client.send(b"\x20\x00"),
    ],
)
def test_a_broker_that_does_not_take_mqtt_5_is_spoken_to_as_it_can(refuse: Callable[[Client], None]) -> None:
    with simulated(old(refuse)) as simulator, linked(place(simulator)) as one:
        one.receives(("devices/gate-7/desired", b"1"))
        one.link.publish("edgepack/v1/devices/gate-7/reported", b"state", retain=True)
        one.wait(lambda: one.link.outbox.is_empty)
        assert one.link.status.protocol == "MQTT 3.1.1"
        assert [client.version for client in simulator.clients] == [5, 4]
        one.wait(lambda: any(first == 0x40 for first, _ in simulator.clients[1].packets))  # acknowledged


def test_a_broker_that_takes_no_version_is_named_and_asked_less_and_less() -> None:
    def script(client: Client) -> None:
        client.hear_connect()
        client.refuse(0x84 if client.is_5 else 0x01)

    with simulated(script) as simulator, linked(place(simulator)) as one:
        one.wait(lambda: len(simulator.clients) >= 6)
        # The newest one may not have been heard yet.
        assert {client.version for client in simulator.clients} - {0} == {4, 5}
        assert one.link.status.connections == 0


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        (
            lambda client: client.send(HTTP),
            "what answers is not an MQTT broker (it begins otherwise); check host and port",
        ),
        (lambda client: client.send(b"SSH-2.0-OpenSSH_9.2\r\n"), "is not an MQTT broker (it begins otherwise)"),
        (lambda client: client.send(b"\x20\xff\xff\xff\xff\xff"), "is not an MQTT broker (the length of a packet has"),
        (lambda client: client.send(packet(0x20, bytes(1 << 20))), "is not an MQTT broker (a packet of type 2 with"),
        (lambda client: client.send(bytes(100)), "is not an MQTT broker (it begins otherwise)"),
        (lambda client: client.send(b"\x20\x02\0\x66"), "what it sent is not MQTT; check host and port"),
        (lambda client: client.sock.shutdown(2), "it closed the connection"),
        (lambda client: client.refuse(0x86), "user or password is wrong; check broker.user and broker.password_file"),
        (lambda client: client.refuse(0x87), "this device is not allowed to connect"),
        (lambda client: client.refuse(0x89), "it refused the connection: it is busy"),
        (lambda client: client.refuse(0x85), "it does not take the device's name as a client's"),
        (lambda client: client.refuse(0x9D), "it has moved to another server; change broker.url"),
        (lambda client: client.refuse(0x83), "it gave no reason; its log may"),
    ],
)
def test_what_answers_a_connection_is_said(script: Script, reason: str) -> None:
    def after_connect(client: Client) -> None:
        client.hear_connect()
        script(client)
        client.read()

    with simulated(after_connect) as simulator, linked(place(simulator)) as one:
        one.says(reason)
        one.wait(lambda: len(simulator.clients) >= 2)


def test_a_broker_that_never_answers_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mqtt, "ANSWER_SECONDS", 0.2)

    def script(client: Client) -> None:
        client.hear_connect()
        client.read()

    with simulated(script) as simulator, linked(place(simulator)) as one:
        one.says("it took the connection and did not answer within 0.2 s")
        one.wait(lambda: len(simulator.clients) >= 2)


@pytest.mark.parametrize(
    ("last", "reason"),
    [
        (TAKEN_OVER, "another client has connected with the name gate-7"),
        (b"\xe0\x02\x8b\x00", "it is shutting down"),
        (b"\xe0\x02\x87\x00", "this device is not allowed to do what it did"),
        (b"\xe0\x02\x99\x00", "it ended the connection for the reason 0x99"),
        (b"\xf0\x00", "what it sent is not MQTT"),
        (b"\xe0\x02\x77\x00", "what it sent is not MQTT"),
        (b"\x90\x03\x00\x01\x01", "not MQTT"),
        (packet(PUBLISH << 4 | 2, b"\xff\xff"), "what it sent is not MQTT"),
        (packet(PUBLISH << 4 | 6, text(DESIRED)), "what it sent is not MQTT"),
        (b"", "it closed the connection"),
    ],
)
def test_how_a_broker_ends_a_connection_is_said(last: bytes, reason: str) -> None:
    def script(client: Client) -> None:
        client.hear_connect()
        client.accept()
        client.read()
        client.send(last)
        if last:
            client.serve()

    with simulated(script) as simulator, linked(place(simulator)) as one:
        one.says(reason)
        one.wait(lambda: len(simulator.clients) >= 2)


def test_every_topic_that_may_not_be_read_is_said_and_the_connection_stays() -> None:
    def script(client: Client) -> None:
        client.hear_connect()
        client.accept()
        while True:
            first, body = client.read()
            if first >> 4 == 8:
                denied = b"/groups/" in body
                client.send(packet(0x90, body[:2] + b"\0" + (b"\x87" if denied else b"\1")))

    with simulated(script) as simulator, linked(place(simulator), groups=["north"]) as one:
        one.says(
            "the broker does not let this device subscribe to edgepack/v1/groups/north/desired: the broker's access"
        )
        assert one.link.status.state is LinkState.CONNECTED
        assert len(simulator.clients) == 1


def test_topics_that_nobody_asked_for_and_names_that_are_none_are_left_alone() -> None:
    def script(client: Client) -> None:
        client.hear_connect()
        client.accept()
        client.publish("edgepack/v1/devices/other/desired", b"of another", mid=1)
        client.send(packet(PUBLISH << 4 | 2, b"\0\2\xff\xfe" + b"\0\2\0" + b"no text"))
        client.publish(DESIRED, b"", mid=3)
        client.publish("edgepack/v1/devices/gate-7/status", b"no document", mid=4)
        client.publish(DESIRED, b"1", mid=5)
        client.serve()

    with simulated(script) as simulator, linked(place(simulator)) as one:
        one.receives(("devices/gate-7/desired", b"1"))
        acknowledged = lambda: [body for first, body in simulator.clients[0].packets if first == 0x40]  # noqa: E731
        one.wait(lambda: [body[:2] for body in acknowledged()] == [bytes([0, mid]) for mid in range(1, 6)])


def test_the_limits_that_a_broker_names_are_kept() -> None:
    most = 0

    def script(client: Client) -> None:
        nonlocal most
        client.hear_connect()
        client.accept(b"\x21\x00\x02")  # it takes two messages at once
        waiting: list[bytes] = []
        while True:
            first, body = client.read()
            if first >> 4 == 8:
                client.send(packet(0x90, body[:2] + b"\0\1"))
            if first >> 4 == PUBLISH:
                at = 2 + int.from_bytes(body[:2], "big")
                waiting.append(body[at : at + 2])
                most = max(most, len(waiting))
                threading.Timer(0.02, lambda: client.send(packet(0x40, waiting.pop(0)))).start()

    with simulated(script) as simulator, linked(place(simulator)) as one:
        for number in range(10):
            one.link.publish("edgepack/v1/devices/gate-7/events", str(number).encode())
        one.wait(lambda: one.link.outbox.is_empty)
        sent = [
            body[-1:] for first, body in simulator.clients[0].packets if first >> 4 == PUBLISH and b"events" in body
        ]
        assert sent == [str(number).encode() for number in range(10)]
    assert most <= 2


def test_connections_leave_nothing_behind() -> None:
    """Neither memory nor descriptors: a broker may be away for years."""
    import gc

    def script(client: Client) -> None:
        client.hear_connect()
        client.accept()
        client.read()

    def count(one: Linked) -> tuple[int, int]:
        gc.collect()
        return len(list(Path("/proc/self/fd").iterdir())), len(gc.get_objects())

    with simulated(script) as simulator:
        one = Linked(mqtt.MqttLink(place(simulator), "gate-7", (), 1))
        one.link._pause = lambda seconds: None  # type: ignore[method-assign]
        one.link.start(one.take)
        one.wait(lambda: len(simulator.clients) > 20)
        descriptors, objects = count(one)
        one.wait(lambda: len(simulator.clients) > 220)
        after = count(one)
        one.link.close()
    assert after[0] <= descriptors + 5
    assert after[1] <= objects + 220 * 40  # the simulator keeps what it heard
