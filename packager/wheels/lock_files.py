"""Locks as files of a user's: for one target or for several, in the form that pip and uv read and write.

A file for several platforms has each pin once, with a marker where the platforms differ.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from edgepack.errors import InvalidDocumentError, NotFoundError, UsageError
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Platform
from packager.wheels.locks import Pin, parse_lock
from packager.wheels.tags import Target, machine_of

# Where wheels are found does not matter to a lock with hashes.
_OPTION = re.compile(r"(?m)^\s*(?:-i|-f|--[a-z][a-z-]*)(?:[ =].*)?$")
_MARKED = re.compile(r"^(?P<pin>[^;#]+?)\s*;\s*(?P<marker>[^\\#]*?)(?P<rest>\s+--hash=.*)?$")


def read_lock(path: Path, target: Target) -> tuple[Pin, ...]:
    """The pins of the file at ``path`` that are for ``target``.

    Raises ``NotFoundError`` without the file, ``InvalidDocumentError`` naming every line that is not a pin with hashes.
    """
    try:
        data = path.read_bytes() if path.stat().st_size <= LIMITS.lock_bytes else None
        text = None if data is None else data.decode("utf-8-sig")
    except FileNotFoundError:
        raise NotFoundError("there is no such lock", where=path, hint="write one by --write-lock") from None
    except OSError as error:
        raise UsageError(f"cannot be read ({error.strerror})", where=path, hint="give the file of a lock") from error
    except UnicodeDecodeError:
        text = None
    if text is None:
        raise InvalidDocumentError(path, ["is not the text of a lock"], hint="write one by --write-lock")
    joined = re.sub(r"\\\r?\n", " ", text)
    lines = [_for_target(line, target, path) for line in _OPTION.sub("", joined).splitlines()]
    return parse_lock("\n".join(line for line in lines if line is not None), path)


def _for_target(line: str, target: Target, path: Path) -> str | None:
    """The line without its marker; None for one of other targets."""
    from packaging.markers import InvalidMarker, Marker, UndefinedEnvironmentName

    found = _MARKED.match(line)
    if found is None:
        return line
    try:
        applies = Marker(found["marker"]).evaluate(_environment(target))
    except (InvalidMarker, UndefinedEnvironmentName):
        raise InvalidDocumentError(path, [f"{line[:60]!r} has a marker that cannot be read"]) from None
    return f"{found['pin']}{found['rest'] or ''}" if applies else None


def _environment(target: Target) -> dict[str, str]:
    return {
        "implementation_name": "cpython",
        "implementation_version": f"{target.python}.0",
        "os_name": "posix",
        "platform_machine": target.machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": f"{target.python}.0",
        "python_version": target.python,
        "sys_platform": "linux",
        "extra": "",
    }


def lacking_of(
    pins: Sequence[Pin], requirements: Sequence[str], target: Target, *, required: Collection[str]
) -> list[str]:
    """What of ``requirements`` the pins do not satisfy, in words; those of ``required`` must be among them."""
    from packaging.requirements import Requirement
    from packaging.utils import canonicalize_name

    versions = {pin.name: pin.version for pin in pins}
    lacking = []
    for line in requirements:
        asked = Requirement(line)
        name = canonicalize_name(asked.name)
        if asked.marker is not None and not asked.marker.evaluate(_environment(target)):
            continue
        if name not in versions:
            lacking += [f"{name} is not in it"] if name in required else []
        elif not asked.specifier.contains(versions[name], prereleases=True):
            lacking.append(f"it has {name} {versions[name]}, and {line} is asked for")
    return lacking


def joined_lock(locks: Mapping[Platform, str]) -> str:
    """One lock of those of several platforms; each pin once, with a marker where it is not the same for all."""
    names = ", ".join(map(str, locks))
    lines = [f"# Locked by edgepack for {names}; install with pip and --no-deps."]
    pins = {platform: parse_lock(text, f"lock for {platform}") for platform, text in locks.items()}
    versions: dict[tuple[str, str], list[Platform]] = {}
    hashes: dict[tuple[str, str], set[str]] = {}
    for platform, listed in pins.items():
        for pin in listed:
            versions.setdefault((pin.name, pin.version), []).append(platform)
            hashes.setdefault((pin.name, pin.version), set()).update(pin.hashes)
    for (name, version), platforms in sorted(versions.items()):
        line = Pin(name, version, tuple(sorted(hashes[name, version]))).line().rstrip("\n")
        if len(platforms) < len(locks):
            line = line.replace(f"{name}=={version}", f"{name}=={version} ; {_marker(platforms)}", 1)
        lines.append(line)
    return "\n".join(lines) + "\n"


def _marker(platforms: Sequence[Platform]) -> str:
    return " or ".join(f'platform_machine == "{machine_of(platform)}"' for platform in platforms)
