"""Make a device: its key and identity file, its configuration, its unit; done again it changes nothing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edge_agent.identity.key import device_key
from edgepack.errors import UsageError, disk_errors
from edgepack.host.files import atomic_write, make_dirs
from edgepack.oci.descriptor import Platform
from edgepack.state.identity import Identity

IDENTITY_FILE = "identity.json"


@dataclass(frozen=True)
class Wanted:
    """A file that is to be there with this text."""

    path: Path
    text: str


def check_free(files: list[Wanted], *, force: bool) -> None:
    """Raise ``UsageError`` for a file that is there with another content, unless ``force`` says to replace it."""
    for one in files:
        with disk_errors(one.path):
            if not force and one.path.exists() and one.path.read_bytes() != one.text.encode():
                raise UsageError(
                    "is there already, and says something else", where=one.path,
                    hint="change it there, or give --force to write it anew",
                )  # fmt: skip


def write_files(files: list[Wanted]) -> None:
    """Write each, whole or not at all; those above it get their folders."""
    for one in files:
        with disk_errors(one.path):
            if not one.path.parent.is_dir():
                make_dirs(one.path.parent, 0o755)
            if not one.path.exists() or one.path.read_bytes() != one.text.encode():
                atomic_write(one.path, one.text.encode())


def write_identity(root: Path, path: Path, name: str, groups: tuple[str, ...]) -> Identity:
    """Make the device's key where it has none, and the file that a workstation takes the identity from."""
    key = device_key(root)
    identity = Identity(name, key.public, Platform.host(), groups)
    atomic_write(path, identity.signed(key))
    return identity
