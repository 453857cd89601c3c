"""A bundle as a place to look at: ``bundle:FILE[:TAG]``. Devices import it; here nothing of it is installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgepack.bundle.tar import INDEX, LIST, blob_name
from edgepack.errors import NotFoundError, UsageError
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.layout import images_of
from edgepack.oci.manifest import Index
from edgepack.oci.mediatypes import REF_NAME
from edgepack.oci.sources import BlobSource
from edgepack.oci.store import Store
from edgepack.oci.tar.index import TarIndex
from packager.places.place import ImageSource, pick, split_tag

PREFIX = "bundle:"


@dataclass(frozen=True)
class BundleFile(ImageSource):
    """The bundle ``name``, which may lack what its receiver has: those blobs are looked for in ``store``."""

    name: str
    store: Store

    @contextmanager
    def open(self, *, offline: bool = False) -> Iterator[tuple[BlobSource, Descriptor]]:
        """The image of that tag, or the only one; raises ``UsageError`` for a file that is not a bundle."""
        path, tag = split_tag(self.name)
        with TarIndex(path) as tar:
            if LIST not in tar.sizes:
                hint = f"for an archive of images write oci-archive:{path}"
                raise UsageError("is not a bundle", where=path, hint=hint)
            source = _Bundle(tar, path, self.store)
            index = Index.from_bytes(tar.read(INDEX, LIMITS.bundle_list_bytes), INDEX)
            named = {
                item.annotations.get(REF_NAME, str(item.digest)): item for item in images_of(source, index.manifests)
            }
            yield source, pick(named, tag, path)


@dataclass(frozen=True)
class _Bundle:
    tar: TarIndex
    path: Path
    store: Store

    def has(self, descriptor: Descriptor) -> bool:
        return blob_name(descriptor.digest) in self.tar.sizes or self.store.has(descriptor)

    def open(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        name = blob_name(descriptor.digest)
        if name in self.tar.sizes:
            return self.tar.open(name, offset)
        if self.store.has(descriptor):
            return self.store.open(descriptor, offset)
        raise NotFoundError(
            f"leaves {descriptor.digest} out, which its receiver has",
            where=self.path,
            hint="pull or load the image that it builds upon into this workspace",
        )
