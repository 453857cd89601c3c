"""What a base image offers: its Python, its C library, its processor, read from its files and cached by digest."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path, PurePosixPath
from typing import BinaryIO, cast

from edgepack.errors import IncompatibleError, UnsafeArchiveError
from edgepack.host.files import atomic_write, make_dirs
from edgepack.limits import LIMITS
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.foreign import ForeignLayer
from edgepack.oci.manifest import Manifest
from edgepack.oci.sources import BlobSource, read_verified
from edgepack.oci.tar.compression import decompressed
from edgepack.oci.tar.stream import Member, TarStream
from packager.layers.elf import Elf, machine_of, read_elf

_PYTHON = re.compile(r"(.+)/python(3)\.(\d+)")
# Where a Python is looked for besides the folders of the image's PATH. /usr/local is where official images put the one
# that they are about; Debian's own may be beside it.
_FOLDERS = ("usr/local/bin", "local/bin", "usr/bin", "bin")
_LIBC = re.compile(r"(?:.*/)?(?:libc\.so\.6|libc-2\.\d+\.so)")
_MUSL = re.compile(r"(?:.*/)?ld-musl-[a-z0-9_]+\.so\.1")
# What the scoring server needs.
OLDEST_PYTHON = (3, 11)
_WHITEOUT, _OPAQUE = ".wh.", ".wh..wh..opq"
_GLIBC_VERSION = re.compile(rb"GNU C Library \([^)]*\) (?:stable|development) release version (\d+)\.(\d+)")
# Modules of Python, which are compiled too, are not libraries that another file can ask for.
_LIBRARY = re.compile(r"(?:.*/)?(?:lib[^/]+|ld-[^/]+)\.so(?:\.[^/]+)?")


@dataclass(frozen=True)
class BaseFacts:
    """What a base offers; ``None`` for what it lacks.

    ``python`` is the interpreter's absolute path, ``python_version`` and ``glibc`` are such as ``3.11`` and ``2.36``,
    ``unpacked_sizes`` the bytes of each layer's plain tar. ``device_refusal`` says what in it a device without a
    container engine cannot unpack. ``libraries`` are the shared libraries by name, each with the versions of symbols
    that it has.
    """

    python: str | None
    python_version: str | None
    glibc: str | None
    musl: bool
    architecture: str | None
    unpacked_sizes: tuple[int, ...] = ()
    device_refusal: str | None = None
    libraries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckedFacts:
    """The facts of a base in which an image's Python can run; see ``BaseFacts`` for the fields."""

    python: str
    python_version: str
    glibc: str
    unpacked_sizes: tuple[int, ...]
    libraries: Mapping[str, tuple[str, ...]] = field(default_factory=dict)


def base_facts(source: BlobSource, descriptor: Descriptor, manifest: Manifest, cache: Path) -> BaseFacts:
    """The facts of the image ``manifest``, from ``cache`` when they are cached."""
    path = cache / "facts" / f"{descriptor.digest.hex}.json"
    known = _cached(path)
    if known is not None and len(known.unpacked_sizes) == len(manifest.layers):
        return known
    config = ImageConfig.from_bytes(read_verified(source, manifest.config), f"image {descriptor.digest}")
    files = _Files(search=_search(config.env.get("PATH", "")))
    sizes = tuple(_read_layer(source, layer, files) for layer in manifest.layers)
    facts = files.facts(sizes)
    make_dirs(path.parent)
    atomic_write(path, json.dumps(asdict(facts), sort_keys=True).encode())
    return facts


def _cached(path: Path) -> BaseFacts | None:
    try:
        known = json.loads(path.read_bytes())
        known["device_refusal"]  # an earlier version did not look
        libraries = {str(name): tuple(map(str, found)) for name, found in known["libraries"].items()}  # nor for these
        sizes = tuple(map(int, known["unpacked_sizes"]))
        facts = BaseFacts(**{**known, "unpacked_sizes": sizes, "libraries": libraries})
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # never made, by another version, or not readable: made again
    texts = (facts.python, facts.python_version, facts.glibc, facts.architecture, facts.device_refusal)
    sound = isinstance(facts.musl, bool) and all(isinstance(text, str | None) for text in texts)
    return facts if sound else None


