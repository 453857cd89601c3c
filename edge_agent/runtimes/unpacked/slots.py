"""Where the instances of a service are: in two folders, so that a new version can start beside the one that runs.

``<service>`` is the current one, unless the other, ``<service>.2``, has the file ``current``: a switch from one to the
other is one file made or removed, which a crash leaves done or not done.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from edgepack.errors import disk_errors
from edgepack.names import check_service_name

_SECOND = ".2"  # no service's name has a dot
_CURRENT = "current"


class Slots:
    """The folders below ``root``, one runtime's."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def first(self, service: str) -> Path:
        """Where an instance starts that is alone."""
        return self._root / check_service_name(service)

    def current(self, service: str) -> Path:
        """Where the instance is that counts."""
        first, second = self.both(service)
        return second if (second / _CURRENT).exists() else first

    def other(self, service: str) -> Path:
        """Where a new version starts beside that; what is there while nothing switches was left by a crash."""
        first, second = self.both(service)
        return first if self.current(service) == second else second

    def both(self, service: str) -> tuple[Path, Path]:
        """Both folders; neither has to be there."""
        first = self.first(service)
        return first, first.with_name(f"{first.name}{_SECOND}")

    def choose(self, folder: Path) -> None:
        """Let the instance in ``folder`` be the current one."""
        with disk_errors(folder):
            if folder.name.endswith(_SECOND):
                (folder / _CURRENT).touch(0o600)
            else:
                with suppress(FileNotFoundError):
                    (folder.with_name(f"{folder.name}{_SECOND}") / _CURRENT).unlink()


def service_of(folder: Path) -> str:
    """The service whose instance is in ``folder``."""
    return folder.name.removesuffix(_SECOND)
