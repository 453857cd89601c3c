"""The seams: what fetches an image for a device, and a place that images are fetched from."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from datetime import datetime
from typing import BinaryIO, Protocol

from edgepack.errors import EdgepackError
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest

# Hears how many bytes of an image are here, and how many it has; from several threads, one after the other.
OnProgress = Callable[[int, int], None]


def unseen(done: int, total: int) -> None:
    """Progress that nobody watches."""


class Fetcher(Protocol):
    """Brings images to the device, whole and verified."""

    def fetch(self, image: Digest, on_progress: OnProgress = unseen, *, names: Sequence[str] = ()) -> None:
        """Have ``image``, an image or index, in the device's store, as far as this platform needs it, and signed.

        What is here already needs no network. ``names`` are repositories in which a registry may have it, such as the
        name of its service. May be interrupted at any moment, and goes on where it was by the next call.

        Raises ``NotFoundError`` where no source has it, ``VerificationError`` for what is not what was named or not
        signed, ``IncompatibleError`` when there is nothing for this platform, ``NoSpaceError`` before the first byte,
        ``PausedError`` while nothing may be downloaded, ``RegistryError`` when the sources did not give it.
        """


class Place(Protocol):
    """One source while an image is fetched from it; several threads may open blobs at once."""

    name: str
    """What it is, for a message."""

    def find(self, target: str | Digest) -> Descriptor:
        """The image of that digest, or what a name with a tag such as ``churn:1`` means there.

        It must be called before the others, with the digest of the image that they are asked about. Raises
        ``NotFoundError``, and what the place raises when it cannot be asked.
        """

    def open(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """The bytes of a blob of the image from ``offset`` on, not verified; raises as ``find`` does."""

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The artifacts attached to ``subject``."""


class SourceGoneError(EdgepackError):
    """A source that was there and is not any more, such as a stick; it may come back."""


class PausedError(EdgepackError):
    """Nothing may be downloaded now; from ``until`` on it may, in local time, if that is known."""

    def __init__(self, what: str, *, until: datetime | None = None, hint: str | None = None) -> None:
        self.until = until
        super().__init__(what, hint=hint)
