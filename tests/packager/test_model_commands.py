"""The verbs of ``edgepack model`` that keep a registry: what a user types and sees."""

from __future__ import annotations

import json
import os
import pickle
import re
import shlex
from pathlib import Path
from typing import Any

import pytest

from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Platform
from packager.commands.main import build_cli
from packager.workspaces.workspace import Workspace
from tests.packager.support.bases import debian, make_base
from tests.support.typed import Ended, Type, typist


@pytest.fixture
def edgepack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Type:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("EDGEPACK_WORKSPACE", str(tmp_path / "a workspace"))
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
    Path("weights.bin").write_bytes(b"w" * 100)
    Path("vocabulary.bin").write_bytes(b"v" * 10)
    Path("folder/sub").mkdir(parents=True)
    Path("folder/model.bin").write_bytes(b"m")
    Path("folder/sub/more.bin").write_bytes(b"n")
    return typist(build_cli, "edgepack", monkeypatch, capfd)


def shown(ended: Ended) -> Any:
    assert ended.code == 0, ended.err
    return json.loads(ended.out)


def test_what_was_registered_is_shown(edgepack: Type) -> None:
    registered = edgepack(
        "model", "register", "-n", "churn", "-p", "weights.bin", "--tag", "a=b", "--property", "auc=0.9",
        "-d", "who leaves", "--cpu", "0.5", "--memory", "1", "--run", "r_1", "--experiment", "e", "--output", "json",
    )  # fmt: skip
    found = shown(edgepack("model", "show", "churn", "--output", "json"))
    assert found == shown(registered)
    assert found["resources"] == {"cpu": 0.5, "memoryInGB": 1.0}
    assert (found["properties"], found["run"], found["experiment"]) == ({"auc": "0.9"}, "r_1", "e")
    table = edgepack("model", "show", "churn:1").out
    for text in ("churn:1", "who leaves", "auc", "0.9", "cpu=0.5", "e/r_1", "weights.bin"):
        assert text in table


def test_several_files_are_one_model_and_come_back_by_their_names(edgepack: Type, tmp_path: Path) -> None:
    edgepack("model", "register", "-n", "text", "-p", "weights.bin", "-p", "vocabulary.bin", "-p", "folder")
    found = shown(edgepack("model", "download", "text", "-o", "out", "--output", "json"))
    assert found == {"id": "text:1", "path": "out"}
    assert {str(path.relative_to("out")): path.read_bytes() for path in Path("out").rglob("*") if path.is_file()} == {
        "weights.bin": b"w" * 100, "vocabulary.bin": b"v" * 10, "folder/model.bin": b"m", "folder/sub/more.bin": b"n",
    }  # fmt: skip
    assert edgepack("model", "register", "-n", "x", "-p", "weights.bin", "-p", "folder/../weights.bin").code == 2


def test_files_may_be_chosen_from_a_folder(edgepack: Type) -> None:
    made = shown(edgepack("model", "register", "-n", "m", "-p", "folder", "--child-path", "sub", "--output", "json"))
    assert [file["path"] for file in made["files"]] == ["folder/sub/more.bin"]
    assert edgepack("model", "register", "-n", "m", "-p", "folder", "--child-path", "absent").code == 3
    refused = edgepack("model", "register", "-n", "m", "--mlflow", "folder", "--child-path", "sub")
    assert (refused.code, refused.sentence) == (2, "--child-path: chooses from a folder; leave it out, or give -p")


def test_a_download_has_the_permissions_that_the_umask_leaves(edgepack: Type) -> None:
    edgepack("model", "register", "-n", "m", "-p", "folder")
    before = os.umask(0)
    try:
        for umask in (0o077, 0o027, 0o002):
            os.umask(umask)
            edgepack("model", "download", "m", "-o", f"out-{umask}")
            modes = {path.stat().st_mode & 0o777 for path in Path(f"out-{umask}").rglob("*.bin")}
            folders = {path.stat().st_mode & 0o777 for path in Path(f"out-{umask}").rglob("*") if path.is_dir()}
            assert (modes, folders) == ({0o666 & ~umask}, {0o777 & ~umask})
    finally:
        os.umask(before)


def test_a_download_replaces_nothing_unasked(edgepack: Type) -> None:
    edgepack("model", "register", "-n", "one", "-p", "folder")
    Path("out/folder").mkdir(parents=True)
    Path("out/folder/mine.txt").write_text("mine")
    Path("out/folder/model.bin").write_text("older")
    refused = edgepack("model", "download", "one", "-o", "out")
    assert refused.code == 2
    assert refused.sentence == "out/folder: is already there; give --exist-ok or another --target-dir"
    assert edgepack("model", "download", "one", "-o", "out", "--exist-ok").code == 0
    assert Path("out/folder/model.bin").read_bytes() == b"m"
    assert Path("out/folder/mine.txt").read_text() == "mine"
    assert [path.name for path in Path("out").iterdir()] == ["folder"]


