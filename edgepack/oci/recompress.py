"""An image whose layers are stored in another way: the same files and configuration, other manifests."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO, cast

from edgepack.errors import DigestMismatchError
from edgepack.limits import LIMITS
from edgepack.oci import graph, mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest, VerifyingReader
from edgepack.oci.manifest import Index
from edgepack.oci.sources import BlobSource, read_verified
from edgepack.oci.tar.compression import decompressed

# Given a layer and the digest of its plain tar, the layer that is to be in its place.
Replace = Callable[[Descriptor, Digest], Descriptor]


@dataclass(frozen=True)
class Rewritten:
    """A blob source of ``root``: documents made here, layers that are unpacked as they are read, the rest as before.

    ``replaced`` says how many layers are others than in the image that it was made of.
    """

    source: BlobSource
    root: Descriptor
    documents: Mapping[Digest, bytes] = field(default_factory=dict)
    plain: Mapping[Digest, Descriptor] = field(default_factory=dict)
    replaced: int = 0

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """The bytes of a blob from ``offset`` on; raises what the source raises."""
        if descriptor.digest in self.documents:
            yield io.BytesIO(self.documents[descriptor.digest][offset:])
        elif descriptor.digest in self.plain:
            with plain_tar(self.source, self.plain[descriptor.digest]) as stream:
                while offset:
                    offset -= len(stream.read(min(offset, LIMITS.chunk_bytes)) or bytes(offset))
                yield stream
        else:
            with self.source.open(descriptor, offset) as stream:
                yield stream


@contextmanager
def plain_tar(source: BlobSource, layer: Descriptor) -> Iterator[BinaryIO]:
    """The plain tar of ``layer``, whose blob is verified as it is read."""
    with source.open(layer) as blob:
        reader = cast(BinaryIO, VerifyingReader(blob, layer.digest, layer.size))
        yield decompressed(reader, layer, LIMITS.layer_unpacked_bytes)


def without_zstd(source: BlobSource, root: Descriptor) -> Rewritten:
    """``root`` with plain tars in place of layers that are compressed with zstd, unpacked as they are read.

    Raises ``VerificationError`` for a damaged layer, ``MissingPartError`` where zstd is not installed.
    """
    plain: dict[Digest, Descriptor] = {}
    sizes: dict[Digest, int] = {}

    def unpacked(layer: Descriptor, diff_id: Digest) -> Descriptor:
        if layer.digest not in sizes:
            with plain_tar(source, layer) as stream:
                sizes[layer.digest] = sum(map(len, iter(lambda: stream.read(LIMITS.chunk_bytes), b"")))
        plain[diff_id] = layer
        return Descriptor(mediatypes.LAYER, diff_id, sizes[layer.digest], layer.annotations)

    return replace(replace_zstd(source, root, unpacked), plain=plain)


def replace_zstd(source: BlobSource, root: Descriptor, make: Replace) -> Rewritten:
    """``root`` with what ``make`` gives for each layer that is compressed with zstd; as it is where there is none."""
    documents: dict[Digest, bytes] = {}
    replaced: set[Digest] = set()

    def rewritten(item: Descriptor) -> Descriptor:
        if item.media_type in mediatypes.INDEXES:
            named = graph.children(source, item)
            made = tuple(rewritten(one) for one in named)
            data = Index(made, media_type=item.media_type).to_bytes()
            return item if made == named else _document(item, data, documents)
        manifest = graph.read_manifest(source, item)
        if not any(layer.media_type in mediatypes.ZSTD_LAYERS for layer in manifest.layers):
            return item
        config = ImageConfig.from_bytes(read_verified(source, manifest.config), f"configuration of {item.digest}")
        config.check_layers(manifest.layers, f"manifest {item.digest}")
        layers = []
        for layer, diff_id in zip(manifest.layers, config.diff_ids, strict=True):
            if layer.media_type in mediatypes.ZSTD_LAYERS:
                replaced.add(layer.digest)
                layer = make(layer, diff_id)
            layers.append(layer)
        return _document(item, replace(manifest, layers=tuple(layers)).to_bytes(), documents)

    return Rewritten(source, rewritten(root), documents, replaced=len(replaced))


def check_diff_id(layer: Descriptor, found: Digest, diff_id: Digest) -> None:
    """Raise ``DigestMismatchError`` unless the plain tar of ``layer`` is the one that its image names."""
    if found != diff_id:
        raise DigestMismatchError(
            f"unpacks to {found}, and its image names {diff_id}", where=f"layer {layer.digest}", hint="fetch it again"
        )


def _document(item: Descriptor, data: bytes, documents: dict[Digest, bytes]) -> Descriptor:
    made = replace(item, digest=Digest.of(data), size=len(data))
    documents[made.digest] = data
    return made
