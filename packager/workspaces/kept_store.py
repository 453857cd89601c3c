"""The store of a workspace, whose garbage may be collected while other commands write.

Each process that uses blobs has a *lease*: a file that it locks, as old as its first use of the store. A blob that it
writes, or that it finds here and goes on without writing, is marked as used by its time of change. The collection keeps
what was changed since the oldest lease; marking and removing exclude each other by a lock.
"""

from __future__ import annotations

import fcntl
import os
import secrets
import threading
import weakref
from contextlib import suppress
from pathlib import Path
from typing import Self

from edgepack.host.files import locked, make_dirs, sweep
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.incoming import IncomingBlob
from edgepack.oci.store import Store


class WorkspaceStore(Store):
    """A store that marks what this process relies on."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self._marking = threading.Lock()
        self._lease: Lease | None = None

    @classmethod
    def opened(cls, root: Path) -> Self:
        """The layout at ``root``, made where there is none."""
        Store.create(root)
        return cls(root)

    @property
    def leases(self) -> Path:
        """The folder of the files that processes hold while they use blobs."""
        return self.root / "leases"

    @property
    def collection_lock(self) -> Path:
        """Held shared while a blob is marked, and alone while blobs are removed."""
        return self.root / ".collect.lock"

    def has(self, descriptor: Descriptor) -> bool:
        """As ``Store.has``; who asks goes on without writing the blob, so it is kept from now on."""
        return super().has(descriptor) and self._relies_on(descriptor.digest)

    def has_digest(self, digest: Digest) -> bool:
        """As ``Store.has_digest``, and as ``has``."""
        return super().has_digest(digest) and self._relies_on(digest)

    def receive(self, descriptor: Descriptor) -> IncomingBlob:
        """As ``Store.receive``."""
        self._take_lease()
        return super().receive(descriptor)

    def writer(self, limit: int = LIMITS.blob_bytes) -> IncomingBlob:
        """As ``Store.writer``."""
        self._take_lease()
        return super().writer(limit)

    def _relies_on(self, digest: Digest) -> bool:
        """Mark the blob as used; whether it is still there."""
        self._take_lease()
        try:
            with locked(self.collection_lock, shared=True):
                self._mark(digest)
        except FileNotFoundError:
            return False
        except OSError:  # a disk that cannot be written is not collected either
            return True
        return True

    def _mark(self, digest: Digest) -> None:
        try:
            os.utime(self.path(digest))
        except PermissionError:  # written by another user, such as root in a user's workspace: a mark beside it
            mark = self._mark_of(digest)
            mark.unlink(missing_ok=True)
            mark.touch()

    def _mark_of(self, digest: Digest) -> Path:
        return self.leases / f"{digest.hex}.used"

    def last_use(self, digest: Digest) -> int:
        """The time, in nanoseconds, of the last mark of a blob; raises ``FileNotFoundError`` where there is none."""
        written = self.path(digest).stat().st_mtime_ns
        try:
            return max(written, self._mark_of(digest).stat().st_mtime_ns)
        except FileNotFoundError:
            return written

    def forget_marks(self, since: int) -> None:
        """Remove the marks that are older than any use of the store."""
        for mark in self.leases.glob("*.used"):
            with suppress(OSError):
                if mark.stat().st_mtime_ns < since:
                    mark.unlink()

    def _take_lease(self) -> None:
        with self._marking:
            if self._lease is None or not self._lease.is_ours:  # of the process that this one was forked from
                with suppress(OSError):  # a disk that cannot be written is not collected either
                    make_dirs(self.leases)
                    sweep(self.leases, "*.lease")
                    # What the process that this one was forked from relied on, this one may rely on.
                    self._lease = Lease(self.leases, None if self._lease is None else self._lease.since)


class Lease:
    """A file that is locked as long as its process lives, and removed at its end; as old as ``since``, or new."""

    def __init__(self, folder: Path, since: int | None = None) -> None:
        path, file = _locked_file(folder)
        if since is not None:
            os.utime(file, ns=(since, since))
        self.since = os.fstat(file).st_mtime_ns
        self._owner = os.getpid()
        weakref.finalize(self, _end, path, file, self._owner)

    @property
    def is_ours(self) -> bool:
        """Whether this process took it."""
        return self._owner == os.getpid()


def _locked_file(folder: Path) -> tuple[Path, int]:
    while True:
        path = folder / f"{os.getpid()}-{secrets.token_hex(6)}.lease"
        file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        fcntl.flock(file, fcntl.LOCK_EX)
        if os.fstat(file).st_nlink:  # else another process swept it before it was locked
            return path, file
        os.close(file)


def _end(path: Path, file: int, owner: int) -> None:
    with suppress(OSError):
        if owner == os.getpid():
            path.unlink()
        os.close(file)


def oldest_use(store: WorkspaceStore) -> int:
    """The time of change, in nanoseconds, from which on a blob may be in use: of the oldest lease, or of now."""
    make_dirs(store.leases)
    sweep(store.leases, "*.lease")
    now = store.leases / f"{secrets.token_hex(6)}.now"  # by the clock that times of change come from
    now.touch()
    times = [now.stat().st_mtime_ns]
    now.unlink()
    for path in store.leases.glob("*.lease"):
        with suppress(FileNotFoundError):  # its process has ended
            times.append(path.stat().st_mtime_ns)
    return min(times)
