"""Upkeep of a store that nobody looks after: its index written anew from its blobs, and images removed.

Both go by the documents among the blobs, manifests and indexes, for the index of a store names only what has a tag.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass

from edgepack.errors import EdgepackError, InvalidDocumentError
from edgepack.host.files import fsync_dir
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.reference import is_referrers_tag, referrers_tag
from edgepack.oci.store import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Document:
    """A manifest or index among the blobs: what it needs, and what it is attached to."""

    descriptor: Descriptor
    needs: frozenset[Digest]
    subject: Digest | None


def recover_index(store: Store) -> bool:
    """Write what names the store's images anew where it is missing or damaged; returns whether it was.

    That is ``index.json``, and the lists of what is attached to an image. Images keep their signatures; when
    ``index.json`` was damaged they lose their names, which the next import brings again.
    """
    try:
        lists = _attachment_lists(store.index())
    except (InvalidDocumentError, FileNotFoundError):
        _write_anew(store)
        return True
    lost = {one for one in lists if not store.check(one)}
    if not lost:
        return False
    with store.changing_index():
        index = store.index()
        left = [one for one in index.manifests if one not in lost]
        store.write_index(Index(tuple(left), annotations=index.annotations))
    _attach_again(store, _documents(store).values())
    _log.warning("%s: lists of signatures were damaged; they are written anew", store.root)
    return True


def is_lost(store: Store) -> bool:
    """Whether what names the store's images is missing or damaged, so that ``recover_index`` would mend it."""
    try:
        return not all(store.is_sound(one.digest) for one in _attachment_lists(store.index()))
    except (InvalidDocumentError, FileNotFoundError):
        return True


def _attachment_lists(index: Index) -> list[Descriptor]:
    return [one for one in index.manifests if is_referrers_tag(one.annotations.get(mediatypes.REF_NAME, ""))]


def _write_anew(store: Store) -> None:
    documents = _documents(store).values()
    listed = {digest for one in documents for digest in one.needs}
    with store.changing_index():
        store.write_index(Index(tuple(one.descriptor for one in documents if one.descriptor.digest not in listed)))
    _attach_again(store, documents)
    _log.warning("%s/index.json was damaged; it is written anew, and images have lost their names", store.root)


def _attach_again(store: Store, documents: Collection[_Document]) -> None:
    for one in documents:
        if one.subject is not None:
            store.add_referrer(one.subject, one.descriptor)


def images(store: Store) -> frozenset[Digest]:
    """The images of the store that are not part of another, with a name or without: not what is attached to them."""
    documents = _documents(store)
    parts = {digest for one in documents.values() for digest in one.needs}
    attached = {digest for digest, one in documents.items() if one.subject is not None}
    lists = {digest for digest, one in documents.items() if one.needs and one.needs <= attached}
    lists |= {one.digest for one in _attachment_lists(store.index())}
    return frozenset(documents.keys() - parts - attached - lists)


def unreached(store: Store, kept: Collection[Digest]) -> frozenset[Digest]:
    """The blobs that belong to no image, as interrupted imports leave; none while one of ``kept`` is damaged."""
    documents = _documents(store)
    if _damaged(kept, documents):
        return frozenset()
    return store.digests() - documents.keys() - {digest for one in documents.values() for digest in one.needs}


def wanted(store: Store) -> frozenset[Digest]:
    """The blobs that the images of the store need, whether they are here or are being brought."""
    return frozenset(digest for one in _documents(store).values() for digest in one.needs)


def remove_blobs(store: Store, blobs: Collection[Digest]) -> int:
    """Remove ``blobs``, which nothing needs; returns the number of bytes that were freed."""
    return _unlink(store, list(blobs))


def remove_images(store: Store, unwanted: Collection[Digest], kept: Collection[Digest]) -> int:
    """Remove the images ``unwanted`` with all that only they need; returns the number of bytes that were freed.

    Everything that an image of ``kept``, or any other document of the store, needs stays. Killed in the middle, a
    repeated call finishes; nothing that stays has lost anything. While the manifest of a kept image is damaged, what it
    needs is not known, and nothing is removed.
    """
    documents = _documents(store)
    doomed = _doomed(store, documents, unwanted, kept)
    freed = _unlink(store, [digest for digest in doomed if digest not in documents])
    with store.changing_index():
        index = store.index()
        left = [one for one in index.manifests if one.digest not in doomed]
        if len(left) != len(index.manifests):
            store.write_index(Index(tuple(left), annotations=index.annotations))
    # Last: what is named by a digest alone can be removed again as long as its manifest is there.
    return freed + _unlink(store, [digest for digest in doomed if digest in documents])


