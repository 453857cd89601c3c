"""The store holds blobs by their hash and tags by name, for several processes at once."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import BinaryIO

import pytest

from edgepack.errors import (
    DigestMismatchError,
    InvalidDocumentError,
    NotFoundError,
    SizeMismatchError,
    TooLargeError,
    UsageError,
    VerificationError,
)
from edgepack.host.ownership import give_to_owner_of
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest, VerifyingReader
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.reference import referrers_tag
from edgepack.oci.sources import read_verified
from edgepack.oci.store import Store
from tests.edgepack.support.small_images import small_image, two_platforms

DATA = b"some bytes " * 1000


def named(data: bytes) -> Descriptor:
    return Descriptor(mediatypes.LAYER, Digest.of(data), len(data))


class Bytes:
    """A source of one blob that counts how often and from where it was read."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.offsets: list[int] = []

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        self.offsets.append(offset)
        yield io.BytesIO(self.data[offset:])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def litter(store: Store) -> list[str]:
    return sorted(path.name for path in (store.root / "ingest").iterdir())


def test_a_blob_is_read_as_it_was_put(store: Store) -> None:
    descriptor = store.put_bytes(DATA, mediatypes.LAYER, {"a": "b"})

    assert descriptor == Descriptor(mediatypes.LAYER, Digest.of(DATA), len(DATA), {"a": "b"})
    assert store.read(descriptor) == DATA
    assert store.path(descriptor.digest) == store.root / "blobs" / "sha256" / descriptor.digest.hex
    with store.open(descriptor, 5) as stream:
        assert stream.read() == DATA[5:]
    assert litter(store) == []


def test_an_empty_blob_is_a_blob(store: Store) -> None:
    assert store.read(store.put_bytes(b"", mediatypes.EMPTY)) == b""
    store.put(named(b""), Bytes(b""))


def test_an_empty_layout_is_what_the_specification_says(store: Store) -> None:
    assert json.loads((store.root / "oci-layout").read_bytes()) == {"imageLayoutVersion": "1.0.0"}
    assert json.loads((store.root / "index.json").read_bytes())["schemaVersion"] == 2


def test_creating_again_keeps_what_is_there(store: Store) -> None:
    store.tag("a:1", small_image(store))

    assert set(Store.create(store.root).tags()) == {"a:1"}
    assert set(Store.open_existing(store.root).tags()) == {"a:1"}


def test_what_is_no_layout_is_told_clearly(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="not an OCI image layout"):
        Store.open_existing(tmp_path)
    (tmp_path / "oci-layout").write_bytes(b"{}")
    (tmp_path / "index.json").write_bytes(b"{")
    with pytest.raises(InvalidDocumentError, match="not JSON"):
        Store.open_existing(tmp_path)
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UsageError):
        Store.create(tmp_path / "file")


def test_a_layout_of_another_tool_can_be_written_to(tmp_path: Path) -> None:
    (tmp_path / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    (tmp_path / "index.json").write_bytes(b'{"schemaVersion":2,"manifests":[]}')
    store = Store.open_existing(tmp_path)

    store.tag("a:1", small_image(store))

    assert set(store.tags()) == {"a:1"}


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda data: data[:-1], SizeMismatchError),
        (lambda data: data + b"x", SizeMismatchError),
        (lambda data: b"X" + data[1:], DigestMismatchError),
    ],
    ids=["truncated", "longer", "altered"],
)
def test_a_damaged_blob_is_not_read(store: Store, change: object, error: type[VerificationError]) -> None:
    descriptor = store.put_bytes(DATA, mediatypes.LAYER)
    store.path(descriptor.digest).write_bytes(change(DATA))  # type: ignore[operator]

    with pytest.raises(error):
        store.read(descriptor)


def test_a_truncated_blob_is_missing_and_is_mended_by_the_next_put(store: Store) -> None:
    descriptor = store.put_bytes(DATA, mediatypes.LAYER)
    store.path(descriptor.digest).write_bytes(DATA[:-1])

    assert not store.has(descriptor)
    store.put(descriptor, Bytes(DATA))

    assert store.read(descriptor) == DATA


def test_an_altered_blob_goes_when_it_is_found_so_that_it_can_be_fetched_again(store: Store, tmp_path: Path) -> None:
    descriptor = store.put_bytes(DATA, mediatypes.LAYER)
    store.path(descriptor.digest).write_bytes(b"X" + DATA[1:])
    assert store.has(descriptor)  # by its size; looking at every byte each time would cost too much

    with pytest.raises(DigestMismatchError):
        Store.create(tmp_path / "other").put(descriptor, store)

    assert not store.has(descriptor)
    store.put(descriptor, Bytes(DATA))
    assert store.read(descriptor) == DATA


def test_a_sound_blob_stays_whatever_its_reader_complains_of(store: Store) -> None:
    descriptor = store.put_bytes(DATA, mediatypes.LAYER)

    with pytest.raises(DigestMismatchError), store.open(descriptor):
        raise DigestMismatchError("something else")

    assert store.read(descriptor) == DATA


