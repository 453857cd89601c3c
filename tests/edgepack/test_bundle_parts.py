"""Bundles in parts: divided and put together again in any order; what is bad or missing is named."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgepack.bundle import media
from edgepack.bundle.blobs import BundleBlobs, BundleSet
from edgepack.bundle.listing import Contents
from edgepack.bundle.parts import PartList, Wanted, divide, whole
from edgepack.bundle.receipt import PAYLOAD_TYPE, Receipt
from edgepack.bundle.receive import import_media
from edgepack.bundle.write import BundleReport, write_bundle
from edgepack.bundle.write_parts import write_to_folder
from edgepack.errors import (
    BadPartsError,
    DigestMismatchError,
    EdgepackError,
    MissingPartsError,
    NoSpaceError,
    NotFoundError,
    UntrustedKeyError,
    UsageError,
    VerificationError,
)
from edgepack.host import media as disk
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.sources import read_verified
from edgepack.oci.store import Store
from edgepack.signing import envelope
from edgepack.signing.keys import create_key
from tests.edgepack.support.bundles import AMD64, ARM64, blobs, damage, digest_of, simple, snapshot

KEY, OTHER = create_key(), create_key()
TRUST = [KEY.public]
SIZES = (700_000, 1000, 513, 90_000, 300_000)
PART = 200_000


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return simple(tmp_path_factory.mktemp("made") / "store", SIZES)


@pytest.fixture(scope="module")
def made(store: Store, tmp_path_factory: pytest.TempPathFactory) -> BundleReport:
    return write_to_folder(store, ["churn:1"], tmp_path_factory.mktemp("usb"), key=KEY, part_size=PART)


@pytest.fixture
def stick(made: BundleReport, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made.path.parent, tmp_path / "stick"))


@pytest.fixture
def device(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "device")


def listed(path: Path) -> PartList:
    with BundleBlobs(path, TRUST) as one:
        return one.list


def parts(stick: Path) -> list[Path]:
    return sorted(stick.glob("*.bundle"))


def changed(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def nothing_is_visible(device: Store) -> None:
    assert device.index().manifests == ()
    assert damage(device) == []


def is_whole(device: Store) -> None:
    assert set(device.tags()) == {"churn:1"}
    assert damage(device) == []
    assert list((device.root / "ingest").iterdir()) == []


def test_parts_are_no_larger_than_asked_and_the_same_again(store: Store, made: BundleReport, tmp_path: Path) -> None:
    assert len(made.parts) == 7
    assert all(path.stat().st_size <= PART for path in made.parts)
    assert sum(path.stat().st_size for path in made.parts) == made.size
    again = write_to_folder(store, ["churn:1"], tmp_path / "again", key=KEY, part_size=PART)
    assert [digest_of(path) for path in again.parts] == [digest_of(path) for path in made.parts]
    assert {listed(path).contents for path in made.parts} == {listed(made.path).contents}


def test_what_fits_into_one_part_is_the_bundle_that_it_was(store: Store, tmp_path: Path) -> None:
    write_bundle(store, ["churn:1"], tmp_path / "one", key=KEY)
    for size in (None, 5_000_000):
        report = write_to_folder(store, ["churn:1"], tmp_path / f"{size}", key=KEY, part_size=size)
        assert len(report.parts) == 1
        assert report.size == report.path.stat().st_size
        assert digest_of(report.path) == digest_of(tmp_path / "one")


def test_only_a_layer_that_is_larger_than_a_part_is_divided(made: BundleReport) -> None:
    layout = listed(made.path).part.layout  # type: ignore[union-attr]
    sizes: dict[int, int] = {}
    for piece in (piece for pieces in layout for piece in pieces):
        sizes[piece.blob.size] = sizes.get(piece.blob.size, 0) + 1
    assert {size for size, times in sizes.items() if times > 1} == {700_000, 300_000}


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 300_000), min_size=1, max_size=12), part_size=st.integers(40_000, 400_000),
    head=st.integers(0, 20_000),
)  # fmt: skip
def test_a_layout_has_every_byte_once_and_can_be_read_again(sizes: list[int], part_size: int, head: int) -> None:
    body = tuple(
        Descriptor("application/x.layer", Digest.of(f"{at} {size}".encode()), size) for at, size in enumerate(sizes)
    )
    contents = Contents((), (), body)
    try:
        layout = divide(contents, part_size, head)
    except UsageError as error:
        assert "too small" in str(error)  # noqa: PT017
        return
    pieces = [piece for part in layout for piece in part]
    assert sum(piece.size for piece in pieces) == sum(sizes)
    assert [piece.offset for piece in pieces if piece.is_whole] == [0 for piece in pieces if piece.is_whole]
    at: dict[Digest, int] = {}
    for piece in pieces:
        assert piece.offset == at.get(piece.blob.digest, 0)
        at[piece.blob.digest] = piece.offset + piece.size
    assert {blob.digest: blob.size for blob in body} == at
    assert len(whole(body)) == len(sizes)


@pytest.mark.parametrize("seed", range(4))
def test_parts_come_in_any_order_from_any_stick(made: BundleReport, device: Store, seed: int) -> None:
    order = list(made.parts)
    random.Random(seed).shuffle(order)  # noqa: S311
    for path in order[:-1]:
        with pytest.raises(MissingPartsError, match="missing"):
            import_media([path], device, TRUST)
        nothing_is_visible(device)
    report = import_media(order[-1:], device, TRUST)
    assert [one.name for one in report.images] == ["churn:1"]
    is_whole(device)


def test_a_folder_is_imported_and_only_read_and_again_nothing_is_done(stick: Path, device: Store) -> None:
    (stick / "photo.jpg").write_bytes(b"\xff\xd8" * 1000)
    (stick / "System Volume Information").mkdir()
    before = snapshot(stick)
    assert import_media([stick], device, TRUST).moved_bytes > sum(SIZES)
    is_whole(device)
    after = snapshot(device.root)
    assert import_media([stick], device, TRUST).moved_bytes == 0
    assert snapshot(device.root) == after
    assert snapshot(stick) == before


def test_a_second_import_reads_no_layer_and_a_damaged_one_is_taken_again(
    stick: Path, device: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    import_media([stick], device, TRUST)
    read: list[Digest] = []
    sound = Store.is_sound
    monkeypatch.setattr(Store, "is_sound", lambda self, digest: read.append(digest) or sound(self, digest))
    assert import_media([stick], device, TRUST).moved_bytes == 0
    assert read == []
    layer = device.manifest(device.resolve("churn:1")).layers[0]
    changed(device.path(layer.digest), 5)
    assert import_media([stick], device, TRUST).moved_bytes == layer.size
    assert read == [layer.digest]
    is_whole(device)


def test_every_bad_and_missing_part_is_named_at_once_and_made_again_alone(
    store: Store, stick: Path, device: Store, tmp_path: Path
) -> None:
    files = parts(stick)
    files[0].unlink()
    changed(files[2], files[2].stat().st_size // 2)
    os.truncate(files[4], 100_000)
    with pytest.raises(BadPartsError) as caught:
        import_media([stick], device, TRUST)
    text = str(caught.value)
    assert "part 3 of 7 is bad" in text
    assert "part 5 of 7 is bad" in text
    assert "part 1 of 7 is missing" in text
    assert "copy parts 3, 5 again" in text
    assert caught.value.exit_code == 4
    nothing_is_visible(device)
    wanted = Wanted.from_bytes(caught.value.wanted)
    assert wanted.parts == (1, 3, 5)
    brought = write_to_folder(
        store, wanted.images, tmp_path / "second", key=KEY, part_size=wanted.part_size, only=wanted
    )
    assert len(brought.parts) == 3
    import_media([tmp_path / "second"], device, TRUST)
    is_whole(device)


def test_a_request_for_parts_of_another_bundle_is_refused(store: Store, made: BundleReport, tmp_path: Path) -> None:
    one = listed(made.path)
    assert one.part is not None
    wanted = Wanted.of_parts(one.contents, one.part, [1])
    assert Wanted.from_bytes(wanted.to_bytes()) == wanted
    other = simple(tmp_path / "other", [5, 6])
    with pytest.raises(UsageError, match="make another bundle"):
        write_to_folder(other, ["churn:1"], tmp_path / "out", key=KEY, part_size=PART, only=wanted)


def test_a_good_copy_of_a_part_makes_up_for_a_bad_one(stick: Path, device: Store, tmp_path: Path) -> None:
    bad = Path(shutil.copytree(stick, tmp_path / "bad"))
    for path in parts(bad):
        changed(path, path.stat().st_size - 3000)
    import_media([bad, stick], device, TRUST)
    is_whole(device)


def test_a_part_whose_list_is_damaged_is_known_by_its_name(stick: Path, device: Store) -> None:
    for at in (0, 700):
        shutil.copytree(stick, stick.parent / f"{at}")
        changed(parts(stick.parent / f"{at}")[1], at)
        with pytest.raises(BadPartsError, match="part 2 of 7 is bad"):
            import_media([stick.parent / f"{at}"], device, TRUST)
        nothing_is_visible(device)


def test_parts_swapped_between_bundles_are_refused(store: Store, stick: Path, device: Store, tmp_path: Path) -> None:
    other = simple(tmp_path / "other", [size + 1 for size in SIZES], tag="other:1")
    write_to_folder(other, ["other:1"], tmp_path / "o", key=KEY, part_size=PART)
    mine, theirs = parts(stick)[3], parts(tmp_path / "o")[3]
    shutil.copy(theirs, mine)  # by name a part of this one, and by its list of that
    with pytest.raises(MissingPartsError, match="part 4 of 7 is missing"):
        import_media([stick], device, TRUST)
    nothing_is_visible(device)
    # Both whole on one stick: both come.
    for path in (*made_again(store, tmp_path), *parts(tmp_path / "o")):
        shutil.copy(path, stick)
    import_media([stick], device, TRUST)
    assert set(device.tags()) == {"churn:1", "other:1"}


def made_again(store: Store, tmp_path: Path) -> list[Path]:
    return list(write_to_folder(store, ["churn:1"], tmp_path / "again", key=KEY, part_size=PART).parts)


def test_parts_by_an_unknown_key_are_refused_before_anything_is_written(stick: Path, device: Store) -> None:
    before = snapshot(device.root)
    with pytest.raises(UntrustedKeyError):
        import_media([stick], device, [OTHER.public])
    assert snapshot(device.root) == before


def test_one_part_with_the_list_of_another_is_bad(stick: Path, device: Store) -> None:
    one, other = parts(stick)[1:3]
    with BundleBlobs(one, TRUST) as found:
        start = found.places[0].start
    other.write_bytes(one.read_bytes()[:start] + other.read_bytes()[start:])
    one.unlink()
    with pytest.raises(BadPartsError, match=r"part 2 of 7 is bad.*part 3 of 7 is missing"):
        import_media([stick], device, TRUST)
    nothing_is_visible(device)


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda part: part.update(number=0), "part.number must be from 1 to 7"),
        (lambda part: part.update(number=8), "part.number must be from 1 to 7"),
        (lambda part: part["layout"].pop(), "every byte of every layer once"),
        (lambda part: part["layout"].reverse(), "every byte of every layer once"),
        (lambda part: part["layout"][1][0].update(offset=7), "every byte of every layer once"),
        (lambda part: part["layout"][1][0].update(size=1 << 62), "every byte of every layer once"),
        (lambda part: part["layout"][1][0].update(size=-1), "every byte of every layer once"),
        (lambda part: part["layout"].append([]), "must be a list of pieces"),
        (lambda part: part["layout"][0][0].update(blob=f"sha256:{'0' * 64}"), "must be a layer of this bundle"),
        (lambda part: part["digests"].pop(), "one hash for each piece"),
        (lambda part: part.update(more=1), "not a known field"),
        (lambda part: part.update(layout=[part["layout"][0]]), "of at most|every byte"),
    ],
)
def test_a_layout_that_lies_is_refused_even_when_it_is_signed(
    made: BundleReport, edit: object, match: str, tmp_path: Path, device: Store
) -> None:
    value = json.loads(listed(made.path).to_bytes())
    edit(value["part"])  # type: ignore[operator]
    data = json.dumps(value, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(EdgepackError, match=match):
        PartList.from_bytes(data)


def test_a_stick_that_is_pulled_out_half_way_is_named_and_what_came_is_kept(
    stick: Path, device: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = media._Watched.read

    def pulled(self: media._Watched, amount: int = -1) -> bytes:
        if ".part3of" in self._path.name and self.tell() > 100_000:
            raise media._unreadable(self._path, OSError(errno.EIO, os.strerror(errno.EIO)))
        return read(self, amount)

    with monkeypatch.context() as patch:
        patch.setattr(media._Watched, "read", pulled)
        with pytest.raises(BadPartsError, match=r"part 3 of 7 is bad: .*cannot be read \(Input/output error\)"):
            import_media([stick], device, TRUST)
    nothing_is_visible(device)
    assert import_media([stick], device, TRUST).moved_bytes < sum(SIZES)
    is_whole(device)


def test_a_disk_without_room_is_told_before_anything_is_written(
    store: Store, stick: Path, device: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "free_bytes", lambda folder: 1_500_000)
    with pytest.raises(NoSpaceError, match="are needed and"):
        write_to_folder(store, ["churn:1"], tmp_path / "out", key=KEY, part_size=PART)
    assert list((tmp_path / "out").iterdir()) == []
    monkeypatch.setattr("edgepack.bundle.read.free_bytes", lambda folder: 1_500_000)
    with pytest.raises(NoSpaceError, match="are needed and 1500000 are free"):
        import_media([stick], device, TRUST)
    assert blobs(device) == set()


def test_fat32_gets_parts_and_no_file_of_four_gibibytes(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk, "file_system", lambda folder: "vfat")
    monkeypatch.setattr(disk, "FAT_FILE_BYTES", 300_000)
    monkeypatch.setattr("edgepack.bundle.write_parts.FAT_FILE_BYTES", 300_000)
    monkeypatch.setattr("edgepack.bundle.write_parts.FAT_PART_BYTES", 250_000)
    report = write_to_folder(store, ["churn:1"], tmp_path / "out", key=KEY)
    assert len(report.parts) > 3
    with pytest.raises(UsageError, match=r"no file has 4 GiB.*--part-size 3900MB"):
        write_to_folder(store, ["churn:1"], tmp_path / "more", key=KEY, part_size=1_000_000)
    assert list((tmp_path / "more").iterdir()) == []


def test_the_file_system_is_told_by_the_kernels_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert disk.file_system(tmp_path) is not None
    device = tmp_path.stat().st_dev
    table = tmp_path / "mountinfo"
    table.write_text(
        f"36 35 98:0 / /other rw - ext4 /dev/x rw\n36 35 {os.major(device)}:{os.minor(device)} / /media/my\\040usb "
        "rw,nosuid shared:1 - vfat /dev/sda1 rw,fmask=0022\n"
    )
    monkeypatch.setattr(disk, "_MOUNTS", table)
    assert disk.file_system(tmp_path) == "vfat"
    assert disk.largest_file(tmp_path) == (4 << 30) - 1


def test_parts_that_are_too_small_say_how_large_they_must_be(store: Store, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"too small for this bundle; give at least \d+kB") as caught:
        write_to_folder(store, ["churn:1"], tmp_path, key=KEY, part_size=3000)
    least = int(str(caught.value.hint).split()[-1].removesuffix("kB")) * 1000
    write_to_folder(store, ["churn:1"], tmp_path, key=KEY, part_size=least)


def test_a_damaged_layer_is_not_written_and_no_part_appears(tmp_path: Path) -> None:
    mine = simple(tmp_path / "store", SIZES)
    changed(mine.path(mine.manifest(mine.resolve("churn:1")).layers[0].digest), 650_000)
    with pytest.raises(DigestMismatchError, match="is not what its name says"):
        write_to_folder(mine, ["churn:1"], tmp_path / "out", key=KEY, part_size=PART)
    assert list((tmp_path / "out").iterdir()) == []


def test_a_set_of_parts_gives_blobs_in_any_order_from_any_place(store: Store, made: BundleReport) -> None:
    image = store.resolve("churn:1")
    files = [BundleBlobs(path, TRUST).__enter__() for path in reversed(made.parts)]
    found = BundleSet(files)
    for blob in (image, *store.manifest(image).blobs):
        assert read_verified(found, blob, 1 << 20) == store.path(blob.digest).read_bytes()
    layer = store.manifest(image).layers[0]
    with found.open(layer, 650_001) as stream:
        assert stream.read() == store.path(layer.digest).read_bytes()[650_001:]
    some = BundleSet(files[:3])
    assert some.missing == (1, 2, 3, 4)
    with pytest.raises(NotFoundError, match="it lacks parts 1, 2, 3, 4"), some.open(layer):
        pass
    for one in files:
        one.__exit__(None, None, None)


def test_a_folder_with_no_bundle_and_a_file_that_is_none_are_told(tmp_path: Path, device: Store) -> None:
    with pytest.raises(NotFoundError, match="has no bundle, and no part of one"):
        import_media([tmp_path / "device"], device, TRUST)
    (tmp_path / "x.tar").write_bytes(b"hello")
    with pytest.raises(VerificationError, match="is not a bundle"):
        import_media([tmp_path / "x.tar"], device, TRUST)


def test_what_several_receipts_hold_is_what_all_of_them_hold() -> None:
    one, two, three = (Digest(letter * 64) for letter in "abc")
    first, second = Receipt("a", AMD64, frozenset({one, two})), Receipt("b", AMD64, frozenset({two, three}))
    both = Receipt.common([first, second])
    assert both is not None
    assert (both.blobs, both.platform, both.device) == (frozenset({two}), AMD64, "a,b")
    mixed = Receipt.common([first, Receipt("c", ARM64, frozenset())])
    assert mixed is not None
    assert mixed.platform is None
    assert Receipt.common([]) is None


def test_a_receipt_that_a_device_signed_says_more_and_is_read_like_a_plain_one() -> None:
    receipt = Receipt("press-7", AMD64, frozenset({Digest("a" * 64)}), 12, 5_000_000, "2.36")
    assert Receipt.from_bytes(receipt.to_bytes()) == receipt
    signed = receipt.signed(KEY)
    assert Receipt.from_bytes(signed) == receipt
    assert envelope.verify(signed, PAYLOAD_TYPE, TRUST).key_ids == (KEY.id,)
    site = Receipt("site", None, frozenset())
    assert Receipt.from_bytes(site.to_bytes()) == site
