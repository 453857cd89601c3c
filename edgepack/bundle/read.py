"""Importing a bundle: ``import_bundle(path, store, trusted)``.

One pass over the tar, forwards: the signed list is verified first, then manifests and statements, which are held in
memory; only then are layers written, each hashed while it streams into the store; tags and attachments come last. So
an import that was refused has left nothing; one that was killed, or whose bundle ended too early, left only whole blobs
and one unfinished, and the next finishes. Imports into one store are not to run at the same time.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edgepack.bundle.listing import PAYLOAD_TYPE, Contents, docker_manifest
from edgepack.bundle.parts import PartList
from edgepack.bundle.rules import Plan, plan
from edgepack.bundle.tar import DOCKER, INDEX, LAYOUT, LIST, TarReader, blob_name
from edgepack.documents import parse_canonical
from edgepack.errors import (
    CutShortError,
    DigestMismatchError,
    InvalidDocumentError,
    NoSpaceError,
    NotFoundError,
    SizeMismatchError,
    TooLargeError,
    UsageError,
    VerificationError,
)
from edgepack.host.media import FAT_FILE_BYTES, free_bytes, largest_file
from edgepack.limits import LIMITS, Limits
from edgepack.oci import mediatypes
from edgepack.oci.attachments import HasReferrers
from edgepack.oci.checked import CheckedBlobs
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Manifest
from edgepack.oci.pieced import pieces_bytes
from edgepack.oci.store import Store
from edgepack.oci.upkeep import wanted
from edgepack.signing import envelope
from edgepack.signing.keys import PublicKey
from edgepack.signing.statement import verify_image

STDIN = Path("-")
# Blobs take whole blocks.
_BLOCK = 4096


@dataclass(frozen=True)
class ImportedImage:
    """An imported image, and the trusted keys that signed it; none when it is unsigned."""

    name: str
    digest: Digest
    key_ids: tuple[str, ...]


@dataclass(frozen=True)
class ImportReport:
    """What an import did: bytes that it wrote, and needed bytes that were already present."""

    images: tuple[ImportedImage, ...]
    moved_bytes: int
    present_bytes: int


def import_bundle(
    path: Path,
    store: Store,
    trusted: Collection[PublicKey],
    *,
    allow_unsigned: bool = False,
    platform: Platform | None = None,
    limits: Limits | None = None,
    on_blob: Callable[[Descriptor, bool], None] | None = None,
) -> ImportReport:
    """Bring the images of the bundle at ``path`` (``-`` for standard input) into ``store``.

    The list must be signed by one of the ``trusted`` keys, and so must a statement on each image. ``allow_unsigned``
    takes what has no signature at all; a signature that is there must still be a good one by a trusted key. Blobs that
    the store has are read too, unless they were and have not been touched since: a damaged one is taken from the bundle
    again. With a
    ``platform``, only that platform of an image is imported. ``on_blob`` is called with each blob and whether it is
    written. Importing again changes nothing; memory is flat, whatever the size of the blobs.

    Raises ``SignatureError`` and other ``VerificationError`` for a bundle that is not what a trusted key signed, or
    that lacks blobs which are not in the store either; ``IncompatibleError`` when it is for another platform;
    ``NotFoundError`` for a missing file; ``NoSpaceError`` before anything is written if the disk is too small.
    """
    limits = limits or LIMITS
    with _opened(path) as stream, as_verification(path):
        tar = TarReader(stream, path)
        found = read_list(tar, trusted, allow_unsigned, limits, path)
        if found.part is not None:
            raise UsageError(
                f"is {found.part} of a bundle", where=path,
                hint="import the file or its folder by a command that takes parts: edge-agent import",
            )  # fmt: skip
        head = read_head(tar, found)
        arrival = Arrival.planned(found.contents, head, store, trusted, allow_unsigned, platform, path)
        check_space(store, arrival.absent)
        try:
            _take_body(tar, found.contents, store, {blob.digest for blob in arrival.absent}, on_blob)
            read_end(tar, found.contents, head)
        except CutShortError:
            raise  # the rest may come another time, and what came is what its digest says
        except VerificationError:
            store.take_back(arrival.absent)
            raise
    return arrival.publish(store, on_blob)


@dataclass(frozen=True)
class Arrival:
    """What is about to be imported: the images, all that they need, and what of that is ``absent`` from the store."""

    contents: Contents
    head: Mapping[Digest, bytes]
    taken: Plan
    images: tuple[ImportedImage, ...]
    absent: tuple[Descriptor, ...]
    checked: CheckedBlobs

    @classmethod
    def planned(
        cls,
        contents: Contents,
        head: Mapping[Digest, bytes],
        store: Store,
        trusted: Collection[PublicKey],
        allow_unsigned: bool,
        platform: Platform | None,
        where: object,
    ) -> Arrival:
        """Judge a bundle by its head, which was verified against its list; raises as ``import_bundle`` does."""
        source = _Overlay(head, contents, store)
        held = CheckedBlobs(store)
        taken = plan(contents, source, platform, held, where)
        images = tuple(
            ImportedImage(one.name, one.descriptor.digest, signers(source, one.descriptor, trusted, allow_unsigned))
            for one in contents.images
        )
        absent = tuple(blob for blob in taken.needed if not held(blob))
        # Of an import that nobody went on with; a download that is paused goes on another time.
        store.drop_unfinished({blob.digest for blob in taken.needed} | wanted(store))
        return cls(contents, head, taken, images, absent, held)

    def publish(self, store: Store, on_blob: Callable[[Descriptor, bool], None] | None) -> ImportReport:
        """Give the images their names, now that all their layers are in ``store``."""
        _publish(store, self.contents, self.taken, self.head, on_blob)
        self.checked.keep(self.taken.needed)
        moved = sum(blob.size for blob in self.absent)
        return ImportReport(self.images, moved, sum(blob.size for blob in self.taken.needed) - moved)


def read_list(
    tar: TarReader, trusted: Collection[PublicKey], allow_unsigned: bool, limits: Limits, where: Path
) -> PartList:
    """The verified list at the head of ``tar``; raises ``SignatureError`` and other ``VerificationError``."""
    data = tar.first(LIST, limits.bundle_list_bytes)
    opened = envelope.open_unsigned(data, PAYLOAD_TYPE, where=where) if allow_unsigned else None
    if opened is None:
        opened = envelope.verify(data, PAYLOAD_TYPE, trusted, where=where)
    parse_canonical(data, LIST)  # nobody but us writes a bundle's list, and only so
    found = PartList.from_bytes(opened.payload, where)
    found.contents.check_limits(limits, where)
    return found


def read_head(tar: TarReader, found: PartList) -> dict[Digest, bytes]:
    """What verification reads, which follows the list ``found`` in ``tar``, each compared with its digest."""
    contents = found.contents
    tar.expecting([LIST, LAYOUT[0], INDEX, *found.names, *([DOCKER] if contents.docker else [])])
    for name, data in (LAYOUT, (INDEX, contents.layout_index())):
        tar.read(name, Digest.of(data), len(data))
    return {blob.digest: tar.read(blob_name(blob.digest), blob.digest, blob.size) for blob in contents.head}


def read_end(tar: TarReader, contents: Contents, head: Mapping[Digest, bytes]) -> None:
    """What follows the last layer: what ``docker load`` reads, where the bundle is an archive too, and nothing else."""
    if contents.docker:
        image = contents.images[0].descriptor
        manifest = Manifest.from_bytes(head[image.digest], f"manifest {image.digest}")
        data = docker_manifest(contents, manifest)
        tar.read(DOCKER, Digest.of(data), len(data))
    tar.end()


def signers(
    source: HasReferrers, image: Descriptor, trusted: Collection[PublicKey], allow_unsigned: bool
) -> tuple[str, ...]:
    """The trusted keys that signed ``image``; none for one that nobody signed, with ``allow_unsigned``."""
    if allow_unsigned and not source.referrers(image.digest, mediatypes.STATEMENT_ARTIFACT):
        return ()
    return verify_image(source, image.digest, trusted).key_ids


def check_space(store: Store, absent: Iterable[Descriptor]) -> None:
    """Raise ``NoSpaceError`` unless ``absent`` blobs, less what has come of them, fit on the disk of ``store``.

    ``UsageError`` for one that is larger than a file can be there.
    """
    absent = list(absent)
    wanted = sum(max(0, blob.size - max(store.pending(blob), pieces_bytes(store, blob))) + _BLOCK for blob in absent)
    free = free_bytes(store.root)
    largest = max((blob.size for blob in absent), default=0)
    most = largest_file(store.root) if largest > FAT_FILE_BYTES else None
    if most is not None:
        raise UsageError(
            f"is on a FAT file system, on which no file has 4 GiB, and a layer has {largest} bytes", where=store.root,
            hint="keep the images on ext4 or another file system of Linux",
        )  # fmt: skip
    if wanted and wanted + LIMITS.import_margin_bytes > free:
        raise NoSpaceError(
            f"{wanted + LIMITS.import_margin_bytes} bytes are needed and {free} are free",
            where=store.root,
            hint="free some space and run the same command again",
        )


def _take_body(
    tar: TarReader,
    contents: Contents,
    store: Store,
    absent: Collection[Digest],
    on_blob: Callable[[Descriptor, bool], None] | None,
) -> None:
    for blob in contents.body:
        new = blob.digest in absent and not store.has(blob)
        if on_blob is not None:
            on_blob(blob, new)
        tar.enter(blob_name(blob.digest), blob.size)
        if new:
            tar.copy(blob.size, lambda member, blob=blob: store.put(blob, member))  # type: ignore[misc]
        else:
            tar.skip(blob.size)


def _publish(
    store: Store,
    contents: Contents,
    taken: Plan,
    head: Mapping[Digest, bytes],
    on_blob: Callable[[Descriptor, bool], None] | None,
) -> None:
    for blob in reversed(taken.needed):
        if blob.digest in head:
            if on_blob is not None:
                on_blob(blob, not store.has(blob))
            store.put_bytes(head[blob.digest], blob.media_type)
    # Attachments before tags: what has a name can be verified.
    for referrer in taken.referrers:
        store.add_referrer(referrer.subject, referrer.descriptor)
    for image in contents.images:
        store.tag(image.name, image.descriptor)


class _Overlay:
    """The head of a bundle over a store, as one place with the attachments that the list names."""

    def __init__(self, head: Mapping[Digest, bytes], contents: Contents, store: Store) -> None:
        self._head = head
        self._contents = contents
        self._store = store

    def open(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """The blob from the bundle, or else from the store; raises ``NotFoundError``."""
        data = self._head.get(descriptor.digest)
        if data is None:
            self._store.check(descriptor)  # removes a damaged one, which is then missing, as the plan will say
            return self._store.open(descriptor, offset)
        return nullcontext(io.BytesIO(data[offset:]))

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The attachments that the list names."""
        return tuple(
            one.descriptor
            for one in self._contents.referrers
            if one.subject == subject and artifact_type in (None, one.descriptor.artifact_type)
        )


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    if path == STDIN:
        yield sys.stdin.buffer
        return
    try:
        file = path.open("rb")
    except FileNotFoundError:
        raise NotFoundError("there is no such bundle", where=path, hint="check the path") from None
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", where=path, hint="give a bundle's file") from error
    with file:
        yield file


@contextmanager
def as_verification(path: Path) -> Iterator[None]:
    """An invalid document or altered blob inside a bundle is reported as a damaged bundle, not as wrong usage."""
    try:
        yield
    except InvalidDocumentError as error:
        raise VerificationError(str(error), where=path, hint="make the bundle again") from error
    except (DigestMismatchError, SizeMismatchError, TooLargeError) as error:
        if error.where == str(path):
            raise
        raise type(error)(f"{error.where}: {error.what}", where=path, hint="copy the bundle again") from error
