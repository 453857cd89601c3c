"""The files of a model out of its layers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO, cast

from edgepack.errors import NotFoundError
from edgepack.limits import LIMITS
from edgepack.oci.digest import VerifyingReader
from edgepack.oci.layer import Layer
from edgepack.oci.store import Store
from edgepack.oci.tar.compression import decompressed
from edgepack.oci.unpack import unpack_layer
from packager.layers.paths import model_dir
from packager.models.model import Model


def extract(store: Store, model: Model, target: Path) -> Path:
    """Unpack the files of ``model`` below ``target``; returns its file or folder, or the folder that holds several.

    Raises ``NotFoundError``.
    """
    unpack_layers(store, model.layers, target)
    folder = target / model_dir(model.name, model.version)
    found = list(folder.iterdir()) if folder.exists() else []
    if not found:
        raise NotFoundError("its files are not in the store", where=f"model {model.id}", hint="register it again")
    return found[0] if len(found) == 1 else folder


def unpack_layers(store: Store, layers: Sequence[Layer], target: Path, *, keep_owner: bool | None = None) -> None:
    """Unpack ``layers`` into one tree ``target``, verified by their digests; what they need meanwhile is beside it.

    Raises ``NotFoundError`` for a layer that is not in the store, ``VerificationError`` for one that is not sound.
    """
    for at, layer in enumerate(layers):
        part = target.with_name(f"{target.name}-{at}")
        part.mkdir(parents=True)
        with store.open(layer.descriptor) as stream:
            reader = cast(BinaryIO, VerifyingReader(stream, layer.descriptor.digest, layer.descriptor.size))
            unpack_layer(decompressed(reader, layer.descriptor, layer.unpacked_size), part, keep_owner=keep_owner)
            while reader.read(LIMITS.chunk_bytes):  # what follows the archive is part of the digest too
                pass
        _merge(part, target)


def _merge(part: Path, target: Path) -> None:
    """Move the tree ``part`` into the tree ``target``; only folders are in both."""
    if not target.exists():
        part.rename(target)
        return
    for child in part.iterdir():
        other = target / child.name
        if child.is_dir() and not child.is_symlink() and other.exists():
            _merge(child, other)
        else:
            child.rename(other)
