"""What is in an unpacked tree, recorded apart from it, so that damage is found; putting a tree in place, or mending it.

Of the tree ``layers/<name>`` the record is ``inventories/layers/<name>.json``, which names every entry with its kind,
mode, owner, size and time, and for a file its hash, or, where it is a link to a file of an unpacked layer, its inode.
A look at names and times finds what a user, a program or a check of the file system changed; only a ``thorough`` one,
which reads everything, finds rotten bytes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from edgepack.errors import disk_errors
from edgepack.host.files import atomic_write, discard, make_dirs, publish, sync_file_system
from edgepack.host.ownership import open_to_others
from edgepack.host.removal import remove_tree
from edgepack.oci.whiteouts import copy_hiding, hides_all

_VERSION = 1
_RECORDS = "inventories"
# What shows that a file is the same: the hash of its bytes, or that it is the very file that it was.
Proof = Literal["sha256", "inode"]
_Entry = tuple[Any, ...]


@dataclass(frozen=True)
class Inventory:
    """The entries of a tree by their path below it; the last field of an entry is its proof."""

    proof: Proof
    entries: Mapping[str, _Entry]

    @classmethod
    def take(cls, tree: Path, proof: Proof, *, thorough: bool = True) -> Inventory:
        """What is in the folder ``tree`` now; hashes are left out unless ``thorough``."""
        return cls(proof, {path: _entry(tree / path, proof, thorough) for path in ("", *_walk(tree))})

    @classmethod
    def read(cls, tree: Path) -> Inventory | None:
        """What was recorded of ``tree``; ``None`` when nothing was, or the record is damaged."""
        try:
            path = _record(tree)
            if _is_open(path):
                return None
            value = json.loads(path.read_bytes())
            if value["version"] != _VERSION or value["proof"] not in ("sha256", "inode"):
                return None
            return cls(value["proof"], {str(path): tuple(entry) for path, entry in value["entries"].items()})
        except (FileNotFoundError, ValueError, KeyError, TypeError, AttributeError):
            return None

    def write(self, tree: Path) -> None:
        """Record it as that of ``tree``."""
        path = _record(tree)
        if _is_open(path):
            forget_records(tree.parent)
        for folder in (path.parent.parent, path.parent):
            make_dirs(folder, 0o700)
        value = {"version": _VERSION, "proof": self.proof, "entries": self.entries}
        # Names need not be Unicode: escaped, whatever they hold can be written.
        atomic_write(path, json.dumps(value, separators=(",", ":")).encode("ascii"), 0o600)

    def differing(self, other: Inventory) -> tuple[str, ...]:
        """The paths that are not the same in both, what is above before what is below."""
        paths = self.entries.keys() | other.entries.keys()
        return tuple(sorted(path for path in paths if self.entries.get(path) != other.entries.get(path)))


def is_intact(tree: Path, *, thorough: bool = False) -> bool:
    """Whether the folder ``tree`` is there and is as it was recorded; ``thorough`` reads every file."""
    if not _is_folder(tree):
        return False
    recorded = Inventory.read(tree)
    if recorded is None:
        return False
    now = Inventory.take(tree, recorded.proof, thorough=thorough)
    if recorded.proof == "sha256" and not thorough:
        recorded = Inventory(recorded.proof, {path: (*entry[:-1], None) for path, entry in recorded.entries.items()})
    return not recorded.differing(now)


def put_in_place(temporary: Path, tree: Path, proof: Proof) -> None:
    """Let ``tree`` be what the complete folder ``temporary`` beside it is, durably.

    Where ``tree`` exists, only what differs is replaced in it: services that run from it keep the rest.
    """
    fresh = Inventory.take(temporary, proof)
    if tree.is_symlink():
        tree.unlink()
    if tree.is_dir():
        with disk_errors(tree):
            _mend(tree, temporary, fresh)
            sync_file_system(tree)
        fresh.write(tree)
    else:
        fresh.write(tree)
        publish(temporary, tree)


def forget_records(folder: Path) -> None:
    """Remove the records of all trees in ``folder``: each is then compared whole when it is needed."""
    for path in _record(folder / "any").parent.glob("*.json"):
        path.unlink(missing_ok=True)


def forget_linked_trees(layers: Path) -> None:
    """Remove the records of the trees beside the folder ``layers`` that have links to files of it.

    For a layer that is unpacked again gets other files, and a tree with the ones before would be what was recorded.
    """
    for folder in (layers.parent / _RECORDS).glob("*/"):
        if not folder.name.startswith("layers"):
            for path in folder.glob("*.json"):
                path.unlink(missing_ok=True)


def discard_tree(tree: Path) -> None:
    """Remove ``tree`` and its record; absent is fine."""
    discard(tree)
    _record(tree).unlink(missing_ok=True)


def _mend(tree: Path, fresh_tree: Path, fresh: Inventory) -> None:
    now = Inventory.take(tree, fresh.proof)
    for path in fresh.differing(now):
        at, wanted = tree / path, fresh.entries.get(path)
        if wanted is None or wanted[0] != "d" or not _is_folder(at):
            if wanted is None or wanted[0] == "d" or _is_folder(at):
                _remove(at)
            if wanted is None:
                continue
            if wanted[0] != "d":
                (fresh_tree / path).rename(at)
                continue
            at.mkdir()
        with contextlib.suppress(PermissionError):  # the owner, where this is not root
            os.chown(at, wanted[2], wanted[3])
        at.chmod(wanted[1])
        copy_hiding(fresh_tree / path, at)


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def _remove(path: Path) -> None:
    if _is_folder(path):
        remove_tree(path)
    else:
        with contextlib.suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()


def _is_open(record: Path) -> bool:
    return any(open_to_others(folder) for folder in (record.parent, record.parent.parent))


def _record(tree: Path) -> Path:
    return tree.parent.parent / _RECORDS / tree.parent.name / f"{tree.name}.json"


def _walk(tree: Path) -> Iterator[str]:
    waiting = [""]
    while waiting:
        above = waiting.pop()
        with os.scandir(tree / above) as entries:
            for entry in entries:
                path = f"{above}/{entry.name}" if above else entry.name
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(path)
                yield path


def _entry(path: Path, proof: Proof, thorough: bool) -> _Entry:
    found = path.lstat()
    mode = stat.S_IMODE(found.st_mode)
    if stat.S_ISDIR(found.st_mode):  # its time changes with what is in it, which is recorded itself
        return ("d", mode, found.st_uid, found.st_gid, 0, hides_all(path), None)
    mark: object = found.st_ino if proof == "inode" else None
    if stat.S_ISREG(found.st_mode):
        if proof == "sha256" and thorough:
            with path.open("rb") as file:
                mark = hashlib.file_digest(file, "sha256").hexdigest()
        return ("f", mode, found.st_uid, found.st_gid, found.st_size, found.st_mtime_ns, mark)
    if stat.S_ISLNK(found.st_mode):
        return ("l", 0, found.st_uid, found.st_gid, 0, str(path.readlink()), mark)
    return ("n", mode, found.st_uid, found.st_gid, found.st_rdev, stat.S_IFMT(found.st_mode), mark)
