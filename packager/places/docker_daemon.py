"""A container engine on this workstation, by Docker's API; the one module here that knows the docker package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edgepack.errors import EdgepackError, MissingPartError, NotFoundError, disk_errors


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


def is_remote() -> bool:
    """Whether ``DOCKER_HOST`` names an engine on another machine."""
    return os.environ.get("DOCKER_HOST", "").partition("://")[0] in ("tcp", "ssh", "http", "https")


def save_image(name: str, path: Path) -> None:
    """Write the engine's image ``name`` as an archive to ``path``."""
    with _engine() as client, disk_errors(path), path.open("wb") as file:
        for chunk in client.images.get(name).save(named=True):
            file.write(chunk)


def load_image(path: Path) -> None:
    """Give the engine the archive at ``path``."""
    with _engine() as client, path.open("rb") as file:
        client.images.load(file)
