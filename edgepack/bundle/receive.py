"""Importing from media: ``import_media(paths, store, trusted)``, of whole bundles and of parts, in any order.

Each bundle that is found is judged by the head of any of its parts. Then every part that is there is read once,
forwards: its pieces are verified as they stream into the store, where a stretch of a layer waits in that layer's own
unfinished file. Names appear when everything is there. What is bad or missing is told all at once, by part, with the
document that asks for it; whole layers that came are kept, under no name, so that the next medium brings only the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from edgepack.bundle.media import PartFiles, UnreadableError, find_media, part_file
from edgepack.bundle.parts import PART_NAME, Piece, Wanted, numbers
from edgepack.bundle.read import (
    Arrival,
    ImportReport,
    as_verification,
    check_space,
    import_bundle,
    read_head,
    read_list,
)
from edgepack.bundle.tar import TarReader
from edgepack.errors import BadPartsError, EdgepackError, MissingPartsError, NotFoundError, VerificationError
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.pieced import PiecedBlob, has_piece
from edgepack.oci.sources import BlobSource
from edgepack.oci.store import Store
from edgepack.signing.keys import PublicKey

OnBlob = Callable[[Descriptor, bool], None]


def import_media(
    paths: Sequence[Path],
    store: Store,
    trusted: Collection[PublicKey],
    *,
    allow_unsigned: bool = False,
    platform: Platform | None = None,
    on_blob: OnBlob | None = None,
) -> ImportReport:
    """Bring every bundle that is found at ``paths`` into ``store``, as ``import_bundle`` does one.

    Raises ``BadPartsError`` when parts are altered or cut short, ``MissingPartsError`` when parts are not there whose
    layers the store lacks; both after everything else was read, and what was good is kept. Otherwise what
    ``import_bundle`` raises. Of several bundles those that are good are imported; then the errors are raised as one.
    """
    media = find_media(paths, trusted, allow_unsigned=allow_unsigned)
    reports: list[ImportReport] = []
    errors: list[EdgepackError] = []
    for path in media.bundles:
        try:
            reports.append(
                import_bundle(path, store, trusted, allow_unsigned=allow_unsigned, platform=platform, on_blob=on_blob)
            )
        except EdgepackError as error:
            errors.append(error)
    for parts in media.parts:
        try:
            reports.append(_PartsImport(parts, media.bad, store, trusted, allow_unsigned, platform, on_blob).run())
        except EdgepackError as error:
            errors.append(error)
    if media.bad and not media.parts:
        errors.extend(media.bad.values())
    if errors:
        raise _joined(errors)
    return ImportReport(
        tuple(image for one in reports for image in one.images),
        sum(one.moved_bytes for one in reports),
        sum(one.present_bytes for one in reports),
    )


def _joined(errors: Sequence[EdgepackError]) -> EdgepackError:
    """One of ``errors``, what is a matter of trust before the rest, that tells of all of them."""
    first, *others = sorted(errors, key=lambda error: not isinstance(error, VerificationError))
    first.what = "; ".join([first.what, *map(str, others)])
    return first


class _PartsImport:
    """The import of one bundle of which some parts are there."""

    def __init__(
        self,
        parts: PartFiles,
        unreadable: Mapping[Path, EdgepackError],
        store: Store,
        trusted: Collection[PublicKey],
        allow_unsigned: bool,
        platform: Platform | None,
        on_blob: OnBlob | None,
    ) -> None:
        self._parts = parts
        self._store = store
        self._trusted = trusted
        self._allow_unsigned = allow_unsigned
        self._platform = platform
        self._on_blob = on_blob
        self._bad: dict[int, str] = {}
        self._pieced: dict[Digest, PiecedBlob] = {}
        self._stack = ExitStack()
        self._named(unreadable)

    def _named(self, unreadable: Mapping[Path, EdgepackError]) -> None:
        """Files whose lists cannot be read are parts of this bundle by their names alone."""
        known = {path.name.partition(".part")[0] for paths in self._parts.files.values() for path in paths}
        for path, error in unreadable.items():
            match = PART_NAME.fullmatch(path.name)
            if match and path.name.partition(".part")[0] in known and int(match[1]) not in self._parts.files:
                self._bad[int(match[1])] = _reason(path, error)

    def run(self) -> ImportReport:
        arrival = self._judged()
        absent = {blob.digest: blob for blob in arrival.absent}
        check_space(self._store, [blob for blob in arrival.absent if blob.digest not in arrival.head])
        with self._stack:
            for number, paths in sorted(self._parts.files.items()):
                self._take_copies(number, paths, absent)
        self._check_complete(absent, arrival.head)
        return arrival.publish(self._store, self._on_blob)

    def _judged(self) -> Arrival:
        """The verdict on the bundle, by the head of the first part that has a good one."""
        refused: EdgepackError | None = None
        for number, paths in sorted(self._parts.files.items()):
            for path in paths:
                try:
                    with part_file(path) as stream:
                        _, head = self._opened(stream, path)
                except (VerificationError, UnreadableError, NotFoundError) as error:
                    refused = error
                    self._bad[number] = _reason(path, error)
                    continue
                self._bad.pop(number, None)
                with as_verification(path):
                    return Arrival.planned(
                        self._parts.contents,
                        head,
                        self._store,
                        self._trusted,
                        self._allow_unsigned,
                        self._platform,
                        path,
                    )
        raise self._refusal(set()) from refused

    def _opened(self, stream: BinaryIO, path: Path) -> tuple[TarReader, dict[Digest, bytes]]:
        with as_verification(path):
            tar = TarReader(stream, path)
            listed = read_list(tar, self._trusted, self._allow_unsigned, LIMITS, path)
            return tar, read_head(tar, listed)

    def _take_copies(self, number: int, paths: Sequence[Path], absent: Mapping[Digest, Descriptor]) -> None:
        """Take a part from the first of its copies that is good."""
        for path in paths:
            try:
                self._take(path, absent)
            except (VerificationError, UnreadableError, NotFoundError) as error:
                self._bad[number] = _reason(path, error)
                continue
            self._bad.pop(number, None)
            return

    def _take(self, path: Path, absent: Mapping[Digest, Descriptor]) -> None:
        with part_file(path) as stream, as_verification(path):
            tar = TarReader(stream, path)
            listed = read_list(tar, self._trusted, self._allow_unsigned, LIMITS, path)
            read_head(tar, listed)
            part = listed.part
            if part is None:  # the file was replaced while it was being read
                raise VerificationError("is not the part that it was", where=path)
            for piece, digest in zip(part.pieces, part.digests, strict=True):
                is_new = piece.blob.digest in absent and not self._has(piece)
                if self._on_blob is not None and piece.offset == 0:
                    self._on_blob(piece.blob, is_new)
                tar.enter(piece.name, piece.size)
                if not is_new:
                    tar.skip(piece.size)
                elif piece.is_whole:
                    tar.copy(piece.size, lambda member, blob=piece.blob: self._store.put(blob, member))  # type: ignore[misc]
                else:
                    tar.copy(piece.size, lambda member, piece=piece, digest=digest: self._put(piece, digest, member))  # type: ignore[misc]
            tar.end()

    def _put(self, piece: Piece, digest: Digest, member: BlobSource) -> None:
        blob = self._pieced.get(piece.blob.digest)
        if blob is None:
            blob = self._stack.enter_context(PiecedBlob(self._store, piece.blob))
            self._pieced[piece.blob.digest] = blob
        with member.open(piece.blob) as stream:
            blob.put(piece.offset, piece.size, digest, stream)
        blob.finish()

    def _has(self, piece: Piece) -> bool:
        if self._store.has(piece.blob):
            return True
        return not piece.is_whole and has_piece(self._store, piece.blob, piece.offset, piece.size)

    def _check_complete(self, absent: Mapping[Digest, Descriptor], head: Mapping[Digest, bytes]) -> None:
        lacking = {
            number
            for number, pieces in enumerate(self._parts.part.layout, 1)
            for piece in pieces
            if piece.blob.digest in absent and piece.blob.digest not in head and not self._has(piece)
        }
        if lacking or self._bad:
            raise self._refusal(lacking)

    def _refusal(self, lacking: Collection[int]) -> EdgepackError:
        """The error that names every part which is bad, or is one of those ``lacking``."""
        part, missing = self._parts.part, sorted(set(lacking) - self._bad.keys())
        wanted = Wanted.of_parts(self._parts.contents, part, {*missing, *self._bad}).to_bytes()
        where = next(paths[0].parent for paths in self._parts.files.values())
        said = [f"part {number} of {part.of} is bad: {reason}" for number, reason in sorted(self._bad.items())]
        if missing:
            said.append(f"{numbers(missing)} of {part.of} {'is' if len(missing) == 1 else 'are'} missing")
        text = "; ".join(said)
        if self._bad:
            hint = f"copy {numbers(self._bad)} again, and run the same command: what was good is kept"
            return BadPartsError(text, wanted=wanted, where=where, hint=hint)
        hint = f"import {numbers(missing)} from where {'it is' if len(missing) == 1 else 'they are'}: what came is kept"
        return MissingPartsError(text, wanted=wanted, where=where, hint=hint)


def _reason(path: Path, error: EdgepackError) -> str:
    """Why a part is bad, with its file named once."""
    return (
        f"{path.name} {error.what}" if error.where in (None, str(path)) else f"{path.name}: {error.where} {error.what}"
    )
