"""The user's home folder, and what is kept in it where nobody says otherwise."""

from __future__ import annotations

import os
from pathlib import Path

from edgepack.errors import UsageError


def home_folder() -> Path | None:
    """The user's home; ``None`` for a number without a name and without ``HOME``, as containers have it."""
    found = os.path.expanduser("~")  # noqa: PTH111 - Path.home raises then
    return Path(found) if os.path.isabs(found) else None  # noqa: PTH117


def usual_folder(shared: str, fallback: str) -> Path | None:
    """Our folder in what the variable ``shared`` names, or in ``fallback`` of the home; ``None`` without a home.

    ``shared`` is one of the XDG base directories.
    """
    if base := os.environ.get(shared):
        return Path(base) / "edgepack"
    home = home_folder()
    return None if home is None else home / fallback / "edgepack"


def cache_folder() -> Path:
    """``EDGEPACK_CACHE``, or the user's cache folder; raises as ``user_folder`` does."""
    return user_folder("EDGEPACK_CACHE", "XDG_CACHE_HOME", ".cache")


def user_folder(own: str, shared: str, fallback: str) -> Path:
    """What the variable ``own`` names, or the ``usual_folder``; raises ``UsageError`` where there is neither."""
    if named := os.environ.get(own):
        return Path(named)
    found = usual_folder(shared, fallback)
    if found is None:
        hint = "set it to a folder of yours, or set HOME"
        raise UsageError("is not set, and this user has no home folder", where=own, hint=hint)
    return found
