"""The compiled files of wheels, of a user's code and of models, each with what it needs."""

from __future__ import annotations

import json
import mmap
import re
import tempfile
import zipfile
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import IO

from edgepack.errors import VerificationError
from edgepack.host.files import atomic_write
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.layer import LayerEntry
from edgepack.oci.sources import BlobSource
from edgepack.oci.tar.compression import decompressed
from edgepack.oci.tar.stream import TarStream
from packager.layers.elf import MAGIC, Elf, read_elf
from packager.wheels.cache import Wheel

# Of what is kept of a wheel, beside it in the cache.
_KEPT = "native-1.json"
# What the names of compiled files of a model end in; others of its files may have gigabytes, and are not read.
_NATIVE_NAME = re.compile(r".+\.(?:so|dylib|pyd)(?:\.[0-9.]+)?")


@dataclass(frozen=True)
class NativeFile:
    """A compiled file by its path: in its wheel, in the image for code, below the model's folder for a model."""

    path: str
    elf: Elf


def files_of_wheel(wheel: Wheel) -> tuple[NativeFile, ...]:
    """The compiled files of ``wheel``, read once and kept beside it; raises ``VerificationError`` for a damaged one."""
    kept = wheel.path.parent / _KEPT
    try:
        return tuple(NativeFile(str(path), Elf.from_json(value)) for path, value in json.loads(kept.read_bytes()))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        found = tuple(_read_wheel(wheel))
    atomic_write(kept, json.dumps([(file.path, file.elf.to_json()) for file in found]).encode())
    return found


def _read_wheel(wheel: Wheel) -> Iterator[NativeFile]:
    try:
        with zipfile.ZipFile(wheel.path) as archive:
            for item in archive.infolist():
                with archive.open(item) as file:
                    elf = _read(file)
                if elf is not None:
                    yield NativeFile(item.filename, elf)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError) as error:
        raise VerificationError(f"is not a valid wheel ({error!s:.200})", where=wheel.filename) from error


def files_of_code(entries: Iterable[LayerEntry]) -> tuple[NativeFile, ...]:
    """The compiled files among the entries of a layer."""
    found = []
    for entry in entries:
        if entry.kind == "file" and entry.content is not None:
            with entry.content() as file:
                elf = _read(file)
            if elf is not None:
                found.append(NativeFile(entry.path, elf))
    return tuple(found)


def files_of_layers(source: BlobSource, layers: Iterable[Descriptor]) -> tuple[NativeFile, ...]:
    """The compiled files of a model's ``layers``."""
    found = []
    for layer in layers:
        with source.open(layer) as stream:
            tar = TarStream(decompressed(stream, layer, LIMITS.layer_unpacked_bytes))
            for member in tar:
                if member.kind == "file" and _NATIVE_NAME.fullmatch(member.name):
                    elf = _read_chunks(tar.chunks())
                    if elf is not None:
                        found.append(NativeFile(member.name, elf))
    return tuple(found)


def may_be_native(names: Iterable[str]) -> bool:
    """Whether a model with files of these names may have compiled ones."""
    return any(_NATIVE_NAME.fullmatch(name) for name in names)


def _read(file: IO[bytes]) -> Elf | None:
    head = file.read(len(MAGIC))
    if head != MAGIC:
        return None
    return _read_chunks(_chunks(head, file))


def _chunks(head: bytes, file: IO[bytes]) -> Iterator[bytes]:
    yield head
    while chunk := file.read(LIMITS.chunk_bytes):
        yield chunk


def _read_chunks(chunks: Iterable[bytes]) -> Elf | None:
    """Read from a nameless file, mapped: the libraries of large frameworks would not fit in memory."""
    with tempfile.TemporaryFile() as file:
        file.writelines(chunks)
        file.flush()
        if not file.tell():
            return None
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return read_elf(data)
