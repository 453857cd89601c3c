"""What a context's build stages are to make of the files that they find: listings for ``arrange.py``.

They come from the very entries that the builder makes layers of, so that an image that an engine builds has no file
more, none less and no other one.
"""

from __future__ import annotations

import csv
import io
import posixpath
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

from edgepack.limits import LIMITS
from edgepack.oci.layer import LayerEntry
from packager.images.plan import FilesLayer
from packager.layers.bytecode import compiled_path
from packager.wheels.cache import Wheel
from packager.wheels.contents import wheel_entries
from packager.wheels.groups import WheelGroup
from packager.wheels.settings import LayerSettings
from packager.wheels.without_bytecode import is_compiled


def packages_listing(groups: Sequence[WheelGroup], settings: LayerSettings, *, bytecode: bool) -> dict[str, Any]:
    """Each layer of wheels: its files with their hashes, and what is written anew; ``bytecode`` where it is made."""
    plain = replace(settings, bytecode=False)
    return {
        "python": settings.python,
        "prefix": settings.prefix,
        "site_packages": settings.site_packages,
        "layers": [
            {
                "folder": str(number),
                "title": group.title,
                **_group(group, plain, bytecode=bytecode),
            }
            for number, group in enumerate(groups, start=1)
        ],
    }


def files_listing(layers: Sequence[FilesLayer], python: str) -> dict[str, Any]:
    """Each layer of files: which of them get bytecode, and which may be executed."""
    return {
        "python": python,
        "layers": [
            {
                "folder": layer.kind,
                "compiled": compiled_sources(layer.entries, python),
                "executable": _executable(layer.entries),
            }
            for layer in layers
        ],
    }


def compiled_sources(entries: Iterable[LayerEntry], python: str) -> list[str]:
    """The sources among ``entries`` whose bytecode is there too, in their order, which the compiler sees."""
    listing = list(entries)
    paths = {entry.path for entry in listing}
    return [
        entry.path for entry in listing if entry.path.endswith(".py") and compiled_path(entry.path, python) in paths
    ]


def _group(group: WheelGroup, settings: LayerSettings, *, bytecode: bool) -> dict[str, Any]:
    wheels, executable = [], []
    for wheel in group.wheels:
        with wheel_entries(wheel, settings) as entries:
            wheels.append(_wheel(wheel, entries, settings, bytecode=bytecode))
            executable += _executable(entries)
    return {"wheels": wheels, "executable": sorted(executable)}


def _wheel(wheel: Wheel, entries: Collection[LayerEntry], settings: LayerSettings, *, bytecode: bool) -> dict[str, Any]:
    site = f"{settings.site_packages}/"
    record = _record(entries, site)
    digests = _digests(record, site)
    texts = {entry.path: text for entry in entries if (text := _written(entry, settings)) is not None}
    found = sorted(entry.path for entry in entries if entry.path not in texts and entry != record)
    return {
        "title": wheel.title,
        "record": record.path,
        "files": {path: digests[path] for path in found},
        "texts": dict(sorted(texts.items())),
        "compiled": [
            path for path in found if bytecode and path.startswith(site) and is_compiled(path.removeprefix(site))
        ],
    }


def _record(entries: Iterable[LayerEntry], site: str) -> LayerEntry:
    """The RECORD of a wheel's entries."""
    *_, record = (
        entry for entry in entries if entry.path.startswith(site) and entry.path.endswith(".dist-info/RECORD")
    )
    return record


def _digests(record: LayerEntry, site: str) -> dict[str, tuple[str, int]]:
    rows = csv.reader(io.StringIO(_text(record)))
    return {
        posixpath.normpath(f"{site}{path}"): (digest.removeprefix("sha256="), int(size))
        for path, digest, size in rows
        if digest
    }


def _written(entry: LayerEntry, settings: LayerSettings) -> str | None:
    """The text of a file that installers write themselves: a script, or INSTALLER."""
    is_script = entry.path.startswith(f"{settings.prefix}/bin/") and entry.size <= LIMITS.script_bytes
    if not is_script and not entry.path.endswith(".dist-info/INSTALLER"):
        return None
    try:
        return _text(entry)
    except UnicodeDecodeError:
        return None  # a program, which is copied as it is


def _text(entry: LayerEntry) -> str:
    assert entry.content is not None  # noqa: S101 - a file has one
    with entry.content() as file:
        return file.read().decode()


def _executable(entries: Iterable[LayerEntry]) -> list[str]:
    return sorted(entry.path for entry in entries if entry.kind == "file" and entry.mode & 0o111)
