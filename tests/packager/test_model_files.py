"""A model's files on their way into layers: names, links, special files, and files that change meanwhile."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from edgepack.errors import EdgepackError, NotFoundError, UsageError
from edgepack.oci.store import Store
from packager.layers.folder import entries_of
from packager.models.files import describe_files, framework_of, write_model_layers
from packager.models.model import Framework
from tests.support.running import python


def paths(path: Path) -> list[tuple[str, str]]:
    return [(entry.path, entry.kind) for entry in entries_of(path)]


def test_a_file_is_called_by_its_base_name_and_a_folder_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "model"
    (folder / "empty").mkdir(parents=True)
    (folder / "a.bin").write_text("a")
    wanted = [("model", "dir"), ("model/a.bin", "file"), ("model/empty", "dir")]
    assert paths(folder / "a.bin") == [("a.bin", "file")]
    assert paths(folder) == wanted
    monkeypatch.chdir(folder)
    assert paths(Path()) == wanted
    monkeypatch.chdir(folder / "empty")
    assert paths(Path("..")) == wanted
    assert paths(Path("../")) == wanted


def test_a_link_to_the_model_gives_it_the_name_of_the_link(tmp_path: Path) -> None:
    (tmp_path / "blob-123").write_text("a")
    (tmp_path / "model.onnx").symlink_to("blob-123")
    (entry,) = entries_of(tmp_path / "model.onnx")
    assert (entry.path, entry.kind, entry.size) == ("model.onnx", "file", 1)


def test_links_inside_of_the_folder_stay_links_that_hold_elsewhere(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.bin").write_text("a")
    (folder / "sub/near").symlink_to("../a.bin")
    (folder / "sub/far").symlink_to(folder / "a.bin")
    links = {entry.path: entry.linkname for entry in entries_of(folder) if entry.kind == "symlink"}
    assert links == {"model/sub/near": "../a.bin", "model/sub/far": "../a.bin"}


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "nowhere", "loop"])
def test_a_link_out_of_the_folder_or_to_nothing_is_refused(tmp_path: Path, target: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (tmp_path / "outside").write_text("secret")
    (folder / "a.bin").write_text("a")
    (folder / "loop").symlink_to(target)
    with pytest.raises(UsageError, match="loop") as error:
        entries_of(folder)
    assert error.value.hint


def test_a_pipe_is_refused_without_waiting_for_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UsageError, match="neither a file nor a folder"):
        entries_of(tmp_path / "pipe")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a.bin").write_text("a")
    os.mkfifo(folder / "pipe")
    with pytest.raises(UsageError, match="model/pipe"):
        entries_of(folder)


def test_what_is_not_there_or_holds_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty/sub").mkdir(parents=True)
    with pytest.raises(NotFoundError, match="no such file or folder"):
        entries_of(tmp_path / "absent")
    with pytest.raises(UsageError, match="holds no file"):
        entries_of(tmp_path / "empty")
    with pytest.raises(UsageError, match="whole file system"):
        entries_of(Path("/"))


def test_a_name_that_no_layer_can_hold_is_refused_at_once(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / ".wh.a").write_text("a")
    with pytest.raises(UsageError, match="whiteouts"):
        entries_of(folder)
    (folder / ".wh.a").unlink()
    (folder / os.fsdecode(b"\xff")).write_text("a")
    with pytest.raises(UsageError, match="not UTF-8"):
        entries_of(folder)


_AS_NOBODY = """
import os, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from packager.layers.folder import entries_of
from edgepack.errors import UsageError
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    entries_of(Path(sys.argv[1]))
except UsageError as error:
    print(error)
