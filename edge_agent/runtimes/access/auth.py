"""What callers of a service show, as a file that its server reads again when it changes.

The file has digests of keys, or the key that verifies tokens: nobody can call the service with it. It is in a folder
of the service's own, and the folder is what is mounted, so that a file that was put in the place of another is seen.
"""

from __future__ import annotations

from pathlib import Path

from edgepack.documents import canonical_json
from edgepack.errors import disk_errors
from edgepack.host.files import atomic_write, make_dirs
from edgepack.host.removal import remove_tree
from edgepack.state.desired import DesiredService

_FOLDER = "auth"


class AuthFiles:
    """These files of the device whose folder is ``state``, for the services of one ``runtime``."""

    def __init__(self, state: Path, runtime: str) -> None:
        self._folder = state / _FOLDER
        self._runtime = runtime

    def place(self, spec: DesiredService, instance: str | None = None) -> Path | None:
        """The folder for ``spec`` with its file as it is to be; ``None`` for a service that asks for nothing.

        It is that of the ``instance`` of that name, by default the service's.
        """
        if spec.auth is None:
            return None
        make_dirs(self._folder, 0o700)
        folder = self._own(instance or spec.name)
        make_dirs(folder, 0o755)
        # Who may read it is decided above: the service's user is the image's, whose number means nothing here.
        atomic_write(folder / spec.auth.file, canonical_json(spec.auth.document()), 0o644)
        return folder

    def remove(self, instance: str) -> None:
        """Remove what is there for ``instance``; absent is fine."""
        folder = self._own(instance)
        if folder.is_dir():
            with disk_errors(folder):
                remove_tree(folder)

    def _own(self, instance: str) -> Path:
        return self._folder / f"{self._runtime}-{instance}"
