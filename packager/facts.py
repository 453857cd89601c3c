"""What a base image offers: its Python, its C library, its processor, read from its files and cached by digest."""

from __future__ import annotations

import io
import json
import re
import tarfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

from edgepack.errors import IncompatibleError, UnsafeArchiveError
from edgepack.files import atomic_write, make_dirs
from edgepack.oci.compression import decompressed
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.manifest import Manifest
from edgepack.oci.places import BlobSource

_PYTHON = re.compile(r"(?:usr/)?(?:local/)?bin/python(3\.\d+)")
_LIBC = re.compile(r"(?:.*/)?(?:libc\.so\.6|libc-2\.\d+\.so)")
_MUSL = re.compile(r"(?:.*/)?ld-musl-[a-z0-9_]+\.so\.1")
_GLIBC_VERSION = re.compile(rb"GNU C Library \([^)]*\) (?:stable|development) release version (\d+)\.(\d+)")
# ELF, e_machine: System V gABI, chapter 4.
_MACHINES = {62: "amd64", 183: "arm64", 40: "arm", 3: "386", 243: "riscv64"}
_LIMIT = 16 << 30
_PREFIX = 64 << 20


@dataclass(frozen=True)
class BaseFacts:
    """What a base offers; ``None`` where there is none.

    ``python`` is the interpreter's absolute path, ``python_version`` and ``glibc`` are such as ``3.11`` and ``2.36``,
    ``unpacked_sizes`` the bytes of each layer's plain tar.
    """

    python: str | None
    python_version: str | None
    glibc: str | None
    musl: bool
    architecture: str | None
    unpacked_sizes: tuple[int, ...] = ()


def base_facts(source: BlobSource, descriptor: Descriptor, manifest: Manifest, cache: Path) -> BaseFacts:
    """The facts of the image ``manifest``, from ``cache`` when they are known."""
    path = cache / "facts" / f"{descriptor.digest.hex}.json"
    if path.exists():
        known = json.loads(path.read_bytes())
        return BaseFacts(**{**known, "unpacked_sizes": tuple(known["unpacked_sizes"])})
    facts = BaseFacts(None, None, None, False, None)
    for layer in manifest.layers:
        facts = _merge(facts, _layer_facts(source, layer))
    make_dirs(path.parent)
    atomic_write(path, json.dumps(asdict(facts), sort_keys=True).encode())
    return facts


def _merge(lower: BaseFacts, upper: BaseFacts) -> BaseFacts:
    return BaseFacts(
        upper.python or lower.python,
        upper.python_version or lower.python_version,
        upper.glibc or lower.glibc,
        upper.musl or lower.musl,
        upper.architecture or lower.architecture,
        (*lower.unpacked_sizes, *upper.unpacked_sizes),
    )


def _layer_facts(source: BlobSource, layer: Descriptor) -> BaseFacts:
    python = version = glibc = architecture = None
    musl = False
    with source.open(layer) as stream:
        plain = _Counted(decompressed(stream, layer, _LIMIT))
        try:
            with tarfile.open(fileobj=plain, mode="r|") as tar:
                for member in tar:
                    name = member.name.removeprefix("./").lstrip("/")
                    if match := _PYTHON.fullmatch(name):
                        # /usr/local is where official images put the Python that they are about.
                        if python is None or "local" in name:
                            python, version = f"/{name}", match[1]
                        architecture = _machine(_head(tar, member, 64)) or architecture
                    elif _LIBC.fullmatch(name) and member.isreg():
                        data = _head(tar, member, _PREFIX)
                        architecture = architecture or _machine(data)
                        if found := _GLIBC_VERSION.search(data):
                            glibc = f"{int(found[1])}.{int(found[2])}"
                    elif _MUSL.fullmatch(name):
                        musl = True
        except tarfile.TarError as error:
            raise UnsafeArchiveError(f"the layer is not a tar ({error})", where=f"layer {layer.digest}") from error
        plain.drain()
    return BaseFacts(python, version, glibc, musl, architecture, (plain.count,))


class _Counted(io.RawIOBase):
    """Counts what is read through it."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.count = 0

    def read(self, size: int = -1) -> bytes:
        data = self._source.read(size)
        self.count += len(data)
        return data

    def drain(self) -> None:
        while self.read(1 << 18):
            pass


def _head(tar: tarfile.TarFile, member: tarfile.TarInfo, size: int) -> bytes:
    if not member.isreg():
        return b""
    file = tar.extractfile(member)
    return b"" if file is None else file.read(size)


def _machine(data: bytes) -> str | None:
    if len(data) < 20 or data[:4] != b"\x7fELF":
        return None
    order = "little" if data[5] == 1 else "big"
    return _MACHINES.get(int.from_bytes(data[18:20], "little" if order == "little" else "big"))


def check_base(facts: BaseFacts, platform: Platform, name: str) -> None:
    """Raise ``IncompatibleError`` unless a Python of our kind can run in the base on ``platform``."""
    if facts.architecture is not None and facts.architecture != platform.architecture:
        raise IncompatibleError(
            f"its programs are for {facts.architecture}, not for {platform}",
            where=f"base {name}",
            hint="give a base of the right architecture",
        )
    if facts.musl and facts.glibc is None:
        raise IncompatibleError(
            "has musl, and onnxruntime has no wheels for it", where=f"base {name}", hint="give a base with glibc"
        )
    if facts.python is None:
        raise IncompatibleError(
            "has no Python 3", where=f"base {name}", hint="give a base with Python, or leave --base out"
        )
