"""Reading an image archive in place: an OCI layout in a tar, or what ``docker save`` and ``podman save`` write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from io import BytesIO
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import BinaryIO, Self

from edgepack.errors import (
    InvalidDocumentError,
    InvalidReferenceError,
    NotFoundError,
    SizeMismatchError,
    VerificationError,
)
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.archive.docker import DockerArchive, read_docker_archive
from edgepack.oci.available import available
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.graph import check_image, children
from edgepack.oci.layout import images_of, referrers_of
from edgepack.oci.manifest import Index
from edgepack.oci.reference import Reference, short_name
from edgepack.oci.tar.index import TarIndex

# image-spec 1.1, image-layout.md
LAYOUT_NAME, INDEX_NAME, BLOBS = "oci-layout", "index.json", "blobs/sha256"


class Archive:
    """The images in the file ``path``: an OCI layout in a tar, or what ``docker save`` and ``podman save`` write.

    A blob source; use as a context manager. An index may name images that are not there, see ``available``.
    Reading writes nothing, and what ``open`` yields is not verified: the
    reader hashes it. A gzip-compressed tar may unpack to ``limit`` bytes.
    Raises ``NotFoundError`` when there is no such file, ``VerificationError`` for one that is truncated, altered where
    that shows, incomplete or unsafe, ``UsageError`` for zstd, ``NoSpaceError`` when unpacking gzip fills the disk.
    """

    def __init__(self, path: Path, limit: int = LIMITS.archive_unpacked_bytes) -> None:
        self.path = path
        self._tar = TarIndex(path, limit)
        try:
            with _as_verification(path):
                self._entries: tuple[Descriptor, ...] = ()
                docker = None if self._has_layout() else read_docker_archive(self._tar, limit)
                self._files, self._documents = self._blobs(docker)
                self._images = (
                    self._named() if docker is None else {_short(tag): item for tag, item in docker.images.items()}
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

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The artifacts attached to ``subject``, such as signatures; files of Docker have none."""
        found = referrers_of(self, self._entries, subject)
        return tuple(item for item in found if artifact_type in (None, item.artifact_type))

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the blob is in the archive, with the size that the descriptor says."""
        return self._size(descriptor.digest) == descriptor.size

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """The blob's bytes from ``offset`` on, not verified; raises ``NotFoundError`` or ``SizeMismatchError``."""
        size = self._size(descriptor.digest)
        if size is None:
            raise NotFoundError(f"blob {descriptor.digest} is missing", where=self.path)
        if size != descriptor.size:
            raise SizeMismatchError(
                f"blob {descriptor.digest} is {size} bytes and its descriptor says {descriptor.size}", where=self.path
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
        return INDEX_NAME in self._tar.sizes and LAYOUT_NAME in self._tar.sizes

    def _blobs(self, docker: DockerArchive | None) -> tuple[Mapping[Digest, str], Mapping[Digest, bytes]]:
        if docker is not None:
            return docker.files, docker.documents
        files = {}
        for name in self._tar.sizes:
            if name.startswith(f"{BLOBS}/"):
                files[Digest.parse(f"sha256:{name.removeprefix(f'{BLOBS}/')}")] = name
        return files, {}

    def _named(self) -> dict[str, Descriptor]:
        index = Index.from_bytes(self._tar.read(INDEX_NAME, LIMITS.manifest_bytes), INDEX_NAME)
        known = mediatypes.INDEXES | mediatypes.MANIFESTS
        self._entries = tuple(item for item in index.manifests if item.media_type in known)
        found: dict[str, Descriptor] = {}
        for item in images_of(self, self._entries):
            name = _name(item)
            if found.setdefault(name, item).digest != item.digest:
                raise VerificationError(f"{INDEX_NAME} lists {name!r} twice")
        if not found:
            for item in index.manifests:
                check_image(item)
            raise VerificationError(f"{INDEX_NAME} lists no image")
        return found

    def _check_complete(self, root: Descriptor) -> None:
        """Of an index some images may be missing, as engines leave them out that lack them; an image is whole."""
        if root.media_type in mediatypes.INDEXES:
            if available(self, root).absent and not self._tar.ended:
                raise VerificationError(
                    "it is cut short, and a blob is missing", where=self.path, hint="fetch it again"
                )
            return
        for blob in children(self, root):
            if not self.has(blob):
                raise VerificationError(f"blob {blob.digest} is missing or has another size", where=root.digest)

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
    return _short(short if ":" in short or not full else full) or str(item.digest)


def _short(name: str) -> str:
    """A full reference without ``docker.io/library/``; another name, such as a bare tag, as it is."""
    try:
        return short_name(Reference.parse(name)) if ":" in name and not name.startswith("sha256:") else name
    except InvalidReferenceError:
        return name


@contextmanager
def _as_verification(path: Path) -> Iterator[None]:
    """An invalid document inside an archive is reported as a damaged archive, not as wrong usage."""
    try:
        yield
    except VerificationError as error:
        if error.where == str(path):
            raise
        where = "" if error.where is None else f"{error.where}: "
        raise type(error)(f"not a valid archive: {where}{error.what}", where=path, hint="fetch it again") from error
    except (InvalidDocumentError, InvalidReferenceError, NotFoundError) as error:
        where = "" if error.where is None else f"{error.where}: "
        raise VerificationError(
            f"not a valid archive: {where}{error.what}", where=path, hint=error.hint or "fetch it again"
        ) from error
