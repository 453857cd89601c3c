"""What an export gives: files, with what a person must know of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import UsageError
from edgepack.host.files import atomic_write, make_dirs
from packager.layers.secrets import check_written


@dataclass(frozen=True)
class Exported:
    """Files by name; ``private`` are those with credentials in them, ``notes`` are remarks for the user."""

    files: Mapping[str, str]
    notes: tuple[str, ...] = ()
    private: frozenset[str] = frozenset()

    def write(self, folder: Path, *, replace: bool = False) -> tuple[Path, ...]:
        """Write the files to ``folder``, each whole; raises ``UsageError`` for one that is there with other content.

        Raises as ``check_written`` for a credential in one that is not private. Files that have the content already are
        left as they are. A private one is its owner's alone.
        """
        wanted = {folder / name: text.encode() for name, text in self.files.items()}
        for path, data in wanted.items():
            if path.name not in self.private:
                check_written(data, path, "an export")
        make_dirs(folder)
        changed = {path: data for path, data in wanted.items() if _read(path) != data}
        there = sorted(path.name for path in changed if path.exists())
        if there and not replace:
            raise UsageError(
                f"holds another {', another '.join(there)}", where=folder,
                hint="give --exist-ok to replace it, or another folder",
            )  # fmt: skip
        for path, data in changed.items():
            atomic_write(path, data, 0o600 if path.name in self.private else 0o644)
        for name in self.private:
            (folder / name).chmod(0o600)
        return tuple(wanted)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError):
        return None
