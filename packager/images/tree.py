"""The files of an image without unpacking it: what each layer brings and hides, and what they come to together."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import BinaryIO, Literal, cast

from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import VerifyingReader
from edgepack.oci.foreign import ForeignLayer, Step
from edgepack.oci.sources import BlobSource
from edgepack.oci.tar.compression import decompressed
from edgepack.oci.tar.stream import Member, TarStream

# Where wheels and Debian say what is installed; status.d is that of images without dpkg.
METADATA = re.compile(r"(?:.*/)?[^/]+\.(?:dist-info/METADATA|egg-info/PKG-INFO)")
DPKG_STATUS = re.compile(r"var/lib/dpkg/(?:status|status\.d/[^/]+)")


@dataclass(frozen=True)
class FileFacts:
    """One file, link or pipe. ``content`` is a file's SHA-256 (hex), and what a symbolic link says."""

    kind: Literal["file", "symlink", "fifo"]
    mode: int
    owner: tuple[int, int]
    size: int
    content: str


@dataclass
class LayerFiles:
    """What a layer brings, and the names of lower layers that it hides: themselves, or all that is in a folder.

    ``texts`` are the documents by which packages say what they are.
    """

    files: dict[str, FileFacts] = field(default_factory=dict)
    texts: dict[str, bytes] = field(default_factory=dict)
    hidden: set[str] = field(default_factory=set)
    emptied: set[str] = field(default_factory=set)

    @property
    def hides(self) -> bool:
        """Whether it hides anything of the layers below by a whiteout."""
        return bool(self.hidden or self.emptied)

    def remove(self, path: str) -> None:
        """Drop ``path`` and what is below it."""
        for known in [one for one in self.files if one == path or one.startswith(f"{path}/")]:
            self.files.pop(known)
            self.texts.pop(known, None)


def layer_files(source: BlobSource, layer: Descriptor) -> LayerFiles:
    """Read ``layer`` once; raises ``UnsafeArchiveError`` for what engines refuse, and what ``source`` raises."""
    found, foreign = LayerFiles(), ForeignLayer()
    with source.open(layer) as stream:
        verified = VerifyingReader(stream, layer.digest, layer.size)
        tar = TarStream(decompressed(cast(BinaryIO, verified), layer, LIMITS.layer_unpacked_bytes), as_engines=True)
        for member in tar:
            for step in foreign.take(member):
                _note(found, step, member, tar)
        while verified.read(LIMITS.chunk_bytes):  # to the end, where its digest is compared
            pass
    return found


def _note(found: LayerFiles, step: Step, member: Member, tar: TarStream) -> None:
    mode, owner = member.mode & 0o7777, (member.uid, member.gid)
    match step.action:
        case "remove":
            found.remove(step.path)
        case "hide":
            found.hidden.add(step.path)
        case "hide all":
            found.emptied.add(step.path)
        case "symlink":
            found.files[step.path] = FileFacts("symlink", 0o777, owner, 0, step.target)
        case "fifo":
            found.files[step.path] = FileFacts("fifo", mode, owner, 0, "")
        case "hardlink" if step.target in found.files:
            found.files[step.path] = replace(found.files[step.target])
        case "file":
            size, content, text = _content(step.path, member, tar)
            found.files[step.path] = FileFacts("file", mode, owner, size, content)
            if text is not None:
                found.texts[step.path] = text


def _content(path: str, member: Member, tar: TarStream) -> tuple[int, str, bytes | None]:
    kept = bytearray() if METADATA.fullmatch(path) or DPKG_STATUS.fullmatch(path) else None
    seen = hashlib.sha256()
    for chunk in tar.chunks():
        seen.update(chunk)
        if kept is not None and len(kept) < LIMITS.package_document_bytes:
            kept += chunk
    # Of a sparse file the stored bytes stand for the whole: equal ones make equal files if the maps are.
    size = member.size if member.sparse is None else member.sparse.size
    if member.sparse is not None:
        seen.update(repr(member.sparse).encode())
    return size, seen.hexdigest(), None if kept is None else bytes(kept)


def merged(layers: Iterable[LayerFiles]) -> LayerFiles:
    """What ``layers``, lowest first, come to: an upper layer replaces and hides what lower ones have."""
    tree = LayerFiles()
    for layer in layers:
        # A file or link where lower layers have a folder hides that with all that is in it.
        covers = layer.hidden | layer.emptied | set(layer.files)
        gone = [path for path in tree.files if path in layer.hidden or _is_below(path, covers)]
        for path in gone:
            tree.files.pop(path)
            tree.texts.pop(path, None)
        for path in layer.files:
            tree.texts.pop(path, None)
        tree.files |= layer.files
        tree.texts |= layer.texts
    return tree


def _is_below(path: str, folders: set[str]) -> bool:
    while path:
        path = path.rpartition("/")[0]
        if path in folders:
            return True
    return False


@dataclass(frozen=True, order=True)
class Package:
    """A package that an image has: of Debian or of Python, by its name and version."""

    kind: Literal["debian", "python"]
    name: str
    version: str


def packages_of(texts: Mapping[str, bytes]) -> frozenset[Package]:
    """The packages that the documents ``texts`` of an image's files describe, by path."""
    found: set[Package] = set()
    for path, data in texts.items():
        if METADATA.fullmatch(path):
            head = data.split(b"\n\n", 1)[0].decode("utf-8", "replace")
            fields = dict(re.findall(r"(?m)^(Name|Version): *(\S+)\s*$", head))
            if fields.keys() == {"Name", "Version"}:
                name = re.sub(r"[-_.]+", "-", fields["Name"]).lower()
                found.add(Package("python", name, fields["Version"]))
        else:
            for paragraph in re.split(r"\n\s*\n", data.decode("utf-8", "replace")):
                fields = dict(re.findall(r"(?m)^(Package|Version): *(\S+)\s*$", paragraph))
                if fields.keys() == {"Package", "Version"}:
                    found.add(Package("debian", fields["Package"], fields["Version"]))
    return frozenset(found)