def spare(store: Store, unwanted: Collection[Digest], kept: Collection[Digest]) -> frozenset[Digest]:
    """The blobs that ``remove_images`` would remove."""
    return frozenset(_doomed(store, _documents(store), unwanted, kept))


def _doomed(
    store: Store, documents: Mapping[Digest, _Document], unwanted: Collection[Digest], kept: Collection[Digest]
) -> set[Digest]:
    if damaged := _damaged(kept, documents):
        _log.warning("nothing is removed while image %s is damaged; import it again", min(damaged, key=str))
        return set()
    attached: dict[Digest, set[Digest]] = {}
    for digest, one in documents.items():
        if one.subject is not None:
            attached.setdefault(one.subject, set()).add(digest)
    for tag, descriptor in _referrers_tags(store).items():
        attached.setdefault(tag, set()).add(descriptor.digest)

    def closure(roots: Collection[Digest]) -> set[Digest]:
        found, waiting = set(), list(roots)
        while waiting:
            digest = waiting.pop()
            if digest not in found:
                found.add(digest)
                waiting += documents[digest].needs if digest in documents else ()
                waiting += attached.get(digest, ())
        return found

    doomed = closure(unwanted)
    # An earlier list of attachments has no name any more; it goes with what it lists.
    doomed |= {digest for digest, one in documents.items() if one.needs and one.needs <= doomed & documents.keys()}
    return doomed - closure([*kept, *(documents.keys() - doomed)])


def _damaged(kept: Collection[Digest], documents: Mapping[Digest, _Document]) -> set[Digest]:
    """The images ``kept`` of which the manifest, or of an index every one, is gone or cannot be read."""
    found = set()
    for digest in kept:
        one = documents.get(digest)
        is_index = one is not None and one.descriptor.media_type in mediatypes.INDEXES
        if one is None or (is_index and not one.needs & documents.keys()):
            found.add(digest)
    return found


def _unlink(store: Store, digests: Collection[Digest]) -> int:
    freed = 0
    for digest in sorted(digests):
        with suppress(FileNotFoundError):
            path = store.path(digest)
            size = path.stat().st_size
            path.unlink()
            freed += size
    if digests:
        fsync_dir(store.path(next(iter(digests))).parent)
    return freed


def _referrers_tags(store: Store) -> Mapping[Digest, Descriptor]:
    """The lists of attachments by the image that they are of."""
    names = {one.annotations.get(mediatypes.REF_NAME): one for one in store.index().manifests}
    return {digest: names[tag] for digest in store.digests() if (tag := referrers_tag(digest)) in names}


def _documents(store: Store) -> dict[Digest, _Document]:
    """The whole manifests and indexes among the blobs."""
    found = {}
    for digest in sorted(store.digests()):
        path = store.path(digest)
        with suppress(OSError, EdgepackError):
            size = path.stat().st_size
            if not 2 <= size <= LIMITS.manifest_bytes:
                continue
            with path.open("rb") as file:
                if file.read(1) != b"{":
                    continue
            data = store.read(Descriptor(mediatypes.MANIFEST, digest, size))
            for parse in (_manifest, _index):
                with suppress(InvalidDocumentError):
                    found[digest] = parse(data, digest)
                    break
    return found


def _manifest(data: bytes, digest: Digest) -> _Document:
    one = Manifest.from_bytes(data)
    descriptor = Descriptor(one.media_type, digest, len(data), artifact_type=one.artifact_type)
    needs = frozenset(blob.digest for blob in (one.config, *one.layers))
    return _Document(descriptor, needs, None if one.subject is None else one.subject.digest)


def _index(data: bytes, digest: Digest) -> _Document:
    one = Index.from_bytes(data)
    return _Document(Descriptor(one.media_type, digest, len(data)), frozenset(m.digest for m in one.manifests), None)
