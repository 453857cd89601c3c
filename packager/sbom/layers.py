"""What can be read of a layer without running anything: records of package managers, METADATA, models and code.

A layer is read once; what was found is kept below a cache by the digest of its plain tar.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

from edgepack.host.files import atomic_write, make_dirs
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.sources import BlobSource
from edgepack.oci.tar.compression import decompressed
from edgepack.oci.tar.stream import TarStream
from packager.layers.paths import APP_ROOT
from packager.models.model import ModelFile
from packager.sbom.metadata import read_metadata
from packager.sbom.package import Package
from packager.sbom.systems import alpine_packages, debian_licences, debian_packages, system_of

_FORMAT = 1
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_OS_RELEASE = re.compile(r"(?:etc|usr/lib)/os-release")
_STATUS = re.compile(r"var/lib/dpkg/status(?:\.d/[^/]+)?")
_APK = re.compile(r"(?:usr/)?lib/apk/db/installed")
_COPYRIGHT = re.compile(r"usr/share/doc/([^/]+)/copyright")
_DIST_INFO = re.compile(r"(?:.*/)?([^/]+?)-([^/-]+)\.(?:dist-info/METADATA|egg-info/PKG-INFO|egg-info)")
MANIFEST = "model.manifest.json"


@dataclass(frozen=True)
class LayerContent:
    """What was found in one layer, by path; ``removed`` are the paths that it hides of the layers below.

    ``texts`` are records whose reading depends on other layers, ``files`` the models and the user's code with their
    hashes, ``manifests`` what stands beside converted models.
    """

    systems: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)
    licences: Mapping[str, Sequence[str]] = field(default_factory=dict)
    packages: Mapping[str, Package] = field(default_factory=dict)
    removed: tuple[str, ...] = ()
    files: Mapping[str, ModelFile] = field(default_factory=dict)
    manifests: Mapping[str, str] = field(default_factory=dict)


def read_layer(source: BlobSource, layer: Descriptor, diff_id: Digest, cache: Path) -> LayerContent:
    """The content of ``layer``; models and code are hashed, of other files only the records are read.

    Raises what ``source`` raises, and ``VerificationError`` for a layer that is no tar.
    """
    if layer.kind == "code":  # another one at nearly every build, and small
        return _read(source, layer)
    path = cache / f"layer-{diff_id.hex}.json"
    known = _cached(path)
    if known is not None:
        return known
    found = _read(source, layer)
    make_dirs(path.parent)
    atomic_write(path, json.dumps(_to_json(found), sort_keys=True).encode())
    return found


def _read(source: BlobSource, layer: Descriptor) -> LayerContent:
    systems: dict[str, str] = {}
    texts: dict[str, str] = {}
    licences: dict[str, Sequence[str]] = {}
    packages: dict[str, Package] = {}
    removed: list[str] = []
    files: dict[str, ModelFile] = {}
    manifests: dict[str, str] = {}
    with source.open(layer) as stream:
        tar = TarStream(decompressed(stream, layer, LIMITS.layer_unpacked_bytes), as_engines=True)
        for member in tar:
            path = member.name.removeprefix("./").strip("/")
            name, folder = PurePosixPath(path).name, str(PurePosixPath(path).parent)
            if name == _OPAQUE:
                removed.append(f"{folder}/")
            elif name.startswith(_WHITEOUT):
                removed.append(str(PurePosixPath(folder) / name.removeprefix(_WHITEOUT)))
            elif member.kind != "file":
                continue
            elif path.startswith(f"{APP_ROOT}/"):
                digest, held = hashlib.sha256(), b""
                for chunk in tar.chunks():
                    digest.update(chunk)
                    held = chunk if name == MANIFEST and not held else held
                files[path] = ModelFile(path, member.size, digest.hexdigest())
                if name == MANIFEST and len(held) == member.size:
                    manifests[path] = held.decode("utf-8", "replace")
            elif _OS_RELEASE.fullmatch(path):
                systems[path] = system_of(_record(tar, member.size))
            elif _STATUS.fullmatch(path) or _APK.fullmatch(path):
                texts[path] = _record(tar, member.size).decode("utf-8", "replace")
            elif match := _COPYRIGHT.fullmatch(path):
                licences[match[1]] = debian_licences(_record(tar, member.size))
            elif match := _DIST_INFO.fullmatch(path):
                packages[path] = read_metadata(_head(tar), match[1], match[2])
    return LayerContent(systems, texts, licences, packages, tuple(removed), files, manifests)


def _record(tar: TarStream, size: int) -> bytes:
    if size > LIMITS.package_document_bytes:
        return b""
    return b"".join(tar.chunks())


def _head(tar: TarStream) -> bytes:
    return next(iter(tar.chunks()), b"")


@dataclass(frozen=True)
class Found:
    """What several layers hold, one on the other: the packages, the system that they make, models and code."""

    system: str
    packages: tuple[Package, ...]
    files: tuple[ModelFile, ...] = ()
    manifests: Mapping[str, str] = field(default_factory=dict)


def found_in(layers: Sequence[LayerContent]) -> Found:
    """What is left of ``layers``, lowest first, after each has hidden what it hides."""
    systems: dict[str, str] = {}
    texts: dict[str, str] = {}
    packages: dict[str, Package] = {}
    licences: dict[str, Sequence[str]] = {}
    files: dict[str, ModelFile] = {}
    manifests: dict[str, str] = {}
    for one in layers:
        for known in (systems, texts, packages, files, manifests):
            for path in [path for path in known if _is_hidden(path, one.removed)]:
                del known[path]
        systems.update(one.systems)
        texts.update(one.texts)
        packages.update(one.packages)
        licences.update(one.licences)
        files.update(one.files)
        manifests.update(one.manifests)
    system = systems.get("etc/os-release") or systems.get("usr/lib/os-release") or ""
    found: dict[str, Package] = {}
    for path, text in sorted(texts.items()):
        read = alpine_packages if _APK.fullmatch(path) else debian_packages
        for package in read(text.encode(), system):
            found[package.ref] = with_licences(package, licences)
    for _, package in sorted(packages.items()):
        found.setdefault(package.ref, package)
    listed = tuple(files[path] for path in sorted(files))
    return Found(system, tuple(found[ref] for ref in sorted(found)), listed, manifests)


def with_licences(package: Package, licences: Mapping[str, Sequence[str]]) -> Package:
    """A Debian package with the licences of its copyright file."""
    from dataclasses import replace

    named = licences.get(package.name) or ()
    return replace(package, licences=tuple(named)) if package.kind == "deb" and named else package


def _is_hidden(path: str, removed: Sequence[str]) -> bool:
    return any(path == one or path.startswith(one if one.endswith("/") else f"{one}/") for one in removed)


def _to_json(found: LayerContent) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "systems": dict(found.systems),
        "texts": dict(found.texts),
        "licences": {name: list(names) for name, names in found.licences.items()},
        "packages": {path: package.to_json() for path, package in found.packages.items()},
        "removed": list(found.removed),
        "files": [[file.path, file.size, file.sha256] for file in found.files.values()],
        "manifests": dict(found.manifests),
    }


def _cached(path: Path) -> LayerContent | None:
    try:
        value = json.loads(path.read_bytes())
        if value["format"] != _FORMAT:
            return None
        return LayerContent(
            dict(value["systems"]),
            dict(value["texts"]),
            dict(value["licences"]),
            {name: Package.from_json(one) for name, one in value["packages"].items()},
            tuple(value["removed"]),
            {file[0]: ModelFile(*file) for file in value["files"]},
            dict(value["manifests"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # never made, by another version, or not readable: made again
