"""What is in the agent as one file: its own modules and, from the shipped lock, the wheels that it needs.

``any/`` is for every Python, ``cp311/`` and the others have what is compiled for one: the archive runs on each.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path

from edgepack import __version__
from edgepack.errors import MissingPartError
from edgepack.host.progress import Progress, unseen
from edgepack.oci.descriptor import Platform
from packager.agent_file.archive import write_zip
from packager.wheels.cache import Wheel, WheelCache
from packager.wheels.contents import wheel_entries
from packager.wheels.lock_files import read_lock
from packager.wheels.settings import LayerSettings
from packager.wheels.tags import Target

LOCK = Path(__file__).parent.parent / "data" / "locks" / "agent.txt"
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
# Debian 10 and 11, Ubuntu 20.04 and later.
_GLIBC = "2.28"
_ROOMS = ("edge_agent", "edgepack")
_START = "upgrade/bootstrap.py"
_EVERY_PYTHON = "any"


def agent_file(platform: Platform, wheels: WheelCache, *, offline: bool = False, progress: Progress = unseen) -> bytes:
    """The agent as a zip application for ``platform``; the same on any host.

    Raises ``IncompatibleError`` for a platform that has no wheels, and what ``WheelCache.get`` raises.
    """
    files = dict(_rooms())
    files["__main__.py"] = (_room("edge_agent") / _START).read_bytes()
    targets = {python: Target(platform, python, _GLIBC) for python in PYTHONS}
    chosen = {
        python: wheels.get(read_lock(LOCK, target), target, offline=offline, progress=progress)
        for python, target in targets.items()
    }
    shared = frozenset.intersection(*(frozenset(wheel.digest for wheel in found) for found in chosen.values()))
    for python, found in chosen.items():
        for wheel in found:
            place = _EVERY_PYTHON if wheel.digest in shared else targets[python].python_tag
            files.update(_unpacked(wheel, python, place))
    about = {"version": __version__, "platform": str(platform), "pythons": list(PYTHONS)}
    files["agent.json"] = json.dumps(about, sort_keys=True).encode()
    return write_zip(files)


def _rooms() -> Iterator[tuple[str, bytes]]:
    for room in _ROOMS:
        root = _room(room)
        for path in sorted(root.rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                yield f"{_EVERY_PYTHON}/{room}/{path.relative_to(root)}", path.read_bytes()


def _room(name: str) -> Path:
    """Its folder; found and not imported: the workstation knows the agent as files."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise MissingPartError("is not installed", where=name, hint="install edgepack again")
    return Path(spec.origin).parent


def _unpacked(wheel: Wheel, python: str, place: str) -> Mapping[str, bytes]:
    settings = LayerSettings(python=python, prefix="x", rules=(), bytecode=False)
    site = f"{settings.site_packages}/"
    found = {}
    with wheel_entries(wheel, settings) as entries:
        for entry in entries:
            if entry.path.startswith(site) and entry.content is not None:  # scripts and headers are not needed
                with entry.content() as content:
                    found[f"{place}/{entry.path.removeprefix(site)}"] = content.read()
    return found
