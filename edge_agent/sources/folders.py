"""A folder of bundles and layouts as a place that images are fetched from: a stick, also one that is pulled out."""

from __future__ import annotations

import logging
import stat
from collections.abc import Collection, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from edge_agent.sources.base import SourceGoneError
from edgepack.bundle.blobs import BundleBlobs, BundleSet, sets
from edgepack.bundle.parts import numbers
from edgepack.bundle.tar import is_bundle
from edgepack.errors import EdgepackError, NotFoundError, SignatureError, UnsafeArchiveError
from edgepack.oci.attachments import HasReferrers
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.layout import referrers_of
from edgepack.oci.mediatypes import REF_NAME
from edgepack.oci.store import Store
from edgepack.signing.keys import PublicKey

_log = logging.getLogger(__name__)
# More than anybody carries; a folder of something else is not searched for ever.
_MOST_ENTRIES = 1000


class _Images(HasReferrers, Protocol):
    """A bundle or a layout."""

    path: Path

    def images(self) -> dict[str, Descriptor]:
        """Its images by their names."""

    def find(self, digest: Digest) -> Descriptor | None:
        """The image of that digest."""


class FolderPlace:
    """The bundles in ``folder``, and the layouts; or the one that ``folder`` itself is. Use as a context manager.

    Bundles must be signed by one of the ``trusted`` keys, unless ``allow_unsigned`` takes those that nobody signed.
    """

    def __init__(
        self, name: str, folder: Path, trusted: Collection[PublicKey], *, allow_unsigned: bool = False
    ) -> None:
        self.name = name
        self._folder = folder
        self._trusted = trusted
        self._allow_unsigned = allow_unsigned
        self._open = ExitStack()
        self._found: list[_Images] = []
        self._refused: list[EdgepackError] = []

    def find(self, target: str | Digest) -> Descriptor:
        """See ``Place``; several bundles may have the image, each a part of it."""
        self.close()
        self._refused = []
        found: Descriptor | None = None
        for one in self._all():
            held = one.find(target) if isinstance(target, Digest) else one.images().get(target)
            if held is not None:
                found = found or held
                self._found.append(one)
        if found is None:
            raise self._missing(target)
        return found

    def _missing(self, target: str | Digest) -> EdgepackError:
        if not self._folder.exists():
            return SourceGoneError("is not there", where=self.name, hint="put the stick in, or mount it")
        reasons = "".join(f"; {error}" for error in self._refused)
        if any(isinstance(error, SignatureError) for error in self._refused):
            return SignatureError(f"has no bundle with {target} by a trusted key{reasons}", where=self.name)
        hint = None if reasons else "copy one there"
        return NotFoundError(f"has no bundle with {target}{reasons}", where=self.name, hint=hint)

    def _all(self) -> Iterator[_Images]:
        with self._readable():
            entries = [self._folder]
            if self._folder.is_dir() and not (self._folder / "oci-layout").is_file():
                entries = sorted(self._folder.iterdir())[:_MOST_ENTRIES]
        parts: list[BundleBlobs] = []
        for path in entries:
            try:
                with self._readable():
                    one = self._opened(path, parts)
                if one is not None:
                    yield one
            except (SourceGoneError, UnsafeArchiveError) as error:  # a link that leads nowhere, a pipe
                _log.debug("passed over: %s", error)
            except EdgepackError as error:
                _log.info("passed over: %s", error)
                self._refused.append(error)
        for bundle in sets(parts):
            if bundle.missing:
                _log.info("%s: %s of a bundle are not here", self._folder, numbers(bundle.missing))
            yield _Bundle(bundle)

    def _opened(self, path: Path, parts: list[BundleBlobs]) -> _Images | None:
        """What is at ``path``; a part of a bundle is added to ``parts``."""
        if path.is_dir():
            return _Layout(path) if (path / "oci-layout").is_file() else None
        if path.name.startswith(".") or not stat.S_ISREG(path.stat().st_mode) or not is_bundle(path):
            return None
        bundle = self._open.enter_context(BundleBlobs(path, self._trusted, allow_unsigned=self._allow_unsigned))
        if bundle.list.part is not None:
            parts.append(bundle)
            return None
        return _Bundle(bundle)

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        """See ``Place``; from the first that has the blob."""
        with ExitStack() as stack:
            with self._readable():
                stream = stack.enter_context(self._first(descriptor, offset))
            yield cast(BinaryIO, _Watched(stream, self))

    @contextmanager
    def _first(self, descriptor: Descriptor, offset: int) -> Iterator[BinaryIO]:
        refused: EdgepackError = NotFoundError(f"has no blob {descriptor.digest}", where=self.name)
        with ExitStack() as stack:
            for one in self._found:
                try:
                    stream = stack.enter_context(one.open(descriptor, offset))
                except EdgepackError as error:  # it is absent, or cut short
                    refused = refused if type(error) is NotFoundError else error
                    continue
                yield stream
                return
        raise refused

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """See ``Place``."""
        with self._readable():
            found = [one for images in self._found for one in images.referrers(subject, artifact_type)]
        return tuple({one.digest: one for one in found}.values())

    @contextmanager
    def _readable(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            raise SourceGoneError(
                f"cannot be read ({error.strerror})", where=error.filename or self.name,
                hint="put it in again, or copy what is on it once more",
            ) from None  # fmt: skip

    def close(self) -> None:
        """Close the bundles."""
        self._found = []
        self._open.close()


class _Watched:
    """A stream of a place that may go away while it is read."""

    def __init__(self, stream: BinaryIO, place: FolderPlace) -> None:
        self._stream, self._place = stream, place

    def read(self, amount: int = -1) -> bytes:
        with self._place._readable():
            return self._stream.read(amount)


class _Bundle:
    def __init__(self, blobs: BundleBlobs | BundleSet) -> None:
        self.path = blobs.path
        self._blobs = blobs
        self.open, self.referrers = blobs.open, blobs.referrers

    def images(self) -> dict[str, Descriptor]:
        return {one.name: one.descriptor for one in self._blobs.contents.images}

    def find(self, digest: Digest) -> Descriptor | None:
        contents = self._blobs.contents
        named = (*(one.descriptor for one in contents.images), *contents.blobs, *contents.omitted)
        return next((one for one in named if one.digest == digest), None)


class _Layout:
    """An OCI image layout, of which nothing is removed, whatever is wrong with it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._store = Store.open_existing(path)

    def images(self) -> dict[str, Descriptor]:
        named = self._store.index().manifests
        return {name: one for one in named if (name := one.annotations.get(REF_NAME))}

    def find(self, digest: Digest) -> Descriptor | None:
        named = {one.digest: one for one in self._store.index().manifests}
        if digest in named:
            return named[digest]
        return self._store.describe(digest) if self._store.has_digest(digest) else None

    @contextmanager
    def open(self, descriptor: Descriptor, offset: int = 0) -> Iterator[BinaryIO]:
        stack = ExitStack()
        stream = stack.enter_context(self._store.open(descriptor, offset))
        try:
            yield stream
        finally:
            stack.close()  # without the reader's error, for which a store of our own would remove the blob

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        found = referrers_of(self._store, self._store.index().manifests, subject)
        return tuple(one for one in found if artifact_type in (None, one.artifact_type))
