"""``edge-agent run`` and where packages come from: a registry with faults, a neighbour, sharing."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from edgepack.oci import mediatypes
from edgepack.oci.graph import walk
from edgepack.signing.statement import attach
from tests.edge_agent.support.agent import Agent, Images, make_images
from tests.edge_agent.support.resident import Resident
from tests.edgepack.support.registry_simulator import Simulator, running
from tests.support.http_client import listens
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    found = make_images(tmp_path_factory.mktemp("images"))
    for name in ("v1", "v2"):
        attach(found.store, found.store.resolve(f"{name}:1"), f"{name}:1", found.key)
    return found


@pytest.fixture
def registry(images: Images) -> Iterator[Simulator]:
    with running(Simulator(referrers_api=True)) as simulator:
        for name in ("v1", "v2"):
            root = images.store.resolve(f"{name}:1")
            for top in (root, *images.store.referrers(root.digest)):
                for one in walk(images.store, top):
                    data = images.store.path(one.digest).read_bytes()
                    if one.media_type == mediatypes.MANIFEST:
                        simulator.put_manifest("churn", one.digest.hex, data, one.media_type)
                    else:
                        simulator.blobs[str(one.digest)] = data
        yield simulator


def resident(stack: ExitStack, folder: Path, images: Images) -> Resident:
    """The agent of a new device, which trusts the key and holds nothing."""
    folder.mkdir()
    device = Agent(folder / "device", images, free_port())
    device.ok("trust", str(images.folder / "key.pub"))
    made = Resident(device)
    stack.callback(made.close)
    return made


def test_an_image_comes_from_the_registry_and_from_there_to_a_neighbour(
    images: Images, registry: Simulator, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        port = free_port()
        first, second = (resident(stack, tmp_path / name, images) for name in ("first", "second"))
        first.configure(
            sources=[{"registry": f"127.0.0.1:{registry.port}"}], share={"address": "127.0.0.1", "port": port}
        )
        second.configure(sources=[{"neighbour": f"http://127.0.0.1:{port}"}])
        first.start()
        first.put(first.service())
        first.wait_for("Healthy")
        first.wait(lambda: listens(port))
        registry.seen.clear()
        second.start()
        second.put(second.service())
        second.wait_for("Healthy")
        assert registry.seen == []
        assert first.end() == 0
        assert not listens(port)


@pytest.mark.whole
def test_what_a_registry_does_wrong_is_in_the_report_and_the_service_runs_on(
    images: Images, registry: Simulator, tmp_path: Path
) -> None:
    layer = str(images.store.manifest(images.store.resolve("v2:1")).layers[1].digest)
    data = registry.blobs[layer]
    with ExitStack() as stack:
        agent = resident(stack, tmp_path / "one", images)
        agent.configure(sources=[{"registry": f"127.0.0.1:{registry.port}"}])
        agent.start()
        agent.put(agent.service())
        agent.wait_for("Healthy")
        pid = agent.pid_of()

        registry.altered = {layer}
        agent.put(agent.service("v2"))
        agent.wait(lambda: "hashes to" in str(agent.of()["reason"]))
        assert agent.pid_of() == pid

        registry.altered.clear()
        del registry.blobs[layer]
        agent.put(agent.service("v2"))
        agent.wait(lambda: "the registry has no blob" in str(agent.of()["reason"]))
        assert agent.pid_of() == pid

        registry.blobs[layer] = data
        registry.busy = [(500, None)] * 10_000
        agent.put(agent.service("v2"))
        agent.wait(lambda: len(registry.busy) < 9_990)
        assert agent.pid_of() == pid
        registry.busy.clear()
        agent.wait(lambda: agent.of()["digest"] == str(images.digests["v2"]) and agent.of()["state"] == "Healthy")
