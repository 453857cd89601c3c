"""One file for an image that every tool takes: a tar that is an OCI layout and has Docker's ``manifest.json`` too.

``docker load`` reads ``manifest.json`` (and, with the containerd store, ``index.json``); Podman, skopeo and umoci read
either. Nothing but the images is inside: the containerd store takes every file for a blob.
"""

from __future__ import annotations

import tarfile
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Any, BinaryIO, Self

from edgepack.errors import (
    InvalidDocumentError,
    InvalidReferenceError,
    NotFoundError,
    SizeMismatchError,
    UsageError,
    VerificationError,
)
from edgepack.files import replacing
from edgepack.oci import copy, mediatypes
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest, VerifyingReader
from edgepack.oci.docker_archive import MANIFEST_NAME, DockerArchive, read_docker_archive
from edgepack.oci.manifest import MAX_MANIFEST_SIZE, Index, Manifest, canonical_json
from edgepack.oci.places import BlobSource
from edgepack.oci.reference import DOCKER_HUB, Reference
from edgepack.oci.tarindex import MAX_UNPACKED, TarIndex

_LAYOUT_NAME, _INDEX_NAME, _BLOBS = "oci-layout", "index.json", "blobs/sha256"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'
_CHUNK = 1 << 20


def write_archive(
    source: BlobSource, images: Mapping[str, Descriptor], path: Path, *, platform: Platform | None = None
) -> None:
    """Write ``images`` (reference, such as ``churn:1``, to what it names) from ``source`` to the file ``path``.

    The same images make the same bytes. Where an image has several platforms, all are in the archive, and
    ``manifest.json``, which can name one only, names that of ``platform`` (by default of this machine).
    ``path`` is replaced when all of it is on the disk, verified; until then, and after an error, it is as it was.
    Raises ``UsageError`` for zstd layers, which Docker before 23 does not load, and for references and platforms that
    do not fit, ``NotFoundError`` and ``VerificationError`` for missing and altered blobs, ``NoSpaceError``.
    """
    pieces = _archive(source, images, platform or Platform.host())
    with replacing(path) as file:
        for piece in pieces:
            file.write(piece)


def stream_archive(
    source: BlobSource, images: Mapping[str, Descriptor], stream: BinaryIO, *, platform: Platform | None = None
) -> None:
    """Write the same archive to ``stream``. After an error what came out is a tar without an end, which no tool loads.

    Raises what ``write_archive`` raises.
    """
    for piece in _archive(source, images, platform or Platform.host()):
        stream.write(piece)


def _archive(source: BlobSource, images: Mapping[str, Descriptor], platform: Platform) -> Iterator[bytes]:
    if not images:
        raise UsageError("there is no image to write", hint="name at least one")
    references = {tag: _reference(tag) for tag in images}
    documents = {
        _INDEX_NAME: _index(images, references),
        MANIFEST_NAME: _docker_manifest(source, images, references, platform),
        _LAYOUT_NAME: _LAYOUT,
    }
    blobs = {item.digest: item for root in images.values() for item in copy.walk(source, root)}
    return _tar(source, documents, [item for _, item in sorted(blobs.items())])


def _tar(source: BlobSource, documents: Mapping[str, bytes], blobs: list[Descriptor]) -> Iterator[bytes]:
    # The documents first, so that a reader knows early what is coming.
    for name, data in sorted(documents.items()):
        yield _header(name, len(data)) + data + _padding(len(data))
    yield _header("blobs") + _header(_BLOBS)
    for blob in blobs:
        yield _header(f"{_BLOBS}/{blob.digest.hex}", blob.size)
        with source.open(blob) as stream:
            reader = VerifyingReader(stream, blob.digest, blob.size)
            while chunk := reader.read(_CHUNK):
                yield chunk
        yield _padding(blob.size)
    yield bytes(2 * tarfile.BLOCKSIZE)


def _header(name: str, size: int | None = None) -> bytes:
    info = tarfile.TarInfo(name)
    info.type, info.mode = (tarfile.DIRTYPE, 0o755) if size is None else (tarfile.REGTYPE, 0o644)
    info.size = size or 0
    try:
        return info.tobuf(tarfile.USTAR_FORMAT, "ascii", "strict")
    except ValueError:  # 8 GiB and more do not fit in a USTAR header
        return info.tobuf(tarfile.PAX_FORMAT, "ascii", "strict")


