"""The crash matrix: killed wherever something is put on record, with each fault, the agent ends in old or new.

A sample in every run; all of it, printed as a table, by ``make matrix-agent``.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.edge_agent.support.agent import Images, make_images
from tests.edge_agent.support.crash_matrix import (
    FAULTS,
    NAME,
    OPERATIONS,
    REGISTRY_FAULTS,
    Bench,
    Row,
    clear,
    heard,
    killed_at,
    points,
    publish,
    try_case,
)
from tests.edge_agent.support.crash_resident import RESIDENT_FAULTS, job_points, try_job, try_start
from tests.edge_agent.support.crash_upgrade import NEW, add_agent, try_upgrade, upgrade_points
from tests.edge_agent.support.points import in_fork, worth
from tests.edge_agent.support.runtimes import python_base
from tests.edgepack.support.registry_simulator import Simulator, running
from tests.support.running import run
from tests.support.sampling import WHOLE

SEED = int(os.environ.get("EDGEPACK_STORM_SEED", "1"))
# EDGEPACK_MATRIX_PART=2/4 is the second of four parts of all cases, drawn from everywhere.
_NUMBER, _, _OF = os.environ.get("EDGEPACK_MATRIX_PART", "1/1").partition("/")
PART = slice(int(_NUMBER) - 1, None, int(_OF)) if WHOLE else slice(None)
DISK_BYTES = 256 << 20
ASKING = ("install", "update", "pull", "upgrade")  # a registry


_PARTS = {
    # First what only one process can do, since several Podmans have their locks in common.
    "podman": ("podman", "runc", "mmdebstrap"), "docker": ("dockerd", "mmdebstrap", "ip"),
    "crun": ("crun", "mmdebstrap"), "runc": ("runc", "mmdebstrap"),
}  # fmt: skip
KINDS = [
    *(pytest.param(kind, marks=[pytest.mark.whole, pytest.mark.real(*parts)]) for kind, parts in _PARTS.items()),
    "process",
]


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A runtime, as the agent finds it."""
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "runc":
            patch.setenv("PATH", without("crun", tmp_path_factory.mktemp("path")))
        if request.param in ("docker", "podman"):
            engine = {"docker": "dockerd", "podman": "podman_service"}[request.param]
            patch.setenv("DOCKER_HOST", request.getfixturevalue(engine))
        yield request.param


def without(program: str, folder: Path) -> str:
    """A path on which everything is found that is found now, but one program."""
    for place in map(Path, os.get_exec_path()):
        for entry in place.iterdir() if place.is_dir() else ():
            if entry.name != program and not (folder / entry.name).is_symlink():
                (folder / entry.name).symlink_to(entry)
    return str(folder)


