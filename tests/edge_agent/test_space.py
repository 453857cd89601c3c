"""Disk space: what is not needed any more is given back, and a full disk stops neither a status nor a rollback."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack.oci.store import Store
from tests.edge_agent.support.agent import Agent, Images, make_images
from tests.support.ports import free_port


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def stock(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    agent = Agent(tmp_path_factory.mktemp("stock") / "device", images, 0)
    agent.take_in("v1", "v2", "ill", "absent")
    return agent.root


@pytest.fixture
def agent(images: Images, stock: Path, tmp_path: Path) -> Iterator[Agent]:
    shutil.copytree(stock, tmp_path / "device")
    agent = Agent(tmp_path / "device", images, free_port())
    yield agent
    agent.close()


def held(agent: Agent) -> set[str]:
    """The images of which anything is left: in the store, unpacked, recorded or merged."""
    store = Store.open_existing(agent.root / "store")
    found = set()
    for name, digest in agent.images.digests.items():
        app = agent.images.store.manifest(agent.images.store.describe(digest)).layers[-1].digest
        places = [store.path(digest), store.path(app), agent.root / "layers" / app.hex]
        places += [agent.root / "inventories/layers" / f"{app.hex}.json"]
        places += [agent.root / folder / digest.hex for folder in ("rootfs", "bases")]
        places += agent.root.glob(f"images/{digest.hex}.*")
        if store.referrers(digest) or any(path.exists() for path in places):
            found.add(name)
    return found


def test_what_neither_runs_nor_can_be_returned_to_is_removed(agent: Agent) -> None:
    agent.apply("v1")
    agent.apply("v2")
    assert held(agent) == {"v1", "v2", "ill", "absent"}
    assert agent.apply("ill").code == 1  # rolled back: what failed stays, to be tried again
    assert held(agent) == {"v1", "v2", "ill", "absent"}
    done = agent.apply("absent")
    assert done.code == 0
    assert "removed images that ran before and that nothing needs any more: 2" in done.err
    assert held(agent) == {"v2", "absent"}
    assert agent.status()["last_good"] == str(agent.images.digests["v2"])

    assert agent.run("rollback", "churn").code == 0
    assert (agent.answer(), agent.status()["last_good"]) == ("v2", None)
    assert agent.apply("v1").code == 3
    agent.ok("import", str(agent.images.bundle("v1")))
    assert agent.apply("v2", env={"N": "1"}).code == 0
    assert "v1" in held(agent)  # it has come again, and has not run since
    assert agent.apply("v1").code == 0
    assert held(agent) == {"v1", "v2"}
    assert agent.run("rollback", "churn").code == 0
    assert agent.answer() == "v2"


def test_what_another_service_needs_stays(agent: Agent) -> None:
    other = free_port()
    agent.apply("v1")
    agent.apply("v1", name="other", port=other)
    agent.apply("v2")
    agent.apply("absent")
    assert held(agent) == {"v1", "v2", "ill", "absent"}