def test_missing_blobs_and_tags_are_not_found(store: Store) -> None:
    with pytest.raises(NotFoundError, match="is missing"), store.open(named(b"x")):
        pass
    with pytest.raises(NotFoundError):
        store.resolve("a:1")
    with pytest.raises(NotFoundError):
        store.resolve(str(Digest.of(b"x")))
    with pytest.raises(NotFoundError):
        store.tag("a:1", named(b"x"))
    assert store.tags() == {}


def test_a_read_has_a_limit(store: Store) -> None:
    descriptor = store.put_bytes(DATA, mediatypes.LAYER)

    with pytest.raises(UsageError, match="at most 100 are read"):
        store.read(descriptor, limit=100)
    with pytest.raises(TooLargeError, match="at most 100 are read"):
        read_verified(store, descriptor, limit=100)


@pytest.mark.parametrize(
    ("sent", "error"),
    [(DATA[:-1], SizeMismatchError), (DATA + b"x", SizeMismatchError), (b"X" + DATA[1:], DigestMismatchError)],
    ids=["short", "long", "altered"],
)
def test_what_is_not_what_was_announced_does_not_appear(
    store: Store, sent: bytes, error: type[VerificationError]
) -> None:
    with pytest.raises(error):
        store.put(named(DATA), Bytes(sent))

    assert not store.has_digest(Digest.of(DATA))
    store.put(named(DATA), Bytes(DATA))
    assert store.read(named(DATA)) == DATA
    assert litter(store) == []


def test_unnamed_bytes_have_a_limit_and_leave_nothing(store: Store) -> None:
    with pytest.raises(SizeMismatchError), store.writer(limit=10) as blob:
        blob.write(b"x" * 11)

    def fail_halfway() -> None:
        with store.writer() as blob:
            blob.write(b"half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail_halfway()

    assert litter(store) == []


def test_a_put_goes_on_where_the_last_one_stopped(store: Store) -> None:
    with store.receive(named(DATA)) as blob:
        blob.write(DATA[:4000])
    source = Bytes(DATA)

    store.put(named(DATA), source)

    assert source.offsets == [4000]
    assert store.read(named(DATA)) == DATA
    assert litter(store) == []


def test_a_put_that_was_complete_reads_nothing_again(store: Store) -> None:
    with store.receive(named(DATA)) as blob:
        blob.write(DATA)
    source = Bytes(DATA)

    store.put(named(DATA), source)

    assert source.offsets == []
    assert store.read(named(DATA)) == DATA


def test_a_damaged_rest_of_an_earlier_put_starts_from_the_beginning(store: Store) -> None:
    with store.receive(named(DATA)) as blob:
        blob.write(bytes(4000))
    source = Bytes(DATA)

    store.put(named(DATA), source)

    assert source.offsets == [4000, 0]
    assert store.read(named(DATA)) == DATA


def test_a_put_of_what_came_in_the_meantime_leaves_nothing(store: Store) -> None:
    store.put_bytes(DATA, mediatypes.LAYER)
    source = Bytes(DATA)

    store.put(named(DATA), source)

    assert source.offsets == []
    assert litter(store) == []


def test_tags_name_what_they_were_given(store: Store) -> None:
    one, two = small_image(store), two_platforms(store)
    store.tag("a:1", one)
    store.tag("a:2", two)
    store.tag("a:1", two)

    assert {tag: item.digest for tag, item in store.tags().items()} == {"a:1": two.digest, "a:2": two.digest}
    assert store.resolve("a:1").media_type == mediatypes.INDEX
    assert store.resolve(str(one.digest)).media_type == mediatypes.MANIFEST


def test_the_index_does_not_depend_on_the_order_of_tagging(tmp_path: Path) -> None:
    written = []
    for number, order in enumerate((["a:1", "b:1", "c:1"], ["c:1", "a:1", "b:1"])):
        store = Store.create(tmp_path / str(number))
        for tag in order:
            store.tag(tag, small_image(store))
        written.append((store.root / "index.json").read_bytes())

    assert written[0] == written[1]


def test_referrers_are_found_by_subject_and_type_and_are_no_tags(store: Store) -> None:
    subject = small_image(store)
    config = store.put_bytes(b"{}", mediatypes.EMPTY)
    found = []
    for kind in ("application/a", "application/b"):
        manifest = Manifest(config, (config,), subject=subject, artifact_type=kind)
        artifact = store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST)
        found.append(Descriptor(artifact.media_type, artifact.digest, artifact.size, artifact_type=kind))
        store.add_referrer(subject.digest, found[-1])
        store.add_referrer(subject.digest, found[-1])

    assert set(store.referrers(subject.digest)) == set(found)
    assert store.referrers(subject.digest, "application/b") == (found[1],)
    assert store.referrers(Digest.of(b"other")) == ()
    assert store.tags() == {}
    assert store.resolve(referrers_tag(subject.digest)).media_type == mediatypes.INDEX


def test_an_entry_without_a_name_is_kept(store: Store) -> None:
    nameless = small_image(store)
    (store.root / "index.json").write_bytes(Index((nameless,)).to_bytes())

    store.tag("a:1", two_platforms(store))

    assert store.index().manifests[0].digest == nameless.digest


