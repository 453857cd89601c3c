"""The link over a network that loses packets, is slow, far or cut: documents and reports get through, or again."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.link.base import LinkState
from tests.edge_agent.support.linked import Linked, linked
from tests.support.broker import Mosquitto, running
from tests.support.networks import Cable, cable, far_away
from tests.support.sampling import WHOLE
from tests.support.waiting import wait_until

pytestmark = pytest.mark.real("mosquitto", "mosquitto_pub", "ip", "tc", "iptables")
OWN = "edgepack/v1/devices/gate-7"


@pytest.fixture(scope="module")
def wire() -> Iterator[Cable]:
    with cable() as one:
        yield one


@pytest.fixture(scope="module")
def broker(wire: Cable) -> Iterator[Mosquitto]:
    """A broker at the far end; its own two clients come by its socket, and not over the cable."""
    folder = Path(tempfile.mkdtemp(prefix="edp-m-"))
    with running(Mosquitto(folder / "far", host=wire.host, inside=wire.inside)) as one:
        yield one
    shutil.rmtree(folder)


@pytest.fixture(autouse=True)
def mended(wire: Cable) -> Iterator[None]:
    yield
    wire.mend()


def exchange(broker: Mosquitto, one: Linked, *names: str) -> None:
    """A document of some size gets to the device, and its answer back."""
    for name in names:
        document = f"{name} " + "x" * 5_000
        broker.publish(f"{OWN}/desired", document)
        one.wait(lambda: one.messages and one.messages[-1].data.decode() == document)  # noqa: B023 - called here
        one.link.publish(f"{OWN}/reported", f"state {name}".encode(), retain=True)
        wait_until(lambda: broker.read(f"{OWN}/reported") == f"state {name}")  # noqa: B023 - called here


BAD: dict[str, Callable[[Cable], None]] = {
    "a fifth is lost": lambda wire: wire.lose(0.2),
    "four of ten are lost": lambda wire: wire.lose(0.4),
    "64 kbit/s": lambda wire: wire.slow(64_000),
    "9.6 kbit/s": lambda wire: wire.slow(9_600),
}


@pytest.mark.parametrize("what", [*BAD] if WHOLE else ["a fifth is lost"])
def test_documents_and_reports_get_through_a_bad_network(what: str, wire: Cable, broker: Mosquitto) -> None:
    BAD[what](wire)
    with linked(broker.place()) as one:
        one.wait(lambda: one.link.status.connections)
        exchange(broker, one, *("one", "two", "three") if WHOLE else ["one"])


def test_what_happens_during_a_cut_is_known_after_it(wire: Cable, broker: Mosquitto) -> None:
    with linked(replace(broker.place(), keepalive_seconds=1), groups=["all"]) as one:
        exchange(broker, one, "before")
        wire.lose(1)
        one.link.publish(f"{OWN}/reported", b"of the time alone", retain=True)
        broker.publish(f"{OWN}/desired", "first")
        broker.publish(f"{OWN}/desired", "newest")
        one.wait(lambda: one.link.status.state is not LinkState.CONNECTED)
        assert one.messages[-1].data.startswith(b"before")
        assert one.reason
        wire.mend()
        one.wait(lambda: one.messages[-1].data == b"newest")
        wait_until(lambda: broker.read(f"{OWN}/reported") == "of the time alone")
        assert one.link.status.reason is None


def test_a_broker_that_is_far_away_is_waited_for(wire: Cable, broker: Mosquitto) -> None:
    near = Mosquitto(broker.folder.parent / "near")
    with running(near), far_away(near.port, 0.3) as port, linked(replace(near.place(), port=port)) as one:
        exchange(near, one, "one")
        assert one.link.status.connections == 1
