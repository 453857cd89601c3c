"""Damage to what the device keeps: it is found and mended from what is there, or told of with what to do; no loops."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from edge_agent.runtimes.supervisor import start_ticks
from edge_agent.runtimes.unpacked.inventory import Inventory, is_intact, put_in_place
from edge_agent.runtimes.unpacked.trees import merge_trees
from edgepack.oci.store import Store
from edgepack.signing.keys import create_key
from tests.edge_agent.support.agent import Agent, Images, make_images
from tests.support.ports import free_port
from tests.support.running import run
from tests.support.waiting import wait_until


def rewrite(path: Path, change: Callable[[bytes], bytes], *, keep_times: bool = False) -> None:
    """Change a file's bytes in its place, as a program or a failing disk does."""
    found = path.stat()
    path.chmod(0o644)
    path.write_bytes(change(path.read_bytes()))
    path.chmod(found.st_mode & 0o777)
    if keep_times:
        os.utime(path, ns=(found.st_atime_ns, found.st_mtime_ns))


def flip(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


# A tree, and what may become of it. The first element says whether only reading its files shows it.
def fill(tree: Path) -> None:
    (tree / "a" / "b").mkdir(parents=True)
    (tree / "empty").mkdir()
    (tree / "a" / "b" / "file").write_bytes(b"content")
    (tree / "a" / "tool").write_bytes(b"#!/bin/sh\n")
    (tree / "a" / "tool").chmod(0o755)
    os.link(tree / "a" / "tool", tree / "a" / "same-tool")
    (tree / "link").symlink_to("a/b/file")
    (tree / os.fsdecode(b"not \xff unicode")).write_bytes(b"x")


def record_of(tree: Path) -> Path:
    return tree.parent.parent / "inventories" / tree.parent.name / f"{tree.name}.json"


def swap(path: Path, make: Callable[[Path], object]) -> None:
    shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
    make(path)


DAMAGES: dict[str, tuple[bool, Callable[[Path], object]]] = {
    "altered": (False, lambda t: rewrite(t / "a/b/file", flip)),
    "rotten": (True, lambda t: rewrite(t / "a/b/file", flip, keep_times=True)),
    "cut to nothing": (False, lambda t: rewrite(t / "a/b/file", lambda _: b"", keep_times=True)),
    "missing file": (False, lambda t: (t / "a/b/file").unlink()),
    "missing folder": (False, lambda t: shutil.rmtree(t / "a")),
    "missing empty folder": (False, lambda t: (t / "empty").rmdir()),
    "more": (False, lambda t: (t / "a/b/more").write_bytes(b"x")),
    "more folders": (False, lambda t: (t / "new/er").mkdir(parents=True)),
    "mode of a file": (False, lambda t: (t / "a/tool").chmod(0o600)),
    "mode of a folder": (False, lambda t: (t / "a").chmod(0o700)),
    "mode of the tree": (False, lambda t: t.chmod(0o700)),
    "another link": (False, lambda t: swap(t / "link", lambda p: p.symlink_to("/etc/passwd"))),
    "a link for a folder": (False, lambda t: swap(t / "a", lambda p: p.symlink_to("/etc"))),
    "a folder for a file": (False, lambda t: swap(t / "a/b/file", lambda p: p.mkdir())),
    "a file for a folder": (False, lambda t: swap(t / "a", lambda p: p.write_bytes(b"x"))),
    "no record": (False, lambda t: (record_of(t)).unlink()),
    "an empty record": (False, lambda t: (record_of(t)).write_bytes(b"")),
    "a record of something else": (False, lambda t: (record_of(t)).write_bytes(b'{"version": [1]}')),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_tree_is_found_and_mended_in_its_place(tmp_path: Path, name: str) -> None:
    only_thorough, spoil = DAMAGES[name]
    tree = tmp_path / "trees" / "tree"
    tree.parent.mkdir()

    def put() -> None:
        temporary = tmp_path / "trees" / "temporary"
        temporary.mkdir(mode=0o755)
        fill(temporary)
        for path in temporary.rglob("*"):
            os.utime(path, ns=(0, 10**9), follow_symlinks=False)
        put_in_place(temporary, tree, "sha256")
        shutil.rmtree(temporary, ignore_errors=True)

    put()
    wanted = Inventory.take(tree, "sha256")
    held = {path: (tree / path).lstat().st_ino for path in ("", "a/tool", "link")}
    assert is_intact(tree)
    assert is_intact(tree, thorough=True)
    spoil(tree)
    assert is_intact(tree) == only_thorough
    assert not is_intact(tree, thorough=True)
    put()
    assert is_intact(tree, thorough=True)
    assert Inventory.take(tree, "sha256") == wanted
    if name in ("altered", "rotten", "more", "no record"):  # what was good has stayed, for services that run from it
        assert {path: (tree / path).lstat().st_ino for path in held} == held


@pytest.mark.parametrize("name", [name for name, (only_thorough, _) in DAMAGES.items() if not only_thorough])
def test_a_damaged_merged_tree_is_found_and_mended(tmp_path: Path, name: str) -> None:
    layer, tree = tmp_path / "layer", tmp_path / "trees" / "tree"
    tree.parent.mkdir()
    layer.mkdir(mode=0o755)
    fill(layer)
    merge_trees([layer], tree)
    assert is_intact(tree)
    DAMAGES[name][1](tree)
    assert not is_intact(tree)
    shutil.rmtree(layer)
    layer.mkdir(mode=0o755)
    fill(layer)
    merge_trees([layer], tree)
    assert is_intact(tree)
    assert Inventory.take(tree, "inode").entries.keys() == Inventory.take(layer, "inode").entries.keys()
    assert (tree / "a/b/file").samefile(layer / "a/b/file")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="module")
def stock(images: Images, tmp_path_factory: pytest.TempPathFactory) -> Path:
    agent = Agent(tmp_path_factory.mktemp("stock") / "device", images, 0)
    agent.take_in("v1", "v2")
    return agent.root


@pytest.fixture
def agent(images: Images, stock: Path, tmp_path: Path) -> Iterator[Agent]:
    """A device that holds versions 1 and 2 and has run both."""
    shutil.copytree(stock, tmp_path / "device")
    agent = Agent(tmp_path / "device", images, free_port())
    for name in ("v1", "v2"):
        assert agent.apply(name).code == 0
    yield agent
    agent.close()


def app_of(agent: Agent, name: str) -> Path:
    store = Store.open_existing(agent.root / "store")
    layer = store.manifest(store.describe(agent.images.digests[name])).layers[-1]
    return agent.root / "layers" / layer.digest.hex / "opt/edgepack/server/app.py"


@pytest.mark.parametrize("keep_times", [False, True], ids=["altered", "rotten"])
def test_a_damaged_layer_is_unpacked_again_for_what_needs_it(agent: Agent, keep_times: bool) -> None:
    rewrite(app_of(agent, "v1"), lambda data: b"#" * len(data), keep_times=keep_times)
    done = agent.run("rollback", "churn")
    assert done.code == 0, done.err
    assert "is not as it was unpacked; it is unpacked again" in done.err
    assert agent.answer() == "v1"

    rewrite(app_of(agent, "v2"), lambda data: b"#" * len(data), keep_times=keep_times)
    done = agent.apply("v2")
    assert done.code == 0, done.err
    assert agent.answer() == "v2"


def test_a_tree_of_links_follows_a_layer_that_was_unpacked_again(agent: Agent) -> None:
    app = app_of(agent, "v1")
    app.unlink()  # the tree that services run from keeps the file
    assert agent.run("rollback", "churn").code == 0
    assert agent.apply("v2").code == 0
    merged = agent.root / "rootfs" / agent.images.digests["v1"].hex / app.relative_to(app.parents[3])
    assert merged.samefile(app)
    rewrite(merged, lambda data: b")" * len(data), keep_times=True)
    done = agent.apply("v1")
    assert done.code == 0, done.err
    assert agent.answer() == "v1"


def test_a_damaged_layer_whose_blob_is_gone_is_told_of(agent: Agent) -> None:
    app = app_of(agent, "v1")
    rewrite(app, lambda data: b"#" * len(data))
    (agent.root / "store/blobs/sha256" / app.relative_to(agent.root / "layers").parts[0]).unlink()
    done = agent.run("rollback", "churn")
    assert done.code == 3
    assert "is damaged where it is unpacked, and is not in the device's store; import" in done.err
    assert agent.answer() == "v2"
    agent.ok("import", str(agent.images.bundle("v1", "v2")))
    assert agent.run("rollback", "churn").code == 0
    assert agent.answer() == "v1"


@pytest.mark.parametrize("blob", ["altered", "gone"])
def test_a_rotten_layer_whose_blob_is_no_good_either_is_told_of_with_the_way_out(agent: Agent, blob: str) -> None:
    app = app_of(agent, "v1")
    rewrite(app, lambda data: b")" * len(data), keep_times=True)
    path = agent.root / "store/blobs/sha256" / app.relative_to(agent.root / "layers").parts[0]
    path.unlink() if blob == "gone" else rewrite(path, flip, keep_times=True)
    done = agent.apply("v1")
    assert done.code == 1
    line = done.err.splitlines()[-1]
    assert "it last wrote: SyntaxError: unmatched ')'; its image is damaged on the disk and cannot be mended" in line
    assert re.search("import or (pull the image|build it) again; rolled back to", line)
    assert agent.answer() == "v2"
    agent.ok("import", str(agent.images.bundle("v1", "v2")))
    done = agent.apply("v1")
    assert done.code == 0, done.err
    assert agent.answer() == "v1"


@pytest.mark.parametrize("data", [b"", b"{}", b"garbage", None])
def test_a_damaged_record_of_an_image_is_made_again(agent: Agent, data: bytes | None) -> None:
    for path in (agent.root / "images").glob("*.json"):
        rewrite(path, lambda old: old.replace(b'"app"', b'"zzz"') if data is None else data)
    assert agent.run("rollback", "churn").code == 0
    assert agent.answer() == "v1"


@pytest.mark.parametrize("data", [b"", b"garbage", None])
def test_a_damaged_index_of_the_store_is_written_anew(agent: Agent, data: bytes | None) -> None:
    index = agent.root / "store/index.json"
    index.unlink() if data is None else index.write_bytes(data)
    assert agent.status()["state"] == "Healthy"
    done = agent.run("rollback", "churn")
    assert done.code == 0, done.err
    assert agent.answer() == "v1"
    assert agent.apply("v2").code == 0


def test_every_blob_of_the_store_may_be_damaged_and_comes_again_with_the_bundle(agent: Agent) -> None:
    """Whichever it is, applying ends at once with what to do, and doing that is enough."""
    assert agent.apply("v1").code == 0
    shutil.rmtree(agent.root / "layers")
    bundle = str(agent.images.bundle("v1", "v2"))
    blobs = agent.root / "store/blobs/sha256"
    store = Store.open_existing(agent.root / "store")
    manifest = store.manifest(store.describe(agent.images.digests["v2"]))
    statement = store.referrers(agent.images.digests["v2"])[0]
    envelope = store.manifest(statement).layers[0]
    names = [agent.images.digests["v2"], manifest.config.digest, *(one.digest for one in manifest.layers)]
    for digest in [*names, statement.digest, envelope.digest]:
        rewrite(blobs / digest.hex, flip, keep_times=True)
        assert str(digest) not in agent.ok("receipt").out
        done = agent.apply("v2")
        assert done.code in (3, 4), (digest, done.err)
        assert "import" in done.err.splitlines()[-1]
        assert agent.answer() == "v1"
        agent.ok("import", bundle)
        assert str(digest) in agent.ok("receipt").out
    assert agent.apply("v2").code == 0
    assert agent.answer() == "v2"


@pytest.mark.parametrize("spoil", [lambda data: b"", lambda data: data[:5000], lambda data: b"x" * 9000])
def test_a_lost_state_is_told_of_and_the_way_out_works(agent: Agent, spoil: Callable[[bytes], bytes]) -> None:
    rewrite(agent.root / "state/agent.db", spoil)
    for words in (["status"], ["rollback", "churn"], ["apply", agent.document("v2")]):
        done = agent.run(*words)
        assert done.code == 1, done.err
        line = done.err.splitlines()[-1]
        assert "the device's state is damaged" in line
    command = line.partition("run: ")[2].partition(", and apply")[0]
    run(*shlex.split(command))
    done = agent.run("status")
    assert done.code == 1
    assert "is missing although services were started; apply the desired state again" in done.err
    done = agent.apply("v2")
    assert done.code == 0, done.err
    assert (agent.answer(), len(agent.processes())) == ("v2", 1)


@pytest.mark.parametrize("data", [b"", b"garbage", b"-----BEGIN PUBLIC KEY-----", create_key().public.to_pem()])
def test_a_damaged_key_is_trusted_again(agent: Agent, data: bytes) -> None:
    next((agent.root / "trust").glob("*.pub")).write_bytes(data)
    done = agent.run("rollback", "churn")
    assert done.code == 2
    assert "trust that key again with: edge-agent trust KEY.pub" in done.err
    agent.ok("trust", str(agent.images.folder / "key.pub"))
    assert agent.run("rollback", "churn").code == 0


@pytest.mark.parametrize("data", [b"", b"{", None])
def test_a_service_whose_record_is_damaged_is_still_ended(agent: Agent, data: bytes | None) -> None:
    record = agent.root / "run/process/churn/process.json"
    record.unlink() if data is None else record.write_bytes(data)
    assert agent.status()["state"] == "Healthy"
    done = agent.run("rollback", "churn")
    assert done.code == 0, done.err
    assert (agent.answer(), len(agent.processes())) == ("v1", 1)


def in_both(run: Path, change: Callable[[bytes], bytes]) -> None:
    for name in ("process.json", "process.copy.json"):
        rewrite(run / name, change)


def another_image(record: bytes) -> bytes:
    before, name, after = record.partition(b'"sha256:')
    return before + name + (b"0" if after[:1] != b"0" else b"1") + after[1:]


def end_supervisor(run: Path) -> None:
    pid, _ = json.loads((run / "process.json").read_bytes())["supervisor"]
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: start_ticks(pid) is None)


