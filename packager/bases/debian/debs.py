"""One Debian package: what of its files stays in a layer, and under which path."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import io
import lzma
import posixpath
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgepack.errors import UnsafeArchiveError, VerificationError
from edgepack.oci.layer import LayerEntry, normalised_mode
from edgepack.oci.tar.stream import TarStream
from packager.bases.debian.rules import Rules

# The folders that Debian merged into /usr: packages still name some of their files by the old path.
_MERGED = ("bin", "sbin", "lib", "lib64")
# deb(5): the members control.tar and data.tar, plain or compressed. Debian's own archive has no .zst.
_DECOMPRESS: Mapping[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.decompress,
    ".xz": lzma.decompress,
    ".bz2": bz2.decompress,
    ".lzma": lzma.decompress,
}


@dataclass(frozen=True, order=True)
class LockedPackage:
    """One package, by the SHA-256 (hex) and size of its ``.deb``; ``source`` is the source package it is built from."""

    name: str
    version: str
    architecture: str
    sha256: str
    source: str
    size: int


@dataclass(frozen=True)
class _Part:
    """One of a package's two tars, compressed as the end of its name says (``.xz``; nothing for a plain tar)."""

    content: bytes
    suffix: str

    def plain(self) -> io.BytesIO:
        """The tar; raises ``UnsafeArchiveError`` when it is damaged or compressed by another method."""
        if self.suffix not in _DECOMPRESS:
            raise UnsafeArchiveError(f"is compressed by an unknown method, {self.suffix!r}")
        try:
            return io.BytesIO(_DECOMPRESS[self.suffix](self.content))
        except (lzma.LZMAError, zlib.error, EOFError, OSError, ValueError) as error:
            raise UnsafeArchiveError(f"cannot be decompressed ({error})") from error


@dataclass(frozen=True)
class Package:
    """A downloaded package with its control fields as Debian wrote them."""

    locked: LockedPackage
    control: str
    data: _Part = field(repr=False)

    def installed(self) -> str:
        """Its paragraph of dpkg's status file."""
        return re.sub(r"^(Package: .*\n)", r"\1Status: install ok installed\n", self.control, count=1)


def read_package(path: Path) -> Package:
    """Read a ``.deb``, an ``ar`` archive of two tars (deb(5)); raises ``VerificationError`` for another file."""
    content = path.read_bytes()
    parts: dict[str, _Part] = {}
    position = len(b"!<arch>\n")
    try:
        while position + 60 <= len(content):
            name = content[position : position + 16].decode("ascii").strip().rstrip("/")
            size = int(content[position + 48 : position + 58])
            kind, _, suffix = name.partition(".tar")
            parts[kind] = _Part(content[position + 60 : position + 60 + size], suffix)
            position += 60 + size + size % 2
        control = _control(parts["control"]).decode()
        fields = dict(re.findall(r"^(Package|Version|Architecture|Source): (.*)$", control, re.MULTILINE))
        digest = hashlib.sha256(content).hexdigest()
        # deb-control(5): absent when it has the package's name, and with a version where that differs.
        source = (fields.get("Source") or fields["Package"]).split()[0]
        locked = LockedPackage(
            fields["Package"], fields["Version"], fields["Architecture"], digest, source, len(content)
        )
        return Package(locked, control, parts["data"])
    except (KeyError, ValueError, UnsafeArchiveError) as error:
        raise VerificationError("is not a Debian package", where=path, hint="remove it and try again") from error


def newest_package(folder: Path) -> int:
    """When the newest ``.deb`` in ``folder`` was built, as it says itself (ar's header), in seconds since 1970.

    Debian builds packages reproducibly: that is the date of the last entry of the package's changelog.
    """
    found = [0]
    for path in folder.glob("*.deb"):
        with path.open("rb") as file:
            date = file.read(36)[24:]  # ar(5): a magic of 8 bytes, a name of 16, the date in 12
        found.append(int(date) if date.strip().isdigit() else 0)
    return max(found)


def _control(part: _Part) -> bytes:
    stream = TarStream(part.plain())
    for member in stream:
        if member.kind == "file" and member.name.removeprefix("./") == "control":
            return b"".join(stream.chunks())
    raise KeyError("control")


def unpacked(package: Package, rules: Rules, tree: Path, also: str) -> Iterator[LayerEntry]:
    """The files and links of ``package`` that ``rules`` keep; folders follow from what is in them.

    Writes the files below ``tree``, and those below the folder ``also`` even when they are left out.
    """
    plain = package.data.plain()
    contents: dict[str, memoryview] = {}
    for member in TarStream(plain):
        path = merged_path(member.name)
        stays = rules.of_path(path) is None
        if member.kind == "file":
            contents[path] = plain.getbuffer()[plain.tell() : plain.tell() + member.size]
        if posixpath.normpath("/" + member.name).lstrip("/") in _MERGED:
            continue  # base-files has the links since Debian 13; a recipe makes them itself
        if member.kind == "symlink" and stays:
            yield LayerEntry(path, "symlink", 0o777, linkname=merged_link(member.name, member.linkname))
        elif member.kind in ("file", "hardlink") and (stays or path.startswith(also + "/")):
            # A hard link becomes a file of its own: what it names may stay out.
            content = contents.get(path if member.kind == "file" else merged_path(member.linkname))
            if content is None:
                raise VerificationError(f"{member.name} is a link to a file that is missing", where=package.locked.name)
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_bytes(content)
            contents[path] = content
            if stays:
                entry = LayerEntry.of_file(path, tree / path)
                yield replace(entry, mode=normalised_mode(member.mode))  # which drops set-user-ID


def merged_path(name: str) -> str:
    """The path from the root of the image of a package's file, with /bin, /sbin and /lib* merged into /usr.

    ``..`` cannot climb above the root; the root itself is the empty string.
    """
    path = posixpath.normpath("/" + name).lstrip("/")
    return f"usr/{path}" if path.split("/", 1)[0] in _MERGED else path


def merged_link(name: str, target: str) -> str:
    """What the merged link ``name`` of a package points to, relative, so that it holds below any root."""
    aim = merged_path(posixpath.join("/", posixpath.dirname(name), target))
    return posixpath.relpath("/" + aim, "/" + posixpath.dirname(merged_path(name)))


def without_dangling(entries: Mapping[str, LayerEntry]) -> dict[str, LayerEntry]:
    """The entries but for the symbolic links whose aims are not among them, and the links to those, and so on."""
    found = dict(entries)
    while True:
        places = set(found)
        for path in found:
            while path := posixpath.dirname(path):
                places.add(path)
        dangling = [
            path for path, entry in found.items() if entry.kind == "symlink" and _link_target(entry) not in places
        ]
        if not dangling:
            return found
        for path in dangling:
            del found[path]


def _link_target(link: LayerEntry) -> str:
    return posixpath.normpath(posixpath.join("/", posixpath.dirname(link.path), link.linkname)).lstrip("/")
