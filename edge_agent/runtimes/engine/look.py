"""What an image has at a path and who its user is, as the engine sees it: in a container that is never started."""

from __future__ import annotations

import base64
import contextlib
import json
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import Any

from edge_agent.runtimes.engine.users import user_in
from edgepack.oci.config import ImageConfig

# As Go's io/fs numbers them.
_FOLDER, _LINK = 1 << 31, 1 << 27


class Look:
    """An image from inside of ``container``, which was made from it with nothing mounted."""

    def __init__(self, client: Any, container: Any, config: ImageConfig) -> None:
        self._api = client.api
        self._container = container
        self._config = config

    @property
    def user(self) -> tuple[int, int]:
        """The uid and gid of the service; raises ``IncompatibleError`` for a name that the image does not have."""
        return user_in(self._container, self._config)

    def content(self, path: str) -> str | None:
        """What is at ``path``, in words; see ``Content`` in ``edge_agent.runtimes.access.mounts``."""
        at = PurePosixPath(path)
        for part in (*reversed([one for one in at.parents if str(one) != "/"]), at):
            mode = self._mode(str(part))
            if mode is None:
                return None
            if mode & _LINK:
                return f"a link at {part}"
            if not mode & _FOLDER:
                return f"a file at {part}"
        return f"files in {path}" if self._has_entries(path) else None

    def _mode(self, path: str) -> int | None:
        answer = self._api.head(self._url(), params={"path": path})
        if answer.status_code == 404:
            return None
        answer.raise_for_status()
        said = json.loads(base64.b64decode(answer.headers["X-Docker-Container-Path-Stat"]))
        return int(said["mode"])

    def _has_entries(self, path: str) -> bool:
        with self._api.get(self._url(), params={"path": path}, stream=True) as answer:
            answer.raise_for_status()
            with tarfile.open(fileobj=answer.raw, mode="r|*") as tar:
                return tar.next() is not None and tar.next() is not None

    def _url(self) -> str:
        return f"{self._api.base_url}/containers/{self._container.id}/archive"


@contextmanager
def look_into(client: Any, image: str, config: ImageConfig, name: str, labels: dict[str, str]) -> Iterator[Look]:
    """A look into ``image``, by a container called ``name`` that is removed at the end; an older one is replaced."""
    remove_look(client, name)
    container = client.containers.create(image, name=name, labels=labels, network_disabled=True)
    try:
        yield Look(client, container, config)
    finally:
        remove_look(client, name)


def remove_look(client: Any, name: str) -> None:
    """Remove the container ``name``; absent is fine."""
    import docker

    with contextlib.suppress(docker.errors.NotFound):
        client.containers.get(name).remove(force=True, v=True)
