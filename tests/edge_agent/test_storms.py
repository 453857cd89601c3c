"""The real agent, killed at random moments and with its files altered at random, judged by what its service answers.

A sample in every run; hundreds of kills and thousands of altered files with ``EDGEPACK_WHOLE=1``, or ``make storms``.
"""

from __future__ import annotations

import os
import random
import shlex
import shutil
import signal
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge_agent.support.agent import Agent, Done, Images, make_images
from tests.support.ports import free_port
from tests.support.running import run
from tests.support.sampling import times
from tests.support.waiting import wait_until

SEED = int(os.environ.get("EDGEPACK_STORM_SEED", "1"))
VERSIONS = ("v1", "v2")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture
def agent(images: Images, tmp_path: Path) -> Iterator[Agent]:
    """A device that holds versions 1 and 2 and has run both."""
    made = Agent(tmp_path / "device", images, free_port())
    made.take_in(*VERSIONS)
    for version in VERSIONS:
        assert made.apply(version).code == 0
    yield made
    made.close()


def version_of(agent: Agent, digest: str) -> str:
    return next(name for name in VERSIONS if str(agent.images.digests[name]) == digest)


def heard(agent: Agent) -> str | None:
    """What the service says that it is; ``None`` when nobody answers."""
    try:
        return agent.answer()
    except OSError:
        return None


def check_truth(agent: Agent, context: object) -> None:
    """Whether what ``status`` tells is what is seen."""
    found = agent.status()
    match found["state"]:
        case "Healthy":
            assert heard(agent) == version_of(agent, found["digest"]), (context, found)
            assert len(agent.processes()) == 1, (context, found)
        case "Transitioning":
            assert "interrupted" in found["reason"], (context, found)
        case "Unhealthy":
            assert "it runs, but" in found["reason"] or heard(agent) is None, (context, found)
        case _:
            assert heard(agent) is None, (context, found)


def check_runs(agent: Agent, version: str, context: object) -> None:
    assert heard(agent) == version, context
    assert len(agent.processes()) == 1, context
    found = agent.status()
    assert (found["state"], found["digest"]) == ("Healthy", str(agent.images.digests[version])), (context, found)


def test_killed_at_any_moment_the_next_command_heals(agent: Agent) -> None:
    drawn = random.Random(SEED)  # noqa: S311 - no secret
    lasted: dict[str, float] = {}
    for number in range(times(600, 6)):
        version = drawn.choice(VERSIONS)
        kind = drawn.choice(["apply", "apply", "rollback", "import", "gc"])
        if kind == "import":  # something for it to do
            blobs = sorted((agent.root / "store/blobs/sha256").iterdir())
            drawn.choice(blobs).unlink()
        document = agent.document(version, env={"N": str(number)})
        words = {
            "apply": ["apply", document],
            "rollback": ["rollback", "churn"],
            "import": ["import", str(agent.images.bundle(*VERSIONS))],
            "gc": ["gc"],
        }[kind]
        context = (SEED, number, words[0], version)
        begun = time.monotonic()
        process = agent.start(*words)
        moment = drawn.uniform(0.3, 1.1) * lasted.get(kind, 2.0)
        while process.poll() is None and time.monotonic() - begun < moment:
            time.sleep(0.005)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
        else:
            lasted[kind] = time.monotonic() - begun
        process.communicate()
        lasted[kind] = max(lasted.get(kind, 0.0), min(moment, 10.0))
        check_truth(agent, context)
        if kind == "import" or len(list((agent.root / "store/blobs/sha256").iterdir())) == 0:
            agent.ok(*words)
        if kind == "gc":
            agent.ok("gc")
            agent.ok("import", str(agent.images.bundle(*VERSIONS)))
        if kind == "rollback":
            done = agent.run("rollback", "churn")
            assert done.code in (0, 3), (context, done.err)
            check_truth(agent, context)
        done = agent.apply(version, env={"N": str(number)})
        if done.code == 3:  # a rollback left it, so that the apply after that gave its space back
            assert "is not on this device; import" in done.err, (context, done.err)
            agent.ok("import", str(agent.images.bundle(*VERSIONS)))
            done = agent.apply(version, env={"N": str(number)})
        assert done.code == 0, (context, done.err)
        check_runs(agent, version, context)


