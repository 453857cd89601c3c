"""A model's files, written where a user wants them."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from edgepack.errors import UsageError, disk_errors
from edgepack.host.files import make_dirs, mode_of_new_folder, temporary_beside
from edgepack.oci.store import Store
from packager.models.model import Model
from packager.models.unpack import extract


def download(store: Store, model: Model, target: Path, *, exist_ok: bool = False) -> Path:
    """Write the files of ``model`` below the folder ``target``, verified; returns the file, or the folder they are in.

    Each appears whole, with the permissions that the umask leaves, as a copy has. Raises ``UsageError`` for what is
    there already, before anything is written, unless ``exist_ok`` lets it be replaced; then a folder keeps what the
    model does not have. Raises ``NotFoundError``, ``NoSpaceError``.
    """
    tops = sorted({file.path.partition("/")[0] for file in model.files})
    for top in tops:
        if not exist_ok and os.path.lexists(target / top):
            raise UsageError("is already there", where=target / top, hint="give --exist-ok or another --target-dir")
    with disk_errors(target):
        # Beside the folder that may not exist yet, so that a failure leaves none.
        above = next(folder for folder in (target, *target.absolute().parents) if folder.exists())
        with temporary_beside(above / "download") as unpacked:
            found = extract(store, model, unpacked / "model")
            folder = found if len(tops) > 1 else found.parent
            give_usual_modes(found)
            for top in tops:
                _check_place(folder / top, target / top)
            make_dirs(target)
            for top in tops:
                _put(folder / top, target / top)
    return target / tops[0] if len(tops) == 1 else target


def give_usual_modes(path: Path) -> None:
    """Let files and folders have the permissions of new ones: a layer's are the same whatever the umask."""
    folder_mode = mode_of_new_folder(path.parent)
    for place in (path, *path.rglob("*")) if path.is_dir() else (path,):
        if place.is_symlink():
            continue
        is_executable = place.is_dir() or place.stat().st_mode & stat.S_IXUSR
        place.chmod(folder_mode if is_executable else folder_mode & 0o666)


def _check_place(path: Path, place: Path) -> None:
    """Raise ``UsageError`` where a file would have to take the place of a folder, or a folder that of a file."""
    if not os.path.lexists(place):
        return
    if not _is_folder(path):
        if _is_folder(place):
            raise UsageError("is a folder, and the model has a file of that name", where=place, hint="move it away")
    elif not _is_folder(place):
        raise UsageError("is a file, and the model has a folder of that name", where=place, hint="move it away")
    else:
        for child in sorted(path.iterdir()):
            _check_place(child, place / child.name)


def _put(path: Path, place: Path) -> None:
    """Move ``path`` to ``place``; a folder that is there keeps its other files."""
    if _is_folder(path) and _is_folder(place):
        for child in sorted(path.iterdir()):
            _put(child, place / child.name)
    else:
        path.replace(place)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
