"""What an image has at a path and who its user is, as the engine sees it: in a container that is never started."""

from __future__ import annotations

import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import PurePosixPath

from edge_agent.runtimes.engine.api import Engine
from edge_agent.runtimes.engine.users import user_in
from edgepack.oci.config import ImageConfig

# As Go's io/fs numbers them.
_FOLDER, _LINK = 1 << 31, 1 << 27


class Look:
    """An image from inside of ``container``, which was made from it with nothing mounted."""

    def __init__(self, engine: Engine, container: str, config: ImageConfig) -> None:
        self._engine = engine
        self._container = container
        self._config = config

    @property
    def user(self) -> tuple[int, int]:
        """The uid and gid of the service; raises ``IncompatibleError`` for a name that the image does not have."""
        return user_in(self._engine, self._container, self._config)

    def content(self, path: str) -> str | None:
        """What is at ``path``, in words; see ``Content`` in ``edge_agent.runtimes.access.mounts``."""
        at = PurePosixPath(path)
        for part in (*reversed([one for one in at.parents if str(one) != "/"]), at):
            mode = self._engine.path_mode(self._container, str(part))
            if mode is None:
                return None
            if mode & _LINK:
                return f"a link at {part}"
            if not mode & _FOLDER:
                return f"a file at {part}"
        return f"files in {path}" if self._has_entries(path) else None

    def _has_entries(self, path: str) -> bool:
        with self._engine.archive(self._container, path) as answer, tarfile.open(fileobj=answer, mode="r|*") as tar:
            return tar.next() is not None and tar.next() is not None


@contextmanager
def look_into(engine: Engine, image: str, config: ImageConfig, name: str, labels: dict[str, str]) -> Iterator[Look]:
    """A look into ``image``, by a container called ``name`` that is removed at the end; an older one is replaced."""
    engine.remove(name)
    container = engine.create(name, {"Image": image, "Labels": labels, "NetworkDisabled": True})
    try:
        yield Look(engine, container, config)
    finally:
        engine.remove(name)