def _search(path: str) -> tuple[str, ...]:
    """The folders in which a Python is looked for, the first in which there is one counts."""
    listed = [folder.strip("/") for folder in path.split(":") if folder.startswith("/")]
    return tuple(dict.fromkeys([*listed, *_FOLDERS]))


@dataclass
class _Files:
    """The files that identify a base, by path; files that upper layers replace or remove are dropped."""

    search: tuple[str, ...] = _FOLDERS
    machines: dict[str, str | None] = field(default_factory=dict)
    glibcs: dict[str, str] = field(default_factory=dict)
    musl: set[str] = field(default_factory=set)
    libraries: dict[str, Elf | str] = field(default_factory=dict)
    refusal: str | None = None

    def remove(self, path: str, *, below: bool = False) -> None:
        """Drop ``path`` and everything below it, or with ``below`` only the latter."""
        for known in self.paths:
            if known.startswith(f"{path}/") or (known == path and not below):
                self.machines.pop(known, None)
                self.glibcs.pop(known, None)
                self.libraries.pop(known, None)
                self.musl.discard(known)

    @property
    def paths(self) -> set[str]:
        """The paths of all of them."""
        return {*self.machines, *self.glibcs, *self.musl, *self.libraries}

    def add(self, upper: _Files) -> None:
        """Put the files of an upper layer over these."""
        for path in upper.paths & self.paths:
            self.remove(path)
        self.machines |= upper.machines
        self.glibcs |= upper.glibcs
        self.libraries |= upper.libraries
        self.musl |= upper.musl

    def offered(self, architecture: str | None) -> dict[str, tuple[str, ...]]:
        """The libraries for ``architecture`` by name: those of files, what they call themselves, and of links."""
        files = {
            path: elf for path, elf in self.libraries.items()
            if isinstance(elf, Elf) and architecture in (None, elf.machine)
        }  # fmt: skip
        found: dict[str, tuple[str, ...]] = {}
        for path, elf in files.items():
            for name in {PurePosixPath(path).name, elf.soname} - {""}:
                found[name] = tuple(sorted({*found.get(name, ()), *elf.provides}))
        for path, target in self.libraries.items():
            if isinstance(target, str):
                # Where a link leads is decided by names: a base may have it in any of the loader's folders.
                found.setdefault(PurePosixPath(path).name, found.get(PurePosixPath(target).name, ()))
        return dict(sorted(found.items()))

    def facts(self, unpacked_sizes: tuple[int, ...]) -> BaseFacts:
        """The facts that the files show."""
        pythons = [match for path in self.machines if (match := _PYTHON.fullmatch(path))]
        # The one that a shell in the container finds; of two in one folder the newer.
        best = max(pythons, key=lambda match: (-self.search.index(match[1]), int(match[3])), default=None)
        libc = next(iter(self.glibcs), None)
        # A link says nothing, and there may be libraries of a second architecture beside the first.
        architecture = (best and self.machines[best[0]]) or (libc and self.machines.get(libc)) or None
        return BaseFacts(
            python=None if best is None else f"/{best[0]}",
            python_version=None if best is None else f"{best[2]}.{best[3]}",
            glibc=None if libc is None else self.glibcs[libc],
            musl=bool(self.musl),
            architecture=architecture,
            unpacked_sizes=unpacked_sizes,
            device_refusal=self.refusal,
            libraries=self.offered(architecture),
        )


