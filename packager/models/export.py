"""A converted model out of the store, as a folder that the scoring server opens."""

from __future__ import annotations

from pathlib import Path

from edgepack.errors import NotFoundError, UsageError, disk_errors
from edgepack.host.files import fsync_dir, temporary_beside
from edgepack.oci.store import Store
from packager.layers.paths import model_dir
from packager.models.download import give_usual_modes
from packager.models.model import Conversion, Model
from packager.models.unpack import unpack_layers


def check_target(folder: Path) -> None:
    """Raise ``UsageError`` unless ``folder`` is absent or empty, ``NotFoundError`` where it has no parent folder."""
    with disk_errors(folder):
        if folder.resolve() == Path.cwd():
            raise UsageError("is the current folder", where=folder, hint="give -o the name of a new one")
        if folder.is_dir():
            if any(folder.iterdir()):
                raise UsageError("is not empty", where=folder, hint="give -o a new folder")
        elif folder.exists() or folder.is_symlink():
            raise UsageError("is not a directory", where=folder, hint="give -o a new folder")
        elif not folder.absolute().parent.is_dir():
            raise NotFoundError("there is no such folder", where=folder.parent, hint="create it, or give another -o")


def write_conversion(store: Store, model: Model, conversion: Conversion, folder: Path) -> Path:
    """Write the files of ``conversion`` to ``folder``, all of them or none; returns the ONNX file's path.

    Raises what ``check_target`` raises, ``VerificationError`` for a layer that is not what its digest says, and
    ``NoSpaceError``; ``folder`` is then as it was.
    """
    check_target(folder)
    target = folder.resolve()
    with disk_errors(folder), temporary_beside(target) as temporary:
        tree = temporary / "tree"
        unpack_layers(store, conversion.layers, tree, keep_owner=False)
        found = tree / model_dir(model.name, model.version)
        if not (found / conversion.file).is_file():
            raise NotFoundError(
                "its converted files are not in the store", where=f"model {model.id}", hint="convert it with --again"
            )
        give_usual_modes(found)
        try:
            found.rename(target)
        except OSError:
            check_target(folder)  # another process has put something there meanwhile
            raise
        fsync_dir(target.parent)
    return folder / conversion.file
