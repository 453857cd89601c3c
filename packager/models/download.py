"""A model's files, written where a user wants them."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from edgepack.errors import UsageError, disk_errors
from edgepack.host.files import make_dirs
from edgepack.host.removal import remove_tree
from edgepack.oci.store import Store
from packager.models.model import Model
from packager.models.unpack import extract


def download(store: Store, model: Model, target: Path, *, exist_ok: bool = False) -> Path:
    """Write the files of ``model`` below the folder ``target``, verified; returns the file, or the folder they are in.

    Each appears whole. Raises ``UsageError`` for what is there already, before anything is written, unless ``exist_ok``
    lets it be replaced; then a folder keeps what the model does not have. Raises ``NotFoundError``, ``NoSpaceError``.
    """
    tops = sorted({file.path.partition("/")[0] for file in model.files})
    for top in tops:
        if not exist_ok and os.path.lexists(target / top):
            raise UsageError("is already there", where=target / top, hint="give --exist-ok or another --target-dir")
    with disk_errors(target):
        # Beside the folder that may not exist yet, so that a failure leaves none.
        above = next(folder for folder in (target, *target.absolute().parents) if folder.exists())
        unpacked = above / f".download-{secrets.token_hex(8)}"
        try:
            found = extract(store, model, unpacked / "model")
            folder = found if len(tops) > 1 else found.parent
            make_dirs(target)
            for top in tops:
                _put(folder / top, target / top)
        finally:
            remove_tree(unpacked, ignore_errors=True)
    return target / tops[0] if len(tops) == 1 else target


def _put(path: Path, place: Path) -> None:
    """Move ``path`` to ``place``; a folder that is there keeps its other files."""
    if path.is_dir() and not path.is_symlink() and place.is_dir() and not place.is_symlink():
        for child in sorted(path.iterdir()):
            _put(child, place / child.name)
        return
    if os.path.lexists(place) and place.is_dir() and not place.is_symlink():
        raise UsageError("is a folder, and the model has a file of that name", where=place, hint="move it away")
    if path.is_dir() and not path.is_symlink() and os.path.lexists(place):
        raise UsageError("is a file, and the model has a folder of that name", where=place, hint="move it away")
    path.replace(place)
