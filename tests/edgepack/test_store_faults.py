"""Killed writers, full disks, disks that cannot be written, large blobs: nothing is ever half done."""

from __future__ import annotations

import itertools
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgepack.errors import NoSpaceError, UsageError
from edgepack.oci import mediatypes
from edgepack.oci.archive.write import write_archive
from edgepack.oci.copy import copy
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.layer import LayerEntry, NoCompression, write_layer
from edgepack.oci.store import Store
from edgepack.oci.validate import validate
from tests.edgepack.support.small_images import small_image
from tests.support.sampling import times

ROOT = Path(__file__).parents[2]
KILLS = times(30, 10)

# Does everything that a store is used for, again and again, with other content each time.
WORKER = """
import itertools, random, sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from tests.edgepack.support.small_images import image, Gzip
from edgepack.oci.copy import copy
from edgepack.oci.layer import LayerEntry, NoCompression, write_layer
from edgepack.oci.store import Store
from edgepack.oci.archive.write import write_archive

root, seed = Path(sys.argv[1]), int(sys.argv[3])
print("ready", flush=True)
store, other = Store.create(root), Store.create(root / "other")
for number in itertools.count():
    data = random.Random(seed * 1000 + number).randbytes(700_000)
    layer = write_layer([LayerEntry.of_bytes("m", data)], store, Gzip(), kind="model")
    made = image(store, (layer,))
    store.tag(f"v{seed}:{number}", made)
    copy(store, other, made)
    other.tag("last:1", made)
    write_archive(store, {"last:1": made}, root / "last.tar")
"""


def assert_whole(store: Store) -> None:
    for path in (store.root / "blobs" / "sha256").iterdir():
        assert Digest.of(path.read_bytes()).hex == path.name
    for descriptor in store.tags().values():
        assert store.has(descriptor)
        assert validate(store, descriptor) == []


