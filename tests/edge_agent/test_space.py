"""Disk space: what is not needed any more is given back, and a full disk stops neither a status nor a rollback."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.device import Device
from edge_agent.reconcile.space import relieve
from edge_agent.state.reserve import RESERVE_BYTES, RESERVE_FILES
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from tests.edge_agent.support.agent import Agent, Images, make_images
from tests.edge_agent.support.version1 import as_version_1
from tests.support.ports import free_port
from tests.support.running import run


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


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """An ext4 of its own, as devices have it."""
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a small file system")
    mount, file = tmp_path / "small", tmp_path / "file system"
    mount.mkdir()
    with file.open("wb") as made:
        made.truncate(48 << 20)
    run("mkfs.ext4", "-q", "-m", "0", file)
    run("mount", "-o", "loop", file, mount)
    yield mount
    run("umount", "--lazy", mount)


def fill(disk: Path) -> None:
    """To the last byte."""
    with (disk / "ballast").open("ab", buffering=0) as file:
        for size in (1 << 20, 4096, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
                    os.fsync(file.fileno())


def files(root: Path) -> dict[str, tuple[int, int]]:
    return {str(path): (path.lstat().st_size, path.lstat().st_mtime_ns) for path in sorted(root.rglob("*"))}


@pytest.mark.real("mkfs.ext4", "mount")
@pytest.mark.parametrize("version", [1, 2])
def test_a_full_disk_stops_neither_a_status_nor_a_rollback(
    images: Images, stock: Path, small_disk: Path, version: int
) -> None:
    """Nor does it stop the first command after an update of the agent, whose database is of another version."""
    shutil.copytree(stock, small_disk / "device")
    agent = Agent(small_disk / "device", images, free_port())
    try:
        for name in ("v1", "v2"):
            assert agent.apply(name).code == 0
        document = agent.document("ill")
        if version == 1:
            as_version_1(agent.root / "state" / "agent.db")
        fill(small_disk)
        before = files(small_disk)
        assert agent.status()["state"] == "Healthy"
        assert files(small_disk) == before

        done = agent.run("apply", document)
        assert done.code == 1
        assert "no space left on the disk" in done.err
        assert agent.answer() == "v2"
        done = agent.run("import", str(images.bundle("crash")))
        assert done.code == 1
        assert "bytes are needed and 0 are free" in done.err

        done = agent.run("rollback", "churn")
        assert done.code == 0, done.err
        assert (agent.answer(), agent.status()["state"]) == ("v1", "Healthy")
        (small_disk / "ballast").unlink()
        assert agent.apply("v2").code == 0
        assert (agent.root / "state/reserve").stat().st_size == RESERVE_BYTES
    finally:
        agent.close()


@pytest.mark.real("mkfs.ext4", "mount")
def test_a_disk_that_takes_no_more_files_stops_neither_a_status_nor_a_rollback(
    images: Images, stock: Path, small_disk: Path
) -> None:
    shutil.copytree(stock, small_disk / "device")
    agent = Agent(small_disk / "device", images, free_port())
    try:
        for name in ("v1", "v2"):
            assert agent.apply(name).code == 0
        document = agent.document("ill")
        with contextlib.suppress(OSError):
            for number in range(100_000):
                (small_disk / str(number)).touch()
        assert os.statvfs(small_disk).f_favail == 0
        assert agent.status()["state"] == "Healthy"
        done = agent.run("apply", document)
        assert done.code == 1
        assert "no more files can be made on the disk" in done.err
        done = agent.run("rollback", "churn")
        assert done.code == 0, done.err
        assert (agent.answer(), agent.status()["state"]) == ("v1", "Healthy")
        for number in range(100):
            (small_disk / str(number)).unlink()
        assert agent.apply("v2").code == 0
        assert len(list((agent.root / "state/reserve.files").iterdir())) == RESERVE_FILES
    finally:
        agent.close()


@pytest.mark.real("mount")
def test_a_status_needs_to_write_nothing(agent: Agent) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount read-only")
    for name in ("v1", "v2"):
        agent.apply(name)
    usual = agent.status()
    before = files(agent.root)
    assert agent.status() == usual
    assert files(agent.root) == before
    run("mount", "--bind", agent.root, agent.root)
    try:
        run("mount", "-o", "remount,bind,ro", agent.root)
        assert agent.status() == usual
        done = agent.run("rollback", "churn")
        assert (done.code, len(done.err.splitlines())) == (2, 1)
        assert "cannot write here (Read-only file system)" in done.err
        file = agent.root.parent / "agent.json"
        file.write_text(json.dumps({"device": "d", "state_dir": str(agent.root), "runtime": "process"}))
        for words in (["run", "--config", file], ["gc"], ["stop", "churn"]):
            done = agent.run(*map(str, words))
            assert (done.code, len(done.err.splitlines())) == (2, 1), done.err
            assert f"{agent.root} is mounted read-only, by intention or after a fault of the disk" in done.err
            assert f"mount -o remount,rw {agent.root}" in done.err
        assert agent.status() == usual
    finally:
        run("umount", "--lazy", agent.root)


def collected(agent: Agent, *words: str) -> tuple[set[str], int]:
    """The images that ``gc`` names, by their tags, and the bytes that it says were freed."""
    value = json.loads(agent.ok("gc", *words).out)
    assert value["dry_run"] == bool(words)
    return {one["tag"] for one in value["images"]}, value["freed_bytes"]


def stored(agent: Agent) -> int:
    return sum(path.stat().st_size for path in (agent.root / "store/blobs/sha256").iterdir())


def test_gc_removes_what_nothing_needs_and_tells_before(agent: Agent) -> None:
    assert collected(agent, "--dry-run")[0] == {"v1:1", "v2:1", "ill:1", "absent:1"}
    agent.apply("v1")
    agent.apply("v2")
    (agent.root / "store/blobs/sha256" / ("0" * 64)).write_bytes(b"of an interrupted import")
    (agent.root / "store/ingest" / f"{'1' * 64}.partial").write_bytes(b"too")
    before = stored(agent)
    told = collected(agent, "--dry-run")
    assert told[0] == {"ill:1", "absent:1"}
    assert (held(agent), stored(agent)) == ({"v1", "v2", "ill", "absent"}, before)
    assert collected(agent) == told
    assert (held(agent), stored(agent)) == ({"v1", "v2"}, before - told[1])
    assert not list((agent.root / "store/ingest").iterdir())
    assert collected(agent) == (set(), 0)
    assert agent.run("rollback", "churn").code == 0
    assert agent.answer() == "v1"
    agent.ok("import", str(agent.images.bundle("v2")))
    assert agent.apply("v2").code == 0


def test_nothing_is_removed_while_it_is_not_known_what_a_needed_image_needs(agent: Agent) -> None:
    agent.apply("v1")
    agent.apply("v2")
    manifest = agent.root / "store/blobs/sha256" / agent.images.digests["v1"].hex
    good = manifest.read_bytes()
    manifest.write_bytes(b"x" + good[1:])
    before = stored(agent) - len(good)  # the damaged blob itself goes
    done = agent.ok("gc")
    assert "nothing is removed while image" in done.err
    assert (stored(agent), json.loads(done.out)["images"]) == (before, [])
    agent.ok("import", str(agent.images.bundle("v1")))
    assert collected(agent)[0] == {"ill:1", "absent:1"}
    assert agent.run("rollback", "churn").code == 0
    assert agent.answer() == "v1"


def test_gc_of_a_folder_that_holds_nothing_makes_nothing(images: Images, tmp_path: Path) -> None:
    agent = Agent(tmp_path / "device", images, 1)
    assert collected(agent) == (set(), 0)
    assert not agent.root.exists()


def test_room_is_made_of_what_ran_before_and_of_nothing_that_was_imported_to_be_run(agent: Agent) -> None:
    assert agent.apply("v1").code == 0
    assert agent.apply("ill", health={"timeout_seconds": 0.3}).code == 1
    device = Device(agent.root, "process")
    stray = device.store.put_bytes(b"of no image", "application/octet-stream")
    coming = replace(device.state.services()["churn"].current.spec, name="other", image=Digest.of(b"not here yet"))
    device.state.set_goal(coming, "device", 1)
    assert "ill" in held(agent)
    relieve(device)  # what it answers counts the whole disk, on which others write meanwhile
    assert held(agent) == {"v1", "v2", "absent"}
    assert device.store.has(stray)  # it may be of what is coming

    device.state.set_goal(replace(coming, status="removed"), "device", 2)
    relieve(device)
    assert not device.store.has(stray)
    assert held(agent) == {"v1", "v2", "absent"}


def test_a_removed_service_is_kept_for_a_rollback_until_it_is_forgotten(agent: Agent) -> None:
    assert agent.apply("v1").code == agent.apply("v2").code == 0
    agent.ok("remove", "churn")
    assert agent.run("rollback", "churn").code == 0
    assert agent.answer() == "v2"

    done = agent.ok("remove", "churn", "--forget")
    assert "removed images that ran before and that nothing needs any more: 2" in done.err
    assert done.services == []
    assert held(agent) == {"ill", "absent"}, "what was imported and has not run stays"
    assert list((agent.root / "logs").iterdir()) == []
    for words in (("rollback", "churn"), ("start", "churn"), ("remove", "churn", "--forget")):
        done = agent.run(*words)
        assert (done.code, "service 'churn' not found" in done.err) == (3, True), words

    agent.ok("import", str(agent.images.bundle("v1")))
    assert agent.apply("v1").code == 0
    assert agent.status()["last_good"] is None


def test_services_that_were_removed_are_forgotten_together_and_nothing_that_others_need_goes(agent: Agent) -> None:
    assert agent.apply("v1").code == 0
    for name, image in (("other", "v2"), ("third", "v2")):
        assert agent.apply(image, name=name, port=free_port()).code == 0
    agent.ok("remove", "churn")
    agent.ok("remove", "other")
    assert collected(agent)[0] == {"ill:1", "absent:1"}
    assert held(agent) == {"v1", "v2"}

    told = json.loads(agent.ok("gc", "--forget-removed", "--dry-run").out)
    assert (told["forgotten"], [one["tag"] for one in told["images"]]) == (["churn", "other"], ["v1:1"])
    assert {one["name"] for one in agent.ok("status").services} == {"churn", "other", "third"}
    done = agent.ok("gc", "--forget-removed")
    assert json.loads(done.out) == {**told, "dry_run": False}
    assert "services that were forgotten: churn, other" in done.err
    assert held(agent) == {"v2"}
    assert [(one["name"], one["state"]) for one in agent.ok("status").services] == [("third", "Healthy")]


def test_before_the_disk_is_full_what_nobody_returns_to_goes_first_and_removed_services_next(agent: Agent) -> None:
    assert agent.apply("v1").code == 0
    agent.ok("remove", "churn")
    assert agent.apply("v2", name="other", port=free_port()).code == 0
    device = Device(agent.root, "process")
    wanted = replace(device.state.services()["churn"].current.spec, status="running")
    stray = device.store.put_bytes(b"of no image", "application/octet-stream")

    relieve(device)
    assert not device.store.has(stray)
    assert held(agent) == {"v1", "v2", "ill", "absent"}, "there was something else to remove"
    device.state.set_goal(wanted, "device", 1)
    relieve(device, 1 << 62)
    assert "v1" in held(agent), "it is desired again"
    device.state.set_goal(replace(wanted, status="removed"), "device", 2)
    relieve(device)
    assert held(agent) == {"v2", "ill", "absent"}, "nothing else was left to remove"
    assert [one["name"] for one in agent.ok("status").services] == ["other"]
