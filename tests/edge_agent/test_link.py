"""The link with a real Mosquitto, judged by ``mosquitto_pub`` and ``mosquitto_sub``."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.link.base import LinkState
from edge_agent.link.course import Attempt, Version
from edgepack.limits import LIMITS
from tests.edge_agent.support.linked import fields, linked
from tests.edgepack.support.authority import Authority
from tests.support.broker import ACCESS, Mosquitto, running
from tests.support.running import run
from tests.support.waiting import wait_until

pytestmark = pytest.mark.real("mosquitto", "mosquitto_pub")
OWN = "edgepack/v1/devices/gate-7"
GROUP = "edgepack/v1/groups"
SECRET = "pass word of a test, ü"


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A short path, as a socket needs it."""
    found = Path(tempfile.mkdtemp(prefix="edp-m-"))
    yield found
    shutil.rmtree(found)


@pytest.fixture(scope="module")
def plain(folder: Path) -> Iterator[Mosquitto]:
    """A broker that everybody may use; each test takes names of its own."""
    with running(Mosquitto(folder / "plain")) as broker:
        yield broker


@pytest.fixture(scope="module")
def authority(folder: Path) -> Authority:
    return Authority(folder / "authority")


@pytest.fixture(scope="module")
def guarded(folder: Path, authority: Authority) -> Iterator[Mosquitto]:
    """A broker with TLS, passwords and an access list."""
    users = {"manager": "of the manager", "gate-7": SECRET, "gate-8": "other"}
    with running(Mosquitto(folder / "guarded", users, ACCESS, authority)) as broker:
        yield broker


@pytest.fixture
def broker(folder: Path, request: pytest.FixtureRequest) -> Iterator[Mosquitto]:
    """A broker for one test, which may stop it."""
    own = folder / f"own{abs(hash(request.node.name)) % 10**6}"
    with running(Mosquitto(own)) as found:
        yield found


