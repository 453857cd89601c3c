"""An image as every engine loads it: Docker before 23 takes no layers that are compressed with zstd."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import BinaryIO

from edgepack.errors import UsageError
from edgepack.host.scratch import scratch_folder
from edgepack.limits import LIMITS
from edgepack.oci import graph, mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.recompress import check_diff_id, plain_tar, replace_zstd
from edgepack.oci.sources import BlobSource
from edgepack.oci.store import Store
from packager.layers.compressors import Gzip, compressor_name

_log = logging.getLogger(__name__)


@contextmanager
def loadable(store: Store, tag: str, root: Descriptor, *, keep_signed: bool) -> Iterator[tuple[BlobSource, Descriptor]]:
    """The image ``root``, called ``tag``, with gzip in place of zstd, and a source of it, while the block lasts.

    Its digest is another then, which is logged. With ``keep_signed`` raises ``UsageError`` for an image that is signed:
    the signature would say nothing about the other one.
    """
    layers = [layer for _, manifest in graph.images(store, root) for layer in manifest.layers]
    if not any(layer.media_type in mediatypes.ZSTD_LAYERS for layer in layers):
        yield store, root
        return
    with scratch_folder("layers") as folder:
        made = Store.create(folder / "store")

        def compressed(layer: Descriptor, diff_id: Digest) -> Descriptor:
            if keep_signed and store.referrers(root.digest, mediatypes.STATEMENT_ARTIFACT):
                raise UsageError(
                    "is signed, and has layers compressed with zstd, which Docker before 23 does not load; compressed "
                    "in another way it would be another image, which nobody signed",
                    where=tag,
                    hint="send it to oci-archive:FILE, which keeps its layers, or to a registry",
                )
            gzip, plain = Gzip(), hashlib.sha256()
            with plain_tar(store, layer) as stream, made.writer() as blob:
                while piece := stream.read(LIMITS.compressor_piece_bytes):
                    plain.update(piece)
                    blob.write(gzip.compress(piece))
                blob.write(gzip.flush())
                check_diff_id(layer, Digest(plain.hexdigest()), diff_id)
                digest, size = blob.commit()
            notes = {**layer.annotations, mediatypes.LAYER_COMPRESSOR: compressor_name()}
            return Descriptor(mediatypes.LAYER_GZIP, digest, size, notes)

        found = replace_zstd(store, root, compressed)
        _log.info(
            "%s: layers compressed with zstd (%d) are compressed with gzip, which every engine loads; its digest is %s "
            "there", tag, found.replaced, found.root.digest,
        )  # fmt: skip
        yield _Over(made, found), found.root


@dataclass(frozen=True)
class _Over:
    """The layers that were compressed here, and the rest."""

    made: Store
    rest: BlobSource

    def open(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """The bytes of a blob; raises ``NotFoundError``."""
        return (self.made if self.made.has(descriptor) else self.rest).open(descriptor, offset)
