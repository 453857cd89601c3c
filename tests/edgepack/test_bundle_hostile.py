"""Bundles that were altered, or made by somebody who means harm: each is refused, and nothing has a name after it.

Those with a bad list, head or order are made by editing a real one. Those with a lying list are signed by the trusted
key itself, since the rules must hold for a signer's mistakes too.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgepack.bundle.listing import Contents, NamedImage, Referrer
from edgepack.bundle.read import import_bundle
from edgepack.bundle.write import write_bundle
from edgepack.errors import (
    DigestMismatchError,
    EdgepackError,
    SignatureError,
    SizeMismatchError,
    TooLargeError,
    UnsafeArchiveError,
    VerificationError,
)
from edgepack.limits import Limits
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store
from edgepack.signing.keys import create_key
from edgepack.signing.statement import attach
from tests.edgepack.support.bundles import (
    add_image,
    add_index,
    add_layer,
    blobs,
    contents_of,
    damage,
    forge,
    member,
    members,
    simple,
    write_tar,
)

KEY, OTHER = create_key(), create_key()
TRUST = [KEY.public]
Parts = list[tuple[tarfile.TarInfo, bytes]]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return simple(tmp_path / "store")


@pytest.fixture
def device(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "device")


@pytest.fixture
def bundle(tmp_path: Path, store: Store) -> Path:
    write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=KEY)
    return tmp_path / "b.tar"


def refused(bundle: Path, device: Store, kind: type[EdgepackError], match: str, **options: Any) -> None:
    """The import fails so, gives nothing a name, and lets no bad byte into the store."""
    with pytest.raises(kind, match=match) as caught:
        import_bundle(bundle, device, TRUST, **options)
    assert caught.value.exit_code == 4
    assert device.index().manifests == ()
    assert damage(device) == []


def changed(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]


@pytest.mark.parametrize("number", range(11))
def test_one_changed_bit_in_any_member_is_found(bundle: Path, device: Store, number: int) -> None:
    parts = members(bundle)
    assert len(parts) == 11  # else this test misses some
    info, data = parts[number]
    parts[number] = (info, changed(data, len(data) // 2))
    write_tar(bundle, parts)
    kind = SignatureError if number == 0 else DigestMismatchError
    refused(bundle, device, kind, "DSSE|signature|trusted" if number == 0 else "altered|hashes to")
    layers = {info.name[-64:] for info, _ in parts[8:]}
    assert blobs(device) <= layers, "the head is not written before the layers are good"


@pytest.mark.parametrize("number", range(1, 11))
def test_a_member_that_is_left_out_is_named(bundle: Path, device: Store, number: int) -> None:
    parts = members(bundle)
    name = parts.pop(number)[0].name
    write_tar(bundle, parts)
    refused(bundle, device, VerificationError, f"where {name} must be|ends before {name}")


@pytest.mark.parametrize(
    ("extra", "match"),
    [
        (member("evil", b"x"), "'evil', which its list does not name"),
        (member("blobs/sha256/" + "0" * 64, b"x"), "which its list does not name"),
        (member("../evil", b"x"), "climbs out"),
        (member("/etc/evil", b"x"), "climbs out"),
        (member("a/../../evil", b"x"), "climbs out"),
        (member("evil", kind=tarfile.SYMTYPE, link="/etc/passwd"), "a link"),
        (member("evil", kind=tarfile.LNKTYPE, link="oci-layout"), "a link"),
        (member("evil", kind=tarfile.CHRTYPE), "a device"),
        (member("evil", kind=tarfile.BLKTYPE), "a device"),
        (member("evil", kind=tarfile.FIFOTYPE), "a pipe"),
        (member("evil", kind=tarfile.DIRTYPE), "a folder"),
        (member("evil", b"17 path=../evil\n", kind=tarfile.XHDTYPE), "a special member"),
        (member("evil", b"../evil\0", kind=tarfile.GNUTYPE_LONGNAME), "a special member"),
    ],
)
@pytest.mark.parametrize("place", [1, 3, 10, 11])
def test_a_member_too_many_is_refused(
    bundle: Path, device: Store, extra: tuple[tarfile.TarInfo, bytes], match: str, place: int
) -> None:
    parts = members(bundle)
    write_tar(bundle, [*parts[:place], extra, *parts[place:]])
    refused(bundle, device, UnsafeArchiveError, match)


@pytest.mark.parametrize(("one", "other"), [(3, 4), (4, 10), (7, 8), (9, 10), (1, 2)])
def test_members_out_of_order_are_refused(bundle: Path, device: Store, one: int, other: int) -> None:
    parts = members(bundle)
    parts[one], parts[other] = parts[other], parts[one]
    write_tar(bundle, parts)
    refused(bundle, device, VerificationError, "out of order")


@pytest.mark.parametrize("number", [3, 9, 10])
def test_a_member_that_comes_twice_is_refused(bundle: Path, device: Store, number: int) -> None:
    parts = members(bundle)
    write_tar(bundle, [*parts[: number + 1], parts[number], *parts[number + 1 :]])
    refused(bundle, device, VerificationError, "twice")


@pytest.mark.parametrize("number", [2, 4, 10])
@pytest.mark.parametrize("change", [lambda data: data + b"x", lambda data: data[:-1], lambda data: b""])
def test_a_member_of_another_size_is_refused(
    bundle: Path, device: Store, number: int, change: Callable[[bytes], bytes]
) -> None:
    parts = members(bundle)
    parts[number] = member(parts[number][0].name, change(parts[number][1]))
    write_tar(bundle, parts)
    refused(bundle, device, SizeMismatchError, "bytes and not")


@pytest.mark.parametrize("change", [{"mode": 0o4755}, {"uid": 7}, {"mtime": 1}, {"uname": "root"}])
def test_a_header_with_other_attributes_is_refused(bundle: Path, device: Store, change: dict[str, Any]) -> None:
    parts = members(bundle)
    for name, value in change.items():
        setattr(parts[10][0], name, value)
    write_tar(bundle, parts)
    refused(bundle, device, VerificationError, "other attributes")


def test_a_damaged_header_is_refused(bundle: Path, device: Store) -> None:
    data = bundle.read_bytes()
    place = data.index(members(bundle)[10][0].name.encode())
    bundle.write_bytes(changed(data, place + 20))
    refused(bundle, device, VerificationError, "damaged tar header")


def test_a_bundle_cut_at_any_length_is_refused_and_finishes_when_it_is_whole(bundle: Path, device: Store) -> None:
    data = bundle.read_bytes()
    for cut in [*range(0, len(data), 2039), len(data) - 1024, len(data) - 1]:
        bundle.write_bytes(data[:cut])
        refused(bundle, device, VerificationError, "cut short")
    bundle.write_bytes(data)
    import_bundle(bundle, device, TRUST)
    assert set(device.tags()) == {"churn:1"}
    assert damage(device) == []


def test_a_refused_bundle_leaves_nothing_on_the_disk(bundle: Path, device: Store, store: Store) -> None:
    data = bundle.read_bytes()
    kept = device.put_bytes(b"of another bundle", "text/plain")
    before = blobs(device)
    for altered in (changed(data, len(data) - 1024 - 512), data + b"x", data[:-1024] + b"y" * 1024):
        bundle.write_bytes(altered)
        with pytest.raises(VerificationError):
            import_bundle(bundle, device, TRUST)
        assert blobs(device) == before
        assert list((device.root / "ingest").iterdir()) == []
    assert device.has(kept)
    bundle.write_bytes(data)
    import_bundle(bundle, device, TRUST)
    assert damage(device) == []


def test_what_is_left_of_another_bundle_is_swept_and_what_is_being_written_is_not(bundle: Path, device: Store) -> None:
    other, mine = (Descriptor("a/b", Digest(letter * 64), 100) for letter in "ab")
    for blob in (other, mine):
        with device.receive(blob) as writer:
            writer.write(b"half")
    with device.receive(mine) as writer:
        import_bundle(bundle, device, TRUST)
        assert [path.name for path in (device.root / "ingest").iterdir()] == [f"{mine.digest.hex}.partial"]
        writer.discard()


def test_bytes_after_the_end_or_between_members_are_refused(bundle: Path, device: Store) -> None:
    data = bundle.read_bytes()
    bundle.write_bytes(data + bytes(512))
    refused(bundle, device, UnsafeArchiveError, "has data after its end")
    start = data.index(members(bundle)[1][0].name.encode())  # the list is before it, padded
    bundle.write_bytes(changed(data, start - 1))
    refused(bundle, device, UnsafeArchiveError, "between its members")


def test_an_index_that_names_other_tags_than_the_list_is_refused(bundle: Path, device: Store) -> None:
    parts = members(bundle)
    parts[2] = (parts[2][0], parts[2][1].replace(b"churn:1", b"churn:2"))
    write_tar(bundle, parts)
    refused(bundle, device, DigestMismatchError, r"index\.json is altered")


def test_the_list_of_one_bundle_does_not_pass_for_that_of_another(tmp_path: Path, bundle: Path, device: Store) -> None:
    other = simple(tmp_path / "other", [50, 60, 70], tag="other:1")
    write_bundle(other, ["other:1"], tmp_path / "o.tar", key=KEY)
    write_tar(bundle, [members(tmp_path / "o.tar")[0], *members(bundle)[1:]])
    refused(bundle, device, VerificationError, "bytes and not|altered|must be")


def test_a_list_signed_as_something_else_is_refused(bundle: Path, store: Store, device: Store) -> None:
    forge(bundle, contents_of(bundle, TRUST)[0], store, KEY, payload_type=mediatypes.IN_TOTO)
    refused(bundle, device, SignatureError, "in-toto")


def test_a_trusted_list_does_not_make_up_for_an_image_that_another_key_signed(
    tmp_path: Path, store: Store, device: Store
) -> None:
    attach(store, store.resolve("churn:1"), "churn:1", OTHER)
    write_bundle(store, ["churn:1"], tmp_path / "b.tar", key=None)
    contents = contents_of(tmp_path / "b.tar")[0]
    forge(tmp_path / "b.tar", contents, store, KEY)
    refused(tmp_path / "b.tar", device, SignatureError, OTHER.id)
    assert blobs(device) == set()


def test_every_image_of_the_list_needs_its_statement(bundle: Path, store: Store, device: Store) -> None:
    contents = contents_of(bundle, TRUST)[0]
    second = add_image(store, [add_layer(store, 10, "second")])
    more = [second, *store.manifest(second).blobs]
    forge(
        bundle,
        replace(
            contents,
            images=(*contents.images, NamedImage("second:1", second)),
            blobs=(*contents.head, *more[:2], *contents.body, *more[2:]),
        ),
        store,
        KEY,
    )
    refused(bundle, device, SignatureError, f"{second.digest}: has no statement attached")
    assert blobs(device) == set()


def test_a_statement_on_another_image_is_not_taken_for_this_one(bundle: Path, store: Store, device: Store) -> None:
    contents = contents_of(bundle, TRUST)[0]
    evil = add_image(store, [add_layer(store, 10, "evil")])
    config, layer = store.manifest(evil).blobs
    referrer = Referrer(evil.digest, contents.referrers[0].descriptor)
    statement = [blob for blob in contents.head if blob.media_type in (mediatypes.DSSE, mediatypes.EMPTY)]
    forged = Contents(
        (NamedImage("churn:1", evil),), (referrer,), (evil, config, referrer.descriptor, *statement, layer)
    )
    forge(bundle, forged, store, KEY)
    refused(bundle, device, VerificationError, "attached to")
    assert blobs(device) == set()


def test_a_blob_that_no_image_needs_is_refused(bundle: Path, store: Store, device: Store) -> None:
    extra = add_layer(store, 10, "extra")
    forge(
        bundle, replace(contents_of(bundle, TRUST)[0], blobs=(*contents_of(bundle, TRUST)[0].blobs, extra)), store, KEY
    )
    refused(bundle, device, VerificationError, f"{extra.digest}, which none of its images needs")
    assert blobs(device) == set()


def test_a_blob_that_is_nowhere_is_named(bundle: Path, store: Store, device: Store) -> None:
    contents = contents_of(bundle, TRUST)[0]
    kept, *gone = contents.body
    forge(bundle, replace(contents, blobs=(*contents.head, kept)), store, KEY)
    refused(bundle, device, VerificationError, f"lacks {gone[0].digest}, {gone[1].digest}, which this device")
    forge(bundle, replace(contents, blobs=(*contents.head, kept), omitted=tuple(gone)), store, KEY)
    refused(bundle, device, VerificationError, "fresh receipt")
    assert blobs(device) == set()


def test_a_layer_listed_larger_than_its_manifest_says_is_refused(bundle: Path, store: Store, device: Store) -> None:
    contents = contents_of(bundle, TRUST)[0]
    grown = replace(contents.body[0], size=contents.body[0].size + 5)
    forge(bundle, replace(contents, blobs=(*contents.head, grown, *contents.body[1:])), store, KEY)
    refused(bundle, device, SizeMismatchError, "is listed with")


def test_a_list_with_layers_before_manifests_is_refused(bundle: Path, store: Store, device: Store) -> None:
    contents = contents_of(bundle, TRUST)[0]
    forge(bundle, replace(contents, blobs=(*contents.body, *contents.head)), store, KEY)
    refused(bundle, device, VerificationError, "before layers")


def test_an_artifact_that_is_attached_to_something_else_is_refused(bundle: Path, store: Store, device: Store) -> None:
    contents = contents_of(bundle, TRUST)[0]
    artifact = Manifest(store.put_bytes(b"{}", mediatypes.EMPTY), (), artifact_type="application/x.report")
    held = replace(store.put_bytes(artifact.to_bytes(), mediatypes.MANIFEST), artifact_type="application/x.report")
    lying = Referrer(contents.images[0].descriptor.digest, held)
    added = replace(contents, referrers=(*contents.referrers, lying), blobs=(*contents.head, held, *contents.body))
    forge(bundle, added, store, KEY)
    refused(bundle, device, VerificationError, "is not attached to")


def test_what_would_fill_the_memory_is_refused(bundle: Path, store: Store, device: Store) -> None:
    contents = contents_of(bundle, TRUST)[0]
    large = Descriptor(mediatypes.CONFIG, Digest.of(b"large"), 5 << 20)
    forged = replace(contents, blobs=(*contents.head, large, *contents.body))
    store.path(large.digest).write_bytes(bytes(5 << 20))
    forge(bundle, forged, store, KEY)
    refused(bundle, device, TooLargeError, "is read whole")
    write_bundle(store, ["churn:1"], bundle, key=KEY)
    refused(bundle, device, VerificationError, "at most 100 bytes", limits=Limits(bundle_list_bytes=100))
    refused(bundle, device, TooLargeError, "at most 900 are read", limits=Limits(bundle_head_bytes=900))


def test_indexes_that_nest_for_ever_do_not_exhaust_the_reader(tmp_path: Path, store: Store, device: Store) -> None:
    image = store.resolve("churn:1")
    manifest = store.manifest(image)
    top = Descriptor(image.media_type, image.digest, image.size)
    documents = [top]
    for _ in range(800):
        top = add_index(store, top, top)
        documents.insert(0, top)
    store.tag("deep:1", top)
    with pytest.raises(VerificationError, match="indexes are nested more than 8 deep"):
        write_bundle(store, ["deep:1"], tmp_path / "b.tar", key=None)
    forged = Contents((NamedImage("deep:1", top),), (), (*documents, manifest.config, *manifest.layers))
    forge(tmp_path / "b.tar", forged, store)
    refused(tmp_path / "b.tar", device, VerificationError, "indexes are nested more than 8 deep", allow_unsigned=True)


@pytest.mark.parametrize("kind", [mediatypes.INDEX, mediatypes.MANIFEST])
def test_a_document_that_is_announced_as_another_kind_is_refused(
    tmp_path: Path, store: Store, device: Store, kind: str
) -> None:
    image = store.resolve("churn:1")
    document = add_index(store, image) if kind == mediatypes.MANIFEST else image
    forged = Contents(
        (NamedImage("a:1", Descriptor(kind, document.digest, document.size)),),
        (),
        (replace(document, media_type=kind),),
    )
    forge(tmp_path / "b.tar", forged, store)
    refused(
        tmp_path / "b.tar",
        device,
        VerificationError,
        "another kind of document|by its descriptor and",
        allow_unsigned=True,
    )
