"""``oci:DIR[:TAG]``: a folder that is an OCI image layout."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace

from edgepack.oci.copy import CopyReport, copy
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.sources import BlobSource
from edgepack.oci.store import Store
from packager.places.place import Place, copy_referrers, held, pick, split_tag


@dataclass(frozen=True)
class OciLayout(Place):
    """An OCI image layout, which may hold several images and what is attached to them."""

    prefix = "oci:"
    wanted = "path"

    @contextmanager
    def open(self, *, offline: bool = False) -> Iterator[tuple[BlobSource, Descriptor]]:
        """The image of that tag, or the only one."""
        path, tag = split_tag(self.name)
        layout = Store.open_existing(path)
        yield held(layout, pick(layout.tags() or _untagged(layout), tag, path))

    def send(self, store: Store, tag: str, root: Descriptor) -> CopyReport:
        """Copy what the layout lacks; it is created where it does not exist."""
        path, name = split_tag(self.name)
        layout = Store.create(path)
        report = copy(store, layout, root)
        copy_referrers(store, layout, root)
        layout.tag(name or tag, replace(root, annotations={}))
        return report


def _untagged(layout: Store) -> dict[str, Descriptor]:
    return {str(item.digest): item for item in layout.index().manifests}
