"""The crash matrix: killed wherever something is put on record, with each fault, the agent ends in old or new.

A sample in every run; all of it, printed as a table, by ``make matrix-agent``.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge_agent.support.agent import Images, make_images
from tests.edge_agent.support.crash_matrix import (
    FAULTS,
    OPERATIONS,
    REGISTRY_FAULTS,
    Bench,
    Row,
    points,
    publish,
    try_case,
)
from tests.edgepack.support.registry_simulator import Simulator, running
from tests.support.running import run
from tests.support.sampling import WHOLE

SEED = int(os.environ.get("EDGEPACK_STORM_SEED", "1"))
DISK_BYTES = 256 << 20


KINDS = [
    "process",
    *(
        pytest.param(kind, marks=[pytest.mark.whole, pytest.mark.real(*parts)])
        for kind, parts in {
            "crun": ("crun", "mmdebstrap"), "runc": ("runc", "mmdebstrap"),
            "docker": ("dockerd", "mmdebstrap", "ip"), "podman": ("podman", "runc", "mmdebstrap"),
        }.items()
    ),
]  # fmt: skip


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    """A runtime, as the agent finds it."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "runc":
            which = shutil.which
            patch.setattr(shutil, "which", lambda name, *words: None if name == "crun" else which(name, *words))
        if request.param in ("docker", "podman"):
            engine = {"docker": "dockerd", "podman": "podman_service"}[request.param]
            patch.setenv("DOCKER_HOST", request.getfixturevalue(engine))
        yield request.param


@pytest.fixture(scope="module")
def images(kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Images:
    base = None if kind == "process" else request.getfixturevalue("base_store")
    return make_images(tmp_path_factory.mktemp("images"), base)


@pytest.fixture(scope="module")
def simulator(images: Images) -> Iterator[Simulator]:
    with running(Simulator()) as made:
        publish(images, made, "v1", "v2")
        yield made


@pytest.fixture(scope="module")
def rows() -> Iterator[list[Row]]:
    """What was tried, printed at the end."""
    found: list[Row] = []
    yield found
    print("\nruntime | operation | point | fault | found | chain | answers | end")  # noqa: T201 - the table is the result
    for row in found:
        print(row)  # noqa: T201 - as above


@pytest.fixture
def bench(kind: str, images: Images, simulator: Simulator, tmp_path: Path) -> Iterator[Bench]:
    """A disk of its own for devices, which can be full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = os.geteuid() == 0 and shutil.which("mount") is not None
    if mounted:
        run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "none", folder)
    yield Bench(folder, images, simulator, kind)
    if mounted:
        run("umount", "--lazy", folder)


def cases(operation: str, names: list[str]) -> list[tuple[int, str, bool]]:
    """Points, faults, and whether the device goes down with the agent: all of them, or some."""
    recorded = [at for at, name in enumerate(names, 1) if name[0].isupper() or name == "transaction"]
    faults = [one for one in FAULTS if one not in REGISTRY_FAULTS or operation in ("install", "update", "pull")]
    if os.geteuid() != 0:
        faults.remove("full disk")
    everything = [
        (at, "none", down) for at in range(1, len(names) + 1) for down in ((False, True) if at in recorded else (True,))
    ]
    everything += [(at, fault, bool(at % 2)) for at in recorded or range(1, len(names) + 1) for fault in faults[1:]]
    if WHOLE:
        return everything
    drawn = random.Random(f"{SEED} {operation}")  # noqa: S311 - no secret
    return drawn.sample(everything, 2 if operation in ("install", "update") else 1)


@pytest.mark.parametrize("operation", OPERATIONS)
def test_wherever_it_is_killed_old_or_new_answers(operation: str, bench: Bench, rows: list[Row]) -> None:
    names = points(bench, operation)
    assert names, operation
    failed = []
    for at, fault, down in cases(operation, names):
        try:
            rows.append(try_case(bench, operation, at, fault, device_too=down))
        except AssertionError as error:
            if not WHOLE:
                raise
            failed.append(f"{operation} {at} {fault} {down}: {error}")
    assert failed == []
