"""A service's log on the disk: never longer than its limit, with one older part kept beside it."""

from __future__ import annotations

import os


class Log:
    """Appends to the file at ``path``; at ``limit`` bytes it becomes ``path.1``, which is replaced.

    What cannot be written is dropped: no full or failing disk, and no limit on files, must stop the service.
    """

    def __init__(self, path: str, limit: int) -> None:
        self._path = path
        self._limit = limit
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size

    def write(self, data: bytes) -> None:
        """Append ``data``, whole lines where it can be."""
        while data:
            room = self._limit - self._size
            if room >= len(data):
                self._append(data)
                return
            line = data.rfind(b"\n", 0, room + 1) + 1 if room > 0 else 0
            # A line longer than a whole log is cut.
            part = line or (room if self._size == 0 else 0)
            self._append(data[:part])
            data = data[part:]
            self._rotate()

    def close(self) -> None:
        """Close the file."""
        os.close(self._fd)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)

    def _append(self, data: bytes) -> None:
        try:  # noqa: SIM105 - contextlib would cost memory
            self._size += os.write(self._fd, data) if data else 0
        except OSError:
            pass

    def _rotate(self) -> None:
        try:
            os.replace(self._path, f"{self._path}.1")  # noqa: PTH105 - pathlib would cost memory
            fd = self._open()
        except OSError:  # the folder is gone or cannot be written
            try:  # noqa: SIM105
                os.ftruncate(self._fd, 0)
            except OSError:
                pass
        else:
            os.close(self._fd)
            self._fd = fd
        self._size = 0
