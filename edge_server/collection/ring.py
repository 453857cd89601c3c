"""A folder of CSV files that several processes write, of a bounded total size.

Under one lock a process appends whole rows to the file of the day. A full file is renamed after the current time; where
the quota would be exceeded, the files that were written longest ago are removed. An incomplete row, left by a power cut
or a killed process, is cut off before the next row is written.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from edge_server.collection.table import whole_length

_log = logging.getLogger(__name__)

# A file is a small part of the quota, so that making room loses little at once.
PARTS = 8
LOCK = ".lock"
SETTLED_NS = 10 * 60 * 10**9  # many times what a kernel holds back unwritten
_TOTAL = 20  # decimal digits of the total size, as the lock file holds it


class Ring:
    """The files below ``folder``, together never above ``quota_bytes``. Not thread-safe."""

    def __init__(self, folder: Path, quota_bytes: int) -> None:
        """Make the folder and measure its files; OSError when it cannot be written."""
        self.folder = folder
        self.quota_bytes = quota_bytes
        self._checked: dict[Path, tuple[int, int]] = {}  # inode, and length up to which rows are known to be whole
        folder.mkdir(parents=True, exist_ok=True)
        self._lock = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            with self._locked():
                self._repair_recent()
                self._keep_total(self._measure())
        except OSError:
            os.close(self._lock)
            raise

    def close(self) -> None:
        """Close the lock file."""
        os.close(self._lock)

    def append(self, parts: Mapping[tuple[str, bytes], bytes]) -> int:
        """Write whole rows; ``parts`` maps a path below the folder and its header line to the rows' lines.

        Returns how many parts were larger than the quota and left out. Raises OSError when writing fails; rows written
        before that stay whole.
        """
        left_out = 0
        with self._locked():
            for (name, header), rows in parts.items():
                left_out += not self._append(self.folder / name, header, rows)
        return left_out

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        try:
            yield
        finally:
            fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _append(self, path: Path, header: bytes, rows: bytes) -> bool:
        share = max(self.quota_bytes // PARTS, 1)
        if len(header) + len(rows) > self.quota_bytes:
            return False
        size = self._repaired(path)
        if size and (size + len(rows) > share or not _begins_with(path, header)):
            self._put_aside(path)
            size = 0
        self._make_room(len(header) + len(rows))
        path.parent.mkdir(parents=True, exist_ok=True)
        # The file itself may have been the oldest.
        data = rows if size and path.exists() else header + rows
        # First the total, then the file: if the process is killed between, the total is too high, never too low.
        self._keep_total(self._total() + len(data))
        self._write(path, data)
        return True

    def _write(self, path: Path, data: bytes) -> None:
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o640)
        try:
            before = os.fstat(file)
            try:
                written = os.write(file, data)
                while written < len(data):
                    written += os.write(file, data[written:])
            except OSError:
                os.ftruncate(file, before.st_size)
                self._keep_total(self._measure())
                raise
            self._checked[path] = (before.st_ino, before.st_size + len(data))
        finally:
            os.close(file)

    def _repair_recent(self) -> None:
        """Repair the files that a power cut may have damaged; older ones have long been on the disk."""
        files = list(self._files())
        newest = max((written for written, _, _ in files), default=0)
        for written, _, path in files:
            if written >= newest - SETTLED_NS:
                self._repaired(path)

    def _repaired(self, path: Path) -> int:
        """The file's length after an incomplete row at its end has been cut off; 0 when there is none."""
        try:
            file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return 0
        try:
            found = os.fstat(file)
            inode, whole = self._checked.get(path, (0, 0))
            if inode != found.st_ino or whole > found.st_size:
                whole = 0
            if whole < found.st_size:
                # Other processes have written since, or this one has just started: only that part is read.
                tail = _read(file, whole, found.st_size - whole)
                kept = whole_length(tail)
                if kept < len(tail):
                    _log.warning("%s ended in a torn row of %d bytes, which is cut off", path, len(tail) - kept)
                    os.ftruncate(file, whole + kept)
                    self._keep_total(self._measure())
                whole += kept
        finally:
            os.close(file)
        self._checked[path] = (found.st_ino, whole)
        return whole

    def _put_aside(self, path: Path) -> None:
        """Rename the file; the next row begins a new one."""
        now = datetime.now(UTC)
        path.rename(path.with_name(f"{path.stem}-{now:%H%M%S%f}-{os.getpid()}{path.suffix}"))
        self._checked.pop(path, None)

    def _make_room(self, wanted: int) -> None:
        if self._total() + wanted <= self.quota_bytes:
            return
        files = sorted(self._files())
        total = sum(size for _, size, _ in files)
        for _, size, path in files:
            if total + wanted <= self.quota_bytes:
                break
            path.unlink(missing_ok=True)
            self._checked.pop(path, None)
            self._prune(path.parent)
            total -= size
        self._keep_total(total)

    def _prune(self, folder: Path) -> None:
        """Remove the folders that have become empty."""
        while folder != self.folder:
            try:
                folder.rmdir()
            except OSError:
                return
            folder = folder.parent

    def _files(self) -> Iterator[tuple[int, int, Path]]:
        """Time of the last write, size and path of every file."""
        for parent, _, names in os.walk(self.folder):
            for name in names:
                if name.endswith(".csv"):
                    path = Path(parent, name)
                    with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                        found = path.stat()
                        yield found.st_mtime_ns, found.st_size, path

    def _measure(self) -> int:
        return sum(size for _, size, _ in self._files())

    def _total(self) -> int:
        held = os.pread(self._lock, _TOTAL, 0)
        return int(held) if held.isdigit() else self._measure()

    def _keep_total(self, total: int) -> None:
        os.pwrite(self._lock, b"%020d" % total, 0)


def _begins_with(path: Path, header: bytes) -> bool:
    with path.open("rb") as file:
        return file.read(len(header)) == header


def _read(file: int, start: int, length: int) -> bytes:
    parts = []
    while length > 0 and (part := os.pread(file, length, start)):
        parts.append(part)
        start += len(part)
        length -= len(part)
    return b"".join(parts)
