"""Collecting a workspace's garbage: what goes, what stays, and that nothing in use is lost beside other commands."""

from __future__ import annotations

import errno
import fcntl
import json
import multiprocessing
import os
import signal
import sqlite3
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from edgepack.errors import DigestMismatchError, EdgepackError, NoSpaceError
from edgepack.host.files import sweep
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.graph import walk
from edgepack.signing.statement import attach
from packager.commands.main import build_cli
from packager.models.model import Conversion
from packager.workspaces.collect import blobs_of, collect
from packager.workspaces.config import WorkspaceConfig
from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import debian, make_base
from tests.support.typed import Type, typist


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    return opened(tmp_path)


def opened(folder: Path) -> Workspace:
    """A workspace as another process has it: with a lease of its own."""
    return Workspace(folder / "ws", folder / "cache")


def a_file(folder: Path, text: str = "weights") -> Path:
    path = folder / f"{text}.bin"
    path.write_text(text)
    return path


def end(workspace: Workspace) -> None:
    """Let the workspace's lease end, as its process would, a second ago: times of change come from a coarse clock."""
    for path in workspace.store.leases.glob("*.lease"):
        path.unlink()
    for digest in workspace.store.digests():
        path = workspace.store.path(digest)
        earlier = path.stat().st_mtime_ns - 1_000_000_000
        os.utime(path, ns=(earlier, earlier))


def rubbish(folder: Path, text: str) -> Digest:
    """A blob that nothing names, written by a command that has ended."""
    one = opened(folder)
    blob = one.store.put_bytes(text.encode(), "text/plain").digest
    end(one)
    return blob


def test_only_what_nothing_names_goes(workspace: Workspace, tmp_path: Path) -> None:
    store = workspace.store
    (tmp_path / "rows.json").write_text('{"data": [[1]]}')
    kept = workspace.models.register("kept", a_file(tmp_path, "kept"), sample_input=tmp_path / "rows.json")
    report = store.put_bytes(b"{}", "application/json")
    kept = workspace.models.save_conversion(kept, Conversion("k" * 64, kept.layers, report, "m.onnx"))
    gone = workspace.models.register("gone", a_file(tmp_path, "gone"))
    image, other = make_base(store, [debian()]), make_base(store, [{"etc/other": b"x"}])
    for tag, root in (("kept:1", image), ("other:1", other)):
        store.tag(tag, root)
    needed = {item.digest for item in walk(store, image)} | set(blobs_of(kept))
    others = {item.digest for item in walk(store, other)} - needed
    workspace.delete_model(gone.ref)
    store.untag(["other:1"])
    end(workspace)

    planned = collect(opened(tmp_path), dry_run=True)
    assert store.digests() >= needed | set(blobs_of(gone))
    done = collect(opened(tmp_path))
    assert planned == done
    assert store.digests() == needed
    assert done.blobs.files == len(set(blobs_of(gone))) + len(others)
    assert collect(opened(tmp_path)).blobs.files == 0


def test_what_a_living_command_uses_stays_until_it_ends(workspace: Workspace, tmp_path: Path) -> None:
    old = rubbish(tmp_path, "old")
    found = rubbish(tmp_path, "found again")
    written = workspace.store.put_bytes(b"new", "text/plain").digest
    assert workspace.store.has(Descriptor("text/plain", found, len("found again")))
    collect(opened(tmp_path))
    assert workspace.store.digests() == {written, found}
    assert old not in workspace.store.digests()
    end(workspace)
    collect(opened(tmp_path))
    assert workspace.store.digests() == frozenset()


def test_a_killed_commands_lease_protects_nothing(tmp_path: Path) -> None:
    process = multiprocessing.get_context("fork").Process(target=_write_and_wait, args=(tmp_path,))
    process.start()
    store = opened(tmp_path).store
    end_of_wait = time.monotonic() + 60
    while not store.digests():
        assert time.monotonic() < end_of_wait
        time.sleep(0.01)
    collect(opened(tmp_path))
    assert len(store.digests()) == 1
    os.kill(process.pid or 0, signal.SIGKILL)
    process.join(60)
    collect(opened(tmp_path))
    assert store.digests() == frozenset()
    assert not list(store.leases.iterdir())


