"""The versions of the agent that a device has, and which of them runs, is to be tried, or was given back.

The resident process reads this, so it imports little.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.host.files import atomic_write
from edgepack.oci.digest import Digest

FOLDER, FILE, LAUNCHER = "agent", "edge-agent.pyz", "edge-agent"
LAUNCHED, TRIED = "EDGEPACK_LAUNCHER", "EDGEPACK_TRIAL"
"""In the environment of an agent that is one file: what started it; and of one that is being tried, its version."""
_CURRENT, _TRIAL, _REFUSED, _IMAGE = "current", "trial.json", "refused.json", "image"
_GONE = ".gone-"
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

    def refused(self, version: str, document: int | None = None) -> str | None:
        """Why ``version`` was given back, if it was the last one that was; with a ``document``, when that asked for it.

        ``document`` is the number under which the document that wants it was accepted.
        """
        found = self._read(_REFUSED)
        if found.get("version") != version or (document is not None and found.get("document") != document):
            return None
        return _text(found.get("reason"))

    def propose(
        self,
        version: str,
        ready_seconds: float = READY_SECONDS,
        alive_seconds: float = ALIVE_SECONDS,
        document: int | None = None,
    ) -> None:
        """Let ``version``, which is here, be tried at the next start of the agent."""
        value = {
            "version": version, "starts": 0, "ready_seconds": ready_seconds, "alive_seconds": alive_seconds,
            "document": document,
        }  # fmt: skip
        atomic_write(self.folder / _TRIAL, json.dumps(value).encode())

    def note_image(self, version: str, image: Digest) -> None:
        """Record which image ``version`` was taken from."""
        atomic_write(self.folder / version / _IMAGE, f"{image}\n".encode())

    def of_image(self, image: Digest) -> str | None:
        """The version that was taken from ``image``."""
        for path in self.folder.glob(f"{'?' * 64}/{_IMAGE}"):
            with suppress(OSError, UnicodeDecodeError):
                if path.read_text("ascii").strip() == str(image) and (path.parent / FILE).is_file():
                    return path.parent.name
        return None

    def sweep(self) -> None:
        """Remove the versions that are neither current, to be tried, nor the one before."""
        import shutil

        kept = {self.current, self.trial, self._before()}
        for path in [*self.folder.iterdir()]:
            if len(path.name) == len("0" * 64) and path.is_dir() and not path.is_symlink() and path.name not in kept:
                with suppress(OSError):  # a half of one would look like a version that is here
                    path.rename(self.folder / f"{_GONE}{path.name}")
        for path in self.folder.glob(f"{_GONE}*"):
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
