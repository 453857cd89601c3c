"""What the list of a wheel's files tells: the modules in it, and the date of the newest.

Reading it takes long where a wheel has thousands of files, so what was read is kept beside the wheel in the cache.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass

from edgepack.host.files import atomic_write
from packager.layers.dates import of_files
from packager.wheels.cache import Wheel

_FILE = "listing.json"
_FORMAT = 1


@dataclass(frozen=True)
class WheelListing:
    """``modules`` are what can be imported, inner ones by their dotted names; ``newest`` is an RFC 3339 time."""

    modules: frozenset[str]
    newest: str


def listing_of(wheel: Wheel) -> WheelListing:
    """That of ``wheel``."""
    kept = wheel.path.parent / _FILE
    with suppress(OSError, ValueError, KeyError, TypeError):  # never read, or of another format
        found = json.loads(kept.read_bytes())
        if found["format"] == _FORMAT and found["file"] == wheel.filename:
            return WheelListing(frozenset(found["modules"]), str(found["newest"]))
    with zipfile.ZipFile(wheel.path) as archive:
        files = archive.infolist()
    listing = WheelListing(_modules(file.filename for file in files), of_files(files))
    value = {
        "format": _FORMAT, "file": wheel.filename, "modules": sorted(listing.modules), "newest": listing.newest
    }  # fmt: skip
    with suppress(OSError):  # a cache that may only be read
        atomic_write(kept, json.dumps(value).encode())
    return listing


def _modules(paths: Iterable[str]) -> frozenset[str]:
    found = set()
    for path in paths:
        *packages, file = path.split("/")
        is_module = not packages or file.endswith((".py", ".so"))
        parts = [*packages, file.partition(".")[0]] if is_module else packages
        if all(part.isidentifier() for part in parts):
            found |= {parts[0], ".".join(part for part in parts if part != "__init__")}
    return frozenset(found)
