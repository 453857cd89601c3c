"""The real agent with the real process runtime, killed with SIGKILL at every step of an update."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge_agent.support.agent import Agent, Images, make_images
from tests.support.ports import free_port

# Every durable write and every effect of an update that goes well, in order.
CHAIN = ["prepare", "accept", "set_stage", "set_stage", "begin", "stop", "start", "finish", "set_stage"]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def stocked(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A device's folder that holds versions 1 and 2 and runs nothing."""
    agent = Agent(tmp_path_factory.mktemp("stock") / "device", images, 0)
    agent.take_in("v1", "v2", "ill")
    return agent.root


@pytest.fixture
def agent(images: Images, stocked: Path, tmp_path: Path) -> Iterator[Agent]:
    """A device that runs version 1."""
    shutil.copytree(stocked, tmp_path / "device")
    agent = Agent(tmp_path / "device", images, free_port())
    assert agent.apply("v1").code == 0
    yield agent
    agent.close()


def test_the_points_are_all_there_are(agent: Agent, tmp_path: Path) -> None:
    done = agent.run(
        "apply", agent.document("v2", serial=1), driver=("before", "0", str(tmp_path / "log"))
    )  # fmt: skip

    assert (done.code, (tmp_path / "log").read_text().split()) == (0, CHAIN)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("number", range(1, len(CHAIN) + 1), ids=CHAIN)
def test_an_update_that_is_killed_is_finished_by_the_same_command(
    agent: Agent, tmp_path: Path, number: int, when: str
) -> None:
    document = agent.document("v2", serial=1)
    killed = agent.run("apply", document, driver=(when, str(number), str(tmp_path / "log")))
    assert killed.code == -9
    assert (tmp_path / "log").read_text().split() == CHAIN[:number]

    between = agent.status()
    v1, v2 = str(agent.images.digests["v1"]), str(agent.images.digests["v2"])
    if between["state"] == "Healthy":
        assert f"sha256:{agent.images.digests[agent.answer()].hex}" == between["digest"]
    else:
        assert (between["state"], between["digest"], between["last_good"]) == ("Transitioning", v2, v1)
        assert "interrupted" in between["reason"]

    done = agent.run("apply", document)
    assert done.code == 0, done.err
    assert len(agent.processes()) == 1
    assert agent.answer() == "v2"
    assert agent.status() == {
        "name": "churn", "state": "Healthy", "digest": v2, "last_good": v1, "port": agent.port, "runtime": "process",
        "reason": None, "tag": "v2:1", "last_good_tag": "v1:1", "models": [],
        "url": f"http://127.0.0.1:{agent.port}", "stage": "Done", "percent": None, "restarts": 0, "exit_code": None,
        "memory_kills": 0, "origin": "command", "serial": 1, "status": 200,
    }  # fmt: skip


def test_a_killed_update_may_be_rolled_back_instead(agent: Agent, tmp_path: Path) -> None:
    agent.run("apply", agent.document("v2"), driver=("after", "7", str(tmp_path / "log")))
    done = agent.run("rollback", "churn")

    assert done.code == 0, done.err
    assert (agent.answer(), len(agent.processes()), agent.status()["last_good"]) == ("v1", 1, None)


def test_a_killed_return_is_finished(agent: Agent, tmp_path: Path) -> None:
    # prepare accept staged switching begin stop start [not healthy] stop judge returning begin prepare stop | start
    killed = agent.run("apply", agent.document("ill"), driver=("after", "13", str(tmp_path / "log")))
    assert killed.code == -9
    assert (tmp_path / "log").read_text().split()[-5:] == ["judge", "set_stage", "begin", "prepare", "stop"]
    found = agent.status()
    assert (found["state"], found["digest"]) == ("Transitioning", str(agent.images.digests["v1"]))

    done = agent.run("rollback", "churn")
    assert done.code == 0, done.err
    assert (agent.answer(), len(agent.processes())) == ("v1", 1)


def test_two_at_once_take_turns(agent: Agent) -> None:
    document = agent.document("v2")
    both = [agent.start("apply", document), agent.start("apply", document)]
    ended = [(*one.communicate(timeout=60), one.returncode) for one in both]

    assert [code for _, _, code in ended] == [0, 0], ended
    assert sum("waiting until it is done" in err for _, err, _ in ended) <= 1
    assert sum("starting image" in err for _, err, _ in ended) == 1
    assert (agent.answer(), len(agent.processes())) == ("v2", 1)


def test_of_two_rollbacks_at_once_the_second_finds_it_done(agent: Agent) -> None:
    for number, image in enumerate(("v2", "v1", "v2")):
        assert agent.apply(image, env={"N": str(number)}).code == 0
    both = [agent.start("rollback", "churn"), agent.start("rollback", "churn")]
    ended = [(*one.communicate(timeout=60), one.returncode) for one in both]

    assert [code for _, _, code in ended] == [0, 0], ended
    assert sum("starting image" in err for _, err, _ in ended) == 1, ended
    assert agent.answer() == "v1"


def test_status_answers_while_an_update_is_under_way(agent: Agent) -> None:
    update = agent.start("apply", agent.document("ill"))
    seen = set()
    end = time.monotonic() + 120
    while update.poll() is None and time.monotonic() < end:
        found = agent.status()
        seen.add(found["state"])
        if found["state"] == "Transitioning":
            assert "in progress" in found["reason"] or update.poll() is not None
    _, err = update.communicate(timeout=120)

    assert update.returncode == 1, err
    assert seen <= {"Healthy", "Transitioning"}
    assert "Transitioning" in seen
