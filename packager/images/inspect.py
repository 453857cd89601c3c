"""Inspect images: their platforms, layers and signatures."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass

from edgepack.errors import EdgepackError, InvalidDocumentError, SignatureError
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.graph import read_manifest
from edgepack.oci.manifest import Manifest
from edgepack.oci.mediatypes import MODELS
from edgepack.oci.platforms import platform_images
from edgepack.oci.sources import BlobSource, read_verified
from edgepack.oci.store import Store
from edgepack.signing.keys import PublicKey
from edgepack.signing.statement import verify_image


@dataclass(frozen=True)
class ImageView:
    """One platform's image."""

    platform: Platform
    descriptor: Descriptor
    manifest: Manifest
    config: ImageConfig


def views(source: BlobSource, root: Descriptor) -> tuple[ImageView, ...]:
    """The images that ``root`` holds, without what builders attach to an index beside them.

    Raises ``InvalidDocumentError`` where there is none, and for one whose configuration does not belong to its layers.
    """
    found = []
    for image in platform_images(source, root):
        manifest = read_manifest(source, image.descriptor)
        config = ImageConfig.from_bytes(read_verified(source, manifest.config))
        config.check_layers(manifest.layers, f"image {image.descriptor.digest}")
        found.append(ImageView(image.platform, image.descriptor, manifest, config))
    if not found:
        raise InvalidDocumentError(f"image {root.digest}", ["it holds no image with a platform"])
    return tuple(found)


def tags_with(store: Store, model_id: str) -> tuple[str, ...]:
    """The tags of images that were built of the model ``name:version``; an image that cannot be read has none."""
    found = []
    for tag, root in sorted(store.tags().items()):
        with suppress(EdgepackError):
            if any(model_id in image.config.labels.get(MODELS, "").split(",") for image in views(store, root)):
                found.append(tag)
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
