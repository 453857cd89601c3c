"""The software that a model file was trained with, read from its bytes: nothing of it is run or built.

Pickles name the classes that they need and scikit-learn's estimators write their version (``_sklearn_version``).
Both are found by a bounded search for a few byte patterns, in plain and in compressed files. What is found only
chooses the environment in which the file is then opened, so a file with false traces only fails to open.
"""

from __future__ import annotations

import bz2
import io
import lzma
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from converters.source.user_modules import OURS
from edgepack.limits import LIMITS

BOOSTERS = ("xgboost", "lightgbm", "catboost")
# Libraries of samplers, encoders and transformers, used beside scikit-learn in its pipelines.
COMPANIONS = ("imblearn", "category_encoders", "feature_engine")
CHUNK = 4 << 20
# Of a large plain file only both ends are searched: the first class and the last version are there.
EDGE = 128 << 20
# A packed model is not searched beyond this; it may unpack to far more than its file holds.
MOST = 1 << 30
LZMA_MEMORY = 512 << 20
# Any pattern fits in this many bytes.
LONGEST = 512
# Names of modules other than the libraries' are looked for in so much of the beginning: the classes of a pipeline.
HEAD = 2 * CHUNK

_KEY = b"_sklearn_version"
_NUMBER = rb"(\d+\.\d+(?:\.\d+)?(?:\.?(?:a|b|rc|dev|post)\d+)?)"
# The key, its place in the memo, at times the start of a frame, and then the text: protocols 4 and 5, 1 to 3, and 0.
_VERSION = re.compile(
    rb"_sklearn_version(?:\x94|q.|r.{4}|\np\d+\n|\n)?(?:\x95.{8})?(?:\x8c.|X.{4}|V)" + _NUMBER, re.DOTALL
)
# GLOBAL, and the two texts before STACK_GLOBAL.
_GLOBAL = re.compile(rb"c([A-Za-z_]\w*(?:\.\w+)*)\n([A-Za-z_][\w.]*)\n")
_STACK_GLOBAL = re.compile(
    rb"\x8c.([A-Za-z_]\w*(?:\.\w+)*)\x94?(?:\x8c.([A-Za-z_][\w.]*)\x94?|h.|j.{4})\x93", re.DOTALL
)
# How a pickle begins: protocols 2 to 5; 0 and 1, whose first object is of a class.
_PICKLE = re.compile(rb"\x80[\x02-\x05]|c[A-Za-z_]\w*(?:\.\w+)*\n[A-Za-z_]\w*\n")
_SKOPS_VERSION = re.compile(rb'"_sklearn_version":\s*\{[^{}]*"content":\s*"\\"' + _NUMBER)
_SKOPS_MODULE = re.compile(rb'"__module__":\s*"([A-Za-z_]\w*)')


@dataclass(frozen=True)
class Traces:
    """``version`` of scikit-learn at the training, None where the file does not say; ``modules`` named, top level."""

    version: str | None = None
    modules: frozenset[str] = frozenset()
    skops: bool = False


def read(path: Path) -> Traces:
    """The traces in a pickle, joblib or skops file; none for what is another kind of file or broken."""
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(0)
        if head.startswith(b"PK"):
            return _skops(file)
        return _search(_plain(file, head))


def of_torch(path: Path) -> frozenset[tuple[str, str]]:
    """The classes and functions that a file of ``torch.save`` names; none for another kind of file.

    Each is the full name of its module, and its own name, "" where the file wrote that in another place.
    """
    with path.open("rb") as file:
        if file.read(1) == b"\x80":  # before version 1.6, a plain pickle
            return frozenset(_globals(file.read(HEAD)))
    try:
        with zipfile.ZipFile(path) as archive:
            name = next((name for name in archive.namelist() if name.partition("/")[2] == "data.pkl"), None)
            if name is None:
                return frozenset()
            with archive.open(name) as data:
                return frozenset(_globals(data.read(HEAD)))
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, RuntimeError, zlib.error):
        return frozenset()


def pickled_modules(path: Path) -> frozenset[str]:
    """The modules, by their top names, that a pickle names in its beginning, packed or plain; none for other files."""
    with path.open("rb") as file:
        head = file.read(8)
        file.seek(0)
        window = b""
        for chunk in _plain(file, head):
            if not window and _PICKLE.match(chunk) is None:
                return frozenset()
            window += chunk
            if len(window) >= HEAD:
                break
    return frozenset(module.partition(".")[0] for module, _ in _globals(window))


def _skops(file: BinaryIO) -> Traces:
    try:
        with zipfile.ZipFile(file) as archive, archive.open("schema.json") as schema:
            text = schema.read(LIMITS.skops_schema_bytes)
    except (zipfile.BadZipFile, KeyError, OSError, EOFError, ValueError, RuntimeError, zlib.error):
        return Traces()
    version = _SKOPS_VERSION.search(text)
    modules = frozenset(found.decode("ascii", "ignore") for found in _SKOPS_MODULE.findall(text))
    return Traces(version and version[1].decode("ascii"), modules, skops=True)


