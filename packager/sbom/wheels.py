"""The distributions of wheels in an image, read from the wheel files: METADATA, and what trim rules left out."""

from __future__ import annotations

import hashlib
import json
import re
import zipfile
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from edgepack.host.files import atomic_write, make_dirs
from edgepack.limits import LIMITS
from packager.sbom.metadata import read_metadata
from packager.sbom.package import Package
from packager.wheels.cache import Wheel
from packager.wheels.trim import TrimRule, file_rules

_FORMAT = 1
_METADATA = re.compile(r"[^/]+\.dist-info/METADATA")
# Libraries of others that auditwheel puts beside a wheel's own modules.
_BUNDLED = re.compile(r"(?:[^/]+\.libs|.*/\.libs)/[^/]+")


def wheel_packages(wheels: Iterable[Wheel], rules: Sequence[TrimRule], cache: Path) -> tuple[Package, ...]:
    """What is known of ``wheels``, by name, with properties for what ``rules`` left out; read once, then cached."""
    return tuple(_known(wheel, rules, cache) for wheel in sorted(wheels, key=lambda wheel: (wheel.name, wheel.digest)))


def left_out_wholly(packages: Sequence[Package], rules: Sequence[TrimRule]) -> tuple[tuple[str, TrimRule], ...]:
    """The distributions that one of ``packages`` asks for, and that a rule keeps out as a whole."""
    there = {package.name for package in packages}
    asked = {name for package in packages for name in package.requires}
    whole = [rule for rule in rules if rule.only_for in there and rule.distribution not in there]
    # What only another one of them asks for is not known any more: it is out with that one.
    return tuple((rule.distribution, rule) for rule in whole if rule.only_for and rule.distribution in asked)


def _known(wheel: Wheel, rules: Sequence[TrimRule], cache: Path) -> Package:
    own = file_rules(rules, wheel.name)
    parts = [_FORMAT, wheel.digest.hex, [(rule.name, rule.paths, rule.shortens) for rule in own]]
    path = cache / f"wheel-{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.json"
    try:
        return Package.from_json(json.loads(path.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        pass  # never read, or not readable: read again
    found = _read(wheel, own)
    make_dirs(path.parent)
    atomic_write(path, json.dumps(found.to_json(), sort_keys=True).encode())
    return found


def _read(wheel: Wheel, rules: Sequence[TrimRule]) -> Package:
    properties = [("edgepack:wheel", wheel.filename)]
    data = b""
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            items = archive.infolist()
            for item in items:
                if _METADATA.fullmatch(item.filename):
                    with archive.open(item) as file:
                        data = file.read(LIMITS.metadata_bytes)
                    break
            for rule in rules:
                out = [item.file_size for item in items if rule.leaves_out(item.filename)]
                cut = [item.filename for item in items if rule.cuts(item.filename)]
                if out:
                    properties.append((f"edgepack:left-out:{rule.name}", f"{len(out)} files, {sum(out)} bytes"))
                if cut:
                    properties.append((f"edgepack:without-symbols:{rule.name}", f"{len(cut)} files"))
            bundled = sorted(item.filename for item in items if _BUNDLED.fullmatch(item.filename))
            properties += [("edgepack:bundled", name) for name in bundled]
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError) as error:
        properties.append(("edgepack:unreadable", f"{type(error).__name__}"))
    found = read_metadata(data, wheel.name, wheel.version, wheel.digest.hex)
    return replace(found, properties=(*found.properties, *properties))