def _read_layer(source: BlobSource, layer: Descriptor, files: _Files) -> int:
    """Note what the layer brings and removes; the bytes of its plain tar."""
    with source.open(layer) as stream:
        plain = _Counted(decompressed(stream, layer, LIMITS.layer_unpacked_bytes))
        added = _Files(files.search)
        tar = TarStream(cast(BinaryIO, plain), as_engines=True)
        unpacked = ForeignLayer()
        try:
            for member in tar:
                _note(tar, member, files, added)
                if files.refusal is None:
                    files.refusal = _refusal(unpacked, member, layer)
        except UnsafeArchiveError as error:
            where = f"layer {layer.digest}"
            if error.where == where:  # it was damaged before it was a tar
                raise
            raise UnsafeArchiveError(f"the layer is not a tar ({error})", where=where) from error
    # At the end: a whiteout hides what lower layers have, wherever it is in its own layer (image-spec, layer.md).
    files.add(added)
    return plain.count


def _refusal(unpacked: ForeignLayer, member: Member, layer: Descriptor) -> str | None:
    try:
        unpacked.take(member)
    except UnsafeArchiveError as error:
        return f"layer {layer.digest}: {error}"
    return None


def _note(tar: TarStream, member: Member, files: _Files, added: _Files) -> None:
    path = member.name.removeprefix("./").strip("/")
    name, folder = PurePosixPath(path).name, str(PurePosixPath(path).parent)
    if name == _OPAQUE:
        files.remove(folder, below=True)
    elif name.startswith(_WHITEOUT):
        files.remove(str(PurePosixPath(folder) / name.removeprefix(_WHITEOUT)))
    elif (python := _PYTHON.fullmatch(path)) and python[1] in files.search and member.kind != "dir":
        added.machines[path] = machine_of(_head(tar, 64))
    elif _LIBRARY.fullmatch(path) and member.kind == "symlink":
        added.libraries[path] = member.linkname
    elif (_LIBRARY.fullmatch(path) or _LIBC.fullmatch(path)) and member.kind in ("file", "hardlink"):
        data = _head(tar, LIMITS.library_bytes) if member.size else b""
        if _LIBC.fullmatch(path) and (found := _GLIBC_VERSION.search(data)):
            added.machines[path] = machine_of(data)
            added.glibcs[path] = f"{int(found[1])}.{int(found[2])}"
        # A second name of one file is taken as the link that it could be.
        elf: Elf | str | None = member.linkname if member.kind == "hardlink" else read_elf(data)
        if elf is not None:
            added.libraries[path] = elf
    if _MUSL.fullmatch(path):
        added.musl.add(path)


class _Counted:
    """Counts what is read through it."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.count += len(data)
        return data


def _head(tar: TarStream, size: int) -> bytes:
    """At least the first ``size`` bytes of the present member, if it has as many."""
    found = bytearray()
    for chunk in tar.chunks():
        found += chunk
        if len(found) >= size:
            break
    return bytes(found)


def check_base(facts: BaseFacts, platform: Platform, name: str) -> CheckedFacts:
    """The facts of a base with Python and glibc for ``platform``; raises ``IncompatibleError`` for another one."""
    where = f"base {name}"
    if facts.architecture is not None and facts.architecture != platform.architecture:
        raise IncompatibleError(
            f"its binaries are built for {facts.architecture}, not for {platform}",
            where=where,
            hint="give a base of the right architecture",
        )
    if facts.python is None or facts.python_version is None:
        raise IncompatibleError("has no Python 3", where=where, hint="give a base with Python, or leave --base out")
    if tuple(map(int, facts.python_version.split("."))) < OLDEST_PYTHON:
        least = ".".join(map(str, OLDEST_PYTHON))
        raise IncompatibleError(
            f"has Python {facts.python_version} at {facts.python}, and the scoring server needs {least} or later",
            where=where,
            hint="give a base with a newer Python, or leave --base out",
        )
    if facts.glibc is None:
        lacking = "has musl, for which onnxruntime has no wheels" if facts.musl else "has no glibc"
        raise IncompatibleError(lacking, where=where, hint="give a base with glibc, or leave --base out")
    return CheckedFacts(facts.python, facts.python_version, facts.glibc, facts.unpacked_sizes, facts.libraries)