def _search(chunks: Iterator[bytes]) -> Traces:
    version: str | None = None
    modules: set[str] = set()
    rest, position = b"", 0
    for chunk in chunks:
        window = rest + chunk
        version = version or _version(window)
        if position < HEAD:
            modules.update(module.partition(".")[0] for module, _ in _globals(window))
        libraries = (*BOOSTERS, *COMPANIONS)
        modules.update(name for name in libraries if name not in modules and _names(window, name.encode()))
        modules.update(name for name in OURS if name not in modules and _names_class(window, name.encode()))
        rest, position = window[-LONGEST:], position + len(chunk)
    return Traces(version, frozenset(modules))


def _globals(window: bytes) -> set[tuple[str, str]]:
    """The classes and functions that are named: the full name of the module of each, and its own."""
    found = (*_GLOBAL.findall(window), *_STACK_GLOBAL.findall(window))
    return {(module.decode("ascii", "ignore"), name.decode("ascii", "ignore")) for module, name in found}


def _version(window: bytes) -> str | None:
    at = window.find(_KEY)
    while at >= 0:
        if match := _VERSION.match(window, at):
            return match[1].decode("ascii")
        at = window.find(_KEY, at + 1)
    return None


def _names(window: bytes, module: bytes) -> bool:
    """Whether a class in ``module`` is named: the name begins a text, and ends or goes on with a dot."""
    at = window.find(module)
    while at >= 0:
        begins = window[at - 1 : at] == b"c" or window[at - 2 : at - 1] == b"\x8c"
        if begins and window[at + len(module) : at + len(module) + 1] in (b".", b"\n", b"\x94", b"\x8c"):
            return True
        at = window.find(module, at + 1)
    return False


def _names_class(window: bytes, module: bytes) -> bool:
    """Whether a class or function in ``module`` is named, and not merely the word: it may be that of a column."""
    at = window.find(module)
    while at >= 0:
        for pattern, start in ((_GLOBAL, at - 1), (_STACK_GLOBAL, at - 2)):
            match = pattern.match(window, start) if start >= 0 else None
            if match is not None and match[1].partition(b".")[0] == module:
                return True
        at = window.find(module, at + 1)
    return False


def _plain(file: BinaryIO, head: bytes) -> Iterator[bytes]:
    """The file's bytes in chunks, unpacked where joblib packed them; they end where it is damaged."""
    unpack = _unpacker(head)
    if unpack is None:
        yield from _ends(file)
        return
    total = 0
    while packed := file.read(CHUNK):
        try:
            for chunk in unpack(packed):
                total += len(chunk)
                yield chunk
                if total >= MOST:
                    return
        except (zlib.error, lzma.LZMAError, OSError, EOFError, ValueError, RuntimeError, MemoryError):
            return


def _ends(file: BinaryIO) -> Iterator[bytes]:
    """The whole of a file, or the first and the last part of one that is large."""
    size = file.seek(0, io.SEEK_END)
    for start, end in ((0, min(size, EDGE)), (max(EDGE, size - EDGE), size)):
        file.seek(start)
        while start < end and (chunk := file.read(min(CHUNK, end - start))):
            start += len(chunk)
            yield chunk


def _unpacker(head: bytes) -> Callable[[bytes], Iterator[bytes]] | None:
    """How a file that begins like this is unpacked, never more than a chunk at once; None where it is not packed."""
    if head.startswith(b"\x1f\x8b"):
        return _zlib(zlib.decompressobj(wbits=31))
    if head[:1] == b"\x78" and head[1:2] in (b"\x01", b"\x5e", b"\x9c", b"\xda"):
        return _zlib(zlib.decompressobj())
    if head.startswith(b"BZh"):
        return _paced(bz2.BZ2Decompressor())
    if head.startswith(b"\xfd7zXZ"):
        return _paced(lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=LZMA_MEMORY))
    if head.startswith(b"\x5d\x00"):
        return _paced(lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=LZMA_MEMORY))
    if head.startswith(b"\x04\x22\x4d\x18"):
        try:
            from lz4.frame import LZ4FrameDecompressor
        except ImportError:
            return lambda packed: iter(())
        return _paced(LZ4FrameDecompressor())
    return None


def _zlib(unpacker: Any) -> Callable[[bytes], Iterator[bytes]]:
    def unpack(packed: bytes) -> Iterator[bytes]:
        while packed and not unpacker.eof:
            yield unpacker.decompress(packed, CHUNK)
            packed = unpacker.unconsumed_tail

    return unpack


def _paced(unpacker: Any) -> Callable[[bytes], Iterator[bytes]]:
    def unpack(packed: bytes) -> Iterator[bytes]:
        if unpacker.eof:
            return
        yield unpacker.decompress(packed, max_length=CHUNK)
        while not unpacker.eof and not unpacker.needs_input:
            yield unpacker.decompress(b"", max_length=CHUNK)

    return unpack