def test_a_download_that_would_take_the_place_of_a_folder_replaces_nothing(edgepack: Type, tmp_path: Path) -> None:
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(b"new")
    assert edgepack("model", "register", "-n", "two", "-p", "a.bin", "-p", "b.bin").code == 0
    (tmp_path / "out/b.bin").mkdir(parents=True)
    (tmp_path / "out/a.bin").write_bytes(b"old")
    (tmp_path / f".download.{'0' * 12}.tmp").mkdir()  # of one that was killed
    refused = edgepack("model", "download", "two", "-o", "out", "--exist-ok")
    assert (refused.code, "b.bin: is a folder" in refused.sentence) == (2, True)
    assert (tmp_path / "out/a.bin").read_bytes() == b"old"
    (tmp_path / "out/b.bin").rmdir()
    assert edgepack("model", "download", "two", "-o", "new").code == 0
    assert not list(tmp_path.rglob(".download*"))


def test_a_download_that_fails_leaves_nothing(edgepack: Type, tmp_path: Path) -> None:
    edgepack("model", "register", "-n", "one", "-p", "folder")
    for blob in (tmp_path / "a workspace/store/blobs/sha256").iterdir():
        blob.write_bytes(bytes(blob.stat().st_size))
    assert edgepack("model", "download", "one", "-o", "out/deep").code == 4
    assert not Path("out").exists()
    assert not list(tmp_path.rglob(".download*"))


def test_the_commands_of_the_guide_work_one_after_the_other(edgepack: Type) -> None:
    guide = (Path(__file__).parents[2] / "docs/how-to/models.md").read_text().replace("\\\n", "")
    Path("model.joblib").write_bytes(pickle.dumps({"a": 1}))
    Path("answers.json").write_text("[0]")
    Path("rows.json").write_text('{"data": [[1]]}')
    blocks = re.findall(r"^```\n(.*?)^```", guide, re.MULTILINE | re.DOTALL)
    (register, find) = (block for block in blocks if "-p model.joblib" in block or "model list" in block)
    changes = re.findall(r"`(model update [^`]+)`", guide)
    assert len(changes) == 3
    typed = [register, register, *changes, *find.splitlines(), "workspace gc --dry-run", "workspace gc"]
    for line in typed:
        ended = edgepack(*shlex.split(line, comments=True)[line.startswith("edgepack ") :])
        assert ended.code == 0, (line, ended.err)


def test_lists_are_filtered(edgepack: Type) -> None:
    for name, tag in (("a", "stage=dev"), ("a", "stage=prod"), ("b", "stage=prod")):
        edgepack("model", "register", "-n", name, "-p", "weights.bin", "--tag", tag)
    listed = shown(edgepack("model", "list", "--tag", "stage=prod", "--output", "json"))
    assert [model["id"] for model in listed] == ["a:2", "b:1"]
    assert [model["id"] for model in shown(edgepack("model", "list", "--latest", "-n", "a", "--output", "json"))] == [
        "a:2"
    ]
    nothing = edgepack("model", "list", "--tag", "stage=test")
    assert (nothing.code, nothing.err.strip()) == (0, "no model is like that; all are shown by: edgepack model list")
    assert edgepack("model", "list", "-n", "c").code == 3
    assert edgepack("model", "list", "--tag", "=x").code == 2


def test_what_a_package_uses_is_not_deleted(edgepack: Type, tmp_path: Path) -> None:
    for _ in range(2):
        edgepack("model", "register", "-n", "churn", "-p", "weights.bin")
    workspace = Workspace(tmp_path / "a workspace", tmp_path / "cache")
    config = ImageConfig(Platform("linux", "amd64"), labels={"io.edgepack.models": "other:7,churn:2"})
    base = make_base(workspace.store, [debian()], config=config)
    workspace.store.tag("shop:1", base)
    refused = edgepack("model", "delete", "churn:2")
    assert refused.code == 2
    assert refused.sentence == (
        "model churn:2: is used by the package shop:1; delete it first: edgepack package delete shop:1"
    )
    assert edgepack("model", "delete", "churn").sentence == "model churn: say which version; such as churn:2"
    assert edgepack("model", "delete", "churn:1").code == 0
    assert edgepack("model", "show", "churn:1").code == 3


def test_nothing_to_change_is_said(edgepack: Type) -> None:
    edgepack("model", "register", "-n", "churn", "-p", "weights.bin")
    assert edgepack("model", "update", "churn").code == 2
    changed = edgepack("model", "update", "churn", "--add-tag", "stage=prod", "-d", "x", "--output", "json")
    assert shown(changed)["tags"] == {"stage": "prod"}
