"""What differs between two images, beside what umoci unpacks and diff finds."""

from __future__ import annotations

import io
import json
import os
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from edgepack.oci import mediatypes
from edgepack.oci.config import History, ImageConfig
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Manifest
from edgepack.oci.mediatypes import LAYER_KIND, LAYER_TITLE, MODELS
from edgepack.oci.store import Store
from packager.images.difference import Image, PlatformDifference, difference
from packager.images.inspect import views
from tests.packager.support.bases import AMD64, ARM64, make_index
from tests.support.forked import finish
from tests.support.running import run


@dataclass(frozen=True)
class Entry:
    """A file; with ``kind`` ``link`` or ``hard`` a link to ``data``; the rest as tar has it."""

    data: str = ""
    mode: int = 0o644
    uid: int = 0
    kind: str = "file"


@dataclass(frozen=True)
class Made:
    """A layer: its entries, and what the builder would write about it."""

    entries: Mapping[str, Entry]
    kind: str = "base"
    title: str = ""


def tar_of(entries: Mapping[str, Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, entry in entries.items():
            info = tarfile.TarInfo(path)
            info.mode, info.uid, info.gid = entry.mode, entry.uid, entry.uid
            if entry.kind in ("link", "hard"):
                info.type = tarfile.SYMTYPE if entry.kind == "link" else tarfile.LNKTYPE
                info.linkname = entry.data
                tar.addfile(info)
            elif path.endswith("/"):
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(entry.data)
                tar.addfile(info, io.BytesIO(entry.data.encode()))
    return buffer.getvalue()


def image(store: Store, layers: Sequence[Made], **config: Any) -> Descriptor:
    descriptors, diff_ids = [], []
    for layer in layers:
        plain = tar_of(layer.entries)
        notes = {LAYER_KIND: layer.kind, LAYER_TITLE: layer.title}
        descriptors.append(store.put_bytes(plain, mediatypes.LAYER).with_annotations(notes))
        diff_ids.append(Digest.of(plain))
    history = tuple(History(f"edgepack: {layer.kind} {layer.title}") for layer in layers)
    made = replace(ImageConfig(AMD64, tuple(diff_ids), history=history), **config)
    described = store.put_bytes(made.to_bytes(), mediatypes.CONFIG)
    return store.put_bytes(Manifest(described, tuple(descriptors)).to_bytes(), mediatypes.MANIFEST)


class Watched:
    """A store that notes which blobs are opened."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.opened: list[Digest] = []

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        self.opened.append(descriptor.digest)
        with self._store.open(descriptor, offset) as stream:
            yield stream


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def compared(store: Store, first: Descriptor, second: Descriptor) -> tuple[PlatformDifference, list[Digest]]:
    watched = Watched(store)
    images = [Image(watched, views(store, root)[0]) for root in (first, second)]
    found = difference(*images)
    return found, watched.opened


def files_of(found: PlatformDifference) -> dict[str, tuple[str, tuple[str, ...]]]:
    return {one.name: (one.change, one.parts) for one in found.of("file")}


BASE = Made({"etc/": Entry(mode=0o755), "etc/kept": Entry("kept"), "etc/gone": Entry("gone"), "usr/lib/a": Entry("a")})
UPPER = Made({"etc/over": Entry("over")})


def test_a_new_version_of_a_model_reads_the_models_layers_alone(store: Store) -> None:
    server = Made({"opt/edgepack/server/run.py": Entry("run")}, "server", "scoring 1")
    models = [
        Made({f"var/azureml-app/azureml-models/churn/{number}/m.onnx": Entry("m" * number)}, "model", f"churn:{number}")
        for number in (3, 4)
    ]
    images = [
        image(store, [BASE, server, model], labels={MODELS: model.title}, env={"A": str(at), "B": "b"})
        for at, model in enumerate(models)
    ]
    found, opened = compared(store, *images)
    manifests = [store.manifest(root) for root in images]
    assert opened == [manifest.layers[-1].digest for manifest in manifests]
    assert [(one.name, one.before, one.after) for one in found.of("model")] == [("churn", "3", "4")]
    assert [(one.name, one.change) for one in found.of("layer")] == [("model churn", "changed")]
    assert [(one.name, one.before, one.after) for one in found.of("setting")] == [
        ("env A", "0", "1"), ("label io.edgepack.models", "churn:3", "churn:4")
    ]  # fmt: skip
    folder = "var/azureml-app/azureml-models/churn"
    assert files_of(found) == {f"{folder}/3/m.onnx": ("removed", ()), f"{folder}/4/m.onnx": ("added", ())}
    moved = images[1].size + manifests[1].config.size + manifests[1].layers[-1].size
    assert (found.moved_bytes, found.layers_kept) == (moved, 2)
    assert found.total_bytes == images[1].size + sum(blob.size for blob in manifests[1].blobs)


def test_the_same_image_has_no_difference_and_nothing_is_read(store: Store) -> None:
    root = image(store, [BASE, UPPER])
    found, opened = compared(store, root, root)
    assert (found.differences, opened, found.moved_bytes) == ((), [], 0)


def test_a_model_of_one_version_with_other_content_is_named(store: Store) -> None:
    made = [Made({"var/azureml-app/azureml-models/m/1/f": Entry(text)}, "model", "m:1") for text in ("one", "two")]
    found, _ = compared(store, *(image(store, [BASE, model], labels={MODELS: "m:1"}) for model in made))
    assert [(one.name, one.before, one.after, one.parts) for one in found.of("model")] == [
        ("m", "1", "1", ("content",))
    ]


def test_packages_of_debian_and_of_wheels_are_told_by_name_and_version(store: Store) -> None:
    def base(version: str) -> Made:
        return Made(
            {"var/lib/dpkg/status": Entry(f"Package: libc6\nVersion: {version}\n\nPackage: dash\nVersion: 1\n")}
        )

    def wheels(*items: tuple[str, str]) -> Made:
        site = "opt/edgepack/lib/python3.11/site-packages"
        texts = {
            f"{site}/{name}-{version}.dist-info/METADATA": f"Metadata-Version: 2\nName: {name}\nVersion: {version}\n\n"
            for name, version in items
        }
        return Made({path: Entry(text) for path, text in texts.items()}, "wheels", "some")

    first = image(store, [base("2.36-9"), wheels(("Num_Py", "2.4"), ("orjson", "3"))])
    second = image(store, [base("2.41-1"), wheels(("Num_Py", "2.5"), ("pandas", "3"))])
    found, _ = compared(store, first, second)
    assert [(one.name, one.before, one.after) for one in found.of("package")] == [
        ("libc6 (debian)", "2.36-9", "2.41-1"),
        ("num-py (python)", "2.4", "2.5"),
        ("orjson (python)", "3", None),
        ("pandas (python)", None, "3"),
    ]


def test_a_damaged_layer_is_refused(store: Store) -> None:
    from edgepack.errors import VerificationError

    first, second = (image(store, [Made({"a": Entry(text)})]) for text in ("one", "two"))
    path = store.path(store.manifest(second).layers[0].digest)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes().replace(b"two", b"six"))
    with pytest.raises(VerificationError):
        compared(store, first, second)


# ---- Against umoci and diff ---------------------------------------------------------------------------------------

CHANGED = Made(
    {
        "etc/kept": Entry("kept"),
        "etc/mode": Entry("m", 0o755),
        "etc/owner": Entry("o", uid=1000),
        "etc/link": Entry("gone", kind="link"),
        "etc/hard": Entry("etc/mode", kind="hard"),
    }
)
BEFORE = Made(
    {
        "etc/mode": Entry("m"),
        "etc/owner": Entry("o"),
        "etc/link": Entry("kept", kind="link"),
        "etc/hard": Entry("other"),
        "folder/below/file": Entry("below"),
    }
)
ONE, TWO = (Made({"opt/edgepack/service.json": Entry(text)}, "config", "service.json") for text in ("one", "two"))
CASES: dict[str, tuple[list[Made], list[Made]]] = {
    "modes, owners and links": ([BASE, BEFORE], [BASE, CHANGED]),
    "a whiteout of a shared layer's file": ([BASE, UPPER], [BASE, Made({"etc/.wh.gone": Entry()})]),
    "a folder that is hidden whole": ([BASE, BEFORE], [BASE, Made({"etc/.wh..wh..opq": Entry(), "etc/new": Entry()})]),
    "a whiteout of a folder": ([BASE, UPPER], [BASE, Made({".wh.etc": Entry()})]),
    "a file over a folder": ([BASE, BEFORE], [BASE, BEFORE, Made({"folder": Entry("now a file")})]),
    "what a shared layer above hides": (
        [Made({"x": Entry("one"), "y": Entry("1")}), Made({"x": Entry("top")})],
        [Made({"x": Entry("two"), "y": Entry("2")}), Made({"x": Entry("top")})],
    ),
    "what a shared layer below has": ([BASE, Made({"etc/kept": Entry("changed")})], [BASE, UPPER]),
    "other order": ([ONE, TWO], [TWO, ONE]),
    "a base of ours below": ([BASE, ONE, TWO], [BASE, ONE, UPPER]),
}


def unpacked(store: Store, root: Descriptor, folder: Path) -> Path:
    folder.mkdir()
    store.tag("diff:1", root)
    # umoci reads a layout; the store is one.
    run("umoci", "unpack", "--image", f"{store.root}:diff:1", folder / "bundle")
    return folder / "bundle/rootfs"


def reckoned(first: Path, second: Path) -> dict[str, tuple[str, set[str]]]:
    """What differs by diff, and by lstat for what diff does not look at."""
    found: dict[str, tuple[str, set[str]]] = {}
    for line in run("diff", "-rq", "--no-dereference", first, second, code=1).splitlines():
        if line.startswith("Only in "):
            folder, _, name = line.removeprefix("Only in ").partition(": ")
            top, change = (first, "removed") if Path(folder).is_relative_to(first) else (second, "added")
            path = Path(folder, name)
            below = [path] if path.is_symlink() or not path.is_dir() else sorted(path.rglob("*"))
            below = [one for one in below if one.is_symlink() or not one.is_dir()]
            found |= {str(one.relative_to(top)): (change, set()) for one in below}
    for path in sorted(first.rglob("*")):
        name = str(path.relative_to(first))
        twin = second / name
        if not os.path.lexists(twin):
            continue
        one, other = path.lstat(), twin.lstat()
        if path.is_dir() != twin.is_dir():  # diff says only that their kinds differ
            for top, kept, change in ((first, path, "removed"), (second, twin, "added")):
                for file in [kept, *kept.rglob("*")]:
                    if not file.is_dir():
                        found[str(file.relative_to(top))] = (change, set())
            continue
        if path.is_dir() and not path.is_symlink():
            continue
        texts = [bytes(one.readlink()) if one.is_symlink() else one.read_bytes() for one in (path, twin)]
        parts = {"content"} if texts[0] != texts[1] else set()
        parts |= {"mode"} if one.st_mode != other.st_mode else set()
        parts |= {"owner"} if (one.st_uid, one.st_gid) != (other.st_uid, other.st_gid) else set()
        if parts:
            found[name] = ("changed", parts)
    return found


@pytest.mark.real("umoci", "diff")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root unpacks owners")
@pytest.mark.parametrize("case", CASES)
def test_files_differ_as_in_what_umoci_unpacks(store: Store, tmp_path: Path, case: str) -> None:
    roots = [image(store, layers) for layers in CASES[case]]
    found, _ = compared(store, *roots)
    trees = [unpacked(store, root, tmp_path / str(at)) for at, root in enumerate(roots)]
    expected = reckoned(*trees)
    assert expected, "the case is one with a difference"
    assert {name: (change, set(parts)) for name, (change, parts) in files_of(found).items()} == expected


# ---- The command --------------------------------------------------------------------------------------------------


@pytest.fixture
def typed(tmp_path: Path, store: Store) -> Any:
    workspace = Store.create(tmp_path / "workspace/store")
    first, second = (image(workspace, [BASE, Made({f"etc/{at}": Entry() for at in range(count)})]) for count in (1, 30))
    workspace.tag("one:1", first)
    workspace.tag("one:2", second)
    other = image(workspace, [BASE], platform=ARM64)
    workspace.tag("arm:1", other)
    workspace.tag("both:1", make_index(workspace, [(AMD64, first), (ARM64, other)]))

    def type_in(*words: object, output: str = "json") -> Any:
        env = {**os.environ, "EDGEPACK_WORKSPACE": str(tmp_path / "workspace"), "COLUMNS": "80"}
        return finish("edgepack", "package", "diff", *words, "--output", output, cwd=tmp_path, env=env)

    return type_in


def test_the_command_answers_in_json_and_in_a_table_of_80_columns(typed: Any) -> None:
    value = json.loads(typed("one:1", "one:2").stdout)
    (platform,) = value["platforms"]
    assert [one["name"] for one in platform["files"]] == sorted(f"etc/{at}" for at in range(1, 30))
    assert platform["moved_bytes"] < platform["total_bytes"]
    done = typed("one:1", "one:2", output="table")
    assert done.code == 0
    assert max(map(len, done.stdout.splitlines())) <= 80
    assert "and 9 files more; --files shows all" in done.stderr
    assert done.stdout.count("+  etc/") == 20
    assert typed("one:1", "one:2", "--files", output="table").stdout.count("+  etc/") == 29
    assert "it is the same image" in typed("one:1", "one:1", output="table").stderr


def test_platforms_are_compared_in_pairs(typed: Any) -> None:
    value = json.loads(typed("one:1", "both:1").stdout)
    assert [one["platform"] for one in value["platforms"]] == ["linux/amd64"]
    assert value["only_in_second"] == ["linux/arm64"]
    done = typed("one:1", "arm:1")
    assert done.code == 1
    assert "they have no platform in common: one:1 is for linux/amd64, arm:1 for linux/arm64" in done.stderr
    done = typed("both:1", "one:1", "--platform", "linux/arm64")
    assert (done.code, "one:1: is for linux/amd64, not for linux/arm64" in done.stderr) == (1, True)


def test_a_name_that_there_is_not_and_a_file_that_is_no_bundle(typed: Any, tmp_path: Path) -> None:
    assert typed("one:1", "one:9").code == 3
    (tmp_path / "a.tar").write_bytes(tar_of({"a": Entry("a")}))
    done = typed("one:1", "bundle:a.tar")
    assert (done.code, "a.tar: is not a bundle; for an archive of images write oci-archive:a.tar" in done.stderr) == (
        2, True,
    )  # fmt: skip