"""


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_what_cannot_be_read_is_named(kind: str) -> None:
    import shutil
    import tempfile

    root = Path(tempfile.mkdtemp(prefix="edm-"))  # pytest's own folder lets nobody else in
    try:
        root.chmod(0o755)
        model = root / "model"
        model.mkdir()
        (model / "a.bin").write_text("a")
        locked = model / "a.bin" if kind == "file" else model
        locked.chmod(0)
        told = python(_AS_NOBODY, model, *sys.path)
        assert told == f"{locked}: cannot be read (Permission denied); check its permissions and the disk\n"
    finally:
        (root / "model").chmod(0o755)
        shutil.rmtree(root)


@pytest.mark.parametrize("after", [b"other!!", b"longer than before", b"short"])
def test_a_file_that_changes_after_it_was_described_stops_the_registration(tmp_path: Path, after: bytes) -> None:
    path, store = tmp_path / "model.bin", Store.create(tmp_path / "store")
    path.write_bytes(b"weights")
    entries = entries_of(path)
    files = describe_files(entries, path)
    path.write_bytes(after)
    with pytest.raises(UsageError, match=r"model\.bin: changed while it was read; run the same command again"):
        write_model_layers(entries, files, "models/x/1", store, "x:1")
    assert store.digests() == frozenset()
    assert not list((tmp_path / "store/ingest").iterdir())


def test_an_empty_folder_beside_a_big_file_is_not_lost(tmp_path: Path) -> None:
    folder, store = tmp_path / "model", Store.create(tmp_path / "store")
    (folder / "deep").mkdir(parents=True)
    with (folder / "deep/weights.bin").open("wb") as file:
        file.truncate(64 << 20)
    entries = entries_of(folder)
    files = describe_files(entries, folder)
    assert len(write_model_layers(entries, files, "m", store, "x:1")) == 1, "its folders come with the file"
    (folder / "empty").mkdir()
    assert len(write_model_layers(entries_of(folder), files, "m", store, "x:1")) == 2


def test_a_file_without_a_secret_is_described_by_its_own_hash(tmp_path: Path) -> None:
    import hashlib

    path = tmp_path / "model.bin"
    path.write_bytes(os.urandom((1 << 20) + 17))
    (file,) = describe_files(entries_of(path), path)
    assert (file.size, file.sha256) == ((1 << 20) + 17, hashlib.sha256(path.read_bytes()).hexdigest())


def test_a_credential_in_a_model_is_named_by_its_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_REGISTRY_PASSWORD", "correct-horse")
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "fine.txt").write_text("nothing")
    (folder / "notes.txt").write_text("login: me correct-horse\n")
    with pytest.raises(EdgepackError, match=r"model/notes\.txt: contains the credential") as error:
        describe_files(entries_of(folder), folder)
    assert "EDGEPACK_REGISTRY_PASSWORD" in str(error.value)
    assert "correct-horse" not in str(error.value)


def test_an_executable_bit_on_a_model_file_changes_nothing(tmp_path: Path) -> None:
    layers = []
    for mode in (0o644, 0o755, 0o600):
        model = tmp_path / f"{mode:o}" / "model.onnx"
        model.parent.mkdir()
        model.write_bytes(b"weights")
        model.chmod(mode)
        layers.append([(entry.path, entry.kind, entry.mode, entry.size) for entry in entries_of(model)])
    assert layers[0] == layers[1] == layers[2]


@pytest.mark.parametrize(
    ("name", "data", "framework"),
    [
        ("m.ubj", b"{L", Framework.SCIKIT_LEARN),
        ("m.cbm", b"CBM1", Framework.SCIKIT_LEARN),
        ("m.txt", b"tree\nversion=v4\n", Framework.SCIKIT_LEARN),
        ("m.json", b'{"learner":{"attributes":{}}}', Framework.SCIKIT_LEARN),
        ("m.json", b'{\n"features_info":{}}', Framework.SCIKIT_LEARN),
        ("m.json", b'{"name": "churn"}', Framework.CUSTOM),
        ("notes.txt", b"trees are nice\n", Framework.CUSTOM),
        ("m.hdf5", b"", Framework.TENSORFLOW),
        ("m.safetensors", b"", Framework.PYTORCH),
        ("m.bin", b"", Framework.CUSTOM),
    ],
)
def test_framework_is_known_by_the_ending_or_by_how_a_booster_begins(
    name: str, data: bytes, framework: Framework, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(data)
    assert framework_of(tmp_path / name) is framework


def test_framework_of_a_folder_is_that_of_its_models_when_they_agree(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text("def build(): ...")
    (tmp_path / "metadata.json").write_text("{}")
    assert framework_of(tmp_path) is Framework.CUSTOM
    (tmp_path / "weights.pt").touch()
    assert framework_of(tmp_path) is Framework.PYTORCH
    (tmp_path / "m.pkl").touch()
    assert framework_of(tmp_path) is Framework.CUSTOM
    (tmp_path / "export" / "1").mkdir(parents=True)
    (tmp_path / "export" / "1" / "saved_model.pb").touch()
    assert framework_of(tmp_path / "export") is Framework.TENSORFLOW
