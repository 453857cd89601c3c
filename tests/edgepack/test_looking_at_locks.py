"""Who looks whether a lock is held keeps nobody from taking it."""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path

from edgepack.host.files import open_lock
from edgepack.host.locks import is_locked, taken_at_once


def test_a_look_does_not_refuse_a_change(tmp_path: Path) -> None:
    look, change = open_lock(tmp_path / "lock"), open_lock(tmp_path / "lock")
    fcntl.flock(look, fcntl.LOCK_SH)  # as a look does for a moment
    threading.Timer(0.05, os.close, [look]).start()
    assert taken_at_once(change)
    os.close(change)


def test_a_lock_that_is_held_is_not_taken(tmp_path: Path) -> None:
    held, other = open_lock(tmp_path / "lock"), open_lock(tmp_path / "lock")
    assert taken_at_once(held)
    assert is_locked(tmp_path / "lock")
    assert not taken_at_once(other)
    os.close(held)
    assert taken_at_once(other)
    os.close(other)
