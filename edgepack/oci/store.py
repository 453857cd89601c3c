"""The store: an OCI image layout on disk (image-spec 1.1, image-layout.md).

Several processes may use it at once. A blob appears by fsync and rename, so a file below ``blobs`` is always whole;
tags change under a lock by replacing ``index.json``. Killed at any moment, what was there before is still there.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import secrets
import stat
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, cast

from edgepack.errors import (
    DigestMismatchError,
    EdgepackError,
    InvalidDocumentError,
    NotFoundError,
    SizeMismatchError,
    UsageError,
    disk_errors,
)
from edgepack.host.files import atomic_write, locked, make_dirs, sweep
from edgepack.host.inputs import open_regular
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.checkpoint import SUFFIX as CHECKPOINT
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.incoming import IncomingBlob
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.reference import is_referrers_tag, referrers_tag
from edgepack.oci.sources import BlobSource, read_verified

_HEX = re.compile(r"[0-9a-f]{64}")
_AGAIN = "pull, import or build it again"
_LAYOUT = b'{"imageLayoutVersion":"1.0.0"}'


class Store:
    """An image layout at ``root``.

    What interrupted writes left of a blob is removed when nobody went on with it for a day, unless the store
    ``keeps_unfinished``: a device may be off for longer, or have no clock.
    """

    concurrent = True

    def __init__(self, root: Path, *, keeps_unfinished: bool = False) -> None:
        self.root = root
        self._keeps_unfinished = keeps_unfinished
        self._blobs = root / "blobs" / "sha256"
        self._ingest = root / "ingest"
        self._index = root / "index.json"
        self._lock = root / ".lock"

    @classmethod
    def create(cls, root: Path) -> Store:
        """Open the layout at ``root``, making an empty one if it does not exist."""
        store = cls(root)
        store._make_folders()
        if not store._index.exists() or not store._has_layout():
            with locked(store._lock):
                if not store._has_layout():
                    atomic_write(root / "oci-layout", _LAYOUT)
                if not store._index.exists():
                    atomic_write(store._index, Index().to_bytes())
        return store

    def _has_layout(self) -> bool:
        try:
            return (self.root / "oci-layout").stat().st_size > 0  # a power cut can leave an empty file
        except FileNotFoundError:
            return False

    @classmethod
    def open_existing(cls, root: Path) -> Store:
        """Open the layout at ``root``; raises ``NotFoundError`` or ``InvalidDocumentError``."""
        if not (root / "oci-layout").is_file() or not (root / "index.json").is_file():
            raise NotFoundError("not an OCI image layout", where=root, hint="give a folder that has oci-layout in it")
        store = cls(root)
        store.index()
        return store

    # Blobs

    def digests(self) -> frozenset[Digest]:
        """The digests of all blobs in the store; other files among them are passed over."""
        with suppress(FileNotFoundError):
            return frozenset(Digest(path.name) for path in self._blobs.iterdir() if _HEX.fullmatch(path.name))
        return frozenset()

    def path(self, digest: Digest) -> Path:
        """Where the blob is, or would be."""
        return self._blobs / digest.hex

    def has(self, descriptor: Descriptor) -> bool:
        """Whether the store has the blob, with the size that the descriptor says."""
        try:
            found = self.path(descriptor.digest).stat()
        except FileNotFoundError:
            return False
        return stat.S_ISREG(found.st_mode) and found.st_size == descriptor.size

    def can_give(self, descriptor: Descriptor) -> bool:
        """Whether opening the blob will find it; a store with others behind it may have to fetch it first."""
        return self.has(descriptor)

    def is_sound(self, digest: Digest) -> bool:
        """Whether the store has the blob and its bytes are those that its digest names; reads all of it."""
        try:
            with open_regular(self.path(digest)) as file:
                return hashlib.file_digest(cast(io.BufferedReader, file), "sha256").hexdigest() == digest.hex
        except (OSError, EdgepackError):  # absent, or on a place of the disk that cannot be read
            return False

    def check(self, descriptor: Descriptor) -> bool:
        """Whether the store has the blob, whole; a damaged one is removed, so that another can be put in its place."""
        if self.is_sound(descriptor.digest):
            return self.has(descriptor)
        with suppress(OSError):  # a disk that cannot be written keeps it
            self.path(descriptor.digest).unlink()
        return False

    def has_digest(self, digest: Digest) -> bool:
        """Whether the store has a blob of that digest."""
        return self.path(digest).is_file()

    def size_of(self, digest: Digest) -> int | None:
        """How long the blob is; ``None`` when it is not here."""
        return self.path(digest).stat().st_size if self.has_digest(digest) else None

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """The blob's bytes from ``offset`` on, not verified; raises ``NotFoundError`` or ``SizeMismatchError``.

        A layout may be anybody's: what is not a regular file raises ``UnsafeArchiveError``. A blob whose content turns
        out not to match its digest is removed from the store, so that fetching it again, as the error advises, does
        fetch it.
        """
        try:
            file = open_regular(self.path(descriptor.digest))
        except FileNotFoundError:
            raise NotFoundError(f"blob {descriptor.digest} is missing", where=self.root, hint=_AGAIN) from None
        with file:
            if os.fstat(file.fileno()).st_size != descriptor.size:
                raise SizeMismatchError(
                    f"is {os.fstat(file.fileno()).st_size} bytes and its descriptor says {descriptor.size}",
                    where=f"blob {descriptor.digest}",
                    hint=_AGAIN,
                )
            file.seek(offset)
            try:
                yield file
            except DigestMismatchError as error:
                if not self._remove_damaged(descriptor.digest):
                    raise
                raise DigestMismatchError(error.what, where=error.where, hint=_AGAIN) from error

    def _remove_damaged(self, digest: Digest) -> bool:
        # Hash it again: the reader may have failed on another blob.
        damaged = False
        with suppress(OSError), self.path(digest).open("rb") as file:  # a disk that cannot be written keeps it
            damaged = hashlib.file_digest(file, "sha256").hexdigest() != digest.hex
            if damaged and os.path.samestat(self.path(digest).stat(), os.fstat(file.fileno())):
                self.path(digest).unlink()
        return damaged

    def read(self, descriptor: Descriptor, limit: int = LIMITS.manifest_bytes) -> bytes:
        """The blob's verified bytes; raises ``NotFoundError`` and ``VerificationError``.

        Raises ``UsageError`` for more than ``limit`` bytes: the store's content is its user's own.
        """
        if descriptor.size > limit:
            raise UsageError(f"is {descriptor.size} bytes; at most {limit} are read", where=descriptor.digest)
        return read_verified(self, descriptor, limit)

    def manifest(self, descriptor: Descriptor) -> Manifest:
        """The image manifest of that name, verified."""
        return Manifest.from_bytes(self.read(descriptor), f"manifest {descriptor.digest}")

    def describe(self, digest: Digest) -> Descriptor:
        """The descriptor of a manifest or index that is known by its digest alone; raises ``NotFoundError``."""
        size = self.size_of(digest)
        if size is None:
            raise NotFoundError(f"{digest} is not in the store", where=self.root, hint="import or pull it first")
        data = self.read(Descriptor(mediatypes.MANIFEST, digest, size))
        try:
            Manifest.from_bytes(data)
        except InvalidDocumentError:
            return Descriptor(Index.from_bytes(data, f"manifest {digest}").media_type, digest, size)
        return Descriptor(Manifest.from_bytes(data).media_type, digest, size)

    def receive(self, descriptor: Descriptor) -> IncomingBlob:
        """A writer for the blob ``descriptor``, which continues where an interrupted one stopped."""
        self._make_folders()
        self._sweep(keep=descriptor.digest)
        return IncomingBlob(self._blobs, self.unfinished_path(descriptor.digest), descriptor)

    def unfinished_path(self, digest: Digest, suffix: str = ".partial") -> Path:
        """Where a blob is written before it is whole."""
        return self._ingest / f"{digest.hex}{suffix}"

    def pending(self, descriptor: Descriptor) -> int:
        """How many bytes of the blob an interrupted write left, which take up disk space already."""
        try:
            return self.unfinished_path(descriptor.digest).stat().st_size
        except FileNotFoundError:
            return 0

    def writer(self, limit: int = LIMITS.blob_bytes) -> IncomingBlob:
        """A writer for bytes whose digest is not known yet."""
        self._make_folders()
        self._sweep()
        return IncomingBlob(self._blobs, self._ingest / f"{secrets.token_hex(16)}.tmp", None, limit)

    def put_bytes(self, data: bytes, media_type: str, annotations: Mapping[str, str] | None = None) -> Descriptor:
        """Store ``data`` and return its descriptor."""
        descriptor = Descriptor(media_type, Digest.of(data), len(data), dict(annotations or {}))
        if not self._holds(descriptor, data):
            with self.receive(descriptor) as blob:
                blob.restart()
                blob.write(data)
                blob.commit()
        return descriptor

    def _holds(self, descriptor: Descriptor, data: bytes) -> bool:
        return self.has(descriptor) and self.path(descriptor.digest).read_bytes() == data

    def put(self, descriptor: Descriptor, source: BlobSource) -> None:
        """Copy the blob from ``source``, verified while it streams, continuing where an earlier try stopped."""
        with self.receive(descriptor) as blob:
            resumed = blob.offset > 0
            try:
                self._take(blob, descriptor, source)
            except DigestMismatchError:
                if not resumed:
                    raise
            else:
                return
        # A power cut can leave zeros in the unfinished file of the earlier try: once more, from the start.
        with self.receive(descriptor) as blob:
            blob.restart()
            self._take(blob, descriptor, source)

    def _take(self, blob: IncomingBlob, descriptor: Descriptor, source: BlobSource) -> None:
        if self.has(descriptor):  # another process finished it while we waited
            blob.discard()
            return
        if blob.offset < descriptor.size:  # else all of it was there, and a registry would refuse the empty range
            with source.open(descriptor, blob.offset) as stream:
                while chunk := stream.read(LIMITS.chunk_bytes):
                    blob.write(chunk)
                blob.commit()  # in here, so that a store hears that what it gave is not what it is named
        else:
            blob.commit()

    def _make_folders(self) -> None:
        """A layout that another tool wrote need not have them yet."""
        make_dirs(self._blobs)
        make_dirs(self._ingest)

    def _sweep(self, keep: Digest | None = None) -> None:
        """Remove what killed writers of unnamed blobs left, and what nobody went on with for a day."""
        sweep(self._ingest, "*.tmp")
        if self._keeps_unfinished:
            return
        for suffix in (".partial", ".pieces"):
            kept = [] if keep is None else [f"{keep.hex}{suffix}"]
            sweep(self._ingest, f"*{suffix}", keep=kept, idle_seconds=LIMITS.partial_seconds)
        self._sweep_notes()

    def _sweep_notes(self) -> None:
        for path in (*self._ingest.glob(f"*.partial{CHECKPOINT}"), *self._ingest.glob("*.pieces.ranges")):
            if not path.with_suffix("").exists():
                path.unlink(missing_ok=True)

    def unfinished(self) -> tuple[Path, ...]:
        """The files of blobs that are being written, or were when their writer ended."""
        return tuple(path for kind in ("*.partial", "*.pieces", "*.tmp") for path in self._ingest.glob(kind))

    def drop_unfinished(self, keep: Collection[Digest]) -> None:
        """Remove what interrupted writes left of blobs, but for those in ``keep`` and what is being written now."""
        for suffix in (".partial", ".pieces"):
            sweep(self._ingest, f"*{suffix}", keep=[f"{digest.hex}{suffix}" for digest in keep])
        self._sweep_notes()

    def take_back(self, blobs: Iterable[Descriptor]) -> None:
        """Remove ``blobs``, which the caller has just put here, and what is unfinished of them.

        The caller sees to it that nobody else has relied on them meanwhile.
        """
        for blob in blobs:
            self.path(blob.digest).unlink(missing_ok=True)
            sweep(self._ingest, f"{blob.digest.hex}.p[ai]*[ls]")  # .partial and .pieces
        self._sweep_notes()

    # Names

    def index(self) -> Index:
        """The layout's index, as it stands."""
        with disk_errors(self._index):
            data = self._index.read_bytes()
        return Index.from_bytes(data, self._index)

    def tags(self) -> dict[str, Descriptor]:
        """Every tag with its image; tags that hold referrers are left out."""
        return {
            item.annotations[mediatypes.REF_NAME]: item
            for item in self.index().manifests
            if mediatypes.REF_NAME in item.annotations and not is_referrers_tag(item.annotations[mediatypes.REF_NAME])
        }

    def resolve(self, tag: str) -> Descriptor:
        """What ``tag`` (or a digest) names; raises ``NotFoundError``."""
        for item in self.index().manifests:
            if item.annotations.get(mediatypes.REF_NAME) == tag or str(item.digest) == tag:
                return item
        if tag.startswith("sha256:"):
            return self.describe(Digest.parse(tag))
        raise NotFoundError(f"tag {tag!r} not found", where=self.root, hint="see: edgepack package list")

    @contextmanager
    def changing_index(self) -> Iterator[None]:
        """Hold the lock of the index: nobody else changes it meanwhile."""
        with locked(self._lock):
            yield

    def write_index(self, index: Index) -> None:
        """Replace the index; the caller is ``changing_index``."""
        atomic_write(self._index, index.to_bytes())

    def tag(self, tag: str, descriptor: Descriptor) -> None:
        """Let ``tag`` name ``descriptor``, whose blob must be here."""
        with locked(self._lock):
            self._set_tag(tag, descriptor)

    def _set_tag(self, tag: str, descriptor: Descriptor) -> None:
        if not self.has(descriptor):
            raise NotFoundError(f"blob {descriptor.digest} is missing", where=self.root)
        index = self.index()
        nameless = [item for item in index.manifests if mediatypes.REF_NAME not in item.annotations]
        names = {
            item.annotations[mediatypes.REF_NAME]: item
            for item in index.manifests
            if mediatypes.REF_NAME in item.annotations
        }
        names[tag] = descriptor.with_annotations({mediatypes.REF_NAME: tag})
        data = Index(
            (*nameless, *(item for _, item in sorted(names.items()))), annotations=index.annotations
        ).to_bytes()
        if data != self._index.read_bytes():
            atomic_write(self._index, data)

    def untag(self, tags: Collection[str]) -> None:
        """Remove the names ``tags``, those that are there; what they name stays until it is collected."""
        with locked(self._lock):
            index = self.index()
            left = tuple(item for item in index.manifests if item.annotations.get(mediatypes.REF_NAME) not in tags)
            if len(left) != len(index.manifests):
                self.write_index(Index(left, annotations=index.annotations))

    # Referrers, by the fallback tag (distribution-spec 1.1, "Referrers Tag Schema")

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The artifacts attached to ``subject``."""
        for item in self.index().manifests:
            if item.annotations.get(mediatypes.REF_NAME) == referrers_tag(subject):
                found = Index.from_bytes(self.read(item), f"referrers of {subject}").manifests
                return tuple(one for one in found if artifact_type in (None, one.artifact_type))
        return ()

    def add_referrer(self, subject: Digest, artifact: Descriptor) -> None:
        """Attach ``artifact``, a manifest that is here and names ``subject``."""
        self.add_referrers(subject, [artifact])

    def add_referrers(
        self, subject: Digest, artifacts: Iterable[Descriptor], instead_of: Callable[[Descriptor], bool] | None = None
    ) -> None:
        """Attach ``artifacts``, which are here and name ``subject``; those that they are ``instead_of`` go.

        Raises ``UsageError`` for more than a list can hold that is read again.
        """
        with locked(self._lock):
            listed = self.referrers(subject)
            known = {item.digest: item for item in listed if instead_of is None or not instead_of(item)}
            known.update((item.digest, item) for item in artifacts)
            listing = Index(tuple(item for _, item in sorted(known.items()))).to_bytes()
            if len(listing) > LIMITS.manifest_bytes:
                raise UsageError(f"has {len(known)} artifacts attached, more than a list can hold", where=subject)
            self._set_tag(referrers_tag(subject), self.put_bytes(listing, mediatypes.INDEX))
