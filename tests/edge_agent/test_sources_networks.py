"""Fetching from a real registry over a network that loses packets, is slow or is cut."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.config.configuration import RegistrySource
from edgepack.errors import RegistryUnavailableError
from edgepack.oci.copy import copy
from edgepack.oci.reference import Reference
from edgepack.oci.remote import Policy, RemoteRepository, anonymous
from tests.edge_agent.support.origins import SOON, Made, device, make, sources, whole
from tests.support.networks import Cable, cable
from tests.support.parts import docker_registry

pytestmark = pytest.mark.real("docker-registry", "ip", "tc", "iptables")
CAPS = replace(SOON, stalled_seconds=120, read_timeout=2.0, attempts=3, first_wait=0.2, longest_wait=1.0)


@pytest.fixture(scope="module")
def wire() -> Iterator[Cable]:
    with cable() as one:
        yield one


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make(tmp_path_factory.mktemp("made") / "store", (1_500_000, 200_000, 1000))


@pytest.fixture(scope="module")
def source(wire: Cable, made: Made, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RegistrySource]:
    folder = tmp_path_factory.mktemp("registry") / "data"
    with docker_registry(folder, host=wire.host, inside=wire.inside) as port:
        registry = f"{wire.host}:{port}"
        remote = RemoteRepository(
            Reference.parse(f"{registry}/churn:1"), credentials=anonymous, policy=Policy(plain_http=(registry,))
        )
        copy(made.store, remote, made.root)
        remote.attach_all(made.store.referrers(made.digest), made.store)
        yield RegistrySource(registry, plain_http=True)


@pytest.fixture(autouse=True)
def mended(wire: Cable) -> Iterator[None]:
    yield
    wire.mend()


BAD: dict[str, Callable[[Cable], None]] = {
    "a fifth is lost": lambda wire: wire.lose(0.2),
    "a third is lost": lambda wire: wire.lose(0.33),
    "2 Mbit/s": lambda wire: wire.slow(2_000_000),
    "256 kbit/s": lambda wire: wire.slow(256_000),
}


@pytest.mark.whole
@pytest.mark.parametrize("what", BAD)
def test_an_image_gets_through_a_bad_network(
    what: str, wire: Cable, made: Made, source: RegistrySource, tmp_path: Path
) -> None:
    on = device(tmp_path / "dev", made)
    BAD[what](wire)
    sources(on, source, caps=replace(CAPS, read_timeout=20.0)).fetch(made.digest, names=["churn"])
    assert whole(on, made)


def test_a_fetch_goes_on_after_a_cut_that_nobody_is_told_of(
    wire: Cable, made: Made, source: RegistrySource, tmp_path: Path
) -> None:
    on = device(tmp_path / "dev", made)
    cut = threading.Event()
    wire.slow(8_000_000)

    def progress(done: int, total: int) -> None:
        if done > total // 3 and not cut.is_set():
            cut.set()
            wire.lose(1)
            threading.Timer(3.0, wire.mend).start()

    sources(on, source, caps=CAPS).fetch(made.digest, progress, names=["churn"])
    assert cut.is_set()
    assert whole(on, made)


@pytest.mark.whole
def test_a_network_that_is_away_ends_in_a_sentence(
    wire: Cable, made: Made, source: RegistrySource, tmp_path: Path
) -> None:
    wire.lose(1)
    with pytest.raises(RegistryUnavailableError, match=f"{source.registry}: "):
        sources(device(tmp_path / "dev", made), source, caps=replace(CAPS, stalled_seconds=0, attempts=1)).fetch(
            made.digest, names=["churn"]
        )
