"""The documents that are attached to images, found again at any place: an SBOM or a provenance statement."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgepack.documents import parse_foreign
from edgepack.errors import InvalidDocumentError, NotFoundError
from edgepack.oci import mediatypes
from edgepack.oci.attachments import HasReferrers, attached
from edgepack.oci.available import Available
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.mediatypes import ATTACHMENT_KIND
from edgepack.oci.platforms import platform_images
from edgepack.oci.sources import BlobSource
from packager.images.provenance import PREDICATE_TYPE

_TYPES = {"sbom": mediatypes.CYCLONEDX, "provenance": mediatypes.IN_TOTO}
_TITLES = {"sbom": "SBOM", "provenance": "provenance"}


@dataclass(frozen=True)
class Document:
    """What is attached to the image for ``platform``; ``is_ours`` when it says that edgepack made it."""

    platform: Platform
    image: Descriptor
    value: dict[str, Any]
    is_ours: bool


def documents(source: BlobSource, root: Descriptor, kind: str, where: object) -> tuple[Document, ...]:
    """The documents of ``kind`` (``sbom`` or ``provenance``) on each image that ``root`` names.

    Raises ``NotFoundError`` where there is none, ``InvalidDocumentError`` for one that is not what it is called or that
    is about another image, and what ``source`` raises.
    """
    if isinstance(source, Available):
        source = source.source
    found: list[Document] = []
    if isinstance(source, HasReferrers):
        for image in platform_images(source, root):
            found += _of_image(source, image.descriptor, image.platform, kind)
    if not found:
        raise NotFoundError(
            f"has no {_TITLES[kind]} attached", where=where,
            hint="images built before have none, and archives carry none; see the tag in the workspace, or build again",
        )  # fmt: skip
    return tuple(found)


def _of_image(source: HasReferrers, image: Descriptor, platform: Platform, kind: str) -> Iterator[Document]:
    for one in attached(source, image.digest, _TYPES[kind]):
        where = f"{_TITLES[kind]} of {image.digest}"
        value = parse_foreign(one.data, where)
        if kind == "provenance" and value.get("predicateType") != PREDICATE_TYPE:
            continue  # another statement of in-toto's about the image
        check_subject(value, kind, image, where)
        yield Document(platform, image, value, one.annotations.get(ATTACHMENT_KIND) == kind)


def check_subject(value: dict[str, Any], kind: str, image: Descriptor, where: object) -> None:
    """Raise ``InvalidDocumentError`` for a document that says itself that it is about another image.

    An SBOM of another tool need not say it.
    """
    if kind == "provenance":
        subjects = value.get("subject")
        digests = [
            one["digest"].get("sha256")
            for one in (subjects if isinstance(subjects, list) else [])
            if isinstance(one, dict) and isinstance(one.get("digest"), dict)
        ]
        if image.digest.hex not in digests:
            raise InvalidDocumentError(where, ["is about another image"])
        return
    if value.get("bomFormat") != "CycloneDX":
        raise InvalidDocumentError(where, ["is not a CycloneDX document"])
    component = value.get("metadata", {}).get("component") if isinstance(value.get("metadata"), dict) else None
    version = component.get("version") if isinstance(component, dict) else None
    if isinstance(version, str) and version.startswith("sha256:") and version != str(image.digest):
        raise InvalidDocumentError(where, [f"is about another image, {version}"])


def sbom_rows(document: Document) -> list[dict[str, str]]:
    """The components of an SBOM as rows of a table: what, its version, its licences, and where it comes from."""
    return list(_rows(document.value.get("components"), "image", str(document.platform)))


def _rows(components: object, inside: str, platform: str) -> Iterator[dict[str, str]]:
    for one in components if isinstance(components, list) else []:
        if not isinstance(one, dict):
            continue
        name, kind = str(one.get("name", "")), str(one.get("type", ""))
        yield {
            "platform": platform,
            "type": kind,
            "name": name,
            "version": str(one.get("version", ""))[:40],
            "licence": _licences(one.get("licenses")),
            "where": inside,
        }
        # The files of code and models are in the document itself.
        if kind not in ("file", "data", "machine-learning-model", "application"):
            yield from _rows(one.get("components"), name, platform)


def _licences(value: object) -> str:
    names = []
    for one in value if isinstance(value, list) else []:
        if isinstance(one, dict):
            licence = one.get("license")
            held = licence if isinstance(licence, dict) else one
            names.append(str(held.get("expression") or held.get("id") or held.get("name") or ""))
    shown = [name for name in names if name]
    return ", ".join(shown) if len(shown) <= 3 else f"{', '.join(shown[:3])} and {len(shown) - 3} more"


def provenance_rows(document: Document) -> list[dict[str, str]]:
    """A provenance statement as rows of a table: what was asked for, what it was built of, and by what."""
    predicate = _object(document.value.get("predicate"))
    definition, details = _object(predicate.get("buildDefinition")), _object(predicate.get("runDetails"))
    rows = [("asked", name, _short(value)) for name, value in _object(definition.get("externalParameters")).items()]
    listed = definition.get("resolvedDependencies")
    for one in listed if isinstance(listed, list) else []:
        known = _object(one)
        digest = _object(known.get("digest")).get("sha256", "")
        rows.append(("from", str(known.get("uri") or known.get("name", "")), f"sha256:{digest}"))
    builder = _object(_object(details.get("builder")).get("version"))
    rows += [("by", name, _short(value)) for name, value in builder.items()]
    shown = [row for row in rows if row[2]]
    return [
        {"platform": str(document.platform), "part": part, "name": name, "value": value} for part, name, value in shown
    ]


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name}={_short(item)}" for name, item in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else "" if value is None else str(value)


def _object(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}
