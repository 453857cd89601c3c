"""The list at the head of a bundle: what it brings, in the order of the tar (schema ``edgepack.bundle/v1``)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgepack.documents import Fields, canonical_json, parse_object, raise_all
from edgepack.errors import EdgepackError, InvalidDocumentError, TooLargeError, UsageError
from edgepack.limits import Limits
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.reference import Reference, short_name

SCHEMA = "edgepack.bundle/v1"
PAYLOAD_TYPE = "application/vnd.edgepack.bundle.v1+json"
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9._/:@+-]{0,254}")
_RESERVED = re.compile(r"sha256[:-].*")
# What must be read to verify an image. It is small, and stands before everything else in the tar.
_HEAD = mediatypes.INDEXES | mediatypes.MANIFESTS | mediatypes.CONFIGS | {mediatypes.EMPTY, mediatypes.DSSE}


@dataclass(frozen=True)
class NamedImage:
    """An image or index and the tag that it gets."""

    name: str
    descriptor: Descriptor


@dataclass(frozen=True)
class Referrer:
    """An artifact and the image or index that it is attached to."""

    subject: Digest
    descriptor: Descriptor


@dataclass(frozen=True)
class Contents:
    """What a bundle brings.

    ``blobs`` are in the tar, in this order, what verifies before what runs; ``omitted`` are needed too, and the
    receiver said that it holds them. With a ``platform``, only that platform of each image is complete. With ``docker``
    the tar is an archive of its one image too, which ``docker load`` takes.
    """

    images: tuple[NamedImage, ...]
    referrers: tuple[Referrer, ...]
    blobs: tuple[Descriptor, ...]
    omitted: tuple[Descriptor, ...] = ()
    platform: Platform | None = None
    docker: bool = False

    @property
    def head(self) -> tuple[Descriptor, ...]:
        """The blobs that verification reads: indexes, manifests, configurations, envelopes."""
        return tuple(blob for blob in self.blobs if is_head(blob))

    @property
    def body(self) -> tuple[Descriptor, ...]:
        """The other blobs: layers."""
        return tuple(blob for blob in self.blobs if not is_head(blob))

    def check_limits(self, limits: Limits, where: object) -> None:
        """Raise ``TooLargeError`` when verification would have to read more than ``limits`` allow."""
        most = limits.bundle_document_bytes
        for blob in self.head:
            if blob.size > most:
                raise TooLargeError(
                    f"{blob.digest} has {blob.size} bytes and is read whole; at most {most} may be", where=where
                )
        if (total := sum(blob.size for blob in self.head)) > limits.bundle_head_bytes:
            raise TooLargeError(
                f"its manifests and statements have {total} bytes; at most {limits.bundle_head_bytes} are read",
                where=where,
                hint="make several bundles",
            )

    def layout_index(self) -> bytes:
        """The ``index.json`` that makes the tar an OCI layout: the tags, and the artifacts without a tag.

        For Docker the image alone is named: its containerd store would make an image of each artifact.
        """
        if self.docker:
            name = self.images[0].name
            notes = {mediatypes.REF_NAME: name, mediatypes.CONTAINERD_NAME: str(Reference.parse(name))}
            return Index((self.images[0].descriptor.with_annotations(notes),)).to_bytes()
        named = [one.descriptor.with_annotations({mediatypes.REF_NAME: one.name}) for one in self.images]
        return Index((*named, *(one.descriptor for one in self.referrers))).to_bytes()

    def to_bytes(self) -> bytes:
        """The canonical JSON of the list."""
        return canonical_json(
            {
                "schema": SCHEMA,
                "platform": None if self.platform is None else str(self.platform),
                "images": [{"name": one.name, "descriptor": one.descriptor.to_json()} for one in self.images],
                "referrers": [
                    {"subject": str(one.subject), "descriptor": one.descriptor.to_json()} for one in self.referrers
                ],
                "blobs": [bare(blob).to_json() for blob in self.blobs],
                "omitted": [bare(blob).to_json() for blob in self.omitted],
                **({"docker": True} if self.docker else {}),
            }
        )

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "bundle list") -> Contents:
        """Read a list; raises ``InvalidDocumentError`` with every violation."""
        violations: list[str] = []
        fields = Fields(parse_object(data, where), "", violations)
        fields.schema(SCHEMA)
        contents = cls(
            images=fields.read_each("images", _image),
            referrers=fields.read_each("referrers", _referrer),
            blobs=fields.read_each("blobs", Descriptor.from_json),
            omitted=fields.read_each("omitted", Descriptor.from_json),
            platform=fields.parsed("platform", Platform.parse, required=False),
            docker=fields.take("docker", bool, False) or False,
        )
        fields.finish()
        raise_all(where, [*violations, *_violations(contents)])
        if contents.to_bytes() != data:
            raise InvalidDocumentError(
                where, ["is not written as a bundle's list is: its fields sorted, and no others"]
            )
        return contents


def is_head(blob: Descriptor) -> bool:
    """Whether verification reads the blob."""
    return blob.media_type in _HEAD


def bare(blob: Descriptor) -> Descriptor:
    """The descriptor with media type, digest and size alone."""
    return Descriptor(blob.media_type, blob.digest, blob.size)


def checked_name(name: object) -> str:
    """``name`` when a bundle can bring it as a tag; raises ``UsageError``."""
    if not isinstance(name, str) or not _TAG.fullmatch(name) or _RESERVED.fullmatch(name):
        raise UsageError(f"{name!r} cannot be the tag of an image in a bundle", hint="tag the image with a name")
    return name


def is_archive(contents: Contents) -> bool:
    """Whether the bundle can be an archive that ``docker load`` takes: one image, for one platform, whole."""
    if len(contents.images) != 1 or contents.omitted:
        return False
    image = contents.images[0]
    if image.descriptor.media_type not in mediatypes.MANIFESTS or ":" not in image.name:
        return False
    try:
        reference = Reference.parse(image.name)
    except EdgepackError:
        return False
    # Docker before 23 does not unpack zstd.
    return reference.digest is None and not any(blob.media_type in mediatypes.ZSTD_LAYERS for blob in contents.body)


def docker_manifest(contents: Contents, manifest: Manifest) -> bytes:
    """The ``manifest.json`` of Docker's archives, for the one image, whose manifest is ``manifest``."""
    entry = {
        "Config": f"blobs/sha256/{manifest.config.digest.hex}",
        "Layers": [f"blobs/sha256/{layer.digest.hex}" for layer in manifest.layers],
        "RepoTags": [short_name(Reference.parse(contents.images[0].name))],
    }
    return canonical_json([entry])


