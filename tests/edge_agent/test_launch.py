"""How a version of the agent takes the place of another: the launcher, with versions that behave in every way."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import socket
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from edge_agent.upgrade import launch
from edge_agent.upgrade.versions import Versions
from edgepack.host.scratch import sweep_scratch
from edgepack.oci.digest import Digest
from tests.support.waiting import wait_until

OLD, NEW = "0" * 64, "1" * 64
# A version: says what it is called; then as the test wants it.
SAYS = """
import os, socket, sys, time
from pathlib import Path
place = Path(sys.argv[0]).parent
with (place.parent / "log").open("a") as log:
    log.write(place.name[0] + " " + " ".join(sys.argv[1:]) + "\\n")
def tell(text):
    if os.environ.get("NOTIFY_SOCKET"):
        told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        told.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
"""
GOOD = SAYS + "tell('READY=1\\nMAINPID=1')\nwhile True:\n    time.sleep(0.05); tell('WATCHDOG=1')\n"
ENDS = SAYS + "time.sleep(0.1)\n"


@dataclass
class Agent:
    """``agent`` in a state folder, with a version that ends at once when it is started as the old one."""

    folder: Path

    def version(self, name: str, code: str) -> None:
        (self.folder / name).mkdir()
        with zipfile.ZipFile(self.folder / name / "edge-agent.pyz", "w") as archive:
            archive.writestr("__main__.py", code)

    def start(self, *words: str, file_bytes: int | None = None, **environment: str) -> subprocess.Popen[bytes]:
        """Start the launcher; it and what it starts can write files of ``file_bytes`` at most."""
        argv = [sys.executable, str(self.folder / "edge-agent"), *(words or ("run",))]
        limit = None if file_bytes is None else lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (file_bytes,) * 2)
        return subprocess.Popen(argv, env={**os.environ, **environment}, stderr=subprocess.PIPE, preexec_fn=limit)

    @property
    def log(self) -> list[str]:
        path = self.folder / "log"
        return path.read_text().splitlines() if path.exists() else []

    @property
    def versions(self) -> Versions:
        return Versions(self.folder)


@pytest.fixture
def agent(tmp_path: Path) -> Agent:
    folder = tmp_path / "a device" / "agent"
    folder.mkdir(parents=True)
    shutil.copy(launch.__file__, folder / "edge-agent")
    found = Agent(folder)
    found.version(OLD, SAYS)
    (folder / "current").symlink_to(OLD)
    return found


def ended(process: subprocess.Popen[bytes]) -> str:
    _, err = process.communicate(timeout=60)
    return err.decode()


def test_the_current_version_is_started_with_its_words(agent: Agent) -> None:
    assert ended(agent.start("--state-dir", "run", "status")) == ""
    assert agent.log == ["0 --state-dir run status"]


def test_a_version_that_is_ready_and_alive_takes_the_place(agent: Agent) -> None:
    agent.version(NEW, GOOD)
    agent.versions.propose(NEW, ready_seconds=30, alive_seconds=0.5)
    assert agent.start("status").wait(30) == 0
    assert agent.log == ["0 status"], "commands are of the current version while the other is not proven"

    process = agent.start("--wait", "5", "run")
    wait_until(lambda: len(agent.log) == 3)
    assert agent.log[1:] == ["1 --wait 5 run"] * 2, "once as a trial, and once as the current one"
    assert (agent.versions.current, agent.versions.trial, agent.versions.refused(NEW)) == (NEW, None, None)
    process.terminate()
    process.wait(30)


SILENT = SAYS + "time.sleep(600)\n"
HANGS = SAYS + "tell('READY=1')\ntime.sleep(600)\n"
DIES = SAYS + "tell('READY=1')\ntime.sleep(0.2)\nsys.exit(3)\n"
BROKEN = "import nothing_of_that_name\n"


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (SILENT, "it was not ready within 1 seconds"),
        (HANGS, "it did not say that it is alive for 0.5 seconds"),
        (DIES, "it ended by itself (exit code 3)"),
        (BROKEN, "it ended by itself (exit code 1)"),
    ],
)
def test_a_version_that_fails_gives_the_place_back(agent: Agent, code: str, reason: str) -> None:
    agent.version(NEW, code)
    agent.versions.propose(NEW, ready_seconds=1, alive_seconds=0.5)
    said = ended(agent.start())
    assert f"edge-agent: version {NEW[:12]} is given up: {reason}" in said
    assert agent.log[-1] == "0 run"
    assert (agent.versions.current, agent.versions.trial, agent.versions.refused(NEW)) == (OLD, None, reason)


def test_a_version_that_is_not_there_gives_the_place_back(agent: Agent) -> None:
    agent.versions.propose(NEW)
    ended(agent.start())
    assert agent.log == ["0 run"]
    assert agent.versions.refused(NEW) is not None


def test_a_trial_that_is_cut_short_begins_again_and_not_for_ever(agent: Agent) -> None:
    agent.version(NEW, SILENT)
    agent.versions.propose(NEW, ready_seconds=600)
    for count in range(1, 4):
        process = agent.start()
        wait_until(lambda count=count: agent.log.count("1 run") == count)  # type: ignore[misc]
        process.kill()  # a power cut; the child ends with it, or two agents would be in each other's way
        process.wait(30)
        assert agent.versions.current == OLD
    said = ended(agent.start())
    assert "its trial was cut short 3 times" in said
    assert agent.log[-1] == "0 run"
    assert agent.versions.trial is None


def test_a_version_that_was_proven_is_not_tried_again(agent: Agent) -> None:
    agent.version(NEW, SAYS)
    (agent.folder / "current").unlink()
    (agent.folder / "current").symlink_to(NEW)  # and a power cut came before its trial was cleared away
    agent.versions.propose(NEW)
    assert ended(agent.start()) == ""
    assert agent.log == ["1 run"]
    assert (agent.versions.current, agent.versions.trial, agent.versions.refused(NEW)) == (NEW, None, None)


@pytest.mark.parametrize("code", [GOOD, BROKEN])
def test_where_a_trial_cannot_be_recorded_the_version_before_runs(agent: Agent, code: str) -> None:
    agent.version(NEW, code)
    agent.versions.propose(NEW, ready_seconds=30, alive_seconds=0.5)
    said = ended(agent.start(file_bytes=20))
    assert said == f"edge-agent: version {NEW[:12]} is left out: File too large; ask for it again\n"
    assert agent.log == ["0 run"]
    assert (agent.versions.current, agent.versions.trial, agent.versions.refused(NEW)) == (OLD, None, None)
    assert sorted(path.name[0] for path in agent.folder.iterdir()) == ["0", "1", "c", "e", "l"], "nothing is left over"


def test_the_end_of_the_agent_ends_the_trial_and_the_next_start_goes_on_with_it(agent: Agent) -> None:
    agent.version(NEW, GOOD)
    agent.versions.propose(NEW, ready_seconds=30, alive_seconds=600)
    process = agent.start()
    wait_until(lambda: agent.log == ["1 run"])
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert (agent.versions.current, agent.versions.trial) == (OLD, NEW)


SLOW_TO_END = (
    SAYS
    + """