def _write_and_wait(folder: Path) -> None:
    workspace = opened(folder)
    workspace.store.put_bytes(b"by another", "text/plain")
    time.sleep(600)


def test_a_lease_that_another_process_sweeps_while_it_is_taken_is_taken_again(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, lock, swept = workspace.store, fcntl.flock, []

    def late(file: int, how: int) -> None:
        if not swept:
            swept.append(file)
            sweep(store.leases, "*.lease")  # between the making of the file and its lock
        lock(file, how)

    with monkeypatch.context() as patch:
        patch.setattr("packager.workspaces.kept_store.fcntl.flock", late)
        store.put_bytes(b"new", "text/plain")
    assert swept
    assert len(list(store.leases.glob("*.lease"))) == 1


def test_a_fork_keeps_what_its_parent_relied_on(workspace: Workspace, tmp_path: Path) -> None:
    found = rubbish(tmp_path, "found")
    assert workspace.store.has_digest(found)
    child = multiprocessing.get_context("fork").Process(target=_outlive, args=(workspace, tmp_path))
    child.start()
    child.join(60)
    assert child.exitcode == 0
    assert workspace.store.digests() >= {found}


def _outlive(workspace: Workspace, folder: Path) -> None:
    workspace.store.put_bytes(b"by the child", "text/plain")
    for path in workspace.store.leases.glob("*.lease"):
        if not path.name.startswith(f"{os.getpid()}-"):
            path.unlink()  # the parent ends
    collect(opened(folder))


def test_what_another_user_wrote_is_kept_while_it_is_used(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, change = rubbish(tmp_path, "found"), os.utime

    def refused(path: Any, *arguments: Any, **named: Any) -> None:
        if path == workspace.store.path(found):
            raise PermissionError(errno.EPERM, "Operation not permitted", str(path))
        change(path, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(os, "utime", refused)
        assert workspace.store.has_digest(found)
    collect(opened(tmp_path))
    assert workspace.store.digests() == {found}
    end(workspace)
    collect(opened(tmp_path))
    assert workspace.store.digests() == frozenset()
    assert not list(workspace.store.leases.iterdir())


def test_a_full_disk_is_freed(workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.models.register("kept", a_file(tmp_path))
    kept, left = workspace.store.digests(), rubbish(tmp_path, "left")
    end(workspace)
    write = WorkspaceConfig.write

    def on_a_full_disk(config: WorkspaceConfig, folder: Path) -> None:
        if workspace.store.path(left).exists():
            raise NoSpaceError("no space left on the disk", where=folder)
        write(config, folder)

    monkeypatch.setattr(WorkspaceConfig, "write", on_a_full_disk)
    assert collect(opened(tmp_path)).blobs.files == 1
    assert workspace.store.digests() == kept
    assert (workspace.root / "workspace.json").exists()


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("layers", "{}"), ("layers", "[[1]]"), ("layers", '[{"x": 1}]'), ("layers", "no JSON"), ("files", "[]"),
        ("files", "3"), ("tags", "3"), ("sample", "[]"), ("conversion", '{"a": 1}'), ("framework", "Nope"),
    ],
)  # fmt: skip
def test_nothing_goes_while_a_record_is_damaged(workspace: Workspace, tmp_path: Path, column: str, value: str) -> None:
    workspace.models.register("kept", a_file(tmp_path))
    end(workspace)
    before = workspace.store.digests()
    with closing(sqlite3.connect(workspace.root / "models.db")) as connection:
        connection.execute(f"UPDATE models SET {column} = ?", (value,))  # noqa: S608 - a column of the table above
        connection.commit()
    with pytest.raises(EdgepackError, match="record in the workspace's database is damaged"):
        collect(opened(tmp_path))
    assert workspace.store.digests() == before


def test_signatures_go_with_their_image(workspace: Workspace, tmp_path: Path) -> None:
    store = workspace.store
    image = make_base(store, [debian()])
    store.tag("signed:1", image)
    attach(store, image, "signed:1", workspace.keys.create("factory"))
    end(workspace)
    before = store.digests()
    collect(opened(tmp_path))
    assert store.referrers(image.digest, mediatypes.STATEMENT_ARTIFACT)
    assert len(store.digests()) >= len(before) - 1, "an earlier list of signatures may go"
    store.untag(["signed:1"])
    end(workspace)
    collect(opened(tmp_path))
    assert store.digests() == frozenset()
    assert store.index().manifests == ()


def test_a_damaged_manifest_stops_it_before_anything_goes(workspace: Workspace, tmp_path: Path) -> None:
    store = workspace.store
    image = make_base(store, [debian()])
    store.tag("kept:1", image)
    store.path(image.digest).write_bytes(b"{" + b" " * (image.size - 1))
    end(workspace)
    before = store.digests()
    with pytest.raises(DigestMismatchError):
        collect(opened(tmp_path))
    assert store.digests() >= before - {image.digest}


def test_what_interrupted_commands_left_goes(workspace: Workspace, tmp_path: Path) -> None:
    blob = Descriptor("text/plain", Digest.of(b"whole"), 5)
    with workspace.store.receive(blob) as incoming:
        incoming.write(b"who")
    with workspace.store.receive(Descriptor("text/plain", Digest.of(b"other"), 5)) as living:
        living.write(b"o")
        done = collect(opened(tmp_path))
        assert (done.unfinished.files, done.unfinished.size) == (1, 3)
        living.write(b"ther")
        living.commit()


# ---- Beside commands that write -------------------------------------------------------------------------------------


def _register_and_delete(folder: Path, name: str, turns: int, found: object) -> None:
    lost = []
    workspace = opened(folder)
    for _ in range(turns):
        # The same bytes again and again: each time the blob is new, or rubbish that is found and used again.
        sample = folder / f"{name}.json"
        made = workspace.models.register(name, folder / "model.bin", sample_input=sample)
        lost += [made.id for blob in blobs_of(made) if not workspace.store.path(blob).exists()]
        workspace.delete_model(made.ref)
    found.put((name, lost))  # type: ignore[attr-defined]


def test_nothing_in_use_is_lost_beside_registrations(tmp_path: Path) -> None:
    (tmp_path / "model.bin").write_text("weights")
    names = ["a", "b"]
    for name in names:
        (tmp_path / f"{name}.json").write_text('{"data": [[1, 2]]}')
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    opened(tmp_path).models.list()
    writers = [context.Process(target=_register_and_delete, args=(tmp_path, name, 25, found)) for name in names]
    for writer in writers:
        writer.start()
    collections = 0
    while any(writer.is_alive() for writer in writers) and collections < 1000:
        collect(opened(tmp_path))
        collections += 1
    assert [found.get(timeout=60)[1] for _ in names] == [[], []]
    for writer in writers:
        writer.join(60)
        assert writer.exitcode == 0
    assert collections > 3
    time.sleep(0.05)  # more than a tick of the clock of times of change
    collect(opened(tmp_path))
    assert opened(tmp_path).store.digests() == frozenset()


# ---- The commands ---------------------------------------------------------------------------------------------------


@pytest.fixture
def edgepack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Type:
    monkeypatch.setenv("EDGEPACK_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
    return typist(build_cli, "edgepack", monkeypatch, capfd)


def test_a_package_is_deleted_and_its_disk_given_back(edgepack: Type, workspace: Workspace, tmp_path: Path) -> None:
    for number in (1, 2):
        workspace.store.tag(f"shop:{number}", make_base(workspace.store, [{"etc/n": str(number).encode() * 5000}]))
    end(workspace)
    none = edgepack("package", "delete", "shop:1", "shop:3")
    assert none.code == 3
    assert sorted(workspace.store.tags()) == ["shop:1", "shop:2"]
    assert edgepack("package", "delete", "shop:1", "shop:2").code == 0
    planned = json.loads(edgepack("workspace", "gc", "--dry-run", "--output", "json").out)
    done = json.loads(edgepack("workspace", "gc", "--output", "json").out)
    assert planned == {**done, "dry_run": True}
    assert done["blobs"]["files"] == 6
    assert workspace.store.digests() == frozenset()
    assert edgepack("workspace", "gc").code == 0


def test_a_model_that_a_package_used_can_be_deleted_after_it(
    edgepack: Type, workspace: Workspace, tmp_path: Path
) -> None:
    workspace.models.register("churn", a_file(tmp_path))
    end(workspace)
    edgepack("model", "delete", "churn:1")
    assert edgepack("model", "show", "churn").code == 3
    assert workspace.store.digests()
    edgepack("workspace", "gc")
    assert not workspace.store.digests()
