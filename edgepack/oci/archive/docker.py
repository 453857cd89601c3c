"""Archives of ``docker save`` before Docker 25 and of ``podman save``: ``manifest.json`` and plain layer tars.

They hold no OCI manifest, so one is made here: the configuration's bytes as they are, so that the image keeps its ID,
and the layers as they lie there. Format: moby, ``image/spec/v1.2.md``, "Combined Image JSON + Filesystem Changeset".
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgepack.documents import parse_foreign_list
from edgepack.errors import DigestMismatchError, InvalidDocumentError, NotFoundError, VerificationError
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Manifest
from edgepack.oci.tar.compression import decompressed
from edgepack.oci.tar.index import TarIndex

MANIFEST_NAME = "manifest.json"
_GZIP_MAGIC = b"\x1f\x8b"
_ID_NAME = re.compile(r"(?:blobs/sha256/)?([a-f0-9]{64})(?:\.json)?")


@dataclass(frozen=True)
class DockerArchive:
    """The images by tag (by digest without one), the file of each blob, and the manifests that we made."""

    images: Mapping[str, Descriptor]
    files: Mapping[Digest, str]
    documents: Mapping[Digest, bytes]


def read_docker_archive(tar: TarIndex, limit: int) -> DockerArchive:
    """Read ``tar``, hashing every layer once; a compressed layer may unpack to ``limit`` bytes.

    Raises ``VerificationError`` when something named is missing or is not what the configuration says.
    """
    images: dict[str, Descriptor] = {}
    files: dict[Digest, str] = {}
    documents: dict[Digest, bytes] = {}
    hashed: dict[str, tuple[Descriptor, Digest]] = {}
    for entry in _entries(tar):
        config_name, data = _config(tar, entry)
        config = Descriptor(mediatypes.CONFIG, Digest.of(data), len(data))
        files[config.digest] = config_name
        diff_ids = _diff_ids(data, tar, config_name)
        names = _names(entry, "Layers", tar)
        if len(names) != len(diff_ids):
            raise VerificationError(
                f"{config_name!r} names {len(diff_ids)} layers and {MANIFEST_NAME} {len(names)}", where=tar.path
            )
        layers = []
        for name, diff_id in zip(names, diff_ids, strict=True):
            if name not in hashed:
                hashed[name] = _hash(tar, name, limit)
            layer, found = hashed[name]
            if found != diff_id:
                raise DigestMismatchError(
                    f"the layer {name!r} hashes to {found} and {config_name!r} names {diff_id}",
                    where=tar.path,
                    hint="save the image again",
                )
            files[layer.digest] = name
            layers.append(layer)
        document = Manifest(config, tuple(layers)).to_bytes()
        image = Descriptor(mediatypes.MANIFEST, Digest.of(document), len(document))
        documents[image.digest] = document
        for tag in _names(entry, "RepoTags", tar) or (str(image.digest),):
            images[tag] = image
    return DockerArchive(images, files, documents)


def _entries(tar: TarIndex) -> list[dict[str, Any]]:
    try:
        value = parse_foreign_list(tar.read(MANIFEST_NAME, LIMITS.manifest_bytes), MANIFEST_NAME)
    except NotFoundError as error:
        raise VerificationError(
            f"not an image archive: it has neither index.json nor {MANIFEST_NAME}", where=tar.path
        ) from error
    except InvalidDocumentError as error:
        raise VerificationError(str(error), where=tar.path) from error
    if not value or not all(isinstance(entry, dict) for entry in value):
        raise VerificationError(f"{MANIFEST_NAME} is not a list of images", where=tar.path)
    return value


def _names(entry: dict[str, Any], key: str, tar: TarIndex) -> tuple[str, ...]:
    value = entry.get(key) or []
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise VerificationError(f"{key} in {MANIFEST_NAME} is not a list of names", where=tar.path)
    return tuple(value)


def _config(tar: TarIndex, entry: dict[str, Any]) -> tuple[str, bytes]:
    name = entry.get("Config")
    if not isinstance(name, str):
        raise VerificationError(f"{MANIFEST_NAME} has an image without Config", where=tar.path)
    try:
        data = tar.read(name, LIMITS.manifest_bytes)
    except NotFoundError as error:
        raise VerificationError(f"the configuration {name!r} is missing", where=tar.path) from error
    named = _ID_NAME.fullmatch(name)
    if named and Digest(named[1]) != Digest.of(data):
        raise DigestMismatchError(
            f"the configuration {name!r} hashes to {Digest.of(data)}", where=tar.path, hint="save the image again"
        )
    return name, data


def _diff_ids(data: bytes, tar: TarIndex, name: str) -> tuple[Digest, ...]:
    try:
        return ImageConfig.from_bytes(data).diff_ids
    except InvalidDocumentError as error:
        raise VerificationError(f"{name!r}: {'; '.join(error.violations)}", where=tar.path) from error


def _hash(tar: TarIndex, name: str, limit: int) -> tuple[Descriptor, Digest]:
    """The layer's descriptor and its diff ID, in one pass each."""
    if name not in tar.sizes:
        raise VerificationError(f"the layer {name!r} is missing", where=tar.path, hint="save the image again")
    whole = hashlib.sha256()
    with tar.open(name) as stream:
        packed = stream.read(2) == _GZIP_MAGIC
    with tar.open(name) as stream:
        while chunk := stream.read(LIMITS.chunk_bytes):
            whole.update(chunk)
    digest = Digest(whole.hexdigest())
    if not packed:
        return Descriptor(mediatypes.LAYER, digest, tar.sizes[name]), digest
    layer = Descriptor(mediatypes.LAYER_GZIP, digest, tar.sizes[name])
    plain = hashlib.sha256()
    with tar.open(name) as stream:
        unpacked = decompressed(stream, layer, limit)
        while chunk := unpacked.read(LIMITS.chunk_bytes):
            plain.update(chunk)
    return layer, Digest(plain.hexdigest())
