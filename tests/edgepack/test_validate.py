"""The second opinion finds what is wrong, each fault by its name, and never fails on what it finds."""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer, NoCompression, write_layer
from edgepack.oci.manifest import Index
from edgepack.oci.store import Store
from edgepack.oci.validate import validate
from tests.edgepack.support.small_images import (
    AMD64,
    Gzip,
    entries,
    image,
    member,
    small_image,
    tar_of,
    two_platforms,
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "store")


def words(store: Store, root: Descriptor) -> str:
    return "\n".join(map(str, validate(store, root)))


def of_tar(store: Store, data: bytes, kind: str = "model") -> Layer:
    """A layer of any bytes."""
    descriptor = store.put_bytes(data, mediatypes.LAYER, {mediatypes.LAYER_KIND: kind})
    return Layer(descriptor, descriptor.digest, len(data))


def changed(
    store: Store, root: Descriptor, change: Callable[[dict[str, Any]], Any], part: str = "config"
) -> Descriptor:
    """The image with another configuration or manifest, digests kept true."""
    manifest = json.loads(store.read(root))
    if part == "config":
        config = json.loads(store.path(Digest.parse(manifest["config"]["digest"])).read_bytes())
        change(config)
        manifest["config"] = store.put_bytes(json.dumps(config).encode(), mediatypes.CONFIG).to_json()
    else:
        change(manifest)
    return store.put_bytes(json.dumps(manifest).encode(), mediatypes.MANIFEST)


def test_nothing_is_wrong_with_what_is_right(store: Store) -> None:
    assert validate(store, small_image(store)) == []
    assert validate(store, two_platforms(store)) == []


@pytest.mark.parametrize(
    ("architecture", "variant", "wrong"), [("amd64", "v1", False), ("arm64", "v8", False), ("amd64", "v3", True)]
)
def test_a_variant_that_the_architecture_implies_need_not_be_named(
    store: Store, architecture: str, variant: str, wrong: bool
) -> None:
    made = small_image(store, Platform("linux", architecture))
    index = Index((replace(made, platform=Platform("linux", architecture, variant)),))
    found = words(store, store.put_bytes(index.to_bytes(), mediatypes.INDEX))

    assert ("variant is v3 in the index and None in the configuration" in found) is wrong
    assert bool(found) is wrong


@pytest.mark.parametrize("which", [0, 1, 2, 3])
@pytest.mark.parametrize(
    ("damage", "expected"), [("altered", "hashes to"), ("truncated", "bytes"), ("missing", "is missing")]
)
def test_a_damaged_blob_is_found_wherever_it_is(store: Store, which: int, damage: str, expected: str) -> None:
    root = small_image(store)
    blob = (root, *store.manifest(root).blobs)[which]
    path = store.path(blob.digest)
    data = path.read_bytes()
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_bytes(data[:-1])
    else:
        path.write_bytes(data[:-2] + bytes([data[-2] ^ 1]) + data[-1:])

    assert expected in words(store, root)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda config: config["rootfs"]["diff_ids"].reverse(), "the configuration says"),
        (lambda config: config["rootfs"]["diff_ids"].pop(), "1 diff IDs for 2 layers"),
        (lambda config: config["history"].pop(), "1 lines of history"),
        (lambda config: config.clear(), "0 diff IDs"),
        (lambda config: config.update(rootfs=[]), "0 diff IDs"),
        (lambda config: config.update(rootfs="x"), "wrong type"),
        (lambda config: config.update(history=[1]), "wrong type"),
    ],
)
def test_a_wrong_configuration_is_found(store: Store, change: Callable[[dict[str, Any]], Any], expected: str) -> None:
    assert expected in words(store, changed(store, small_image(store), change))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda manifest: manifest.update(schemaVersion=1), "schemaVersion"),
        (lambda manifest: manifest.update(mediaType=mediatypes.INDEX), "says that it is"),
        (lambda manifest: manifest["layers"][0].update(size=1), "its descriptor says 1"),
        (lambda manifest: manifest["layers"][0].update(mediaType="text/plain"), "is not a layer"),
        (lambda manifest: manifest["layers"][0].update(mediaType=mediatypes.LAYER), "cannot be unpacked"),
        (lambda manifest: manifest["layers"][1]["annotations"].update({mediatypes.LAYER_UNPACKED: "5"}), "says 5"),
        (lambda manifest: manifest["layers"].insert(0, "x"), "wrong type"),
        (lambda manifest: manifest.update(config={}), "a document of None bytes"),
    ],
)
def test_a_wrong_manifest_is_found(store: Store, change: Callable[[dict[str, Any]], Any], expected: str) -> None:
    assert expected in words(store, changed(store, small_image(store), change, "manifest"))


