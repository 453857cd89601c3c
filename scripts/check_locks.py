"""Ask for every lock whether each supported Python finds all its wheels, on x86-64 and on arm64: make check-locks.

``python scripts/check_locks.py [NAME...]``: all locks, or those named, such as ``all`` or ``boosters-1.8``. uv lists
the files that an index has of each version; nothing is downloaded. Ends with code 1 and a line for each wheel that is
missing.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from packaging.markers import Marker, default_environment
from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, canonicalize_name, parse_wheel_filename

sys.path.insert(0, str(Path(__file__).parent.parent))
sys.path.insert(0, str(Path(__file__).parent))
from lock import LOCKS, one_index, requirements_of
from setup import ROOT, find_uv

from converters.software.selection import SERIES

PYTHONS = ((3, 11), (3, 12), (3, 13), (3, 14))
MACHINES = ("x86_64", "aarch64")
Target = tuple[tuple[int, int], str]
# Debian 12 has glibc 2.36; the wheels of today are built for 2.28 and older, some for newer ones too.
_GLIBC = 36
# TensorFlow 2.21 has wheels up to this one.
_NEWEST = {"tensorflow": (3, 13)}


def missing_wheels(lock: str, listed: Mapping[str, Any], targets: Sequence[Target]) -> Iterator[str]:
    """A line for each pin of ``lock`` that has no wheel with a hash of the lock, for one of ``targets``.

    ``listed`` are the files of an index, as uv writes them to pylock.toml (PEP 751).
    """
    files = {
        (canonicalize_name(package["name"]), package["version"]): package.get("wheels", [])
        for package in listed["packages"]
    }
    hashes = _hashes(lock)
    for line in requirements_of(lock):
        requirement, _, condition = line.partition(" ; ")
        pin = _pin(requirement)
        for python, machine in targets:
            if condition and not Marker(condition).evaluate(_environment(python, machine)):
                continue
            tags = frozenset(_tags(python, machine))
            fitting = [file for file in files.get(pin, []) if _tags_of(file) & tags]
            target = f"{requirement}: Python {python[0]}.{python[1]} on {machine}"
            if not fitting:
                yield f"{target} has no wheel"
            elif all(file["hashes"]["sha256"] not in hashes[pin] for file in fitting):
                yield f"{target}: the lock has none of its hashes"


def _hashes(lock: str) -> dict[tuple[str, str], set[str]]:
    found: dict[tuple[str, str], set[str]] = {}
    pin = ("", "")
    for line in lock.splitlines():
        if requirements_of(line):
            pin = _pin(line.partition(" ")[0])
        found.setdefault(pin, set()).update(re.findall(r"--hash=sha256:([0-9a-f]{64})", line))
    found.pop(("", ""), None)
    return found


def _pin(requirement: str) -> tuple[str, str]:
    """A name may be pinned twice, to another version for other Pythons."""
    name, _, version = requirement.partition("==")
    return canonicalize_name(name), version


def _environment(python: tuple[int, int], machine: str) -> dict[str, str]:
    version = f"{python[0]}.{python[1]}"
    changes = {"python_version": version, "python_full_version": f"{version}.0", "platform_machine": machine}
    return {**{key: str(value) for key, value in default_environment().items()}, **changes}


def _tags(python: tuple[int, int], machine: str) -> Iterator[Tag]:
    platforms = [f"manylinux_2_{minor}_{machine}" for minor in range(_GLIBC, 4, -1)]
    platforms += [f"manylinux2014_{machine}", f"manylinux2010_{machine}", f"manylinux1_{machine}", f"linux_{machine}"]
    yield from cpython_tags(python, platforms=platforms)
    yield from compatible_tags(python, platforms=platforms)


def _tags_of(file: Mapping[str, Any]) -> frozenset[Tag]:
    try:
        return parse_wheel_filename(str(file.get("name") or file["url"].rpartition("/")[2]))[3]
    except InvalidWheelFilename:
        return frozenset()


def listed_files(lock: str) -> dict[str, Any]:
    """What the index has of each version that ``lock`` pins."""
    done = subprocess.run(
        [
            find_uv(), "pip", "compile", "--universal", "--python-version", "3.11", "--no-deps", "--no-header",
            "--format", "pylock.toml", "--quiet", "-",
        ],
        input="".join(f"{line}\n" for line in requirements_of(lock)), env=one_index(), cwd=ROOT,
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return tomllib.loads(done.stdout)


def targets_of(name: str) -> list[Target]:
    """The Pythons and processors that the lock ``name`` is for; some frameworks have wheels up to a certain Python."""
    if match := re.fullmatch(r"(?:scoring|images)-cp3(\d+)-linux-(amd64|arm64)", name):
        return [((3, int(match[1])), {"amd64": "x86_64", "arm64": "aarch64"}[match[2]])]
    _, _, series = name.partition("-")
    newest = SERIES[tuple(map(int, series.split(".")))] if series else _NEWEST.get(name, PYTHONS[-1])
    return [(python, machine) for python in PYTHONS if python <= newest for machine in MACHINES]


def locks() -> dict[str, Path]:
    """All locks of wheels, by name: of edgepack, of the environments of conversions, of images."""
    folders = (ROOT / "requirements", LOCKS, ROOT / "packager/data/locks")
    return {path.stem: path for folder in folders for path in folder.glob("*.txt")}


def main() -> None:
    """Check the locks that are named on the command line, or all."""
    found = locks()
    failures = []
    for name in sys.argv[1:] or sorted(found):
        text = found[name].read_text()
        failures += [f"{name}: {line}" for line in missing_wheels(text, listed_files(text), targets_of(name))]
    sys.exit("\n".join(failures) or 0)


if __name__ == "__main__":
    main()