@pytest.fixture(scope="module")
def images(kind: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Images:
    folder = tmp_path_factory.mktemp("images")
    base = None if kind == "process" else python_base(folder, request.getfixturevalue("base_store"))
    made = make_images(folder, base)
    add_agent(made)
    return made


@pytest.fixture(scope="module")
def simulator(images: Images) -> Iterator[Simulator]:
    with running(Simulator()) as made:
        publish(images, made, "v1", "v2")
        publish(images, made, NEW, repository="v1")
        yield made


@pytest.fixture
def bench(kind: str, images: Images, simulator: Simulator, tmp_path: Path) -> Iterator[Bench]:
    """A disk of its own for devices, which can be full."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = os.geteuid() == 0 and shutil.which("mount") is not None
    if mounted:
        run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES},mode=755", "none", folder)
    try:
        made = Bench(folder, images, simulator, kind)
        made.warm()
        yield made
    finally:
        if mounted:
            run("umount", "--lazy", folder)


Case = Callable[[], Row]
Record = Callable[[str, object], None]


@pytest.mark.parametrize("operation", OPERATIONS)
def test_wherever_an_operation_is_killed_old_or_new_answers(
    operation: str, bench: Bench, record_property: Record
) -> None:
    names = points(bench, operation)
    assert names, operation
    at = worth(names)
    recorded = [one for one in at if names[one - 1][0].isupper() or names[one - 1] == "transaction"]
    found: dict[str, Case] = {}

    def add(one: int, fault: str, *, down: bool) -> None:
        found[f"{one} {names[one - 1]} {fault} {down}"] = lambda: try_case(
            bench, operation, one, fault, device_too=down
        )

    for one in at:
        for down in (False, True) if one in recorded else (True,):
            add(one, "none", down=down)
    for one in recorded or at:
        for fault in faults(operation):
            add(one, fault, down=bool(one % 2))
    try_all(found, operation, record_property, 2 if operation in ("install", "update") else 1)


def test_a_version_that_answered_is_still_here_though_its_install_was_killed_and_another_one_came(bench: Bench) -> None:
    names = points(bench, "install")
    agent = bench.agent("install")
    try:
        assert killed_at(bench, agent, "install", names.index("Probation") + 1) == "Probation"
        assert heard(agent) == "v1"
        for image in ("v2", "v1"):
            bench.device(agent.root).state.set_goal(bench.spec(agent, image), "device", 2)
            # What is not here is nowhere.
            found, error = in_fork(lambda image=image: [bench.runner(agent.root).bring(  # type: ignore[misc]
                NAME, bench.sources(agent.root) if image == "v2" else None
            ).value])  # fmt: skip
            assert (found, error, heard(agent)) == (["Done"], None, image)
    finally:
        clear(bench, agent)


@pytest.mark.whole
@pytest.mark.parametrize("operation", OPERATIONS)
def test_wherever_an_operation_is_killed_the_resident_agent_goes_on(
    operation: str, bench: Bench, record_property: Record
) -> None:
    names = points(bench, operation)
    at = worth(names)
    stages = [one for one in at if names[one - 1][0].isupper()] or at[::3]
    found: dict[str, Case] = {}

    def add(one: int, fault: str) -> None:
        down = bool(one % 2) or fault == "full at start"
        found[f"{one} {names[one - 1]} {fault}"] = lambda: try_start(bench, operation, one, fault, device_too=down)

    for one in stages:
        for fault in RESIDENT_FAULTS if os.geteuid() == 0 else RESIDENT_FAULTS[:1]:
            add(one, fault)
    try_all(found, operation, record_property, 0)


@pytest.mark.parametrize("operation", [pytest.param("install", marks=pytest.mark.whole), "update"])
def test_wherever_its_job_is_killed_the_resident_agent_goes_on(
    operation: str, bench: Bench, record_property: Record
) -> None:
    names = job_points(bench, operation)
    found: dict[str, Case] = {
        f"{one} {names[one - 1]} job killed": lambda one=one: try_job(bench, operation, one)  # type: ignore[misc]
        for one in worth(names)
    }
    try_all(found, f"job of {operation}", record_property, 1)


def test_wherever_the_upgrade_of_the_agent_is_killed_the_old_or_the_new_one_runs(
    bench: Bench, record_property: Record
) -> None:
    names = upgrade_points(bench)
    at = worth(names)
    recorded = [one for one in at if names[one - 1].startswith("before")]
    found: dict[str, Case] = {}

    def add(one: int, fault: str, *, down: bool) -> None:
        found[f"{one} {names[one - 1]} {fault} {down}"] = lambda: try_upgrade(bench, one, fault, device_too=down)

    for one in at:
        for down in (False, True) if one in recorded else (True,):
            add(one, "none", down=down)
    for one in (at[0], *recorded):
        for fault in (*faults("upgrade"), "broker gone"):
            add(one, fault, down=bool(one % 2))
    try_all(found, "upgrade", record_property, 1)


def faults(operation: str) -> list[str]:
    """The faults that ``operation`` may meet here, with none left out."""
    found = [one for one in FAULTS[1:] if one not in REGISTRY_FAULTS or operation in ASKING]
    return found if os.geteuid() == 0 else [one for one in found if one != "full disk"]


def try_all(cases: dict[str, Case], operation: str, record: Record, sample: int) -> None:
    """Try all of ``cases``, or a few, and tell each; fails at the end with those that failed."""
    drawn = random.Random(f"{SEED} {operation}")  # noqa: S311 - no secret
    chosen = drawn.sample(list(cases), len(cases) if WHOLE else sample)[PART]
    failed = []
    for name in chosen:
        try:
            line = str(cases[name]())
        except AssertionError as error:
            if not WHOLE:
                raise
            line = f"FAILED {operation} {name}: {' '.join(str(error).split())}"
            failed.append(line)
        record("row", line)
        tell(line)
    assert failed == []


def tell(line: str) -> None:
    """Write it where ``EDGEPACK_MATRIX_LOG`` says, as it comes."""
    path = os.environ.get("EDGEPACK_MATRIX_LOG")
    if path:
        with Path(path).open("a") as file:
            file.write(f"{line}\n")
