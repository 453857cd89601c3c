"""The wheel files of a lock, in a cache where each lies below its SHA-256.

``<cache>/wheels/<sha256>/`` holds the file and ``wheel.json`` about it; ``<cache>/wheels/chosen/`` remembers which of
the files of a version is right for which target, so that the choice does not depend on what else is cached.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgepack.errors import (
    DigestMismatchError,
    IncompatibleError,
    NotFoundError,
    VerificationError,
    disk_errors,
)
from edgepack.host.files import atomic_write, fsync_dir, locked, make_dirs, temporary_beside
from edgepack.host.progress import Progress, unseen
from edgepack.host.scratch import scratch_folder
from edgepack.limits import LIMITS
from edgepack.oci.digest import Digest
from packager.wheels.indexes import Indexes
from packager.wheels.locks import Pin
from packager.wheels.tags import Target

_FORMAT = 1
_TIMEOUT = 3600


@dataclass(frozen=True)
class Wheel:
    """A cached wheel file that hashes to ``digest``. Names in ``requires`` are normalised; extras are left out."""

    name: str
    version: str
    filename: str
    digest: Digest
    path: Path
    size: int
    tags: tuple[str, ...]
    requires: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """Name and version."""
        return f"{self.name} {self.version}"


class WheelCache:
    """The wheels below ``<root>/wheels``; several processes may use it at once."""

    def __init__(self, root: Path) -> None:
        self.root = root / "wheels"
        self._chosen = self.root / "chosen"

    def get(
        self,
        pins: Sequence[Pin],
        target: Target,
        *,
        indexes: Indexes | None = None,
        offline: bool = False,
        progress: Progress = unseen,
    ) -> tuple[Wheel, ...]:
        """The wheel of every pin for ``target``, in the pins' order, downloading with pip what is not cached.

        What the folders of ``indexes`` on this machine have is taken from there, ``offline`` too. Raises
        ``IncompatibleError`` for what has no wheel for it, ``NotFoundError`` for what is missing ``offline``,
        ``DigestMismatchError`` for a file that the lock does not name.
        """
        indexes = indexes or Indexes()
        found = {pin: self._cached(pin, target) for pin in pins}
        missing = [pin for pin, wheel in found.items() if wheel is None]
        if missing and indexes.local_folders:
            found |= self._in_folders(missing, target, indexes.local_folders)
            missing = [pin for pin in missing if found[pin] is None]
        if missing and offline:
            names = ", ".join(f"{pin.name} {pin.version}" for pin in missing)
            raise NotFoundError(
                f"{names} not cached for {target.platform}",
                where=self.root,
                hint="run the same command once with a network, or copy the cache of a machine that did",
            )
        if missing:
            found |= self._fetched(missing, target, indexes, progress)
        return tuple(wheel for wheel in found.values() if wheel is not None)

    def add(self, path: Path, digest: Digest) -> Wheel:
        """Copy the wheel file at ``path``; raises ``VerificationError`` unless it hashes to ``digest``."""
        place = self.root / digest.hex
        if (wheel := self._read(digest)) is not None:
            return wheel
        make_dirs(self.root)
        about = _about(path)
        # A folder appears whole, by one rename; a second process finds it.
        with disk_errors(self.root), temporary_beside(place) as folder:
            fresh = folder / digest.hex
            fresh.mkdir()
            _copy_verified(path, fresh / path.name, digest)
            atomic_write(fresh / "wheel.json", json.dumps(about, sort_keys=True).encode())
            fsync_dir(fresh)
            with locked(self.root / ".lock"):
                if self._read(digest) is None:
                    if place.exists():  # damaged: it goes with the temporary folder
                        place.rename(folder / "damaged")
                    fresh.rename(place)
            fsync_dir(self.root)
        return _wheel(place, digest, about)

    def _cached(self, pin: Pin, target: Target) -> Wheel | None:
        try:
            name = (self._chosen / _choice(pin, target)).read_text("ascii")
        except FileNotFoundError:
            # Where a lock names one file there is nothing to choose, whatever it was chosen from before.
            only = self._read(Digest(pin.hashes[0])) if len(pin.hashes) == 1 else None
            return None if only is None else best([only], target)
        return self._read(Digest(name)) if name in pin.hashes else None

    def _read(self, digest: Digest) -> Wheel | None:
        place = self.root / digest.hex
        try:
            about = json.loads((place / "wheel.json").read_bytes())
            wheel = _wheel(place, digest, about) if about["format"] == _FORMAT else None
            # It was verified when it was written: the right size is enough to tell that it was not changed since.
            return wheel if wheel and wheel.path.stat().st_size == wheel.size else None
        except FileNotFoundError:
            return None

    def _in_folders(self, pins: Sequence[Pin], target: Target, folders: Sequence[Path]) -> dict[Pin, Wheel | None]:
        """The wheels of the pins that lie in ``folders`` and are what the lock names; None for the others."""
        found: dict[Pin, Wheel | None] = dict.fromkeys(pins)
        by_name = {(pin.name, pin.version): pin for pin in pins}
        here: dict[Pin, list[Wheel]] = {}
        for path in sorted(path for folder in folders for path in folder.glob("*.whl")):
            pin = by_name.get(_named(path))
            if pin is not None and (digest := _digest(path)).hex in pin.hashes:
                here.setdefault(pin, []).append(self.add(path, digest))
        for pin, wheels in here.items():
            if (wheel := best(wheels, target)) is not None:
                make_dirs(self._chosen)
                atomic_write(self._chosen / _choice(pin, target), wheel.digest.hex.encode())
                found[pin] = wheel
        return found

    def _fetched(
        self, pins: Sequence[Pin], target: Target, indexes: Indexes, progress: Progress
    ) -> dict[Pin, Wheel | None]:
        from packager.wheels.pip_download import download  # a process, which most builds do not need

        make_dirs(self._chosen)
        found: dict[Pin, Wheel | None] = {}
        with scratch_folder("wheels") as folder:
            download(pins, target, folder, indexes, progress)
            here = [self.add(path, _listed_digest(path, pins)) for path in sorted(folder.glob("*.whl"))]
        for pin in pins:
            wheel = best([wheel for wheel in here if wheel.digest.hex in pin.hashes], target)
            if wheel is None:
                raise IncompatibleError(
                    f"{pin.name} {pin.version} has no wheel for {target} among those that the indexes gave",
                    hint="use another version or platform",
                )
            atomic_write(self._chosen / _choice(pin, target), wheel.digest.hex.encode())
            found[pin] = wheel
        return found


def best(wheels: Sequence[Wheel], target: Target) -> Wheel | None:
    """The wheel with the most specific tag for ``target``; by its file name where that leaves a choice."""
    ranked = [(rank, wheel.filename, wheel) for wheel in wheels if (rank := target.rank(wheel.tags)) is not None]
    return min(ranked, key=lambda item: item[:2])[2] if ranked else None


def _choice(pin: Pin, target: Target) -> str:
    asked = [pin.name, pin.version, *sorted(pin.hashes), str(target.platform), target.python, target.glibc]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


def _wheel(place: Path, digest: Digest, about: Mapping[str, Any]) -> Wheel:
    return Wheel(
        about["name"],
        about["version"],
        about["filename"],
        digest,
        place / about["filename"],
        about["size"],
        tuple(about["tags"]),
        tuple(about["requires"]),
    )


def _about(path: Path) -> dict[str, object]:
    import zipfile
    from email.parser import BytesHeaderParser

    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        name, version, _, tags = parse_wheel_filename(path.name)
        with zipfile.ZipFile(path) as archive:
            # Signed parts apart, a wheel has one METADATA, in the .dist-info folder at its top.
            metadata = [item for item in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", item)]
            fields = BytesHeaderParser().parsebytes(archive.read(metadata[0]))
    except (InvalidWheelFilename, zipfile.BadZipFile, IndexError, OSError) as error:
        raise VerificationError(f"is not a wheel ({error})", where=path.name, hint="fetch it again") from error
    return {
        "format": _FORMAT,
        "name": str(name),
        "version": str(version),
        "filename": path.name,
        "size": path.stat().st_size,
        "tags": sorted(str(tag) for tag in tags),
        "requires": _required(fields.get_all("Requires-Dist") or []),
    }


def _required(lines: Sequence[str]) -> list[str]:
    from packaging.requirements import InvalidRequirement, Requirement
    from packaging.utils import canonicalize_name

    found = set()
    for line in lines:
        try:
            requirement = Requirement(line)
        except InvalidRequirement:
            continue
        # Only extras are certainly not requested; other markers depend on the target, which is not known here.
        if requirement.marker is None or "extra" not in str(requirement.marker):
            found.add(str(canonicalize_name(requirement.name)))
    return sorted(found)


def _copy_verified(source: Path, target: Path, digest: Digest) -> None:
    seen = hashlib.sha256()
    with source.open("rb") as reader, target.open("xb") as writer:
        while chunk := reader.read(LIMITS.chunk_bytes):
            seen.update(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    if seen.hexdigest() != digest.hex:
        raise DigestMismatchError(f"hashes to sha256:{seen.hexdigest()}", where=source.name, hint="fetch it again")


def _listed_digest(path: Path, pins: Sequence[Pin]) -> Digest:
    digest = _digest(path)
    if not any(digest.hex in pin.hashes for pin in pins):
        raise DigestMismatchError(
            f"hashes to {digest}, which the lock does not name", where=path.name, hint="make the lock again"
        )
    return digest


def _digest(path: Path) -> Digest:
    with path.open("rb") as file:
        return Digest(hashlib.file_digest(file, "sha256").hexdigest())


def _named(path: Path) -> tuple[str, str]:
    """Name and version of a wheel by its file name; of another file, nothing."""
    from packaging.utils import InvalidWheelFilename, parse_wheel_filename

    try:
        name, version, _, _ = parse_wheel_filename(path.name)
    except InvalidWheelFilename:
        return "", ""
    return str(name), str(version)
