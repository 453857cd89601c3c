"""What the entries of a layout's ``index.json`` are: images, and what is attached to them or is a part of them.

Attached artifacts are listed in one of two ways: by a tag made of the subject's digest, as edgepack does
(distribution-spec 1.1, "Referrers Tag Schema"), or each as an entry without a name, as ORAS lists every manifest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from edgepack.oci import mediatypes
from edgepack.oci.available import HoldsBlobs
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.graph import children, read_manifest
from edgepack.oci.manifest import Manifest
from edgepack.oci.reference import is_referrers_tag, referrers_tag

_NAMES = (mediatypes.REF_NAME, mediatypes.CONTAINERD_NAME)


def images_of(source: HoldsBlobs, entries: Sequence[Descriptor]) -> tuple[Descriptor, ...]:
    """The images among ``entries``: all with a name, and those without that belong to no other entry."""
    parts = {
        child.digest
        for entry in entries
        if entry.media_type in mediatypes.INDEXES and source.has(entry)
        for child in children(source, entry)
    }
    return tuple(
        entry
        for entry in entries
        if not is_referrers_tag(entry.annotations.get(mediatypes.REF_NAME, ""))
        and (_has_name(entry) or not (entry.artifact_type or entry.digest in parts or _subject_of(source, entry)))
    )


def referrers_of(source: HoldsBlobs, entries: Sequence[Descriptor], subject: Digest) -> tuple[Descriptor, ...]:
    """The artifacts attached to ``subject``, as far as they are there."""
    found: dict[Digest, Descriptor] = {}
    for entry in entries:
        if entry.annotations.get(mediatypes.REF_NAME) == referrers_tag(subject) and source.has(entry):
            found |= {item.digest: item for item in children(source, entry) if source.has(item)}
        elif not _has_name(entry) and _subject_of(source, entry) == subject:
            found[entry.digest] = _typed(entry, read_manifest(source, entry))
    return tuple(item for _, item in sorted(found.items()))


def _has_name(entry: Descriptor) -> bool:
    return any(name in entry.annotations for name in _NAMES)


def _subject_of(source: HoldsBlobs, entry: Descriptor) -> Digest | None:
    if entry.media_type not in mediatypes.MANIFESTS or not source.has(entry):
        return None
    subject = read_manifest(source, entry).subject
    return None if subject is None else subject.digest


def _typed(entry: Descriptor, manifest: Manifest) -> Descriptor:
    """As a registry lists it (distribution-spec 1.1, "Listing Referrers")."""
    return replace(entry, artifact_type=manifest.artifact_type or manifest.config.media_type)
