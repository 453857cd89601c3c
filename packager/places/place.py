"""What every place is: somewhere that an image comes from, and mostly somewhere that one can be sent to."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgepack.errors import NotFoundError, UsageError
from edgepack.host.progress import Progress, unseen
from edgepack.oci import mediatypes
from edgepack.oci.attachments import HasReferrers, copy_attachments
from edgepack.oci.available import Available, HoldsBlobs, available
from edgepack.oci.copy import CopyReport, copy
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.reference import image_tag
from edgepack.oci.sources import BlobSource
from edgepack.oci.store import Store

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Loaded:
    """An image that a place gave to a store: its tag there, what the tag names, and what moved."""

    tag: str
    root: Descriptor
    report: CopyReport


class ImageSource(ABC):
    """Where one image comes from."""

    @abstractmethod
    def open(self, *, offline: bool = False) -> AbstractContextManager[tuple[BlobSource, Descriptor]]:
        """The image and where its blobs come from, while the context is open.

        Raises ``NotFoundError``, ``EdgepackError`` for what would need the network while ``offline``, and what the
        place raises.
        """


@dataclass(frozen=True)
class Place(ImageSource):
    """A place by the ``text`` that the user wrote; ``name`` is what follows the ``prefix``."""

    prefix: ClassVar[str]
    wanted: ClassVar[str]
    """What must follow the prefix."""
    carries_attachments: ClassVar[bool] = False
    """Whether what is attached to an image goes there with it."""

    text: str
    name: str

    @abstractmethod
    def send(self, store: Store, tag: str, root: Descriptor, progress: Progress = unseen) -> CopyReport:
        """Copy the image ``root``, called ``tag`` in ``store``, to this place; raises what the place raises."""

    def load(self, store: Store, tag: str | None = None, progress: Progress = unseen) -> Loaded:
        """Copy the image to ``store`` and tag it ``tag`` there, or with its own name.

        What is attached to it comes too where the place has such. Raises ``UsageError`` for an image without a full
        name, and what ``open`` raises; ``store`` has no new tag then.
        """
        with self.open() as (source, root):
            name = tag or root.annotations.get(mediatypes.REF_NAME)
            if name is None or (tag is None and ":" not in name):
                raise UsageError("has no name of its own", where=self.text, hint="give one with --tag NAME:TAG")
            report = copy(source, store, root, progress=progress)
            if isinstance(source, Available):
                _log.info("%s names more than it holds; taken without %s", self.text, source.absent_names)
                source = source.source
            if isinstance(source, HasReferrers):
                report += copy_attachments(source, store, root)
        store.tag(image_tag(name), root)
        return Loaded(image_tag(name), root, report)

    @property
    def file(self) -> Path | None:
        """The one file that ``send`` writes; ``None`` for a place that is something else."""
        return None

    @property
    def public_name(self) -> str | None:
        """What others call this place; ``None`` for a file or engine of this machine."""
        return None


def held(source: HoldsBlobs, root: Descriptor) -> tuple[BlobSource, Descriptor]:
    """``source`` and ``root``; where an index names images that are not there, what there is, in an ``Available``."""
    found = available(source, root)
    return (found if found.absent else source), found.root


def split_tag(text: str) -> tuple[Path, str | None]:
    """``PATH[:TAG]``, where the tag may be ``name:tag``, and the path may have colons too."""
    cuts = [at for at, letter in enumerate(text) if letter == ":" and at > 0]
    choices = [(text, None), *((text[:at], text[at + 1 :]) for at in reversed(cuts))]
    # The longest existing path; else the one to be made in the deepest folder, with the longest tag.
    path, tag = next(
        (choice for choice in choices if Path(choice[0]).exists()),
        max(
            (choice for choice in choices if Path(choice[0]).parent.is_dir()),
            key=lambda choice: (len(Path(choice[0]).parent.parts), -len(choice[0])),
            default=choices[-1],
        ),
    )
    return Path(path), tag or None


def pick(images: Mapping[str, Descriptor], tag: str | None, where: object) -> Descriptor:
    """The image of that tag, or the only one; raises ``NotFoundError`` that lists what there is."""
    if tag is not None:
        for name in (tag, f"{tag}:latest"):
            if name in images:
                return images[name]
    elif len(images) == 1:
        return next(iter(images.values()))
    have = f"it has {', '.join(sorted(images))}" if images else "push an image there first"
    if tag is None and images:
        have += f"; write {where}:NAME for one of them"
    raise NotFoundError(f"{tag!r} not found" if tag else f"holds {len(images)} images", where=where, hint=have)
