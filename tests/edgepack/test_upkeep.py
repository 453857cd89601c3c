"""Upkeep of a store: its index written anew, images removed with what only they need, rotten blobs found."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgepack.bundle.read import import_bundle
from edgepack.bundle.receipt import Receipt
from edgepack.bundle.write import write_bundle
from edgepack.errors import VerificationError
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.platforms import needs
from edgepack.oci.store import Store
from edgepack.oci.upkeep import recover_index, remove_images
from edgepack.signing.keys import create_key
from edgepack.signing.statement import attach, verify_image
from tests.edgepack.support.bundles import AMD64, ARM64, add_image, add_index, add_layer, blobs, damage, simple

KEY, OTHER = create_key(), create_key()
TRUST = [KEY.public]


def rot(path: Path) -> None:
    data = path.read_bytes()
    path.chmod(0o644)
    path.write_bytes(bytes([data[0] ^ 1]) + data[1:])


SPOILS = {
    "rotten": rot,
    "cut": lambda path: path.write_bytes(path.read_bytes()[:-1]),
    "empty": lambda path: path.write_bytes(b""),
    "missing": lambda path: path.unlink(),
}


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    write_bundle(simple(tmp_path / "source"), ["churn:1"], tmp_path / "b.tar", key=KEY)
    return tmp_path / "b.tar"


@pytest.fixture
def device(tmp_path: Path, bundle: Path) -> Store:
    store = Store.create(tmp_path / "device")
    import_bundle(bundle, store, TRUST)
    return store


@pytest.mark.parametrize("how", SPOILS)
def test_any_blob_that_is_damaged_is_not_held_and_comes_again(device: Store, bundle: Path, how: str) -> None:
    whole = blobs(device)
    for name in sorted(whole):
        path = device.root / "blobs/sha256" / name
        SPOILS[how](path)
        held = Receipt.of_store(device, "x", AMD64).blobs
        assert {one.hex for one in held} == whole - {name}
        recover_index(device)
        import_bundle(bundle, Store.create(device.root), TRUST)
        assert damage(device) == [], name
        assert blobs(device) >= whole
        assert verify_image(device, device.resolve("churn:1").digest, TRUST)


def test_a_bundle_without_a_blob_that_rotted_is_refused_and_the_next_receipt_helps(
    tmp_path: Path, device: Store, bundle: Path
) -> None:
    source = Store.open_existing(tmp_path / "source")
    image = source.resolve("churn:1")
    receipt = Receipt.of_store(device, "x", AMD64)
    write_bundle(source, ["churn:1"], tmp_path / "sparse.tar", key=KEY, receipt=receipt)
    for layer in source.manifest(image).layers:
        rot(device.path(layer.digest))
        with pytest.raises(VerificationError, match=rf"lacks {layer.digest}.*fresh receipt"):
            import_bundle(tmp_path / "sparse.tar", device, TRUST)
        fresh = Receipt.of_store(device, "x", AMD64)
        write_bundle(source, ["churn:1"], tmp_path / "fresh.tar", key=KEY, receipt=fresh)
        import_bundle(tmp_path / "fresh.tar", device, TRUST)
        assert damage(device) == []


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"schemaVersion": 2, "manifests": 7}', b"\0" * 300, None])
def test_a_damaged_index_is_written_anew_from_the_blobs(device: Store, bundle: Path, data: bytes | None) -> None:
    image = device.resolve("churn:1")
    attach(device, image, "churn:1", OTHER)  # a second signature, so that there is an earlier list of them
    index = device.root / "index.json"
    index.unlink() if data is None else index.write_bytes(data)
    store = Store.create(device.root) if data is None else device

    assert recover_index(store) == (data is not None)
    if data is None:  # an absent one is a new store's
        index.unlink()
        assert recover_index(store)
    assert not recover_index(store)
    assert image.digest in {one.digest for one in store.index().manifests}
    for key in (KEY, OTHER):
        assert verify_image(store, image.digest, [key.public]).key_ids == (key.id,)
    import_bundle(bundle, store, TRUST)
    assert store.resolve("churn:1") == image


def test_an_empty_layout_file_is_written_again(device: Store) -> None:
    (device.root / "oci-layout").write_bytes(b"")
    Store.create(device.root)
    assert (device.root / "oci-layout").read_bytes() == b'{"imageLayoutVersion":"1.0.0"}'


def image_of(store: Store, tag: str, layers: list[Descriptor], key: object = KEY) -> Descriptor:
    made = add_image(store, [*layers, add_layer(store, 1000, (tag,))])
    store.tag(tag, made)
    attach(store, made, tag, KEY)
    attach(store, made, tag, OTHER)
    return made


def test_an_image_goes_with_what_only_it_needs(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    shared = add_layer(store, 5000, ("shared",))
    kept = image_of(store, "a:1", [shared])
    before = blobs(store)
    gone = [image_of(store, f"b:{number}", [shared]) for number in range(2)]
    freed = remove_images(store, [one.digest for one in gone], [kept.digest])

    assert blobs(store) == before
    assert freed > 2000
    assert set(store.tags()) == {"a:1"}
    assert len(verify_image(store, kept.digest, [KEY.public, OTHER.public]).key_ids) == 2
    assert damage(store) == []
    assert remove_images(store, [one.digest for one in gone], [kept.digest]) == 0


def test_what_is_kept_stays_whatever_else_names_it(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    platforms = [add_image(store, [add_layer(store, 700, (name,))], name) for name in (AMD64, ARM64)]
    index = add_index(store, *platforms)
    store.tag("multi:1", index)
    alone = image_of(store, "alone:1", [])
    before = blobs(store)

    assert remove_images(store, [index.digest], [platforms[0].digest]) > 0
    assert all(store.has(blob) for blob in needs(store, platforms[0]))
    assert not store.has(platforms[1])
    assert not store.has(index)
    assert all(store.has(blob) for blob in needs(store, alone))
    assert remove_images(store, [alone.digest, platforms[0].digest], []) > 0
    assert blobs(store) < before
    assert blobs(store) == set()
    assert store.index().manifests == ()


def test_an_image_without_a_name_stays_when_another_goes(tmp_path: Path) -> None:
    store = Store.create(tmp_path / "store")
    shared = add_layer(store, 5000, ("shared",))
    first = add_image(store, [shared])
    second = image_of(store, "b:1", [shared])
    remove_images(store, [second.digest], [])
    assert all(store.has(blob) for blob in needs(store, first))