def test_a_platform_that_is_not_the_images_is_found(store: Store) -> None:
    wrong = replace(small_image(store), platform=Platform("linux", "arm64"))
    root = store.put_bytes(Index((wrong,)).to_bytes(), mediatypes.INDEX)

    assert "architecture is arm64 in the index and amd64 in the configuration" in words(store, root)


def test_too_many_layers_are_found(store: Store) -> None:
    layer = write_layer(entries(), store, NoCompression(), kind="code")

    assert validate(store, image(store, [layer] * LIMITS.image_layers)) == []
    assert "128 layers" in words(store, image(store, [layer] * (LIMITS.image_layers + 1)))


def other(name: str, **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info, data = member(name)
    for key, value in fields.items():
        setattr(info, key, value)
    return info, data


FOLDER = member("a", kind=tarfile.DIRTYPE)
EVERYWHERE = [
    ([member("../a")], "climbs"),
    ([member("/a")], "climbs"),
    ([member("a"), member("a")], "is listed twice"),
    ([member("a"), member("./a")], "is listed twice"),
    ([member("a", kind=tarfile.CHRTYPE)], "a device node"),
    ([member("a", kind=tarfile.FIFOTYPE)], "a FIFO"),
    ([member("a", kind=tarfile.SYMTYPE, link="../b")], "links out of the image"),
    ([member("a", kind=tarfile.LNKTYPE, link="b")], "does not come before it"),
    ([member(".wh.a", b"full")], "not an empty file"),
]
OURS = [
    ([member("b"), member("a")], "not in the order"),
    ([other("a", uid=1000)], "belongs to 1000:0"),
    ([other("a", uname="me")], "belongs to"),
    ([member("a/b")], "its directory does not come before it"),
    ([FOLDER, member("a/.wh.b")], "is a whiteout"),
    ([member("a"), other("b", mtime=5)], "2 different times"),
    ([other("a", mtime=1.5)], "PAX headers"),
]


@pytest.mark.parametrize(("members", "expected"), EVERYWHERE + OURS)
def test_a_wrong_entry_in_a_layer_of_ours_is_found(store: Store, members: Any, expected: str) -> None:
    assert expected in words(store, image(store, [of_tar(store, tar_of(*members))]))


@pytest.mark.parametrize(("members", "expected"), EVERYWHERE)
def test_an_unsafe_entry_in_a_base_is_found(store: Store, members: Any, expected: str) -> None:
    assert expected in words(store, image(store, [of_tar(store, tar_of(*members), "base")]))


@pytest.mark.parametrize(("members", "_"), OURS)
def test_a_base_may_be_as_its_maker_made_it(store: Store, members: Any, _: str) -> None:
    assert validate(store, image(store, [of_tar(store, tar_of(*members), "base")])) == []


@pytest.mark.parametrize("data", [b"x" * 1000, tar_of(member("a", b"data"))[:700], tar_of(member("a")) + b"more"])
def test_what_is_no_tar_is_found(store: Store, data: bytes) -> None:
    assert "cannot be unpacked" in words(store, image(store, [of_tar(store, data)]))


def test_a_layer_that_unpacks_to_too_much_is_found(store: Store) -> None:
    root = image(store, [write_layer(entries(), store, Gzip(), kind="code")], AMD64)

    assert validate(store, root) == []
    assert [finding.what for finding in validate(store, root, limit=100)] == [
        "cannot be unpacked (more than 100 bytes)"
    ]


def test_a_zstd_layer_is_looked_into(store: Store) -> None:
    zstd = pytest.importorskip("backports.zstd")

    class Zstd(Gzip):
        media_type = mediatypes.LAYER_ZSTD

        def __init__(self) -> None:
            self._zip = zstd.ZstdCompressor()

    layer = write_layer(entries(), store, Zstd(), kind="code")
    assert validate(store, image(store, [layer])) == []

    data = store.read(layer.descriptor)
    cut = store.put_bytes(data[:-5], mediatypes.LAYER_ZSTD)
    assert "cut short" in words(store, image(store, [replace(layer, descriptor=cut)]))