@pytest.fixture
def password(tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.touch(0o600)
    path.write_text(f"{SECRET}\n")
    return path


def test_documents_come_whether_they_were_there_before_or_not_and_an_empty_one_says_nothing(plain: Mosquitto) -> None:
    plain.publish("edgepack/v1/devices/a/desired", "1")
    plain.publish(f"{GROUP}/north/desired", "2")
    with linked(plain.place(), "a", ["north", "all"]) as one:
        one.wait(lambda: len(one.messages) == 2)
        assert {pair: message.retained for pair, message in zip(one.seen, one.messages, strict=True)} == {
            ("devices/a/desired", b"1"): True,
            ("groups/north/desired", b"2"): True,
        }
        one.messages.clear()
        plain.publish("edgepack/v1/devices/a/desired", "")  # removes what the broker keeps
        plain.publish("edgepack/v1/devices/b/desired", "of another")
        plain.publish(f"{GROUP}/south/desired", "of another")
        plain.publish(f"{GROUP}/all/desired", "3")
        plain.publish("edgepack/v1/devices/a/desired", "4")
        one.receives(("groups/all/desired", b"3"), ("devices/a/desired", b"4"))
        assert not any(message.retained for message in one.messages)
        assert one.link.status.protocol == "MQTT 5"
        assert one.link.status.to_json()["state"] == "connected"


def test_the_newest_reported_document_is_kept_by_the_broker(plain: Mosquitto) -> None:
    with linked(plain.place(), "r") as one:
        one.link.publish("edgepack/v1/devices/r/reported", b"1", retain=True)
        one.connected()
        for number in range(2, 30):
            one.link.publish("edgepack/v1/devices/r/reported", str(number).encode(), retain=True)
        wait_until(lambda: plain.read("edgepack/v1/devices/r/reported") == "29", 30)


def test_a_device_says_that_it_is_there_and_says_goodbye(plain: Mosquitto) -> None:
    status = "edgepack/v1/devices/s/status"
    with linked(plain.place(), "s", session=6) as one:
        one.connected()
        wait_until(lambda: fields(plain.read(status), "state") == ("online",), 30)
        assert fields(plain.read(status), "session", "connection", "device") == (6, 1, "s")
    assert one.link.status.state is LinkState.CLOSED
    assert fields(plain.read(status), "state", "session", "connection") == ("offline", 6, 1)


LOST = """
import os, sys
from pathlib import Path
from edge_agent.config.configuration import Broker
from edge_agent.link import mqtt
from tests.edge_agent.support.linked import linked
mqtt.WILL_DELAY_SECONDS = 0
with linked(Broker("127.0.0.1", int(sys.argv[1]), False), "w", session=3) as one:
    one.connected()
    one.wait(lambda: one.link.outbox.is_empty)
    os.kill(os.getpid(), 9)
"""


def test_the_broker_says_that_a_killed_agent_is_lost_with_the_numbers_of_its_birth(plain: Mosquitto) -> None:
    import subprocess
    import sys

    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", LOST, str(plain.port)], cwd=root, check=False)

    assert done.returncode == -signal.SIGKILL
    status = "edgepack/v1/devices/w/status"
    wait_until(lambda: fields(plain.read(status), "state") == ("lost",), 30)
    assert fields(plain.read(status), "session", "connection") == (3, 1)


def test_a_message_that_is_not_on_the_disk_comes_again_after_a_restart_of_the_agent(plain: Mosquitto) -> None:
    command = "edgepack/v1/devices/k/command"
    with linked(plain.place(), "k", acknowledges=False) as one:
        one.connected()
        plain.publish(command, "1", retain=False)
        one.receives(("devices/k/command", b"1"))
    plain.publish(command, "2", retain=False)  # the broker keeps it while the device is away
    with linked(plain.place(), "k") as one:
        one.receives(("devices/k/command", b"1"), ("devices/k/command", b"2"))
        one.wait(lambda: one.link.outbox.is_empty)
    with linked(plain.place(), "k") as one:
        one.connected()
        plain.publish(command, "3", retain=False)
        one.receives(("devices/k/command", b"3"))


def test_all_of_it_by_the_older_version(plain: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Attempt.__init__, "__defaults__", (Version.MQTT311, True, 1))
    monkeypatch.setattr("edge_agent.link.course._TAKEN_OVER_PAUSE", 0.3)
    own = "edgepack/v1/devices/o"
    plain.publish(f"{own}/desired", "1")
    with linked(plain.place(), "o", ["older"], acknowledges=False) as one:
        one.receives(("devices/o/desired", b"1"))
        plain.publish(f"{own}/command", "2", retain=False)
        one.receives(("devices/o/desired", b"1"), ("devices/o/command", b"2"))
        one.link.publish(f"{own}/reported", b"state", retain=True)
        wait_until(lambda: plain.read(f"{own}/reported") == "state", 30)
        assert one.link.status.protocol == "MQTT 3.1.1"
    assert fields(plain.read(f"{own}/status"), "state") == ("offline",)
    with linked(plain.place(), "o", ["older"]) as one:  # what was not acknowledged comes again
        one.wait(lambda: {("devices/o/desired", b"1"), ("devices/o/command", b"2")} <= {*one.seen})
        with linked(plain.place(), "o") as other:
            both = (one, other)
            wait_until(lambda: any("give each device a name of its own" in each.reason for each in both), 30)


def test_an_answer_goes_where_the_request_asks_for_it(plain: Mosquitto) -> None:
    with linked(plain.place(), "q") as one, plain.watching("answers/#") as answers:
        one.connected()
        plain.publish(
            "edgepack/v1/devices/q/command", "?", "-D", "publish", "response-topic", "answers/7",
            "-D", "publish", "correlation-data", "42", retain=False,
        )  # fmt: skip
        one.wait(lambda: one.messages)
        message = one.messages[0]
        assert (message.reply_to, message.correlation) == ("answers/7", b"42")
        one.link.publish("answers/+", b"no topic")
        one.link.publish(message.reply_to or "", b"yes", correlation=message.correlation)
        wait_until(lambda: answers.read_text() == "answers/7 yes\n", 30)
        assert "'answers/+' is not a topic" in one.reason


@pytest.mark.parametrize("what", ["stops", "is killed"])
def test_a_broker_that_restarts_and_has_lost_what_it_kept_gets_the_state_again(broker: Mosquitto, what: str) -> None:
    with linked(broker.place(), groups=["all"]) as one:
        one.connected()
        one.link.publish(f"{OWN}/reported", b"state", retain=True)
        wait_until(lambda: broker.read(f"{OWN}/reported") == "state", 30)
        broker.stop(kill=what == "is killed")
        one.wait(lambda: one.link.status.state is LinkState.WAITING)
        assert one.reason in (
            "it closed the connection", "it is shutting down", "cannot be reached: nothing listens there",
        )  # fmt: skip
        broker.forget()
        broker.start()
        one.connected(2)
        wait_until(lambda: broker.read(f"{OWN}/reported") == "state", 30)
        wait_until(lambda: fields(broker.read(f"{OWN}/status"), "state") == ("online",), 30)
        broker.publish(f"{GROUP}/all/desired", "again")
        one.receives(("groups/all/desired", b"again"))
        assert one.link.status.reason is None


def test_tls_a_password_and_an_access_list(
    guarded: Mosquitto, password: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    guarded.publish(f"{OWN}/desired", "1")
    guarded.publish(f"{GROUP}/all/desired", "2")
    with linked(guarded.place(password_file=password), groups=["all"]) as one:  # the user is the device's name
        one.wait(lambda: len(one.seen) == 2)
        one.link.publish(f"{OWN}/reported", b"state", retain=True)
        wait_until(lambda: guarded.read(f"{OWN}/reported") == "state", 30)
        assert one.link.status.reason is None
        # What the access list does not let it write is said; the connection stays.
        one.link.publish("edgepack/v1/devices/gate-8/desired", b"not mine")
        one.says("does not let this device publish to edgepack/v1/devices/gate-8/desired")
        assert one.link.status.state is LinkState.CONNECTED
    assert "pass word" not in caplog.text + repr(one.link.status) + repr(vars(one.link))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ca_file": None}, "its certificate is not by the system's authorities; name its authority's certificate"),
        ({"host": "127.0.0.2"}, "nothing listens there"),
        ({"user": "nobody"}, "this device is not allowed to connect; check user, password and"),
        ({"password_file": None}, "this device is not allowed to connect"),
        ({"tls": False}, "it closed the connection"),
    ],
)
def test_what_is_wrong_with_the_way_to_the_broker_is_said(
    guarded: Mosquitto, password: Path, change: dict[str, object], reason: str
) -> None:
    with linked(replace(guarded.place(password_file=password), **change)) as one:  # type: ignore[arg-type]
        one.says(reason)
        assert one.link.status.state is LinkState.WAITING


