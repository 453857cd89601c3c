"""Caches of tests."""

from __future__ import annotations

from pathlib import Path

from converters.package.cache import default_cache

# To build a base takes four seconds, and two more to unpack it as the Python that makes bytecode.
BASES = ("bases", "interpreters")


def with_bases(folder: Path) -> Path:
    """A cache with nothing in it but the base images, which are built once for all tests and runs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in BASES:
        shared = default_cache() / name
        shared.mkdir(parents=True, exist_ok=True)
        (folder / name).symlink_to(shared)
    return folder
