"""Bring another version of the agent to the device, beside the one that runs, and let it be tried."""

from __future__ import annotations

import json
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.device import Device
from edgepack.errors import NotFoundError, UsageError, disk_errors
from edgepack.host.files import atomic_write, replacing
from edgepack.host.ownership import check_way
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest, VerifyingReader

FOLDER, FILE, LAUNCHER = "agent", "edge-agent.pyz", "edge-agent"
_CURRENT, _TRIAL, _REFUSED = "current", "trial.json", "refused.json"
# How soon a new version has to say that it is ready, and for how long that it is alive, before it stays.
READY_SECONDS, ALIVE_SECONDS = 120.0, 30.0


@dataclass(frozen=True)
class Versions:
    """Versions of the agent in ``folder``, each by the SHA-256 of its file, in hex."""

    folder: Path

    @classmethod
    def of(cls, root: Path) -> Versions:
        """Those of the device in ``root``."""
        return cls(root / FOLDER)

    @property
    def launcher(self) -> Path | None:
        """What starts the agent; ``None`` where it was not installed as one file."""
        path = self.folder / LAUNCHER
        return path if path.is_file() and self.current is not None else None

    @property
    def current(self) -> str | None:
        """The version that runs, or runs at the next start."""
        try:
            return (self.folder / _CURRENT).readlink().name
        except OSError:
            return None

    @property
    def trial(self) -> str | None:
        """The version that is to be tried, or is being tried."""
        return _text(self._read(_TRIAL).get("version"))

    def refused(self, version: str) -> str | None:
        """Why ``version`` was given back, if it was the last one that was."""
        found = self._read(_REFUSED)
        return _text(found.get("reason")) if found.get("version") == version else None

    def forgive(self, version: str) -> None:
        """Let ``version`` be tried again, which somebody asks for anew."""
        if self.refused(version) is not None:
            (self.folder / _REFUSED).unlink(missing_ok=True)

    def propose(self, version: str, ready_seconds: float = READY_SECONDS, alive_seconds: float = ALIVE_SECONDS) -> None:
        """Let ``version``, which is here, be tried at the next start of the agent."""
        value = {
            "version": version, "starts": 0, "ready_seconds": ready_seconds, "alive_seconds": alive_seconds,
        }  # fmt: skip
        atomic_write(self.folder / _TRIAL, json.dumps(value).encode())

    def sweep(self) -> None:
        """Remove the versions that are neither current, to be tried, nor the one before."""
        kept = {self.current, self.trial, self._before()}
        for path in self.folder.iterdir():
            if len(path.name) == len("0" * 64) and path.is_dir() and not path.is_symlink() and path.name not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def _before(self) -> str | None:
        """The newest version that is neither current nor to be tried: the one that ran last before."""
        others = [
            path for path in self.folder.glob("?" * 64)
            if not path.is_symlink() and path.name not in (self.current, self.trial)
        ]  # fmt: skip
        return max(others, key=lambda path: path.stat().st_mtime, default=Path()).name or None

    def _read(self, name: str) -> dict[str, Any]:
        with suppress(OSError, ValueError):
            found = json.loads((self.folder / name).read_bytes())
            if isinstance(found, dict):
                return found
        return {}


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def install(device: Device, image: Digest, *, allow_unsigned: bool = False) -> str:
    """Put the agent in ``image``, which the store has, beside the one that runs; its version.

    Nothing is unpacked or run before the signature and the hash are checked. Raises ``UsageError`` where the image is
    no agent, or this agent was not installed as one file; ``SignatureError``, ``NotFoundError``, ``IncompatibleError``
    for an image of other platforms, ``VerificationError`` for a damaged blob, ``NoSpaceError``.
    """
    versions = Versions.of(device.root)
    if versions.launcher is None:
        raise UsageError(
            "this agent was not installed as one file, so it cannot take another one's place", where=device.root,
            hint="install the new version as this one was, or begin with: python3 edge-agent.pyz init",
        )  # fmt: skip
    check_way(versions.folder)
    device.check_signed(image, allow_unsigned=allow_unsigned)
    layer = agent_layer(device, image)
    place = versions.folder / layer.digest.hex
    with disk_errors(place):
        place.mkdir(mode=0o755, exist_ok=True)
        with replacing(place / FILE) as file, device.store.open(layer) as source:
            reader = VerifyingReader(source, layer.digest, layer.size)
            while chunk := reader.read(LIMITS.chunk_bytes):
                file.write(chunk)
    return layer.digest.hex


def agent_layer(device: Device, image: Digest) -> Descriptor:
    """The zip application in ``image`` for this device; raises ``UsageError`` for an image of something else."""
    manifest = device.store.manifest(device.store.describe(device.manifest_of(image)))
    found = [layer for layer in manifest.layers if layer.media_type == mediatypes.AGENT]
    if len(found) != 1:
        raise UsageError(
            "is not an agent", where=f"image {image}", hint="make one with: edgepack bundle create --with agent"
        )
    return found[0]


def named(device: Device, text: str) -> Digest:
    """The digest of the image that ``text`` names, itself or by a tag of the store; raises ``NotFoundError``."""
    from edgepack.nearness import tag_meant
    from edgepack.oci.reference import image_tag

    if text.startswith("sha256:"):
        return Digest.parse(text)
    tags = device.store.tags() if device.store.root.is_dir() else {}
    if (found := tags.get(image_tag(text))) is None:
        hint = tag_meant(image_tag(text), tags, "import a bundle that has it with: edge-agent import")
        raise NotFoundError(f"image {text!r} is not on this device", where=device.root, hint=hint)
    return found.digest
