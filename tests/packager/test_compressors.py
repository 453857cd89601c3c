"""Compression: the same blob however the bytes arrive; not where it saves too little."""

from __future__ import annotations

import gzip
import random
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.oci import mediatypes
from edgepack.oci.layer import LayerEntry
from edgepack.oci.store import Store
from edgepack.oci.tar.compression import decompressed
from packager.layers.compressors import Gzip, compressor_name, write_best_layer

TEXT = b"".join(b"line %d of a file\n" % number for number in range(150_000))
NOISE = random.Random(7).randbytes(3_000_000)  # noqa: S311


def _compressed(data: bytes, cuts: list[int]) -> bytes:
    compressor = Gzip()
    edges = [0, *sorted(cuts), len(data)]
    return b"".join(compressor.compress(data[a:b]) for a, b in pairwise(edges)) + compressor.flush()


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(0, len(TEXT)), max_size=6))
def test_the_blob_does_not_depend_on_how_the_bytes_arrive(cuts: list[int]) -> None:
    assert _compressed(TEXT, cuts) == _compressed(TEXT, [])


def test_any_gzip_reader_reads_it() -> None:
    blob = _compressed(TEXT, [])
    assert gzip.decompress(blob) == TEXT
    assert blob[:10] == b"\x1f\x8b\x08\0\0\0\0\0\0\xff"  # no time, no name, no system
    assert len(blob) < len(TEXT) / 3


def test_nothing_compresses_to_nothing() -> None:
    assert Gzip().flush() == b""


def test_the_compressor_is_named_with_version_and_level() -> None:
    import deflate

    assert compressor_name() == f"libdeflate by deflate {deflate.__version__} level 6"


def test_a_layer_that_compresses_well_is_gzip_and_says_by_what(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    layer = write_best_layer([LayerEntry.of_bytes("a", TEXT)], store, kind="model", title="m 1")
    assert layer.descriptor.media_type == mediatypes.LAYER_GZIP
    notes = layer.descriptor.annotations
    assert notes[mediatypes.LAYER_COMPRESSOR] == compressor_name()
    assert (notes[mediatypes.LAYER_TITLE], layer.descriptor.kind) == ("m 1", "model")
    with store.open(layer.descriptor) as blob:
        assert TEXT in decompressed(blob, layer.descriptor, 10_000_000).read()


@pytest.mark.parametrize("count", [1, 12], ids=["short", "judged by its beginning"])
def test_a_layer_that_hardly_compresses_is_plain_and_leaves_nothing_else_behind(tmp_path: Path, count: int) -> None:
    store = Store.create(tmp_path)
    layer = write_best_layer((LayerEntry.of_bytes(f"w{n}", NOISE) for n in range(count)), store, kind="model")
    assert layer.descriptor.media_type == mediatypes.LAYER
    assert layer.descriptor.digest == layer.diff_id
    assert mediatypes.LAYER_COMPRESSOR not in layer.descriptor.annotations
    assert [path.name for path in (tmp_path / "blobs" / "sha256").iterdir()] == [layer.diff_id.hex]
    assert not list((tmp_path / "ingest").glob("*.tmp"))


def test_a_tenth_is_where_compressing_begins(tmp_path: Path) -> None:
    store = Store.create(tmp_path)
    zeros = bytes(len(NOISE) // 7)  # an eighth of the whole
    layer = write_best_layer([LayerEntry.of_bytes("w", NOISE + zeros)], store, kind="model")
    assert layer.descriptor.media_type == mediatypes.LAYER_GZIP
    zeros = bytes(len(NOISE) // 12)  # a thirteenth
    layer = write_best_layer([LayerEntry.of_bytes("w", NOISE + zeros)], store, kind="model")
    assert layer.descriptor.media_type == mediatypes.LAYER
