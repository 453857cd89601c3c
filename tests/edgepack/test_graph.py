"""An image's graph is walked once, whatever its indexes name, and each descriptor is read as what it says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import pytest

from edgepack.errors import VerificationError
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.graph import children, images, walk
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.platforms import needs
from edgepack.oci.store import Store
from tests.edgepack.support.small_images import AMD64, ARM64, small_image, two_platforms


@pytest.fixture
def source(tmp_path: Path) -> Store:
    return Store.create(tmp_path / "source")


class Counting:
    """A source that counts what is opened."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.opened: list[Descriptor] = []

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        self.opened.append(descriptor)
        if len(self.opened) > 100:
            raise AssertionError("reads without end")
        with self.store.open(descriptor, offset) as stream:
            yield stream


def test_walking_gives_dependencies_first(source: Store) -> None:
    root = two_platforms(source)

    order = list(walk(source, root))

    place = {item.digest: number for number, item in enumerate(order)}
    assert order[-1] == root
    assert len(place) == len(order)
    for descriptor, manifest in images(source, root):
        assert all(place[item.digest] < place[descriptor.digest] for item in manifest.blobs)


def test_the_images_of_an_index_are_one_for_each_platform(source: Store) -> None:
    assert [descriptor.platform for descriptor, _ in images(source, two_platforms(source))] == [AMD64, ARM64]
    assert len(images(source, small_image(source))) == 1


def test_indexes_that_name_each_other_many_times_are_read_once(source: Store) -> None:
    item = small_image(source)
    for _ in range(6):
        item = source.put_bytes(Index((item,) * 10).to_bytes(), mediatypes.INDEX)
    counting = Counting(source)

    assert len(list(walk(counting, item))) == 10
    assert len(images(counting, item)) == 1
    assert len(counting.opened) == 14


def test_indexes_nested_without_end_are_refused(source: Store) -> None:
    item = small_image(source)
    for _ in range(12):
        item = source.put_bytes(Index((item,)).to_bytes(), mediatypes.INDEX)

    with pytest.raises(VerificationError, match="nested"):
        list(walk(source, item))
    with pytest.raises(VerificationError, match="nested"):
        images(source, item)
    with pytest.raises(VerificationError, match="nested"):
        list(needs(source, item))


def test_needs_gives_what_names_before_what_is_named(source: Store) -> None:
    root = two_platforms(source)

    order = list(needs(source, root))

    place = {item.digest: number for number, item in enumerate(order)}
    assert order[0] == root
    assert set(order) == set(walk(source, root))
    for descriptor, manifest in images(source, root):
        assert place[root.digest] < place[descriptor.digest]
        assert place[descriptor.digest] < place[manifest.config.digest]


@pytest.mark.parametrize("kind", [mediatypes.DOCKER_MANIFEST, mediatypes.MANIFEST])
def test_a_manifest_that_does_not_name_its_type_is_of_the_type_that_its_descriptor_says(
    source: Store, kind: str
) -> None:
    known = source.manifest(small_image(source))
    text = known.to_bytes().replace(f'"mediaType":"{mediatypes.MANIFEST}",'.encode(), b"")
    assert len(text) < len(known.to_bytes())

    assert children(source, source.put_bytes(text, kind)) == known.blobs


@pytest.mark.parametrize("visit", [walk, needs])
def test_a_document_of_another_type_than_its_descriptor_says_is_refused(
    source: Store, visit: Callable[[Store, Descriptor], Iterator[Descriptor]]
) -> None:
    image = small_image(source)
    lie = Descriptor(mediatypes.DOCKER_MANIFEST, image.digest, image.size)

    with pytest.raises(VerificationError, match="by its descriptor and"):
        list(visit(source, lie))


def test_a_layer_that_is_also_named_as_a_manifest_is_walked_as_both(source: Store) -> None:
    inner = small_image(source)
    known = source.manifest(inner)
    as_layer = Descriptor(mediatypes.LAYER, inner.digest, inner.size)
    outer = source.put_bytes(Manifest(known.config, (as_layer,)).to_bytes(), mediatypes.MANIFEST)
    root = source.put_bytes(Index((outer, inner)).to_bytes(), mediatypes.INDEX)

    found = list(walk(source, root))

    assert set(known.layers) < set(found)
    assert found.index(as_layer) < found.index(inner)
