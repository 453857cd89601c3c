"""Copying moves what the other side lacks, verified, the needed before what needs it."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from edgepack.errors import DigestMismatchError, NotFoundError, SizeMismatchError
from edgepack.oci import mediatypes
from edgepack.oci.copy import copy
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.layer import LayerEntry, NoCompression, write_layer
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store
from edgepack.oci.validate import validate
from tests.edgepack.support.small_images import entries, image, small_image, two_platforms


@pytest.fixture
def source(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "source")


@pytest.fixture
def sink(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "sink")


def blobs(store: Store) -> set[str]:
    return {path.name for path in (store.root / "blobs" / "sha256").iterdir()}


def test_a_copy_brings_everything_once_and_again_moves_nothing(source: Store, sink: Store) -> None:
    root = two_platforms(source)

    report = copy(source, sink, root)
    again = copy(source, sink, root)

    assert blobs(sink) == blobs(source)
    assert validate(sink, root) == []
    assert report.moved_blobs == len(blobs(source))
    assert report.moved_bytes == sum(path.stat().st_size for path in (source.root / "blobs" / "sha256").iterdir())
    assert (again.moved_bytes, again.moved_blobs, again.present_bytes) == (0, 0, report.moved_bytes)


def test_only_what_the_other_side_lacks_moves(source: Store, sink: Store) -> None:
    shared = write_layer(entries(), source, NoCompression(), kind="code")

    def version(text: bytes) -> Descriptor:
        model = write_layer([LayerEntry.of_bytes("m", text)], source, NoCompression(), kind="model")
        return image(source, (shared, model))

    copy(source, sink, version(b"1"))
    heard: dict[Digest, bool] = {}

    copy(source, sink, version(b"2"), lambda item, new: heard.update({item.digest: new}))

    assert heard.pop(shared.descriptor.digest) is False
    assert list(heard.values()) == [True, True, True]


def test_an_altered_blob_is_not_copied(source: Store, sink: Store) -> None:
    root = small_image(source)
    layer = source.manifest(root).layers[1]
    data = source.path(layer.digest).read_bytes()
    source.path(layer.digest).write_bytes(b"X" + data[1:])

    with pytest.raises(DigestMismatchError):
        copy(source, sink, root)

    assert not sink.has(layer)
    assert not sink.has(root)


def test_an_incomplete_source_says_what_is_missing(source: Store, sink: Store) -> None:
    root = small_image(source)
    layer = source.manifest(root).layers[1]
    source.path(layer.digest).unlink()

    with pytest.raises(NotFoundError, match=f"{layer.digest}.*the copy is incomplete"):
        copy(source, sink, root)

    assert not sink.has(root)


def test_a_second_descriptor_of_a_blob_cannot_lie_about_its_size(source: Store, sink: Store) -> None:
    root = small_image(source)
    manifest = source.manifest(root)
    layer = manifest.layers[0]
    lie = Descriptor(layer.media_type, layer.digest, layer.size + 1)
    bad = source.put_bytes(Manifest(manifest.config, (layer, lie)).to_bytes(), mediatypes.MANIFEST)

    with pytest.raises(SizeMismatchError):
        copy(source, sink, bad)


def test_a_source_that_sends_without_end_is_cut_off(sink: Store) -> None:
    class Endless:
        @contextmanager
        def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
            stream = io.BytesIO()
            stream.read = lambda amount=-1: bytes(1 << 16)  # type: ignore[method-assign]
            yield stream

    layer = Descriptor(mediatypes.LAYER, Digest.of(b"x"), 100_000)
    with pytest.raises(SizeMismatchError, match="more than the 100000 bytes"):
        copy(Endless(), sink, layer)
    with pytest.raises(SizeMismatchError, match="more than"):
        copy(Endless(), sink, Descriptor(mediatypes.MANIFEST, Digest.of(b"x"), 10))

    assert blobs(sink) == set()
    assert not any((sink.root / "ingest").iterdir())