# What may become of the records of a service that runs, and what is still known of it.
LOSSES: dict[str, tuple[str | None, Callable[[Path], object]]] = {
    "another number": (None, lambda run: rewrite(run / "process.json", lambda old: old.replace(b"]", b"1]"))),
    "another number in both": (None, lambda run: in_both(run, lambda old: old.replace(b"]", b"1]"))),
    "another boot in both": (None, lambda run: in_both(run, lambda old: old.replace(b"-", b"0"))),
    "both gone": (None, lambda run: [path.unlink() for path in run.glob("process*.json")]),
    "no longer text": ("the record of what it runs is lost", lambda run: rewrite(run / "spec.json", flip)),
    "another port": (
        "the record of what it runs is lost",
        lambda run: rewrite(run / "spec.json", lambda old: old.replace(b'"port":', b'"port":1')),
    ),
    "another image": (
        "the record of what it runs is lost",
        lambda run: rewrite(run / "spec.json", another_image),
    ),
    "what it runs is gone": ("the record of what it runs is lost", lambda run: (run / "spec.json").unlink()),
    "all gone": ("the record of what it runs is lost", lambda run: shutil.rmtree(run.parents[1])),
    "no supervisor": ("the process that keeps its log was ended", end_supervisor),
}


@pytest.mark.parametrize("name", LOSSES)
def test_whatever_became_of_its_records_a_service_is_told_of_and_ended(agent: Agent, name: str) -> None:
    fault, spoil = LOSSES[name]
    spoil(agent.root / "run/process/churn")
    assert agent.answer() == "v2"
    found = agent.status()
    if fault is None:
        assert (found["state"], found["reason"]) == ("Healthy", None)
    else:
        assert (found["state"], found["reason"]) == (
            "Unhealthy", f"it runs, but {fault}; apply the desired state again"
        )  # fmt: skip
    done = agent.apply("v2")
    assert done.code == 0, done.err
    assert ("starting image" in done.err) == (fault is not None)
    assert (agent.answer(), len(agent.processes()), agent.status()["state"]) == ("v2", 1, "Healthy")
    done = agent.run("rollback", "churn")
    assert done.code == 0, done.err
    assert (agent.answer(), len(agent.processes())) == ("v1", 1)