def _padding(size: int) -> bytes:
    return bytes(-size % tarfile.BLOCKSIZE)


def _reference(tag: str) -> Reference:
    reference = Reference.parse(tag)
    if reference.digest is not None:
        raise UsageError("an archive names images by tag, not by digest", where=tag, hint="leave the digest out")
    return reference


def _familiar(reference: Reference) -> str:
    """The reference as Docker shows it: without ``docker.io/library/``."""
    return str(reference).removeprefix(f"{DOCKER_HUB}/").removeprefix("library/")


def _index(images: Mapping[str, Descriptor], references: Mapping[str, Reference]) -> bytes:
    named: dict[str, Descriptor] = {}
    for tag, root in images.items():
        name = _familiar(references[tag])
        if name in named:
            raise UsageError(f"two images for {name}", where=tag, hint="give each its own tag")
        notes = {mediatypes.REF_NAME: name, mediatypes.CONTAINERD_NAME: str(references[tag])}
        named[name] = root.with_annotations(notes)
    return Index(tuple(item for _, item in sorted(named.items()))).to_bytes()


def _docker_manifest(
    source: BlobSource, images: Mapping[str, Descriptor], references: Mapping[str, Reference], platform: Platform
) -> bytes:
    entries: dict[Digest, dict[str, Any]] = {}
    for tag, root in images.items():
        found = copy.images(source, root)
        for _, manifest in found:
            _check_image(tag, manifest)
        manifest = _for_platform(tag, found, platform)
        new = {
            "Config": f"{_BLOBS}/{manifest.config.digest.hex}",
            "Layers": [f"{_BLOBS}/{layer.digest.hex}" for layer in manifest.layers],
            "RepoTags": [],
        }
        entries.setdefault(manifest.config.digest, new)["RepoTags"].append(_familiar(references[tag]))
    for entry in entries.values():
        entry["RepoTags"].sort()
    return canonical_json([entry for _, entry in sorted(entries.items())])


def _check_image(tag: str, manifest: Manifest) -> None:
    if manifest.config.media_type not in mediatypes.CONFIGS:
        raise UsageError(f"is no container image but {manifest.config.media_type}", where=tag)
    for layer in manifest.layers:
        if layer.media_type in mediatypes.ZSTD_LAYERS:
            raise UsageError(
                f"the layer {layer.digest} is compressed with zstd, which Docker before 23 does not load",
                where=tag,
                hint="build the image with gzip or plain layers",
            )


def _for_platform(tag: str, found: tuple[tuple[Descriptor, Manifest], ...], platform: Platform) -> Manifest:
    if len(found) == 1:
        return found[0][1]
    for descriptor, manifest in found:
        if descriptor.platform == platform:
            return manifest
    there = ", ".join(sorted(str(descriptor.platform) for descriptor, _ in found)) or "none"
    raise UsageError(f"has no image for {platform}", where=tag, hint=f"name one of its platforms: {there}")


