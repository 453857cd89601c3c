"""Copies of a service's source directory, which a device of this machine shows to the service in place of its image's.

Each is in a folder of its content's name, so that one that runs is never changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path

from edgepack.errors import UsageError, disk_errors
from edgepack.host.files import discard, make_dirs, temporary_beside
from edgepack.limits import LIMITS
from packager.inference.entry_script import EntryScript, read_entry_script
from packager.layers.paths import APP_ROOT
from packager.services.service import Source

_NAME_DIGITS = 16
# What an image has beside the script, for scripts that look for models below AML_APP_ROOT.
_MODELS = "azureml-models"


def copy_source(source: Source, folder: Path, python: str | None = None) -> Path:
    """Copy what an image would have of ``source`` into a folder below ``folder``, and return that.

    The same content is the same folder. Raises what reading a script raises; where the image's Python, such as 3.11, is
    this one, ``UsageError`` for a script that it cannot read.
    """
    script = read_entry_script(source.script, None if source.folder is None else Path(source.folder))
    if python == f"{sys.version_info.major}.{sys.version_info.minor}":
        _check_syntax(source)
    target = folder / _name(script)
    if target.is_dir():
        return target
    with disk_errors(folder):
        # The service is another user: it may read, as in an image, once the folder is shown to it.
        make_dirs(folder, 0o700)
        with temporary_beside(target, 0o755) as made:
            _write(script, made)
            made.chmod(0o755)
            made.rename(target)
    return target


def forget_copies(folder: Path, but: tuple[str | None, ...] = ()) -> None:
    """Remove the copies below ``folder`` but those at the paths ``but``."""
    if folder.is_dir():
        for one in folder.iterdir():
            if str(one) not in but:
                discard(one)
        if not any(folder.iterdir()):
            folder.rmdir()


def _write(script: EntryScript, made: Path) -> None:
    for entry in script.entries:
        place = made / entry.path.removeprefix(f"{APP_ROOT}/")
        if entry.kind == "dir":
            place.mkdir(parents=True, exist_ok=True)
            place.chmod(0o755)
        elif entry.kind == "symlink":
            place.symlink_to(entry.linkname)
        elif entry.content is not None:
            with entry.content() as read, place.open("wb") as written:
                while chunk := read.read(LIMITS.chunk_bytes):
                    written.write(chunk)
            place.chmod(entry.mode)
    if not os.path.lexists(made / _MODELS):
        (made / _MODELS).symlink_to(f"/{APP_ROOT}/{_MODELS}")


def _name(script: EntryScript) -> str:
    found = hashlib.sha256(json.dumps([script.folder, script.file]).encode())
    for entry in script.entries:
        found.update(json.dumps([entry.path, entry.kind, entry.mode, entry.size, entry.linkname]).encode())
        if entry.content is not None:
            with entry.content() as read:
                while chunk := read.read(LIMITS.chunk_bytes):
                    found.update(chunk)
    return found.hexdigest()[:_NAME_DIGITS]


def _check_syntax(source: Source) -> None:
    """Raise ``UsageError`` for a script that Python cannot read, before anything is stopped."""
    path = Path(source.script) if source.folder is None else Path(source.folder, source.script)
    try:
        compile(path.read_bytes(), str(path), "exec", dont_inherit=True)
    except (SyntaxError, ValueError) as error:
        line = getattr(error, "lineno", None)
        at = path if line is None else f"{path}, line {line}"
        raise UsageError(
            f"is not Python ({getattr(error, 'msg', error)})", where=at, hint="what ran goes on; mend it and try again"
        ) from None
