"""The same entries make the same layer, and what no layer may hold is refused."""

from __future__ import annotations

import os
import tarfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.errors import UsageError
from edgepack.oci import mediatypes
from edgepack.oci.layer import Layer, LayerEntry, NoCompression, ordered, write_layer
from edgepack.oci.store import Store
from edgepack.oci.validate import validate
from tests.edgepack.support.small_images import Gzip, entries


def plain(store: Store, given_entries: list[LayerEntry]) -> Layer:
    return write_layer(given_entries, store, NoCompression(), kind="model")


def members(store: Store, layer: Layer) -> list[tarfile.TarInfo]:
    with store.open(layer.descriptor) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        return tar.getmembers()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def test_the_digest_of_one_layer_never_changes(store: Store) -> None:
    layer = plain(store, entries())

    assert str(layer.diff_id) == "sha256:506b6033d9b5836aa2d996e27dda91557d1c16d78cfa7df37e9b64701df5f3eb"
    assert layer.descriptor.digest == layer.diff_id


parts = st.text(
    st.characters(codec="utf-8", exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=60
).filter(lambda text: text not in (".", "..") and not text.startswith(".wh."))
paths = st.lists(parts, min_size=1, max_size=4).map("/".join)


def _no_parents(found: dict[str, bytes]) -> dict[str, bytes]:
    """Without the files that other files would lie below."""
    return {path: data for path, data in found.items() if not any(other.startswith(f"{path}/") for other in found)}


@settings(max_examples=60, deadline=None)
@given(files=st.dictionaries(paths, st.binary(max_size=2000), min_size=1, max_size=6).map(_no_parents), data=st.data())
def test_the_order_of_entries_does_not_matter_and_every_tool_reads_them(
    tmp_path_factory: pytest.TempPathFactory, files: dict[str, bytes], data: st.DataObject
) -> None:
    store = Store.create(tmp_path_factory.mktemp("store"))
    listing = [LayerEntry.of_bytes(path, content) for path, content in files.items()]

    layer = plain(store, listing)
    again = plain(store, data.draw(st.permutations(listing)))

    assert again == layer
    with store.open(layer.descriptor) as file, tarfile.open(fileobj=file, mode="r:") as tar:
        found = {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}  # type: ignore[union-attr]
    assert found == files
    assert layer.unpacked_size == layer.descriptor.size


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_neither_umask_nor_times_nor_owners_show(tmp_path: Path, store: Store, umask: int) -> None:
    before = os.umask(umask)
    try:
        (tmp_path / "file").write_bytes(b"data")
        (tmp_path / "tool").write_bytes(b"data")
    finally:
        os.umask(before)
    (tmp_path / "tool").chmod(0o700)
    os.utime(tmp_path / "file", (1, umask))

    layer = plain(
        store, [LayerEntry.of_file("x/file", tmp_path / "file"), LayerEntry.of_file("x/tool", tmp_path / "tool")]
    )

    assert [(info.name, info.mode, info.mtime, info.uid, info.uname) for info in members(store, layer)] == [
        ("x", 0o755, 0, 0, ""),
        ("x/file", 0o644, 0, 0, ""),
        ("x/tool", 0o755, 0, 0, ""),
    ]


def test_only_names_that_need_it_have_a_pax_header(store: Store) -> None:
    long = "d/" + "n" * 180
    layer = plain(store, [LayerEntry.of_bytes(name, b"") for name in (long, "ü", "short", "p" * 90 + "/" + "q" * 90)])

    assert {info.name for info in members(store, layer) if info.pax_headers} == {long, "ü"}


def test_compression_changes_the_blob_and_not_the_diff_id(store: Store) -> None:
    packed = write_layer(entries(), store, Gzip(), kind="code", annotations={"a": "b"})

    assert packed.diff_id == plain(store, entries()).diff_id
    assert packed.descriptor.media_type == mediatypes.LAYER_GZIP
    assert packed.descriptor.digest != packed.diff_id
    assert packed.descriptor.kind == "code"
    assert packed.descriptor.annotations["a"] == "b"
    assert packed.descriptor.annotations[mediatypes.LAYER_UNPACKED] == str(packed.unpacked_size)


def test_a_hard_link_stands_after_the_file_that_it_names(store: Store) -> None:
    file = LayerEntry.of_bytes("m/file", b"data", 0o755)
    links = [LayerEntry("z", "hardlink", linkname="m/file"), LayerEntry("a", "hardlink", linkname="m/file")]

    layer = plain(store, [file, *links])

    assert plain(store, [*links, file]) == layer
    found = {info.name: (info.type, info.linkname, info.mode) for info in members(store, layer)}
    assert found["a"] == (tarfile.REGTYPE, "", 0o755)
    assert found["m/file"][:2] == found["z"][:2] == (tarfile.LNKTYPE, "a")


def test_links_inside_the_image_are_kept(store: Store) -> None:
    listing = [
        LayerEntry("usr/bin/a", "symlink", linkname="../lib/a"),
        LayerEntry("etc/b", "symlink", linkname="/usr/bin/b"),
    ]

    assert {info.linkname for info in members(store, plain(store, listing)) if info.issym()} == {
        "../lib/a",
        "/usr/bin/b",
    }


@pytest.mark.parametrize(
    "entry",
    [
        LayerEntry.of_bytes("", b""),
        LayerEntry.of_bytes(".", b""),
        LayerEntry.of_bytes("/etc/passwd", b""),
        LayerEntry.of_bytes("../out", b""),
        LayerEntry.of_bytes("a/../b", b""),
        LayerEntry.of_bytes("a//b", b""),
        LayerEntry.of_bytes("a/", b""),
        LayerEntry.of_bytes("a\0b", b""),
        LayerEntry.of_bytes("caf\udce9", b""),
        LayerEntry.of_bytes(".wh.name", b""),
        LayerEntry.of_bytes("a/.wh.folder/b", b""),
        LayerEntry("link", "symlink", linkname="../out"),
        LayerEntry("a/link", "symlink", linkname="../../out"),
        LayerEntry("link", "symlink", linkname=""),
        LayerEntry("d/" * 257 + "f"),
        LayerEntry("/".join(["n" * 250] * 13)),
        LayerEntry("link", "symlink", linkname="caf\udce9"),
        LayerEntry("link", "hardlink", linkname="not-there"),
        LayerEntry("link", "hardlink", linkname="/etc/passwd"),
    ],
    ids=lambda entry: f"{entry.kind}-{entry.path!a}-{entry.linkname!a}",
)
def test_what_no_layer_may_hold_is_refused(entry: LayerEntry, store: Store) -> None:
    with pytest.raises(UsageError):
        plain(store, [entry])

    assert not any((store.root / "ingest").iterdir())
    assert not any((store.root / "blobs" / "sha256").iterdir())


def test_a_name_cannot_be_listed_twice_nor_below_a_file() -> None:
    with pytest.raises(UsageError, match="twice"):
        ordered([LayerEntry.of_bytes("a", b""), LayerEntry.of_bytes("a", b"")])
    for kind in ("file", "symlink"):
        with pytest.raises(UsageError, match="not a directory"):
            ordered([LayerEntry("a", kind, linkname="b"), LayerEntry.of_bytes("a/b", b"")])  # type: ignore[arg-type]


@pytest.mark.parametrize("change", [b"longer than before", b""])
def test_a_file_that_changes_while_it_is_read_is_noticed(tmp_path: Path, store: Store, change: bytes) -> None:
    (tmp_path / "file").write_bytes(b"data")
    entry = LayerEntry.of_file("file", tmp_path / "file")
    (tmp_path / "file").write_bytes(change)

    with pytest.raises(UsageError, match="changed while it was read"):
        plain(store, [entry])

    assert not any((store.root / "blobs" / "sha256").iterdir())


def test_a_second_opinion_finds_nothing_wrong(store: Store) -> None:
    from tests.edgepack.support.small_images import two_platforms

    assert validate(store, two_platforms(store)) == []
