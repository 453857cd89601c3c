"""One file for an image that every tool takes: a tar that is an OCI layout and has Docker's ``manifest.json`` too.

``docker load`` reads ``manifest.json`` (and, with the containerd store, ``index.json``); Podman, skopeo and umoci read
either. Nothing but the images is inside: the containerd store takes every file for a blob.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from edgepack.documents import canonical_json
from edgepack.errors import UsageError
from edgepack.host.files import BY_UMASK, replacing
from edgepack.host.progress import Progress, unseen
from edgepack.limits import LIMITS
from edgepack.oci import graph, mediatypes
from edgepack.oci.archive.docker import MANIFEST_NAME
from edgepack.oci.archive.read import BLOBS, INDEX_NAME, LAYOUT_NAME, Archive
from edgepack.oci.copy import title_of
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest, VerifyingReader
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.platforms import PlatformImage, choose, platform_images, same
from edgepack.oci.reference import Reference, short_name
from edgepack.oci.sources import BlobSource
from edgepack.oci.tar.header import END, padding, tar_header

__all__ = ["Archive", "stream_archive", "write_archive"]

_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


def write_archive(
    source: BlobSource,
    images: Mapping[str, Descriptor],
    path: Path,
    *,
    platform: Platform | None = None,
    zstd: bool = False,
    progress: Progress = unseen,
) -> int:
    """Write ``images`` (reference, such as ``churn:1``, to what it names) from ``source`` to the file ``path``.

    The same images make the same bytes. Where an image has several platforms, all are in the archive, and
    ``manifest.json``, which can name one only, names that of ``platform`` (by default of this machine).
    ``path`` is replaced when all of it is on the disk, verified; until then, and after an error, it is as it was.
    A device or pipe is written through. ``progress`` watches each blob. Returns how many bytes were written.
    Raises ``UsageError`` for references and platforms that do not fit, and, unless ``zstd`` is given, for zstd layers,
    which Docker before 23 does not load; ``NotFoundError`` and ``VerificationError`` for missing and altered blobs,
    ``NoSpaceError``.
    """
    pieces = _archive(source, images, platform or Platform.host(), zstd, progress)
    with replacing(path, BY_UMASK) as file:
        return sum(file.write(piece) for piece in pieces)


def stream_archive(
    source: BlobSource, images: Mapping[str, Descriptor], stream: BinaryIO, *, platform: Platform | None = None
) -> None:
    """Write the same archive to ``stream``. After an error what came out is a tar without an end, which no tool loads.

    Raises what ``write_archive`` raises.
    """
    for piece in _archive(source, images, platform or Platform.host(), zstd=False, progress=unseen):
        stream.write(piece)


def _archive(
    source: BlobSource, images: Mapping[str, Descriptor], platform: Platform, zstd: bool, progress: Progress
) -> Iterator[bytes]:
    if not images:
        raise UsageError("no image is given", hint="name at least one")
    references = {tag: _reference(tag) for tag in images}
    documents = {
        INDEX_NAME: _index(images, references),
        MANIFEST_NAME: _docker_manifest(source, images, references, platform, zstd),
        LAYOUT_NAME: _LAYOUT,
    }
    blobs = {item.digest: item for root in images.values() for item in graph.walk(source, root)}
    return _tar(source, documents, [item for _, item in sorted(blobs.items())], progress)


def _tar(
    source: BlobSource, documents: Mapping[str, bytes], blobs: list[Descriptor], progress: Progress
) -> Iterator[bytes]:
    # The documents first, so that a reader knows early what is coming.
    for name, data in sorted(documents.items()):
        yield tar_header(name, size=len(data)) + data + padding(len(data))
    yield tar_header("blobs", "dir", mode=0o755) + tar_header(BLOBS, "dir", mode=0o755)
    for blob in blobs:
        yield tar_header(f"{BLOBS}/{blob.digest.hex}", size=blob.size)
        with source.open(blob) as stream, progress(title_of(blob), blob.size) as advance:
            reader = VerifyingReader(stream, blob.digest, blob.size)
            while chunk := reader.read(LIMITS.chunk_bytes):
                yield chunk
                advance(len(chunk))
        yield padding(blob.size)
    yield END


def _reference(tag: str) -> Reference:
    reference = Reference.parse(tag)
    if reference.digest is not None:
        raise UsageError("an archive names images by tag, not by digest", where=tag, hint="leave the digest out")
    return reference


def _index(images: Mapping[str, Descriptor], references: Mapping[str, Reference]) -> bytes:
    named: dict[str, Descriptor] = {}
    for tag, root in images.items():
        name = short_name(references[tag])
        if name in named:
            raise UsageError(f"two images for {name}", where=tag, hint="give each its own tag")
        notes = {mediatypes.REF_NAME: name, mediatypes.CONTAINERD_NAME: str(references[tag])}
        named[name] = root.with_annotations(notes)
    return Index(tuple(item for _, item in sorted(named.items()))).to_bytes()


def _docker_manifest(
    source: BlobSource,
    images: Mapping[str, Descriptor],
    references: Mapping[str, Reference],
    platform: Platform,
    zstd: bool,
) -> bytes:
    entries: dict[Digest, dict[str, Any]] = {}
    for tag, root in images.items():
        found = _images(tag, source, root)
        for one in found:
            _check_layers(tag, graph.read_manifest(source, one.descriptor), zstd)
        manifest = graph.read_manifest(source, _for_platform(tag, found, platform))
        new = {
            "Config": f"{BLOBS}/{manifest.config.digest.hex}",
            "Layers": [f"{BLOBS}/{layer.digest.hex}" for layer in manifest.layers],
            "RepoTags": [],
        }
        entries.setdefault(manifest.config.digest, new)["RepoTags"].append(short_name(references[tag]))
    for entry in entries.values():
        entry["RepoTags"].sort()
    return canonical_json([entry for _, entry in sorted(entries.items())])


def _check_layers(tag: str, manifest: Manifest, zstd: bool) -> None:
    for layer in manifest.layers:
        if layer.media_type in mediatypes.ZSTD_LAYERS and not zstd:
            raise UsageError(
                f"the layer {layer.digest} is compressed with zstd, which Docker before 23 does not load",
                where=tag,
                hint="build the image with gzip or plain layers",
            )


def _images(tag: str, source: BlobSource, root: Descriptor) -> Sequence[PlatformImage]:
    """The images below ``root``, each of which ``docker load`` could take."""
    found = platform_images(source, root)
    if not found:
        if root.media_type in mediatypes.INDEXES:
            raise UsageError("is an index without a container image", where=tag)
        kind = graph.read_manifest(source, root).config.media_type
        raise UsageError(f"is not a container image but {kind}", where=tag)
    return found


def _for_platform(tag: str, found: Sequence[PlatformImage], platform: Platform) -> Descriptor:
    """The image that ``docker load`` takes: a single one whatever its platform, or else the one for ``platform``.

    An archive may be written for another machine, so a single image need not run on this one.
    """
    chosen = found[0] if len(found) == 1 else choose(found, platform, same)
    if chosen is None:
        there = ", ".join(sorted(str(one.platform) for one in found))
        raise UsageError(f"has no image for {platform}", where=tag, hint=f"name one of its platforms: {there}")
    return chosen.descriptor
