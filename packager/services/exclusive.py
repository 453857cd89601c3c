"""One command at a time changes a service or an endpoint."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edgepack.errors import UsageError
from edgepack.host.files import make_dirs, open_lock
from edgepack.host.locks import taken_at_once


@contextmanager
def exclusive(lock: Path, where: str) -> Iterator[int]:
    """Keep others from changing ``where`` at the same time, by the file ``lock``, whose descriptor this is.

    Raises ``UsageError`` where one does.
    """
    make_dirs(lock.parent)
    held = open_lock(lock)
    try:
        if not taken_at_once(held):
            raise UsageError("is being changed by another command", where=where, hint="wait for it, and try again")
        yield held
    finally:
        os.close(held)