def test_a_new_password_is_read_at_the_next_connection(guarded: Mosquitto, password: Path) -> None:
    password.write_text("wrong")
    with linked(guarded.place(password_file=password)) as one:
        one.says("this device is not allowed to connect; check user, password and")
        password.write_text(f"{SECRET}\r\n")
        one.connected()


@pytest.mark.parametrize(
    ("content", "mode", "reason"),
    [
        (b"a\0b", 0o600, "must hold a password in its first line"),
        (b"\nsecret", 0o600, "must hold a password in its first line"),
        (b"\xff\xfesecret", 0o600, "is not text in UTF-8"),
        (b"secret", 0o644, "holds a secret that other users may read or change (mode 0644); run: chmod 600 "),
        (b"secret", 0o602, "holds a secret that other users may read or change (mode 0602)"),
        (None, 0, "there is no such file; check broker in the configuration"),
    ],
)
def test_a_password_that_cannot_be_used_is_named_without_what_it_is(
    guarded: Mosquitto, password: Path, content: bytes | None, mode: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    if content is None:
        password.unlink()
    else:
        password.write_bytes(content)
        password.chmod(mode)
    with linked(guarded.place(password_file=password)) as one:
        one.says(reason)
        assert str(password) in one.reason
    assert "secret\n" not in caplog.text
    assert "secret'" not in caplog.text


def test_a_client_certificate_is_who_the_device_is(folder: Path, authority: Authority, tmp_path: Path) -> None:
    lines = "pattern readwrite edgepack/v1/devices/%u/#\nuser root\ntopic readwrite #\n"
    kept = Mosquitto(folder / "certs", access=lines, authority=authority, asks_for_certificates=True)
    certificate, key = authority.signed("gate-7")
    key.chmod(0o600)
    other, other_key = Authority(tmp_path / "other").signed("gate-7")
    other_key.chmod(0o600)
    with running(kept) as broker:
        place = broker.place(certificate_file=certificate, key_file=key)
        with linked(place) as one, linked(broker.place(), "gate-8") as without:
            one.connected()
            one.wait(lambda: one.link.outbox.is_empty)
            assert "as gate-7 (p5, c0, k60, u'gate-7')" in broker.log
            # What it says before it closes does not always arrive.
            without.says(
                "TLS failed: it asks for a certificate; check broker.certificate_file",
                "TLS failed: it closed the connection; check whether it asks for a certificate",
            )
        with linked(replace(place, certificate_file=other, key_file=other_key)) as one:
            one.says(
                "TLS failed: it takes no other certificate than its own clients'",
                "TLS failed: it closed the connection; check the device's certificate",
            )
        for wrong, reason in (
            ({"key_file": other_key}, f"does not belong to the key in {other_key}"),
            ({"certificate_file": broker.folder / "conf"}, "is not a certificate in PEM with its key"),
            ({"ca_file": broker.folder / "conf"}, "has no certificate in PEM"),
            ({"ca_file": broker.folder / "none"}, "there is no such file"),
        ):
            with linked(replace(place, **wrong)) as one:
                one.says(reason)
        key.chmod(0o644)
        with linked(place) as one:
            one.says("holds a secret that other users may read")


def test_a_certificate_is_for_the_name_that_is_connected_to(folder: Path, authority: Authority, tmp_path: Path) -> None:
    other = Mosquitto(tmp_path / "named", authority=authority, names=["DNS:broker.site"])
    with running(other) as broker, linked(broker.place()) as one:
        one.says("TLS failed: its certificate is not for 127.0.0.1; use a name that it has")


def test_a_clock_before_its_time_is_not_what_certificates_are_held_to(guarded: Mosquitto, password: Path) -> None:
    place = guarded.place(password_file=password)  # of a certificate that is valid for two days from now
    with linked(place, now=lambda: time.time() + 24 * 3600) as one:
        one.connected()
    with linked(place, now=lambda: time.time() + 72 * 3600) as one:
        one.says("TLS failed: its certificate was valid until")


def test_a_socket_of_this_machine_is_a_way_too(plain: Mosquitto) -> None:
    from edge_agent.config.configuration import Broker

    with linked(Broker(tls=False, socket=plain.socket), "u") as one:
        one.connected()
        plain.publish("edgepack/v1/devices/u/desired", "1")
        one.receives(("devices/u/desired", b"1"))
        assert one.link.status.broker == f"unix://{plain.socket}"
    with linked(Broker(tls=False, socket=plain.folder / "none"), "u") as one:
        one.says("cannot be reached: there is no such socket")
    with linked(Broker(tls=False, socket=plain.folder / "conf"), "u") as one:
        one.says("nothing listens at that socket; start the broker")


def test_two_devices_of_one_name_are_told_so(plain: Mosquitto, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edge_agent.link.course._TAKEN_OVER_PAUSE", 0.3)
    with linked(plain.place(), "twin") as one, linked(plain.place(), "twin") as other:
        both = (one, other)
        wait_until(lambda: any("again and again" in each.reason for each in both), 30)
        said = next(each.reason for each in both if "again and again" in each.reason)
        assert "another client connects with the name twin again and again" in said
        assert said.endswith("give each device a name of its own")


def test_a_device_of_the_same_name_that_has_left_is_forgotten(
    plain: Mosquitto, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edge_agent.link.course._TAKEN_OVER_PAUSE", 0.3)
    monkeypatch.setattr("edge_agent.link.mqtt._ALONE_SECONDS", 1.0)
    monkeypatch.setattr("edge_agent.link.mqtt._LONGEST_POLL_SECONDS", 0.2)
    with linked(plain.place(), "leaves") as one:
        one.connected()
        with linked(plain.place(), "leaves"):
            one.says("give each device a name of its own")
        one.connected(2)
        one.wait(lambda: one.link.status.state is LinkState.CONNECTED and one.link.status.reason is None)


def test_a_huge_document_is_cut_and_the_next_one_comes(plain: Mosquitto, tmp_path: Path) -> None:
    path = tmp_path / "huge"
    path.write_bytes(b"x" * (40 << 20))
    run("mosquitto_pub", "--unix", plain.socket, "-t", "edgepack/v1/devices/h/desired", "-r", "-f", path)
    with linked(plain.place(), "h") as one:
        one.wait(lambda: one.messages)
        assert LIMITS.desired_state_bytes < len(one.messages[0].data) < 5 << 20
        plain.publish("edgepack/v1/devices/h/desired", "1")
        one.wait(lambda: one.seen[-1] == ("devices/h/desired", b"1"))
        assert one.link.status.connections == 1
    plain.publish("edgepack/v1/devices/h/desired", "")


def test_a_broker_that_hangs_is_left_and_comes_back(folder: Path) -> None:
    with running(Mosquitto(folder / "hangs")) as broker, linked(broker.place(keepalive_seconds=1)) as one:
        one.connected()
        os.kill(broker.pid, signal.SIGSTOP)
        one.says("it has not answered for 1 s; the network or the broker hangs")
        os.kill(broker.pid, signal.SIGCONT)
        one.connected(2)


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("retain_available false", "the broker keeps no retained messages"),
        ("max_qos 0", None),
        ("max_packet_size 400", "the broker takes 400 bytes, and what goes to edgepack/v1/devices/gate-7/reported is"),
    ],
)
def test_a_broker_that_does_less_is_used_as_far_as_it_goes(folder: Path, line: str, reason: str | None) -> None:
    at_listener = line.startswith("max_qos")
    kept = Mosquitto(folder / line.split()[0], more=() if at_listener else [line])
    kept.write()
    if at_listener:
        conf = kept.folder / "conf"
        conf.write_text(
            conf.read_text().replace(f"listener {kept.port} 127.0.0.1", f"listener {kept.port} 127.0.0.1\n{line}")
        )
    kept.start()
    try:
        with linked(kept.place()) as one:
            one.connected()
            if reason is not None:
                one.link.publish(f"{OWN}/reported", b"x" * 500, retain=True)
                one.says(reason)
            kept.publish(f"{OWN}/desired", "1", retain=False)
            one.receives(("devices/gate-7/desired", b"1"))
            with kept.watching(f"{OWN}/events") as events:
                one.link.publish(f"{OWN}/events", b"e")
                wait_until(lambda: events.read_text() == f"{OWN}/events e\n", 30)
            assert one.link.status.connections == 1
    finally:
        kept.stop(kill=True)


def test_what_takes_messages_may_fail_without_an_end_of_the_connection(
    plain: Mosquitto, caplog: pytest.LogCaptureFixture
) -> None:
    from edge_agent.link.mqtt import MqttLink

    found: list[bytes] = []

    def take(message: object) -> None:
        found.append(message.data)
        raise RuntimeError("of a test")

    link = MqttLink(plain.place(), "f", (), 1)
    link.start(take)
    try:
        for data in ("1", "2"):
            plain.publish("edgepack/v1/devices/f/desired", data)
            wait_until(lambda data=data: data.encode() in found, 30)
        assert link.status.state is LinkState.CONNECTED
    finally:
        link.close()
    assert "a message on edgepack/v1/devices/f/desired could not be taken" in caplog.text


def test_closing_takes_no_longer_than_a_broker_needs(plain: Mosquitto) -> None:
    before = time.monotonic()
    with linked(plain.place(), "c"):
        pass
    with linked(replace(plain.place(), port=1), "c"):
        pass
    assert time.monotonic() - before < 60