def _violations(contents: Contents) -> list[str]:
    wrong = []
    listed = Counter(blob.digest for blob in (*contents.blobs, *contents.omitted))
    wrong += [f"{digest} is listed twice" for digest, times in listed.items() if times > 1]
    names = Counter(one.name for one in contents.images)
    wrong += [f"two images are called {name!r}" for name, times in names.items() if times > 1]
    if not contents.images:
        wrong.append("images must not be empty")
    if (*contents.head, *contents.body) != contents.blobs:
        wrong.append("blobs must have manifests, configurations and envelopes before layers")
    if contents.docker and not is_archive(contents):
        wrong.append("docker must be left out: it is for one whole image, by name and tag")
    roots = [one.descriptor for one in contents.images] + [one.descriptor for one in contents.referrers]
    wrong += [f"{root.digest} is neither in blobs nor in omitted" for root in roots if root.digest not in listed]
    return wrong


def _image(value: Any, where: str) -> NamedImage:
    if not isinstance(value, Mapping):
        raise InvalidDocumentError(where, ["must be an object"])
    return NamedImage(checked_name(value.get("name")), Descriptor.from_json(value.get("descriptor"), where))


def _referrer(value: Any, where: str) -> Referrer:
    if not isinstance(value, Mapping):
        raise InvalidDocumentError(where, ["must be an object"])
    return Referrer(Digest.parse(value.get("subject")), Descriptor.from_json(value.get("descriptor"), where))