def test_a_stream_is_verified_to_its_end() -> None:
    assert VerifyingReader(io.BytesIO(DATA), Digest.of(DATA), len(DATA)).read() == DATA
    with pytest.raises(SizeMismatchError, match="more than"):
        VerifyingReader(io.BytesIO(DATA), Digest.of(DATA[:-1]), len(DATA) - 1).read()
    for data, error in ((DATA[:-1], SizeMismatchError), (b"X" + DATA[1:], DigestMismatchError)):
        reader = VerifyingReader(io.BytesIO(data), Digest.of(DATA), len(DATA))
        with pytest.raises(error):
            list(iter(partial(reader.read, 100), b""))


def processes(code: str, root: Path, count: int) -> list[int]:
    prelude = (
        "import sys; from pathlib import Path\n"
        "from edgepack.oci.store import Store; from edgepack.oci import mediatypes\n"
        "store, me = Store.create(Path(sys.argv[1])), sys.argv[2]\n"
    )
    started = [
        subprocess.Popen([sys.executable, "-c", prelude + code, str(root), str(number)]) for number in range(count)
    ]
    return [process.wait(60) for process in started]


def test_tagging_by_several_processes_loses_nothing(tmp_path: Path) -> None:
    code = (
        'blob = store.put_bytes(b\'{"schemaVersion":2,"manifests":[]}\', mediatypes.INDEX)\n'
        'other = store.put_bytes(b\'{"schemaVersion":2,"manifests":[],"annotations":{}}\', mediatypes.INDEX)\n'
        "for number in range(15):\n"
        "    store.tag(f'p{me}:{number}', blob)\n"
        "    if number % 3 == 0: store.tag(f'p{me}:{number}', other)\n"
    )

    # The store is created by all of them at once, too.
    assert processes(code, tmp_path / "store", 6) == [0] * 6

    expected = {f"p{me}:{number}": number % 3 == 0 for me in range(6) for number in range(15)}
    store = Store.open_existing(tmp_path / "store")
    assert {tag: b"annotations" in store.read(item) for tag, item in store.tags().items()} == expected
    assert not list(store.root.glob(".*.tmp"))


def test_writers_of_the_same_blobs_do_not_disturb_each_other(tmp_path: Path) -> None:
    code = (
        "import random\n"
        "from edgepack.oci.layer import *\n"
        "order = list(range(12)); random.Random(me).shuffle(order)\n"
        "for number in order:\n"
        "    data = bytes([number]) * (300_000 + number)\n"
        "    descriptor = store.put_bytes(data, mediatypes.LAYER)\n"
        "    write_layer([LayerEntry.of_bytes('x', data)], store, NoCompression(), kind='model')\n"
        "    assert store.read(descriptor) == data\n"
    )

    assert processes(code, tmp_path / "store", 5) == [0] * 5

    store = Store.open_existing(tmp_path / "store")
    blobs = list((store.root / "blobs" / "sha256").iterdir())
    assert len(blobs) == 24
    assert all(Digest.of(path.read_bytes()).hex == path.name for path in blobs)
    assert litter(store) == []


def test_what_nobody_went_on_with_for_a_day_is_swept(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    old, new = (Descriptor("a/b", Digest(letter * 64), 100) for letter in "ab")
    for blob in (old, new):
        with store.receive(blob) as writer:
            writer.write(b"half")
    os.utime(store.root / "ingest" / f"{old.digest.hex}.partial", (1, 1))

    with store.receive(old) as writer:  # the one that is asked for goes on, however old
        assert writer.offset == 4
    os.utime(store.root / "ingest" / f"{old.digest.hex}.partial", (1, 1))
    store.put_bytes(b"x", "text/plain")

    assert [path.name for path in (store.root / "ingest").iterdir()] == [f"{new.digest.hex}.partial"]


@pytest.mark.skipif(os.geteuid() != 0, reason="of root, who works in a user's folder")
def test_what_root_puts_into_a_users_store_is_the_users(store: Store) -> None:
    nobody = 65534
    for path in (store.root, *store.root.rglob("*")):
        os.chown(path, nobody, nobody)
    before = os.umask(0o077)
    try:
        blob = store.put_bytes(b"of root", "text/plain")
    finally:
        os.umask(before)
    assert store.path(blob.digest).stat().st_uid == nobody


@pytest.mark.skipif(os.geteuid() != 0, reason="of root, who works in a user's folder")
def test_root_gives_away_no_file_that_a_user_laid_a_link_to(tmp_path: Path) -> None:
    of_root, folder = tmp_path / "secret", tmp_path / "folder"
    of_root.touch()
    folder.mkdir()
    os.chown(folder, 65534, 65534)
    (folder / "soft").symlink_to(of_root)
    os.link(of_root, folder / "hard")
    for name in ("soft", "hard"):
        with (folder / name).open("r+b") as file:
            give_to_owner_of(folder, folder / name, file.fileno())
        assert of_root.stat().st_uid == 0
