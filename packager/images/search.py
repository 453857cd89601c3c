"""The search for credentials in what describes images that leave this machine: manifests, configurations, attachments.

Their layers were searched when they were built.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from edgepack.errors import NotFoundError
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.graph import children, visit
from edgepack.oci.store import Store
from packager.layers.secrets import SecretSearch, known_secrets

_DOCUMENTS = mediatypes.INDEXES | mediatypes.MANIFESTS


def check_documents(store: Store, roots: Iterable[Descriptor]) -> None:
    """Raise ``EdgepackError``, which names the document, when one of the images ``roots`` has a credential in it."""
    search = SecretSearch(known_secrets())
    for root in roots:
        for item in _documents(store, root):
            search.check([store.read(item, LIMITS.attachment_bytes)], f"{item.media_type} {item.digest}")


def _documents(store: Store, root: Descriptor) -> Iterator[Descriptor]:
    def below(item: Descriptor) -> tuple[Descriptor, ...]:
        try:
            return children(store, item) if item.media_type in _DOCUMENTS else ()
        except NotFoundError:
            return ()  # of a platform that is not there, which is said where it matters

    found = tuple(item for item, finished in visit(root, below) if finished)
    yield from (item for item in found if item.media_type in _DOCUMENTS | mediatypes.CONFIGS and store.has(item))
    for item in found:
        for artifact in store.referrers(item.digest) if item.media_type in _DOCUMENTS else ():
            yield from (
                one
                for one, finished in visit(artifact, below)
                if finished and one.size <= LIMITS.attachment_bytes and store.has(one)
            )
