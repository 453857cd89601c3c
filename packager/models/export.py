"""A converted model out of the store, as a folder that the scoring server opens."""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

from edgepack.errors import NotFoundError, UsageError, disk_errors
from edgepack.host.files import fsync_dir
from edgepack.oci.store import Store
from packager.layers.paths import model_dir
from packager.models.conversion import unpack_layers
from packager.models.model import Conversion, Model


def check_target(folder: Path) -> None:
    """Raise ``UsageError`` unless ``folder`` is absent or empty, ``NotFoundError`` where it has no parent folder."""
    with disk_errors(folder):
        if folder.resolve() == Path.cwd():
            raise UsageError("is the current folder", where=folder, hint="give -o the name of a new one")
        if folder.is_dir():
            if any(folder.iterdir()):
                raise UsageError("is not empty", where=folder, hint="give -o a new folder")
        elif folder.exists() or folder.is_symlink():
            raise UsageError("is no folder", where=folder, hint="give -o a new folder")
        elif not folder.absolute().parent.is_dir():
            raise NotFoundError("there is no such folder", where=folder.parent, hint="make it, or give another -o")


def write_conversion(store: Store, model: Model, conversion: Conversion, folder: Path) -> Path:
    """Write the files of ``conversion`` to ``folder``, all of them or none; returns the ONNX file's path.

    Raises what ``check_target`` raises, ``VerificationError`` for a layer that is not what its digest says, and
    ``NoSpaceError``; ``folder`` is then as it was.
    """
    check_target(folder)
    target = folder.resolve()
    with disk_errors(folder), _beside(target) as temporary:
        tree = temporary / "tree"
        unpack_layers(store, conversion.layers, tree, keep_owner=False)
        found = tree / model_dir(model.name, model.version)
        if not (found / conversion.file).is_file():
            raise NotFoundError(
                "its converted files are not in the store", where=f"model {model.id}", hint="convert it with --again"
            )
        try:
            found.rename(target)
        except OSError:
            check_target(folder)  # somebody else has put something there meanwhile
            raise
        fsync_dir(target.parent)
    return folder / conversion.file


@contextlib.contextmanager
def _beside(target: Path) -> Iterator[Path]:
    """A new folder beside ``target``, which goes at the end, as do those of writers that were killed."""
    for stale in target.parent.glob(f".{glob.escape(target.name)}.{'[0-9a-f]' * 12}.tmp"):
        with contextlib.suppress(OSError), _held(stale):  # a living writer holds its own
            shutil.rmtree(stale, ignore_errors=True)
    path = target.with_name(f".{target.name}.{secrets.token_hex(6)}.tmp")
    path.mkdir(mode=0o700)
    try:
        with _held(path):
            yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


@contextlib.contextmanager
def _held(path: Path) -> Iterator[None]:
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    finally:
        os.close(fd)
