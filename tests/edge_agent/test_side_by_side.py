"""Services change side by side on the real process runtime: one's trouble keeps no other one waiting."""

from __future__ import annotations

import json
import multiprocessing
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.device import Device
from edge_agent.reconcile.runner import Runner
from edge_agent.state.goals import Stage
from edgepack.state.desired import DesiredService
from tests.edge_agent.support.agent import Agent, Images, make_images
from tests.support.http_client import ask
from tests.support.ports import free_port
from tests.support.waiting import wait_until


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def stock(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    agent = Agent(tmp_path_factory.mktemp("stock") / "device", images, 0)
    agent.take_in("v1", "v2", "ill")
    return agent.root


@pytest.fixture
def agent(images: Images, stock: Path, tmp_path: Path) -> Iterator[Agent]:
    shutil.copytree(stock, tmp_path / "device")
    agent = Agent(tmp_path / "device", images, free_port())
    yield agent
    agent.close()


def bring(root: Path, service: str) -> None:
    Runner(Device(root, "process")).bring(service)


def started(agent: Agent, service: str) -> Any:
    """A process that brings ``service`` to its goal, as the agent starts one for each service."""
    process = multiprocessing.get_context("fork").Process(target=bring, args=(agent.root, service))
    process.start()
    return process


def spec(agent: Agent, name: str, image: str, port: int, **more: Any) -> DesiredService:
    return DesiredService(name, agent.images.digests[image], port, **more)


def said(port: int) -> str:
    return ask(port, "GET", "/").body.decode().split()[0]


def test_a_service_that_never_becomes_healthy_does_not_delay_another(agent: Agent) -> None:
    state = Device(agent.root).state
    other = free_port()
    state.set_goal(spec(agent, "slow", "ill", agent.port, health_timeout_seconds=3600.0), "device", 1)
    state.set_goal(spec(agent, "quick", "v1", other), "device", 1)
    slow = started(agent, "slow")
    try:
        wait_until(lambda: state.goals()["slow"].stage is Stage.SWITCHING)
        quick = started(agent, "quick")
        quick.join(120)
        assert (quick.exitcode, state.goals()["quick"].stage, said(other)) == (0, Stage.DONE, "v1")
        # What an operator does with the other one does not wait either, and neither does an import.
        document = {
            "schema": "edgepack.desired/v1",
            "services": [{"name": "quick", "image": str(agent.images.digests["v2"]), "port": other}],
        }
        path = agent.root.parent / "quick.json"
        path.write_text(json.dumps(document))
        for words in (["apply", str(path)], ["restart", "quick"], ["import", str(agent.images.bundle("v1"))]):
            done = agent.run("--wait", "0", *words)
            assert done.code == 0, done.err
        assert said(other) == "v2"
        done = agent.run("--wait", "0", "stop", "slow")
        assert done.code == 1
        assert f"has been locked by process {slow.pid}" in done.err
        done = agent.run("--wait", "0", "gc")
        assert f"has been locked by process {slow.pid}" in done.err
        assert slow.is_alive()
    finally:
        slow.kill()
        slow.join()
    assert Runner(Device(agent.root, "process")).recover()["slow"] is Stage.WANTED
    agent.ok("stop", "slow")


def test_two_services_with_one_image_are_prepared_and_switched_at_once(agent: Agent) -> None:
    state = Device(agent.root).state
    ports = [agent.port, free_port(), free_port()]
    names = ["one", "two", "three"]
    for version in ("v1", "v2"):
        for name, port in zip(names, ports, strict=True):
            state.set_goal(spec(agent, name, version, port), "device", 1)
        running = [started(agent, name) for name in names]
        for one in running:
            one.join(120)
        assert [one.exitcode for one in running] == [0, 0, 0]
        assert {goal.stage for goal in state.goals().values()} == {Stage.DONE}
        assert [said(port) for port in ports] == [version] * 3


def test_an_exchange_of_ports_by_two_processes_is_made_once(agent: Agent) -> None:
    state = Device(agent.root).state
    here, there = agent.port, free_port()
    for name, image, port in (("one", "v1", here), ("two", "v2", there)):
        state.set_goal(spec(agent, name, image, port), "device", 1)
        bring(agent.root, name)
    assert (said(here), said(there)) == ("v1", "v2")
    state.set_goal(spec(agent, "one", "v1", there), "device", 2)
    state.set_goal(spec(agent, "two", "v2", here), "device", 2)
    running = [started(agent, name) for name in ("one", "two")]
    for one in running:
        one.join(120)
    # The first that found both staged has switched both; one that came too early waits, and is looked at again.
    for name in ("one", "two"):
        bring(agent.root, name)
    assert {name: (goal.stage, goal.reason) for name, goal in state.goals().items()} == {
        "one": (Stage.DONE, None), "two": (Stage.DONE, None),
    }  # fmt: skip
    assert (said(here), said(there), len(agent.processes())) == ("v2", "v1", 2)


def test_a_probation_keeps_no_command_waiting(agent: Agent) -> None:
    state = Device(agent.root).state
    state.set_goal(
        spec(agent, "churn", "v1", agent.port, probation_seconds=3600.0, health_interval_seconds=0.2), "device", 1
    )
    watching = started(agent, "churn")
    wait_until(lambda: state.goals()["churn"].stage is Stage.PROBATION)
    assert agent.status()["reason"] == "it is healthy, and on probation"
    for words in (["gc"], ["stop", "churn"]):
        done = agent.run("--wait", "0", *words)
        assert done.code == 0, done.err
    watching.join(120)
    assert (watching.exitcode, agent.status()["state"]) == (0, "Stopped")
