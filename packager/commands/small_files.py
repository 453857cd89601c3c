"""Small files that commands are given: what is missing or cannot be read is said with a way out."""

from __future__ import annotations

from pathlib import Path

from edgepack.errors import NotFoundError, UsageError
from edgepack.limits import LIMITS


def read_small(file: Path, limit: int, *, missing: str = "there is no such file", hint: str) -> bytes:
    """The bytes of ``file``; of a longer one than ``limit`` one more than that, for its reader to refuse.

    Raises ``NotFoundError``, which says what is ``missing``, and ``UsageError``, both with the ``hint``.
    """
    try:
        with file.open("rb") as opened:
            return opened.read(limit + 1)
    except FileNotFoundError:
        raise NotFoundError(missing, where=file, hint=hint) from None
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", where=file, hint=f"give a file; {hint}") from error


def read_desired_state(file: Path) -> bytes:
    """The bytes of a desired state; raises as ``read_small`` does."""
    return read_small(file, LIMITS.desired_state_bytes, hint="write a desired state, see the README")
