"""What is kept in the user's cache of the blobs that registries have, over the pushes and pulls of this machine."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from edgepack.errors import EdgepackError
from edgepack.host.files import atomic_write, locked, make_dirs
from edgepack.host.home import cache_folder

if TYPE_CHECKING:
    from edgepack.oci.remote import KnownBlobs

_FILE = "registries.json"
# Of how many registries something is kept: the newest.
_MOST = 16


@contextmanager
def known_blobs(registry: str) -> Iterator[KnownBlobs]:
    """What is known of the blobs of ``registry``; what is noted meanwhile is kept, whatever comes of the rest.

    Nothing depends on it: where it cannot be read or written, nothing is known.
    """
    from edgepack.oci.remote import KnownBlobs

    path = _path()
    known = KnownBlobs(_read(path).get(registry))
    try:
        yield known
    finally:
        if path is not None and known.noted:
            with suppress(EdgepackError, OSError):
                _merge(path, registry, known.noted)


def _path() -> Path | None:
    with suppress(EdgepackError):  # a user without a home folder
        return cache_folder() / _FILE
    return None


def _read(path: Path | None) -> dict[str, dict[str, list[str]]]:
    """By registry and digest; what is not in that form was not written here."""
    if path is None:
        return {}
    try:
        found = json.loads(path.read_bytes())
        return {
            str(registry): {str(digest): [str(name) for name in names] for digest, names in blobs.items()}
            for registry, blobs in found.items()
        }
    except (OSError, ValueError, AttributeError, TypeError, RecursionError):
        return {}


def _merge(path: Path, registry: str, noted: dict[str, str]) -> None:
    from edgepack.oci.digest import Digest
    from edgepack.oci.remote import KnownBlobs

    make_dirs(path.parent)
    with locked(path.with_name(f".{path.name}.lock")):
        found = _read(path)
        known = KnownBlobs(found.pop(registry, None))
        for digest, repository in noted.items():
            known.note(Digest.parse(digest), repository)
        found[registry] = known.to_json()
        atomic_write(path, json.dumps(dict(list(found.items())[-_MOST:])).encode(), 0o600)