class Archive:
    """The images in the file ``path``: an OCI layout in a tar, or what ``docker save`` and ``podman save`` write.

    A blob source; use as a context manager. Reading writes nothing, and what ``open`` yields is not verified: whoever
    takes it hashes it. A gzip-compressed tar may unpack to ``limit`` bytes.
    Raises ``NotFoundError`` when there is no such file, ``VerificationError`` for one that is truncated, altered where
    that shows, incomplete or unsafe, ``UsageError`` for zstd, ``NoSpaceError`` when unpacking gzip fills the disk.
    """

    def __init__(self, path: Path, limit: int = MAX_UNPACKED) -> None:
        self.path = path
        self._tar = TarIndex(path, limit)
        try:
            with _as_verification(path):
                docker = None if self._has_layout() else read_docker_archive(self._tar, limit)
                self._files, self._documents = self._blobs(docker)
                self._images = (
                    self._named() if docker is None else {_as_shown(tag): item for tag, item in docker.images.items()}
                )
                for tag, root in self._images.items():
                    self._check_complete(root)
                    if tag != str(root.digest):
                        self._images[tag] = root.with_annotations({mediatypes.REF_NAME: tag})
        except BaseException:
            self._tar.close()
            raise

    def images(self) -> Mapping[str, Descriptor]:
        """The images by tag, which their ``ref.name`` annotation repeats; one without a tag by its digest."""
        return MappingProxyType(self._images)

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is in the archive, with the announced size."""
        return self._size(descriptor.digest) == descriptor.size

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """The blob's bytes from ``offset`` on, not verified; raises ``NotFoundError`` or ``SizeMismatchError``."""
        size = self._size(descriptor.digest)
        if size is None:
            raise NotFoundError(f"blob {descriptor.digest} is not in it", where=self.path)
        if size != descriptor.size:
            raise SizeMismatchError(
                f"blob {descriptor.digest} is {size} bytes and was announced with {descriptor.size}", where=self.path
            )
        with self._open(descriptor.digest, offset) as stream:
            yield stream

    def close(self) -> None:
        """Close the file."""
        self._tar.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _has_layout(self) -> bool:
        return _INDEX_NAME in self._tar.sizes and _LAYOUT_NAME in self._tar.sizes

    def _blobs(self, docker: DockerArchive | None) -> tuple[Mapping[Digest, str], Mapping[Digest, bytes]]:
        if docker is not None:
            return docker.files, docker.documents
        files = {}
        for name in self._tar.sizes:
            if name.startswith(f"{_BLOBS}/"):
                files[Digest.parse(f"sha256:{name.removeprefix(f'{_BLOBS}/')}")] = name
        return files, {}

    def _named(self) -> dict[str, Descriptor]:
        index = Index.from_bytes(self._tar.read(_INDEX_NAME, MAX_MANIFEST_SIZE), _INDEX_NAME)
        found: dict[str, Descriptor] = {}
        for item in index.manifests:
            if item.media_type not in mediatypes.INDEXES | mediatypes.MANIFESTS:
                continue
            name = _name(item)
            if found.setdefault(name, item).digest != item.digest:
                raise VerificationError(f"{_INDEX_NAME} names {name!r} twice")
        if not found:
            raise VerificationError(f"{_INDEX_NAME} names no image")
        return found

    def _check_complete(self, root: Descriptor) -> None:
        """Of an index some platforms may be missing, as ``docker save`` leaves them out; an image is whole."""
        if root.media_type in mediatypes.INDEXES:
            children = Index.from_bytes(copy.read_verified(self, root), f"index {root.digest}").manifests
            present = [child for child in children if child.media_type in mediatypes.MANIFESTS and self.has(child)]
        else:
            present = [root]
        for descriptor in present:
            data = copy.read_verified(self, descriptor)
            for blob in Manifest.from_bytes(data, f"manifest {descriptor.digest}").blobs:
                if not self.has(blob):
                    raise VerificationError(f"blob {blob.digest} is missing or has another size", where=descriptor.digest)

    def _size(self, digest: Digest) -> int | None:
        if digest in self._documents:
            return len(self._documents[digest])
        return self._tar.sizes[self._files[digest]] if digest in self._files else None

    def _open(self, digest: Digest, offset: int) -> AbstractContextManager[BinaryIO]:
        if digest in self._documents:
            return BytesIO(self._documents[digest][offset:])
        return self._tar.open(self._files[digest], offset)


def _name(item: Descriptor) -> str:
    """The name of an entry of index.json. Docker keeps only the tag in ref.name, all of it in containerd's name."""
    short, full = (item.annotations.get(key, "") for key in (mediatypes.REF_NAME, mediatypes.CONTAINERD_NAME))
    return _as_shown(short if ":" in short or not full else full) or str(item.digest)


def _as_shown(name: str) -> str:
    """A full reference without ``docker.io/library/``; another name, such as a bare tag, as it is."""
    try:
        return _familiar(Reference.parse(name)) if ":" in name and not name.startswith("sha256:") else name
    except InvalidReferenceError:
        return name


@contextmanager
def _as_verification(path: Path) -> Iterator[None]:
    """What is wrong inside a file that somebody gave us is the file's fault, not wrong usage."""
    try:
        yield
    except VerificationError as error:
        if error.where is not None and error.where.startswith(str(path)):
            raise
        where = "" if error.where is None else f"{error.where}: "
        raise type(error)(f"not a sound archive: {where}{error.what}", where=path, hint="fetch it again") from error
    except (InvalidDocumentError, InvalidReferenceError, NotFoundError) as error:
        raise VerificationError(f"not a sound archive: {error}", where=path, hint="fetch it again") from error
