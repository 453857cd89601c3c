"""``docker-daemon:NAME``: a container engine on this workstation, by Docker's API.

The only module here that imports the docker package.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.errors import EdgepackError, MissingPartError, NotFoundError, disk_errors
from edgepack.host.progress import Advance, Progress, counted, unseen
from edgepack.host.scratch import scratch_folder
from edgepack.limits import LIMITS
from edgepack.oci.archive.write import Archive, write_archive
from edgepack.oci.copy import CopyReport, digests
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.reference import image_tag
from edgepack.oci.sources import BlobSource
from edgepack.oci.store import Store
from packager.places.loadable import loadable
from packager.places.place import Place, held, pick


@dataclass(frozen=True)
class DockerDaemon(Place):
    """An image of the engine, which gives and takes archives."""

    prefix = "docker-daemon:"
    wanted = "name"

    @contextmanager
    def open(self, *, offline: bool = False) -> Iterator[tuple[BlobSource, Descriptor]]:
        """The engine's image of that name."""
        if offline and _is_remote():
            raise EdgepackError(
                "DOCKER_HOST names an engine on another machine", where="--offline", hint="unset one of the two"
            )
        with scratch_folder("engine") as folder:
            path = folder / "image.tar"
            _save_image(self.name, path)
            with Archive(path) as archive:
                yield held(archive, pick(archive.images(), None, self.name))

    def send(self, store: Store, tag: str, root: Descriptor, progress: Progress = unseen) -> CopyReport:
        """Give the engine the image by that name, with gzip in place of zstd."""
        # An engine keeps no signatures, and calls an image by its configuration, which stays.
        with scratch_folder("engine") as folder, loadable(store, tag, root, keep_signed=False) as (source, image):
            path = folder / "image.tar"
            size = write_archive(source, {image_tag(self.name): image}, path)
            with progress(f"load {self.name}", size) as advance:
                _load_image(path, advance)
            return CopyReport(size, 1, 0, digests(store, root))


@contextmanager
def _engine() -> Iterator[Any]:
    try:
        import docker
    except ImportError:
        raise MissingPartError(
            "the docker package is not installed", where="docker-daemon:", hint="pip install docker"
        ) from None
    try:
        client = docker.from_env(timeout=600)
        client.ping()
    except docker.errors.DockerException:
        raise MissingPartError(
            "no container engine answers", where="docker-daemon:", hint="start Docker or Podman, or set DOCKER_HOST"
        ) from None
    try:
        yield client
    except docker.errors.NotFound:
        raise NotFoundError("the engine has no such image", where="docker-daemon:", hint="see docker images") from None
    except docker.errors.APIError as error:
        raise EdgepackError(f"the engine refused ({error.explanation})", where="docker-daemon:") from error
    finally:
        client.close()


def _is_remote() -> bool:
    """Whether ``DOCKER_HOST`` names an engine on another machine."""
    return os.environ.get("DOCKER_HOST", "").partition("://")[0] in ("tcp", "ssh", "http", "https")


def _save_image(name: str, path: Path) -> None:
    """Write the engine's image ``name`` as an archive to ``path``."""
    with _engine() as client, disk_errors(path), path.open("wb") as file:
        for chunk in client.images.get(name).save(named=True):
            file.write(chunk)


def _load_image(path: Path, advance: Advance) -> None:
    """Give the engine the archive at ``path``."""
    with _engine() as client, path.open("rb") as file:
        watched = counted(file, advance)
        client.images.load(iter(lambda: watched.read(LIMITS.chunk_bytes), b""))
