"""Manifests and indexes as immutable values (image-spec 1.1, manifest.md, image-index.md).

``to_bytes`` is canonical: sorted keys, no white space, UTF-8, so that equal values have equal digests.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgepack.documents import canonical_json, parse_foreign
from edgepack.errors import InvalidDocumentError
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.fields import list_of, text_field, text_map


def _media_type(value: Mapping[str, Any], known: frozenset[str], implied: str, other: str, where: object) -> str:
    """The document's own type; it must not be readable as two kinds of document (manifest.md, "mediaType")."""
    check_schema(value, where)
    if value.get("schemaVersion") != 2:
        raise InvalidDocumentError(where, ["schemaVersion must be 2"])
    # Before mediaType was asked for, manifests and indexes were told apart by their fields alone.
    found = text_field(value, "mediaType", where) or implied
    if found not in known or other in value:
        raise InvalidDocumentError(where, [f"{found!r} with {sorted(value)} is another kind of document"])
    return found


def check_schema(value: Mapping[str, Any], where: object) -> None:
    """Raise ``InvalidDocumentError`` for a manifest of Docker's schema 1."""
    if value.get("schemaVersion") == 1:
        raise schema_1_error(where)


def schema_1_error(where: object) -> InvalidDocumentError:
    """The error for a manifest of Docker's schema 1, which names no configuration and no sizes."""
    return InvalidDocumentError(
        where,
        ["is a manifest of Docker's schema 1, which is not supported"],
        hint="pull the image with Docker and push it again, which makes a newer manifest",
    )


@dataclass(frozen=True)
class Manifest:
    """An image manifest, or an artifact's when ``artifact_type`` is set."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = mediatypes.MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict)
    subject: Descriptor | None = None
    artifact_type: str | None = None

    @classmethod
    def from_bytes(
        cls, data: bytes, where: object = "image manifest", *, implied: str = mediatypes.MANIFEST
    ) -> Manifest:
        """Read a manifest, of the type ``implied`` when it does not name its own; raises ``InvalidDocumentError``."""
        value = parse_foreign(data, where)
        media_type = _media_type(value, mediatypes.MANIFESTS, implied, "manifests", where)
        subject = value.get("subject")
        return cls(
            config=Descriptor.from_json(value.get("config"), f"{where}: config"),
            layers=list_of(value.get("layers"), Descriptor.from_json, where, "layers"),
            media_type=media_type,
            annotations=text_map(value.get("annotations"), where, "annotations"),
            subject=None if subject is None else Descriptor.from_json(subject, f"{where}: subject"),
            artifact_type=text_field(value, "artifactType", where) or None,
        )

    def to_bytes(self) -> bytes:
        """The canonical JSON of the manifest."""
        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.to_json(),
            "layers": [layer.to_json() for layer in self.layers],
        }
        if self.artifact_type is not None:
            value["artifactType"] = self.artifact_type
        if self.subject is not None:
            value["subject"] = self.subject.to_json()
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return canonical_json(value)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """What the manifest needs: its configuration and layers."""
        return (self.config, *self.layers)


@dataclass(frozen=True)
class Index:
    """An image index: one manifest for each platform, or the tags of a layout."""

    manifests: tuple[Descriptor, ...] = ()
    media_type: str = mediatypes.INDEX
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "image index", *, implied: str = mediatypes.INDEX) -> Index:
        """Read an index, of the type ``implied`` when it does not name its own; raises ``InvalidDocumentError``."""
        value = parse_foreign(data, where)
        media_type = _media_type(value, mediatypes.INDEXES, implied, "layers", where)
        return cls(
            manifests=list_of(value.get("manifests"), Descriptor.from_json, where, "manifests"),
            media_type=media_type,
            annotations=text_map(value.get("annotations"), where, "annotations"),
        )

    def to_bytes(self) -> bytes:
        """The canonical JSON of the index."""
        value: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [item.to_json() for item in self.manifests],
        }
        if self.annotations:
            value["annotations"] = dict(self.annotations)
        return canonical_json(value)