import signal
def end(*_):
    with (place.parent / "log").open("a") as log:
        log.write("ends\\n")
    time.sleep(0.5)
    sys.exit()
signal.signal(signal.SIGTERM, end)
tell('READY=1')
time.sleep(600)
"""
)


def test_a_request_to_end_counts_whatever_came_before_it(agent: Agent) -> None:
    agent.version(NEW, SLOW_TO_END)
    agent.versions.propose(NEW, ready_seconds=30, alive_seconds=600)
    process = agent.start()
    wait_until(lambda: agent.log == ["1 run"])
    time.sleep(0.2)
    process.send_signal(signal.SIGHUP)
    wait_until(lambda: agent.log == ["1 run", "ends"])
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 0
    assert agent.log == ["1 run", "ends"], "nothing is started that nobody would end"


def test_what_a_killed_launcher_leaves_is_removed_and_what_a_living_one_uses_is_not(
    agent: Agent, open_dir: Path
) -> None:
    place = open_dir  # a socket's path may have 107 bytes, which pytest's folders exceed
    agent.version(NEW, GOOD)
    agent.versions.propose(NEW, ready_seconds=30, alive_seconds=600)
    for left in (1, 1, 0):
        process = agent.start(TMPDIR=str(place))
        wait_until(lambda: len([*place.glob("*/notify")]) == 1)
        sweep_scratch(place)
        assert len([*place.iterdir()]) == 1
        process.send_signal(signal.SIGKILL if left else signal.SIGTERM)
        process.wait(30)
        assert len([*place.iterdir()]) == left
        sweep_scratch(place)
        assert [*place.iterdir()] == []


def test_a_version_whose_launcher_is_gone_before_it_could_be_told_does_not_run() -> None:
    code = "import os; from edge_agent.upgrade.launch import _end_with as end; end(os.getppid()); end(1 << 30); print()"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (1, b"", b"")


def test_systemd_hears_of_the_version_that_is_tried(agent: Agent, tmp_path: Path) -> None:
    agent.version(NEW, GOOD)
    agent.versions.propose(NEW, ready_seconds=30, alive_seconds=0.5)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(f"/proc/self/fd/{os.open(tmp_path, os.O_PATH)}/s")
        systemd.settimeout(30)
        process = agent.start(NOTIFY_SOCKET=str(tmp_path / "s"))
        assert systemd.recv(4096) == b"READY=1"
        assert systemd.recv(4096) == b"WATCHDOG=1"
        process.terminate()
        process.wait(30)


def test_what_is_on_record_may_be_damaged(agent: Agent) -> None:
    for text in ("", "{", "[]", '{"version": 1}', json.dumps({"starts": 1})):
        (agent.folder / "trial.json").write_text(text)
        ended(agent.start())
    assert agent.log == ["0 run"] * 5
    assert agent.versions.trial is None


def test_only_versions_that_may_be_needed_are_kept(agent: Agent) -> None:
    for at, name in enumerate(("2" * 64, "3" * 64, NEW)):
        agent.version(name, ENDS)
        os.utime(agent.folder / name, (at, at))
    agent.versions.propose(NEW)
    agent.versions.sweep()
    assert sorted(path.name[0] for path in agent.folder.glob("?" * 64)) == ["0", "1", "3"]
    assert agent.versions.launcher == agent.folder / "edge-agent"


def test_a_version_of_which_a_half_is_removed_is_not_here(agent: Agent, monkeypatch: pytest.MonkeyPatch) -> None:
    names = ["2" * 64, "3" * 64]
    for at, name in enumerate(names):
        agent.version(name, ENDS)
        agent.versions.note_image(name, Digest(name))
        os.utime(agent.folder / name, (at, at))
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)  # a power cut comes before it has removed anything
        agent.versions.sweep()
    assert agent.versions.of_image(Digest(names[0])) is None
    assert agent.versions.of_image(Digest(names[1])) == names[1]
    agent.versions.sweep()
    assert not [path for path in agent.folder.iterdir() if "2" * 64 in path.name]
