"""Unpacked layers appear whole under their diff ID, or not at all."""

from __future__ import annotations

import gzip
import hashlib
import subprocess
import sys
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.runtimes.unpacked.layers import LayerCache
from edgepack.errors import DigestMismatchError, NotFoundError, UnsafeArchiveError, VerificationError
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer, LayerEntry, NoCompression, write_layer
from edgepack.oci.store import Store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


@pytest.fixture
def cache(tmp_path: Path) -> LayerCache:
    return LayerCache(tmp_path / "layers")


def plain_layer(store: Store, count: int = 3, size: int = 1000) -> Layer:
    entries = [LayerEntry.of_bytes(f"dir/{number}", bytes([number % 251]) * size) for number in range(count)]
    return write_layer(entries, store, NoCompression(), kind="model")


def gzip_layer(store: Store) -> Layer:
    plain = plain_layer(store)
    data = store.read(plain.descriptor)
    blob = store.put_bytes(gzip.compress(data), mediatypes.LAYER_GZIP)
    return Layer(blob, plain.diff_id, len(data))


def leftovers(cache: LayerCache) -> list[str]:
    return [path.name for path in cache.root.iterdir() if not path.name.endswith(".lock")]


@pytest.mark.parametrize("make", [plain_layer, gzip_layer])
def test_unpacks_once_and_removes(store: Store, cache: LayerCache, make: object) -> None:
    layer = make(store)  # type: ignore[operator]
    assert not cache.has(layer.diff_id)
    folder = cache.ensure(store, layer.descriptor, layer.diff_id)
    assert (folder / "dir/2").read_bytes() == b"\2" * 1000
    inode = folder.stat().st_ino
    store.path(layer.descriptor.digest).unlink()  # what is unpacked needs its blob no more
    assert cache.ensure(store, layer.descriptor, layer.diff_id).stat().st_ino == inode
    assert [path.name for path in cache.root.iterdir() if path.is_dir()] == [layer.diff_id.hex]
    cache.remove(layer.diff_id)
    cache.remove(layer.diff_id)
    assert leftovers(cache) == []


def test_a_missing_blob(store: Store, cache: LayerCache) -> None:
    layer = plain_layer(store)
    store.path(layer.descriptor.digest).unlink()
    with pytest.raises(NotFoundError, match=layer.descriptor.digest.hex):
        cache.ensure(store, layer.descriptor, layer.diff_id)
    assert leftovers(cache) == []


@pytest.mark.parametrize("make", [plain_layer, gzip_layer])
@pytest.mark.parametrize("place", [0.3, 0.99])
def test_an_altered_blob_leaves_nothing(store: Store, cache: LayerCache, make: object, place: float) -> None:
    layer = make(store)  # type: ignore[operator]
    path = store.path(layer.descriptor.digest)
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(VerificationError):
        cache.ensure(store, layer.descriptor, layer.diff_id)
    assert leftovers(cache) == []


def test_bytes_behind_the_compressed_tar_are_seen(store: Store, cache: LayerCache) -> None:
    layer = gzip_layer(store)
    blob = store.put_bytes(store.read(layer.descriptor) + b"trailing", mediatypes.LAYER_GZIP)
    with pytest.raises(UnsafeArchiveError):
        cache.ensure(store, blob, layer.diff_id)
    assert leftovers(cache) == []


def test_a_tar_that_is_not_the_one_of_its_diff_id(store: Store, cache: LayerCache) -> None:
    layer = plain_layer(store)
    with pytest.raises(DigestMismatchError, match=layer.diff_id.hex):
        cache.ensure(store, layer.descriptor, Digest("0" * 64))
    assert leftovers(cache) == []


def test_more_than_the_announced_size_is_refused(store: Store, cache: LayerCache) -> None:
    bomb = gzip.compress(bytes(64 << 20))
    blob = store.put_bytes(bomb, mediatypes.LAYER_GZIP, {mediatypes.LAYER_UNPACKED: "4096"})
    with pytest.raises(UnsafeArchiveError, match="more than 4096 bytes"):
        cache.ensure(store, blob, Digest(hashlib.sha256(bytes(64 << 20)).hexdigest()))
    assert leftovers(cache) == []


def test_an_announcement_that_is_no_number_is_no_limit(store: Store, cache: LayerCache) -> None:
    layer = plain_layer(store)
    odd = replace(layer.descriptor, annotations={mediatypes.LAYER_UNPACKED: "many"})
    assert cache.ensure(store, odd, layer.diff_id).is_dir()


def test_several_at_once_unpack_it_once(store: Store, cache: LayerCache, monkeypatch: pytest.MonkeyPatch) -> None:
    layer = plain_layer(store, count=200)
    opened: list[Descriptor] = []
    real = Store.open

    def counting(self: Store, descriptor: Descriptor, offset: int = 0) -> object:
        opened.append(descriptor)
        return real(self, descriptor, offset)

    monkeypatch.setattr(Store, "open", counting)
    threads = [
        threading.Thread(target=LayerCache(cache.root).ensure, args=(store, layer.descriptor, layer.diff_id))
        for _ in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1
    assert len(list((cache.path(layer.diff_id) / "dir").iterdir())) == 200


UNPACK = """
import sys
from pathlib import Path
from edge_agent.runtimes.unpacked.layers import LayerCache
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
store, root, digest, size, diff_id = sys.argv[1:]
layer = Descriptor("application/vnd.oci.image.layer.v1.tar", Digest(digest), int(size))
print("go", flush=True)
LayerCache(Path(root)).ensure(Store.create(Path(store)), layer, Digest(diff_id))
"""


def test_killed_at_any_time_the_next_one_unpacks_and_sweeps(store: Store, cache: LayerCache) -> None:
    layer = plain_layer(store, count=3000)
    argv = [sys.executable, "-c", UNPACK, str(store.root), str(cache.root)]
    argv += [layer.descriptor.digest.hex, str(layer.descriptor.size), layer.diff_id.hex]
    partial = 0
    for _ in range(4):
        with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
            assert child.stdout is not None
            child.stdout.readline()
            while child.poll() is None and not list(cache.root.glob("*.tmp/dir/100")):
                time.sleep(0.001)
            child.kill()
        partial += not cache.has(layer.diff_id)
        cache.remove(layer.diff_id)
    assert partial, "no run was caught in the middle"
    folder = cache.ensure(store, layer.descriptor, layer.diff_id)
    assert len(list((folder / "dir").iterdir())) == 3000
    assert leftovers(cache) == [layer.diff_id.hex]
