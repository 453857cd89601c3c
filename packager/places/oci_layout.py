"""``oci:DIR[:TAG]``: a folder that is an OCI image layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import BinaryIO

from edgepack.host.progress import Progress, unseen
from edgepack.oci.attachments import copy_attachments
from edgepack.oci.copy import CopyReport, copy
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.layout import images_of, referrers_of
from edgepack.oci.sources import BlobSource
from edgepack.oci.store import Store
from packager.places.place import Place, held, pick, split_tag


@dataclass(frozen=True)
class OciLayout(Place):
    """An OCI image layout, which may hold several images and what is attached to them."""

    prefix = "oci:"
    wanted = "path"
    carries_attachments = True

    @contextmanager
    def open(self, *, offline: bool = False) -> Iterator[tuple[BlobSource, Descriptor]]:
        """The image of that tag, or the only one."""
        path, tag = split_tag(self.name)
        layout = _Layout(Store.open_existing(path))
        yield held(layout, pick(layout.images(), tag, path))

    def send(self, store: Store, tag: str, root: Descriptor, progress: Progress = unseen) -> CopyReport:
        """Copy what the layout lacks; it is created where it does not exist."""
        path, name = split_tag(self.name)
        layout = Store.create(path)
        report = copy(store, layout, root, progress=progress) + copy_attachments(store, layout, root)
        layout.tag(name or tag, replace(root, annotations={}))
        return report


@dataclass(frozen=True)
class _Layout:
    """A layout that another tool may have written, so that what is attached is listed in either way."""

    store: Store

    def images(self) -> dict[str, Descriptor]:
        """By tag; without any tag by digest."""
        return self.store.tags() or {str(item.digest): item for item in images_of(self.store, self._entries)}

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The artifacts attached to ``subject``."""
        found = referrers_of(self.store, self._entries, subject)
        return tuple(item for item in found if artifact_type in (None, item.artifact_type))

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is there, with the size that the descriptor says."""
        return self.store.has(descriptor)

    def open(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """The blob's bytes from ``offset`` on."""
        return self.store.open(descriptor, offset)

    @property
    def _entries(self) -> tuple[Descriptor, ...]:
        return self.store.index().manifests
