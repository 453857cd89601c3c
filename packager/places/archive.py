"""``oci-archive:FILE[:TAG]`` and ``docker-archive:FILE[:TAG]``: one tar; those written here are both at once."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from edgepack.host.progress import Progress, unseen
from edgepack.oci import mediatypes
from edgepack.oci.archive.write import Archive, write_archive
from edgepack.oci.attachments import subjects
from edgepack.oci.copy import CopyReport, digests
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.sources import BlobSource
from edgepack.oci.store import Store
from packager.places.loadable import loadable
from packager.places.place import Place, held, pick, split_tag

_STDIN, _STDOUT = Path("/dev/stdin"), Path("/dev/stdout")
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class OciArchive(Place):
    """An archive, which may hold several images."""

    prefix = "oci-archive:"
    wanted = "path"

    @contextmanager
    def open(self, *, offline: bool = False) -> Iterator[tuple[BlobSource, Descriptor]]:
        """The image of that tag, or the only one."""
        path, tag = _path_and_tag(self.name, _STDIN)
        with Archive(path) as archive:
            yield held(archive, pick(archive.images(), tag, path))

    def send(self, store: Store, tag: str, root: Descriptor, progress: Progress = unseen) -> CopyReport:
        """Write the file anew, with this image alone."""
        path, name = _path_and_tag(self.name, _STDOUT)
        written = write_archive(store, {name or tag: root}, path, zstd=True, progress=progress)
        _note_signatures(store, tag, root)
        return CopyReport(written, 1, 0, digests(store, root))

    @property
    def file(self) -> Path | None:
        """The archive."""
        return _path_and_tag(self.name, _STDOUT)[0]


@dataclass(frozen=True)
class DockerArchive(OciArchive):
    """The same file by Docker's word for it, with layers that every Docker loads."""

    prefix = "docker-archive:"

    def send(self, store: Store, tag: str, root: Descriptor, progress: Progress = unseen) -> CopyReport:
        """Write the file anew, with this image alone, and gzip in place of zstd; raises what ``loadable`` raises."""
        path, name = _path_and_tag(self.name, _STDOUT)
        with loadable(store, tag, root, keep_signed=True) as (source, image):
            written = write_archive(source, {name or tag: image}, path, progress=progress)
        _note_signatures(store, tag, root)
        return CopyReport(written, 1, 0, digests(store, root))


def _path_and_tag(name: str, stream: Path) -> tuple[Path, str | None]:
    """Of ``PATH[:TAG]``, where ``-`` is ``stream``."""
    path, tag = split_tag(name)
    return (stream if name.partition(":")[0] == "-" else path), tag


def _note_signatures(store: Store, tag: str, root: Descriptor) -> None:
    if store.referrers(root.digest, mediatypes.STATEMENT_ARTIFACT):
        _log.warning("%s is signed, and an archive cannot carry signatures; oci:DIR, a registry and a bundle can", tag)
    elif any(store.referrers(image.digest) for image in subjects(store, root)):
        _log.info("an archive holds the image alone; its SBOM and provenance go to oci:DIR, a registry and a bundle")
