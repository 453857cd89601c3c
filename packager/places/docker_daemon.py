"""``docker-daemon:NAME``: a container engine on this workstation, by Docker's API.

The only module here that imports the docker package.
"""

from __future__ import annotations

import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
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
from edgepack.text import printable
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


_STEP = re.compile(r"(?:\[\d+/\d+\] )?step \d+/\d+ ?: (.+)", re.IGNORECASE)
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# What the engine says of its own doings, beside what a step prints.
_OWN = re.compile(r" ?--->? |Removing intermediate container ")
_LAST_LINES = 10


@dataclass(frozen=True)
class Engine:
    """An engine that builds: ``docker``, or ``podman`` by its Docker-compatible socket."""

    kind: str = "docker"

    def build(self, context: Path, stage: str | None, *, network: bool, log: Callable[[str], None]) -> str:
        """Build the context, a tar with a Dockerfile, up to ``stage`` or to its end; gives the image's identifier.

        ``log`` gets each line of the engine's output. Without ``network`` no step reaches one. Raises
        ``EdgepackError`` with the step that failed and its last lines, ``MissingPartError`` where no engine answers.
        """
        with _engine(f"--engine {self.kind}", _address(self.kind)) as client, context.open("rb") as file:
            answers = client.api.build(
                fileobj=file, custom_context=True, target=stage, rm=True, forcerm=True, decode=True, timeout=None,
                network_mode=None if network else "none",
            )  # fmt: skip
            return _built(answers, log, network=network)

    def save(self, image: str, path: Path) -> None:
        """Write the image of that name or identifier as an archive to ``path``."""
        with _engine(f"--engine {self.kind}", _address(self.kind)) as client:
            _save(client, image, path)


def _built(answers: Iterable[Mapping[str, Any]], log: Callable[[str], None], *, network: bool) -> str:
    """What a build that answers so has made."""
    step, image, rest = "", "", ""
    lines: deque[str] = deque(maxlen=_LAST_LINES)
    for answer in answers:
        *whole, rest = (rest + _COLOUR.sub("", answer.get("stream") or "")).split("\n")
        for line in filter(None, map(printable, whole)):
            log(line)
            if match := _STEP.fullmatch(line):
                step, lines = match[1], deque(maxlen=_LAST_LINES)
            elif not _OWN.match(line):
                lines.append(line)
        image = (answer.get("aux") or {}).get("ID") or image
        if "error" in answer:
            said = printable(" ".join(str(answer["error"]).split()))
            raise EdgepackError(
                f"failed: {said}; its last lines: {' | '.join(lines) or 'none'}", where=f"step {step}",
                hint="correct the step" if network else "correct the step; it reaches a network with --allow-network",
            )  # fmt: skip
    if not image:
        raise EdgepackError("the engine did not say which image it made", where="--engine", hint="update the engine")
    return image


def _address(kind: str) -> str | None:
    """Where the engine listens, if the environment does not say it and it is not Docker's own place."""
    if kind == "docker" or os.environ.get("DOCKER_HOST"):
        return None
    if named := os.environ.get("CONTAINER_HOST"):
        return named
    own = Path(os.environ.get("XDG_RUNTIME_DIR") or f"/run/user/{os.geteuid()}", "podman/podman.sock")
    return f"unix://{own if own.exists() else '/run/podman/podman.sock'}"


@contextmanager
def _engine(where: str = "docker-daemon:", address: str | None = None) -> Iterator[Any]:
    try:
        import docker
        from requests.exceptions import RequestException
    except ImportError:
        raise MissingPartError("the docker package is not installed", where=where, hint="pip install docker") from None
    try:
        client = docker.from_env(timeout=600) if address is None else docker.DockerClient(address, timeout=600)
        client.ping()
    except (docker.errors.DockerException, RequestException):
        raise MissingPartError(
            "no container engine answers", where=where, hint="start Docker or Podman, or set DOCKER_HOST"
        ) from None
    try:
        yield client
    except RequestException as error:
        raise EdgepackError(f"the engine ended the connection ({error})", where=where, hint="see its log") from error
    except docker.errors.NotFound:
        raise NotFoundError("the engine has no such image", where=where, hint="see docker images") from None
    except docker.errors.APIError as error:
        raise EdgepackError(f"the engine refused ({error.explanation})", where=where) from error
    finally:
        client.close()


def _is_remote() -> bool:
    """Whether ``DOCKER_HOST`` names an engine on another machine."""
    return os.environ.get("DOCKER_HOST", "").partition("://")[0] in ("tcp", "ssh", "http", "https")


def _save_image(name: str, path: Path) -> None:
    """Write the engine's image ``name`` as an archive to ``path``."""
    with _engine() as client:
        _save(client, name, path)


def _save(client: Any, name: str, path: Path) -> None:
    with disk_errors(path), path.open("wb") as file:
        for chunk in client.images.get(name).save(named=True):
            file.write(chunk)


def _load_image(path: Path, advance: Advance) -> None:
    """Give the engine the archive at ``path``."""
    with _engine() as client, path.open("rb") as file:
        watched = counted(file, advance)
        client.images.load(iter(lambda: watched.read(LIMITS.chunk_bytes), b""))
