"""Jobs that are forked, in place of started: what they tell, how they end, and what happens without that."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge_agent.support.agent import Agent, Images, make_images
from tests.edge_agent.support.resident import Resident
from tests.support.ports import free_port
from tests.support.running import finish, run

PROGRAM = """
import os, signal, subprocess, sys, time
from edge_agent.daemon import jobs
from edge_agent.daemon.forks import ForkServer
from edge_agent.config.configuration import Configuration
from edge_agent.config.document import to_json
from pathlib import Path

forks = ForkServer.begin("process")
given = {"configuration": to_json(Configuration(state_dir=Path(sys.argv[1])))}

def start(verb, *words):
    job = jobs.start(verb, words, given, forks)
    os.set_blocking(job.fd, True)
    return job

def told(job):
    while jobs.take(job, lambda line: None):
        pass
    return type(job.process).__name__, jobs.finish(job), sorted(job.told)

wrong = start("configuration", "/nowhere.json")
print(wrong.process.pid not in (os.getpid(), 0), *told(wrong))
print(*told(start("settle")))
asked, killed = [start("share") for _ in range(30)], start("share")
for job in asked:
    jobs.cancel(job)
killed.process.kill()
try:
    start("share").process.wait(0.01)
except subprocess.TimeoutExpired:
    print("runs")
print({job.process.wait(20) in (-signal.SIGTERM, 128 + signal.SIGTERM, 0) for job in asked}, *told(killed))
own = Path("/proc/self/task") / str(os.getpid()) / "children"
server = int(own.read_text().split()[0])
left = Path(f"/proc/{server}/task/{server}/children").read_text().split()
os.kill(server, 9)
print(*told(start("settle")))
end = time.monotonic() + 20
while any(Path("/proc", one).exists() for one in left) and time.monotonic() < end:
    time.sleep(0.02)
print(len(left), [one for one in left if Path("/proc", one).exists()])
forks.close()
"""


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def agent(images: Images, tmp_path: Path) -> Iterator[Resident]:
    made = Agent(tmp_path / "device", images, free_port())
    made.ok("trust", str(images.folder / "key.pub"))
    made.ok("import", str(images.bundle("v1", "v2")))
    resident = Resident(made)
    yield resident
    resident.close()


def test_a_forked_job_tells_ends_and_is_ended_as_one_that_was_started(tmp_path: Path) -> None:
    code = PROGRAM.replace(
        "Configuration(state_dir=Path(sys.argv[1]))",
        "Configuration(state_dir=Path(sys.argv[1]), share=Share('127.0.0.1', 0))",
    ).replace("import Configuration\n", "import Configuration, Share\n")
    told = run(sys.executable, "-c", code, tmp_path / "device").splitlines()
    assert told == [
        "True Forked 3 ['code', 'error']",
        "Forked 0 []",
        "runs",
        "{True} Forked -9 []",  # asked to end at any time of its start, it ends
        "Popen 0 []",  # where the server has ended, a job is a program again
        "1 []",  # and what was forked from it ends with it
    ]


def test_the_agent_brings_services_by_forked_jobs_and_also_without_them(agent: Resident) -> None:
    process = agent.start()
    (server,) = children(process.pid)
    agent.put(agent.service("v1"))
    agent.wait_for("Healthy")
    assert children(process.pid) == [server]
    os.kill(server, signal.SIGKILL)
    agent.put(agent.service("v2"))
    agent.wait(lambda: (agent.of()["state"], agent.of().get("digest")) == ("Healthy", agent.service("v2")["image"]))
    assert agent.device.answer() == "v2"
    assert agent.end() == 0


def test_nothing_of_an_agent_that_was_killed_is_left(agent: Resident) -> None:
    process = agent.start()
    (server,) = children(process.pid)
    assert agent.end(signal.SIGKILL) == -signal.SIGKILL
    agent.wait(lambda: not Path(f"/proc/{server}").exists())
    agent.start()  # and nothing holds what the next one needs
    assert agent.end() == 0


ASKED = """
import os, signal, sys
from pathlib import Path
from edge_agent.config.configuration import Configuration
from edge_agent.jobs.task import Task
given = {} if sys.argv[1] == "unknown" else {"agent": os.getppid() + (sys.argv[1] == "gone")}
Task(Configuration(), (), given).end_with_the_agent()
os.kill(os.getpid(), signal.SIGINT)
print("goes on")
"""


@pytest.mark.parametrize(
    ("agent_is", "code", "said"), [("there", 0, "goes on\n"), ("unknown", 0, "goes on\n"), ("gone", 143, "")]
)
def test_a_job_ends_with_the_agent_and_not_by_the_terminal(agent_is: str, code: int, said: str) -> None:
    done = finish(sys.executable, "-c", ASKED, agent_is)
    assert (done.code, done.stdout, done.stderr) == (code, said, "")


def test_signals_that_come_while_the_agent_starts_wait_for_it(agent: Resident) -> None:
    agent.start(ready=False)
    agent.wait(lambda: waits_for(agent, signal.SIGHUP, signal.SIGINT))
    agent.process.send_signal(signal.SIGHUP)
    agent.wait(lambda: "the configuration was read again" in agent.log)
    assert not waits_for(agent, signal.SIGHUP, signal.SIGINT)
    (server,) = children(agent.process.pid)
    assert not int(field(server, "SigBlk"), 16)
    assert agent.end(signal.SIGINT) == 0

    agent.start(ready=False)
    agent.wait(lambda: waits_for(agent, signal.SIGHUP, signal.SIGINT))
    assert agent.end(signal.SIGINT) == 0
    assert "Traceback" not in agent.log


def waits_for(agent: Resident, *numbers: int) -> bool:
    assert agent.process is not None
    assert agent.process.poll() is None, agent.log
    return all(int(field(agent.process.pid, "SigBlk"), 16) >> (number - 1) & 1 for number in numbers)


def field(pid: int, name: str) -> str:
    lines = Path(f"/proc/{pid}/status").read_text("ascii").splitlines()
    return next(line.split()[1] for line in lines if line.startswith(f"{name}:"))


def children(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    return []
