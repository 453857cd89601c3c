"""The record of a model package: what was made, or why not, and the log; below the workspace, one folder each."""

from __future__ import annotations

import re
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from edgepack.documents import Fields, canonical_json, parse_object, raise_all
from edgepack.errors import EdgepackError, NotFoundError
from edgepack.host.files import BY_UMASK, atomic_write, make_dirs
from packager.layers.secrets import check_written

# Azure's words. A package is built while it is asked for, so that a record has one of the final ones.
State = Literal["NotStarted", "Running", "Succeeded", "Failed", "Cancelled", "TimedOut"]
_SCHEMA = "edgepack.model-package/v1"
_ID = re.compile(r"[0-9a-f]{32}")
# Older ones are removed when a package is made.
_KEPT = 100


@dataclass(frozen=True)
class PackageRecord:
    """How a package ended: ``location`` is the image, or nothing for a Dockerfile, ``error`` why it failed."""

    state: State
    generate_dockerfile: bool
    location: str | None = None
    error: str | None = None

    def write(self, root: Path, identity: str, log: str) -> None:
        """Keep it with its ``log``, and remove the oldest ones."""
        folder = folder_of(root, identity)
        make_dirs(folder)
        try:
            check_written(log.encode(), folder / "build.log", "a log")
        except EdgepackError as error:
            log = f"{error}\n"  # an engine printed it, and nothing is kept of what it printed
        atomic_write(folder / "build.log", log.encode(), BY_UMASK)
        atomic_write(folder / "package.json", canonical_json({"schema": _SCHEMA, **asdict(self)}), BY_UMASK)
        others = sorted(folder.parent.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True)
        for old in others[_KEPT:]:
            shutil.rmtree(old, ignore_errors=True)

    @classmethod
    def read(cls, root: Path, identity: str) -> PackageRecord:
        """That of the package ``identity``; raises ``NotFoundError``, ``InvalidDocumentError``."""
        path = folder_of(root, identity) / "package.json"
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            hint = "make one: Model.package(workspace, [model])"
            raise NotFoundError(f"package {identity!r} not found", where=root, hint=hint) from None
        violations: list[str] = []
        fields = Fields(parse_object(data, path), "", violations)
        fields.schema(_SCHEMA)
        state: Any = fields.take("state", str, required=True)
        found = cls(
            state,
            bool(fields.take("generate_dockerfile", bool, required=True)),
            fields.take("location", str),
            fields.take("error", str),
        )
        fields.finish()
        raise_all(path, violations)
        return found


def folder_of(root: Path, identity: str) -> Path:
    """Where the package ``identity`` of the workspace ``root`` is recorded; raises ``NotFoundError``."""
    if not _ID.fullmatch(identity):
        raise NotFoundError(f"package {identity!r} not found", where=root, hint="an id has 32 digits from 0 to f")
    return root / "packages" / identity
