"""Which blobs of a store its names lead to."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from edgepack.errors import NotFoundError
from edgepack.oci import mediatypes
from edgepack.oci.digest import Digest
from edgepack.oci.graph import children
from edgepack.oci.reference import is_referrers_tag, referrers_tag
from edgepack.oci.store import Store


@dataclass(frozen=True)
class Reachable:
    """The blobs that are needed, and the tags of attachments whose images are not."""

    blobs: frozenset[Digest]
    dead_lists: frozenset[str]


def reachable(store: Store, further: Iterable[Digest] = ()) -> Reachable:
    """What the names in the store's index lead to, with what is attached to it, and the blobs ``further``.

    A blob that is missing leads to nothing. Raises ``VerificationError`` and ``InvalidDocumentError`` for a document
    that is damaged: what it leads to cannot be known.
    """
    named = store.index().manifests
    lists = {tag: item for item in named if is_referrers_tag(tag := item.annotations.get(mediatypes.REF_NAME, ""))}
    waiting = [item for item in named if item not in lists.values()]
    found: set[Digest] = set()
    live: set[str] = set()
    while waiting:
        item = waiting.pop()
        if item.digest in found:
            continue
        found.add(item.digest)
        with suppress(NotFoundError):
            waiting += children(store, item)
        tag = referrers_tag(item.digest)
        if tag in lists:
            live.add(tag)
            waiting.append(lists[tag])
    return Reachable(frozenset(found.union(further)), frozenset(lists.keys() - live))
