"""The cache of conversions: each is found by the digest of all that went into it."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from edgepack.errors import EdgepackError, disk_errors
from edgepack.host.files import discard, make_dirs, sweep, temporary_beside
from edgepack.host.home import user_folder

_log = logging.getLogger(__name__)

FORMAT = 1
INDEX = "entry.json"
# What all entries may take together; those used longest ago go first.
LIMIT = 8 << 30

Package = Mapping[str, bytes]


def default_cache() -> Path:
    """``EDGEPACK_CACHE``, or the user's cache folder (XDG base directories)."""
    return user_folder("EDGEPACK_CACHE", "XDG_CACHE_HOME", ".cache").absolute()


@functools.cache
def code_digest() -> str:
    """SHA-256 over this package's own source: another version of it may convert differently."""
    package = Path(__file__).parents[1]
    found = hashlib.sha256()
    for path in sorted(package.rglob("*.py")):
        found.update(f"{path.relative_to(package)}\0{hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return found.hexdigest()


def key(facts: Mapping[str, object]) -> str:
    """The name of an entry: ``facts`` (JSON values: model, options, sample, environment), this code and this format."""
    whole = json.dumps([FORMAT, code_digest(), dict(facts)], sort_keys=True)
    return hashlib.sha256(whole.encode()).hexdigest()


def get(cache: Path, name: str) -> Package | None:
    """The files of entry ``name``, or None. An entry whose bytes have changed is dropped."""
    folder = _folder(cache, name)
    try:
        index = json.loads((folder / INDEX).read_bytes())
        package = {str(file): (folder / str(file)).read_bytes() for file in index}
        sound = all(hashlib.sha256(data).hexdigest() == index[file] for file, data in package.items())
    except FileNotFoundError:
        if folder.exists():
            _drop(folder)
        return None
    except (OSError, ValueError, TypeError, KeyError):
        sound = False
    if not sound:
        _log.warning("a kept conversion was damaged, and is made again")
        _drop(folder)
        return None
    try:
        os.utime(folder)
    except OSError:  # a cache that may only be read serves too
        _log.debug("the cache in %s cannot be written", cache)
    return package


def put(cache: Path, name: str, package: Package) -> None:
    """Keep the files of a conversion as entry ``name``, whole or not at all; an existing entry stays.

    A cache that cannot be written is not an error: the conversion itself has succeeded.
    """
    folder = _folder(cache, name)
    try:
        make_dirs(folder.parent)
        with disk_errors(folder.parent):
            _put(folder, package)
            _trim(folder.parent)
    except (EdgepackError, OSError) as error:
        _log.warning("the conversion is not kept for the next time: %s", error)


def _put(folder: Path, package: Package) -> None:
    with temporary_beside(folder) as making:
        for file, data in package.items():
            (making / file).write_bytes(data)
        index = {file: hashlib.sha256(data).hexdigest() for file, data in package.items()}
        (making / INDEX).write_text(json.dumps(index, sort_keys=True))
        try:
            making.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process kept the same conversion meanwhile
                raise


def _folder(cache: Path, name: str) -> Path:
    return cache / "conversions" / name


def _drop(folder: Path) -> None:
    """Remove an entry in one step, so that no other process sees half of it."""
    with contextlib.suppress(OSError):  # a cache that may only be read serves too
        discard(folder)


def _trim(folder: Path) -> None:
    """Drop the entries used longest ago beyond the limit, and the leftovers of killed processes."""
    sweep(folder, ".*")
    entries = []
    for entry in folder.glob("[!.]*"):
        try:
            size = sum(path.stat().st_size for path in entry.iterdir())
            entries.append((entry.stat().st_mtime, size, entry))
        except OSError:
            continue  # gone meanwhile
    total = 0
    for _, size, entry in sorted(entries, key=lambda found: found[0], reverse=True):
        total += size
        if total > LIMIT and total > size:
            _drop(entry)