def test_a_writer_killed_at_any_moment_leaves_a_whole_store(tmp_path: Path) -> None:
    root = tmp_path / "store"
    chance = random.Random(20)  # noqa: S311 - moments, not secrets
    worked = 0
    for seed in range(KILLS):
        command = [sys.executable, "-c", WORKER, str(root), str(ROOT), str(seed)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(chance.uniform(0, 0.25))
        process.send_signal(signal.SIGKILL)
        assert process.wait(60) == -signal.SIGKILL
        process.stdout.close()
        for part in (root, root / "other"):
            if (part / "index.json").exists():
                assert_whole(Store.open_existing(part))
                worked += 1
    assert worked > KILLS  # else the writers were killed before they did anything

    for part in (root, root / "other"):
        store = Store.create(part)
        made = small_image(store)
        store.tag("after:1", made)
        write_archive(store, {"after:1": made}, root / "last.tar")
        assert_whole(store)
        assert not list((part / "ingest").glob("*.tmp"))
        assert not list(part.glob(".index.json.*"))
    assert not list(root.glob(".last.tar.*"))


def test_a_download_that_was_killed_goes_on_where_it_stopped(tmp_path: Path) -> None:
    code = """
import io, os, sys
from contextlib import contextmanager
from pathlib import Path
from edgepack.oci.store import Store
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest

class Source:
    @contextmanager
    def open(self, descriptor, offset=0):
        print(offset, flush=True)
        outer = self
        class Stream(io.BytesIO):
            def read(self, amount=-1):
                if self.tell() >= kill_at:
                    os.kill(os.getpid(), 9)
                return super().read(min(amount, 1 << 20))
        stream = Stream(data)
        stream.seek(offset)
        yield stream

data = bytes(range(256)) * (8 << 12)
kill_at = int(sys.argv[2])
Store.create(Path(sys.argv[1])).put(Descriptor("a/b", Digest.of(data), len(data)), Source())
"""
    offsets = []
    for kill_at in (3 << 20, 6 << 20, 9 << 20):
        done = subprocess.run(
            [sys.executable, "-c", code, str(tmp_path / "store"), str(kill_at)], stdout=subprocess.PIPE, check=False
        )
        offsets.append(int(done.stdout))
        assert done.returncode == (0 if kill_at > 8 << 20 else -signal.SIGKILL)

    assert offsets == [0, 3 << 20, 6 << 20]
    data = bytes(range(256)) * (8 << 12)
    assert Store.open_existing(tmp_path / "store").path(Digest.of(data)).read_bytes() == data


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own with 2 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small disk")
    disk = tmp_path / "disk"
    disk.mkdir()
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if done.returncode:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    try:
        yield disk
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_a_full_disk_is_one_clear_error_and_nothing_is_half_done(small_disk: Path, tmp_path: Path) -> None:
    store, big = Store.create(small_disk / "store"), Store.create(tmp_path / "big")
    first = small_image(store)
    store.tag("first:1", first)
    before = {path: path.read_bytes() for path in small_disk.rglob("*") if path.is_file()}
    layer = write_layer([LayerEntry.of_bytes("m", os.urandom(3 << 20))], big, NoCompression(), kind="model").descriptor
    (small_disk / "first.tar").write_bytes(b"an archive of yesterday")
    before[small_disk / "first.tar"] = b"an archive of yesterday"

    def whole() -> None:
        assert {path: path.read_bytes() for path in small_disk.rglob("*") if path.is_file()} == before

    with pytest.raises(NoSpaceError, match="no space left"):
        store.put(layer, big)
    whole()
    with pytest.raises(NoSpaceError):
        store.put_bytes(os.urandom(3 << 20), mediatypes.LAYER)
    whole()
    with pytest.raises(NoSpaceError):
        write_layer([LayerEntry.of_bytes("m", os.urandom(3 << 20))], store, NoCompression(), kind="model")
    whole()
    made = big_image(big)
    with pytest.raises(NoSpaceError):
        write_archive(big, {"big:1": made}, small_disk / "first.tar")
    whole()

    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as file:
        list(map(file.write, itertools.repeat(bytes(4096))))
    with pytest.raises(NoSpaceError):
        store.tag("second:1", first)
    assert first.digest == store.resolve("first:1").digest
    assert not list(store.root.glob(".index.json.*"))
    filler.unlink()
    store.tag("second:1", first)
    assert_whole(store)


def big_image(store: Store) -> Descriptor:
    from tests.edgepack.support.small_images import image

    return image(
        store, [write_layer([LayerEntry.of_bytes("m", os.urandom(3 << 20))], store, NoCompression(), kind="model")]
    )


def test_a_disk_that_cannot_be_written_is_one_clear_error_and_can_be_read(small_disk: Path, tmp_path: Path) -> None:
    store = Store.create(small_disk / "store")
    first = small_image(store)
    store.tag("first:1", first)
    write_archive(store, {"first:1": first}, small_disk / "first.tar")
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)

    for write in (
        lambda: store.put_bytes(b"new", mediatypes.LAYER),
        lambda: write_layer([LayerEntry.of_bytes("m", b"new")], store, NoCompression(), kind="model"),
        lambda: store.tag("second:1", first),
        lambda: write_archive(store, {"first:1": first}, small_disk / "second.tar"),
        lambda: Store.create(small_disk / "another"),
    ):
        with pytest.raises(UsageError, match="cannot write here"):
            write()

    assert validate(Store.create(store.root), store.resolve("first:1")) == []
    copied = Store.create(tmp_path / "copied")
    copy(store, copied, first)
    assert validate(copied, first) == []


def test_memory_stays_flat_whatever_the_size_of_a_blob(tmp_path: Path) -> None:
    code = """
import json, resource, sys
from pathlib import Path
root = Path(sys.argv[1])
sys.path.insert(0, sys.argv[2])
from tests.edgepack.support.small_images import image
from edgepack.oci.archive.write import Archive, write_archive
from edgepack.oci.copy import copy
from edgepack.oci.layer import LayerEntry, NoCompression, write_layer
from edgepack.oci.store import Store
from edgepack.oci.validate import validate

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024

def work(name, size):
    model, store, last = root / f"{name}.bin", Store.create(root / name), Store.create(root / f"{name}-2")
    with model.open("wb") as file:
        file.truncate(size)
    made = image(store, [write_layer([LayerEntry.of_file("m", model)], store, NoCompression(), kind="model")])
    write_archive(store, {"m:1": made}, root / f"{name}.tar")
    with Archive(root / f"{name}.tar") as archive:
        copy(archive, last, archive.images()["m:1"])
    assert validate(last, made) == []

work("small", 1 << 20)
before = peak()
work("large", 300 << 20)
print(json.dumps([before, peak()]))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path), str(ROOT)], stdout=subprocess.PIPE, check=True)

    before, after = json.loads(done.stdout)
    assert after - before < 16, f"{before} MB before, {after} MB after a blob of 300 MB"