def alter(path: Path, drawn: random.Random) -> str:
    """Change a file as failing disks, cut power and hands do; what was done."""
    data = path.read_bytes()
    found = path.stat()
    how = drawn.choice(["bit", "bit", "bit", "byte", "cut", "empty", "zeros", "gone"]) if data else "gone"
    at = drawn.randrange(len(data)) if data else 0
    if how == "gone":
        path.unlink()
        return how
    changed = {
        "bit": data[:at] + bytes([data[at] ^ (1 << drawn.randrange(8))]) + data[at + 1 :],
        "byte": data[:at] + bytes([drawn.randrange(256)]) + data[at + 1 :],
        "cut": data[:at],
        "empty": b"",
        "zeros": data[:at] + bytes(min(512, len(data) - at)) + data[at + 512 :],
    }[how]
    path.chmod(stat.S_IMODE(found.st_mode) | 0o200)
    path.write_bytes(changed)
    path.chmod(stat.S_IMODE(found.st_mode))
    if drawn.random() < 0.5:  # as a failing disk does it
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))
    return f"{how} at {at}"


def follow(agent: Agent, done: Done) -> None:
    """Do what the error says, and what the error of that says."""
    line = done.err.splitlines()[-1]
    if "run: mv " in line:
        run(*shlex.split(line.partition("run: ")[2].partition(", and apply")[0]))
    elif "trust that key again" in line or "edge-agent trust" in line:
        agent.ok("trust", str(agent.images.folder / "key.pub"))
    elif "import" in line or "sign the image" in line:
        again = agent.run("import", str(agent.images.bundle(*VERSIONS)))
        if again.code:
            assert "edge-agent trust" in again.err or "trust that key again" in again.err, again.err
            agent.ok("trust", str(agent.images.folder / "key.pub"))
    else:
        raise AssertionError(line)


def files_of(agent: Agent) -> list[Path]:
    """All that the agent keeps, but for what it only locks or writes for people."""
    spared = ("lock", "log", "log.1", "reserve")
    found = [path for path in agent.root.rglob("*") if path.is_file() and not path.is_symlink()]
    return sorted(path for path in found if not path.name.endswith(spared))


def test_whatever_is_altered_it_is_told_of_and_what_is_said_to_do_heals(agent: Agent) -> None:
    drawn = random.Random(SEED)  # noqa: S311 - no secret
    for number in range(times(700, 6)):
        done = []
        for _ in range(5):
            path = drawn.choice(files_of(agent))
            done.append((str(path.relative_to(agent.root)), alter(path, drawn)))
        context = (SEED, number, done)
        told = agent.run("status")
        if told.code == 0:
            if told.services:
                check_truth(agent, context)
        else:
            assert told.code in (1, 2, 4), (context, told.err)
            assert "unexpected" not in told.err, (context, told.err)
        version = VERSIONS[number % 2]
        for _ in range(6):
            last = agent.apply(version, env={"N": str(number)})
            assert "unexpected" not in last.err, (context, last.err)
            if last.code == 0:
                break
            assert last.code in (1, 2, 3, 4), (context, last.err)
            follow(agent, last)
        assert last.code == 0, (context, last.err)
        check_runs(agent, version, context)
        # So that the next round alters what is whole.
        agent.ok("trust", str(agent.images.folder / "key.pub"))
        agent.ok("import", str(agent.images.bundle(*VERSIONS)))
        for left in agent.root.glob("state.damaged*"):
            shutil.rmtree(left)
    wait_until(lambda: len(agent.processes()) == 1)
