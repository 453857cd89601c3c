"""Writing a bundle to a folder, in parts where a medium or its user asks for them: ``write_to_folder``.

The same images, keys and sizes give the same parts, so that one part can be made again alone. A part is written in one
pass: the hashes of stretches stand in the list before them, and the list has one length whatever they are.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from edgepack.bundle.listing import PAYLOAD_TYPE, Contents
from edgepack.bundle.parts import (
    SUFFIX,
    Layout,
    Part,
    PartList,
    Piece,
    Wanted,
    divide,
    identity,
    member_bytes,
    numbers,
    whole,
)
from edgepack.bundle.receipt import Receipt
from edgepack.bundle.tar import INDEX, LAYOUT, LIST, TarWriter, blob_name
from edgepack.bundle.write import BundleReport, for_docker, plan_bundle, report_blob, report_of, verified, write_tar
from edgepack.errors import DigestMismatchError, UsageError, disk_errors
from edgepack.host.files import BY_UMASK, make_dirs, replacing
from edgepack.host.media import FAT_FILE_BYTES, FAT_PART_BYTES, check_room, largest_file
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.oci.tar.header import END
from edgepack.signing import envelope
from edgepack.signing.keys import PrivateKey

_HINT = "write it in parts: --part-size 3900MB"
_NO_HASH = Digest("0" * 64)


def write_to_folder(
    store: Store,
    tags: Collection[str],
    folder: Path,
    *,
    key: PrivateKey | None,
    receipt: Receipt | None = None,
    platform: Platform | None = None,
    part_size: int | None = None,
    only: Wanted | None = None,
    docker: bool = False,
    on_blob: Callable[[Descriptor, bool], None] | None = None,
) -> BundleReport:
    """Write the images that ``tags`` name to files in ``folder``, which is made where it is absent.

    No file is larger than ``part_size``, or than the file system takes; a bundle that fits into one is one file, as
    ``write_bundle`` makes it. With ``only``, just those parts of the bundle that it asks for are written. Each file
    appears whole or not at all. Free space and the file system's limit are asked before anything is written.

    Raises what ``write_bundle`` raises, and ``UsageError`` for parts that are too small, or are not of this bundle.
    """
    contents = plan_bundle(store, tags, folder, key=key, receipt=receipt, platform=platform)
    if only is not None and identity(contents) != only.bundle:
        raise UsageError(
            "these images, this platform and these receipts make another bundle than the one that lacks parts",
            where=f"bundle {only.bundle}", hint="make all of it again, without --only",
        )  # fmt: skip
    keys = [] if key is None else [key]
    with disk_errors(folder):
        make_dirs(folder, 0o755)
        most = largest_file(folder)
    if part_size is None and most is not None:
        part_size = FAT_PART_BYTES if most == FAT_FILE_BYTES else most
    signed = envelope.sign(contents.to_bytes(), PAYLOAD_TYPE, *keys)
    size = _size(contents, len(signed), whole(contents.body))
    if only is None and (part_size is None or size <= part_size):
        path = folder / f"{_stem(contents)}{SUFFIX}"
        check_room(folder, [size], hint=_HINT)
        if docker:
            contents = for_docker(contents)
            signed = envelope.sign(contents.to_bytes(), PAYLOAD_TYPE, *keys)
        with replacing(path, BY_UMASK) as file:
            size = write_tar(file, contents, signed, store, on_blob)
        return report_of(contents, [path], size)
    layout = divide(contents, part_size or size, _size(contents, 0, ()))
    return _Writer(store, contents, layout, part_size or size, keys, on_blob).write(folder, _asked(layout, only))


def _asked(layout: Layout, only: Wanted | None) -> Sequence[int]:
    every = range(1, len(layout) + 1)
    if only is None:
        return every
    unknown = set(only.parts).difference(every)
    if only.of != len(layout) or unknown:
        raise UsageError(
            f"is divided into {len(layout)} parts of {only.part_size} bytes, and {numbers(only.parts)} of {only.of} "
            "are asked for", where=f"bundle {only.bundle}", hint="make all of it again, without --only",
        )  # fmt: skip
    return only.parts


class _Writer:
    def __init__(
        self,
        store: Store,
        contents: Contents,
        layout: Layout,
        part_size: int,
        keys: Sequence[PrivateKey],
        on_blob: Callable[[Descriptor, bool], None] | None,
    ) -> None:
        self._store = store
        self._contents = contents
        self._layout = layout
        self._part_size = part_size
        self._keys = keys
        self._on_blob = on_blob
        self._whole = (_NO_HASH, 0, hashlib.sha256())

    def write(self, folder: Path, asked: Sequence[int]) -> BundleReport:
        sizes = [_size(self._contents, len(self._signed(number, None)), self._layout[number - 1]) for number in asked]
        check_room(folder, sizes, hint=_HINT)
        for blob in self._contents.omitted:
            report_blob(self._on_blob, blob, False)
        written = []
        with ExitStack() as files:  # all appear when all are written
            for number in asked:
                path = folder / f"{_stem(self._contents)}.part{number}of{len(self._layout)}{SUFFIX}"
                self._write_part(files.enter_context(replacing(path, BY_UMASK)), number)
                written.append(path)
        return report_of(self._contents, written, sum(sizes))

    def _signed(self, number: int, digests: Sequence[Digest] | None) -> bytes:
        """The list of a part; without ``digests`` one of the same length."""
        pieces = self._layout[number - 1]
        own = tuple(digests or [one.blob.digest if one.is_whole else _NO_HASH for one in pieces])
        part = Part(number, self._part_size, self._layout, own)
        return envelope.sign(PartList(self._contents, part).to_bytes(), PAYLOAD_TYPE, *self._keys)

    def _write_part(self, file: BinaryIO, number: int) -> None:
        tar = TarWriter(file)
        draft = self._signed(number, None)
        for name, data in ((LIST, draft), LAYOUT, (INDEX, self._contents.layout_index())):
            tar.add(name, len(data), [data])
        for blob in self._contents.head:
            if number == 1:
                report_blob(self._on_blob, blob, True)
            tar.add(blob_name(blob.digest), blob.size, verified(self._store, blob))
        digests = []
        for piece in self._layout[number - 1]:
            if piece.offset == 0:
                report_blob(self._on_blob, piece.blob, True)
            digests.append(self._add(tar, piece))
        tar.end()
        final = self._signed(number, digests)
        if final != draft:
            file.seek(0)
            TarWriter(file).add(LIST, len(final), [final])

    def _add(self, tar: TarWriter, piece: Piece) -> Digest:
        if piece.is_whole:
            tar.add(piece.name, piece.size, verified(self._store, piece.blob))
            return piece.blob.digest
        found = hashlib.sha256()
        tar.add(piece.name, piece.size, self._stretch(piece, found))
        return Digest(found.hexdigest())

    def _stretch(self, piece: Piece, found: hashlib._Hash) -> Iterator[bytes]:
        """The bytes of a stretch, hashed into ``found``, and the blob as far as its stretches follow each other."""
        if piece.offset == 0:
            self._whole = (piece.blob.digest, 0, hashlib.sha256())
        digest, at, running = self._whole
        follows = (digest, at) == (piece.blob.digest, piece.offset)
        if not follows and not self._store.is_sound(piece.blob.digest):
            raise _damaged(self._store, piece.blob)
        left = piece.size
        with self._store.open(piece.blob, piece.offset) as stream:
            while left and (chunk := stream.read(min(left, LIMITS.chunk_bytes))):
                left -= len(chunk)
                found.update(chunk)
                if follows:
                    running.update(chunk)
                yield chunk
        if not follows:
            return
        self._whole = (digest, at + piece.size, running)
        if at + piece.size == piece.blob.size and running.hexdigest() != digest.hex:
            raise _damaged(self._store, piece.blob)


def _damaged(store: Store, blob: Descriptor) -> DigestMismatchError:
    return DigestMismatchError(
        f"blob {blob.digest} is not what its name says", where=store.root, hint="pull or build the image again"
    )


def _size(contents: Contents, list_bytes: int, pieces: Sequence[Piece]) -> int:
    """How large a tar is: its list, the head, and ``pieces``."""
    documents = ((LIST, list_bytes), (LAYOUT[0], len(LAYOUT[1])), (INDEX, len(contents.layout_index())))
    members = [*documents, *((one.name, one.size) for one in (*whole(contents.head), *pieces))]
    return sum(member_bytes(name, size) for name, size in members) + len(END)


def _stem(contents: Contents) -> str:
    """The beginning of a file's name: an image, and what tells this bundle from an earlier one of the same image."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", contents.images[0].name).strip("-.")[-100:]
    return f"{name}.{identity(contents).short[:8]}"
