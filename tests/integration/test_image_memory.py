"""A package with large weights takes no more memory to make, push and bundle than one with small ones."""

from __future__ import annotations

import json
import os
import resource
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgepack.oci.store import Store
from tests.integration.support.images import Commands
from tests.support.sampling import WHOLE

# A fifth of a gigabyte in every run, five of them in a whole one. The limit is on all that a process has mapped, which
# is several times what it touches.
SIZE = 5 << 30 if WHOLE else 208 << 20
GROWTH = 40 << 20
MAPPED = 1200 << 20


def weights(path: Path, size: int) -> Path:
    """A file that gzip does not shorten: random at its beginning, by which it is judged, then a hole."""
    with path.open("wb") as file:
        file.write(os.urandom(min(size, 33 << 20)))
        file.truncate(size)
    return path


def peak(commands: Commands, *words: object) -> int:
    """Run ``edgepack`` with limited memory, and give the most that it held, in bytes."""
    limit: Callable[[], None] = lambda: resource.setrlimit(resource.RLIMIT_AS, (MAPPED, MAPPED))  # noqa: E731
    process = subprocess.Popen(
        commands.argv("edgepack", *words), cwd=commands.folder, env=commands.environment(), preexec_fn=limit,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, said
    return used.ru_maxrss << 10


def way(commands: Commands, name: str, size: int, port: int) -> dict[str, int]:
    """Everything that a package goes through, with the most memory that each step took."""
    folder = commands.folder
    model = folder / name
    model.mkdir()
    weights(model / "weights.bin", size)
    (model / "config.json").write_text("{}")
    (folder / "ic.json").write_text(json.dumps({"entryScript": "score.py"}))
    tag, archive = f"{name}:1", folder / f"{name}.tar"
    found = {"register": peak(commands, "model", "register", "-n", name, "-p", model)}
    (model / "weights.bin").unlink()
    found["build"] = peak(commands, "package", "build", "-m", f"{name}:1", "--ic", "ic.json", "-t", tag)
    for step, words in {
        "bundle": ("bundle", "create", tag, "-o", archive),
        "archive": ("package", "push", tag, f"docker-archive:{archive}"),
        "push": ("package", "push", tag, f"docker://127.0.0.1:{port}/{tag}"),
    }.items():
        found[step] = peak(commands, *words)
        archive.unlink(missing_ok=True)
    return found


@pytest.mark.timeout(3600 if WHOLE else 300)
def test_large_weights_take_no_more_memory_than_small_ones(place: Path, registry: int) -> None:
    commands = Commands(place / "memory", place / "memory/workspace")
    commands.folder.mkdir()
    (commands.folder / "score.py").write_text("def init(): pass\ndef run(data): return data\n")
    small = way(commands, "small", 1000, registry)
    large = way(commands, "large", SIZE, registry)
    assert {step: most for step, most in large.items() if most - small[step] > GROWTH} == {}, (small, large)

    store = Store.open_existing(commands.workspace / "store")
    layers: Any = [layer for layer in store.manifest(store.resolve("large:1")).layers if layer.kind == "model"]
    assert len(layers) == 2
    assert layers[0].size > SIZE
    assert layers[1].size < 10_000
    for digest in store.digests():  # five gigabytes are not kept until the session ends
        if store.path(digest).stat().st_size > SIZE:
            store.path(digest).unlink()
