"""``package build`` killed at any moment: the store stays whole, and the same command finishes the work."""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

from tests.integration.support.images import Commands, Site, image_of
from tests.support.sampling import times

KILLS = times(10, 4)
WORDS = ("package", "build", "-m", "mlp:1", "-t", "mlp:1", "--platform", "linux/amd64")


def assert_whole(commands: Commands) -> None:
    """Every blob hashes to its name, and the index names only what is there."""
    for path in commands.blobs.iterdir():
        with path.open("rb") as file:
            assert hashlib.file_digest(file, "sha256").hexdigest() == path.name
    index = json.loads((commands.workspace / "store/index.json").read_bytes())
    for item in index["manifests"]:
        assert (commands.blobs / item["digest"].removeprefix("sha256:")).stat().st_size == item["size"]


def killed_after(commands: Commands, seconds: float) -> bool:
    """Start the build and kill it with all its children after ``seconds``; whether it had not finished."""
    process = subprocess.Popen(
        commands.argv("edgepack", *WORDS), cwd=commands.folder, env=commands.environment(), stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    time.sleep(seconds)
    killed = process.poll() is None
    if killed:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    return killed


def test_a_build_killed_at_any_moment_leaves_a_whole_store(site: Site, place: Path) -> None:
    wanted = image_of(site.built, "linux/amd64")["digest"]
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201 - shown when the test fails
    draw = random.Random(seed)  # noqa: S311 - moments, not secrets
    registered = Commands(place / "registered", place / "registered/workspace")
    registered.register(site.models[1])

    kills = hits = 0
    longest = 0.0
    while kills < KILLS:
        folder = place / f"killed-{kills}"
        shutil.copytree(registered.folder, folder)
        commands = Commands(folder, folder / "workspace")
        for _ in range(4):  # one after another on the same workspace, each a little further
            hits += killed_after(commands, draw.uniform(0.3, longest or 3.0))
            kills += 1
            assert_whole(commands)
        started = time.monotonic()
        assert commands.edgepack(*WORDS).json["digest"] == wanted
        longest = max(longest, time.monotonic() - started, 1.0)
        assert_whole(commands)
        assert list((commands.workspace / "store/ingest").iterdir()) == []
        shutil.rmtree(folder)
    assert hits >= KILLS // 2
