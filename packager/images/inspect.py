"""Inspect images: their platforms, layers and signatures."""

from __future__ import annotations

from dataclasses import dataclass

from edgepack.errors import SignatureError
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.graph import images
from edgepack.oci.manifest import Manifest
from edgepack.oci.sources import BlobSource, read_verified
from edgepack.oci.store import Store
from edgepack.signing.keys import PublicKey
from edgepack.signing.statement import verify_image


def platform_of(source: BlobSource, descriptor: Descriptor, manifest: Manifest) -> Platform:
    """The platform of an image: from the index that lists it, or from its configuration."""
    return descriptor.platform or ImageConfig.from_bytes(read_verified(source, manifest.config)).platform


@dataclass(frozen=True)
class ImageView:
    """One platform's image."""

    platform: Platform
    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig


def views(source: BlobSource, root: Descriptor) -> tuple[ImageView, ...]:
    """The images that ``root`` holds, without what builders attach to an index beside them.

    Raises ``InvalidDocumentError`` for an image whose configuration does not belong to its layers.
    """
    found = []
    for descriptor, manifest in images(source, root):
        if descriptor.platform is not None and descriptor.platform.os == "unknown":
            continue
        config = ImageConfig.from_bytes(read_verified(source, manifest.config))
        config.check_layers(manifest.layers, f"image {descriptor.digest}")
        found.append(ImageView(descriptor.platform or config.platform, descriptor, manifest, config))
    return tuple(found)


def signers(store: Store, root: Descriptor, keys: dict[str, PublicKey]) -> tuple[str, ...]:
    """The names of the ``keys`` that signed ``root``."""
    found = []
    for name, key in keys.items():
        try:
            verify_image(store, root.digest, [key])
        except SignatureError:
            continue
        found.append(name)
    return tuple(found)
