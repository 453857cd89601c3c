"""A second opinion on an image: everything computed again, by another way than the code that wrote it.

Shares no parser, hasher or tar code with the rest of this package: documents are read as plain JSON, layers with the
standard library (image-spec 1.1, manifest.md, config.md, layer.md; docs/architecture.md,
"Model layer"). Tests judge by it what the other modules write, as go-containerregistry's ``validate`` does, and users
what they hold: ``edgepack package verify``.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import posixpath
import sys
import tarfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgepack.errors import NotFoundError, UsageError, VerificationError
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.sources import BlobSource

# edgepack writes layers of these kinds, so all rules of docs/architecture.md, "Model layer" hold; not for a base.
_OURS = frozenset({"wheel", "wheels", "server", "code", "config", "model"})
_INDEX_TYPES = ("application/vnd.oci.image.index.v1+json", "application/vnd.docker.distribution.manifest.list.v2+json")
_MANIFEST_TYPES = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.docker.distribution.manifest.v2+json")
# Naming these variants is the same as naming none.
_IMPLIED_VARIANTS = {"amd64": "v1", "arm64": "v8"}


@dataclass(frozen=True)
class Finding:
    """Something that is not as it must be: in which blob (and entry of a layer), and what."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def validate(
    source: BlobSource,
    root: Descriptor,
    *,
    limit: int = LIMITS.archive_unpacked_bytes,
    foreign_links: bool = False,
) -> list[Finding]:
    """Everything that is wrong with ``root`` and all below it; an empty list when nothing is.

    Looked at: digests and sizes of all blobs; diff IDs and their number against layers and history; platforms of the
    index against those of the configurations; in each layer names, links, nodes and whiteouts; in layers of our kinds
    also order, owners, times and parents. A layer may unpack to ``limit`` bytes. Bad content is a finding, never an
    error; a source that fails otherwise (no connection) still raises. With ``foreign_links`` layers of other kinds may
    have the links, nodes and whiteouts that engines take.
    """
    return _Validator(source, limit, foreign_links).run(root)


class _Validator:
    def __init__(self, source: BlobSource, limit: int, foreign_links: bool) -> None:
        self._source = source
        self._foreign_links = foreign_links
        self._limit = limit
        self._findings: list[Finding] = []
        self._layers: dict[str, str | None] = {}

    def run(self, root: Descriptor) -> list[Finding]:
        try:
            self._document(root.to_json(), depth=0)
        except (AttributeError, TypeError, RecursionError):
            self._found(root.digest, "a document below it has fields of the wrong type")
        return self._findings

    def _found(self, where: object, what: str) -> None:
        self._findings.append(Finding(str(where), what))

    def _document(self, descriptor: dict[str, Any], depth: int) -> None:
        digest, media_type = descriptor.get("digest"), descriptor.get("mediaType")
        value = self._json(descriptor)
        if value is None:
            return
        if value.get("mediaType", media_type) != media_type:
            self._found(digest, f"says that it is {value['mediaType']} and is named as {media_type}")
        if value.get("schemaVersion") != 2:
            self._found(digest, "schemaVersion is not 2")
        if media_type in _INDEX_TYPES and depth < 4:
            for child in value.get("manifests") or []:
                self._document(child, depth + 1)
        elif media_type in _MANIFEST_TYPES:
            self._image(str(digest), value, descriptor.get("platform"))
        else:
            self._found(digest, f"{media_type} is neither an index nor an image manifest here")

    def _image(self, name: str, manifest: dict[str, Any], platform: dict[str, Any] | None) -> None:
        layers = manifest.get("layers") or []
        if len(layers) > LIMITS.image_layers:
            self._found(name, f"{len(layers)} layers, and at most {LIMITS.image_layers} can be mounted")
        config = self._json(manifest.get("config") or {})
        if config is None:
            return
        for key in ("os", "architecture", "variant"):
            implied = _IMPLIED_VARIANTS.get(str(config.get("architecture"))) if key == "variant" else None
            if platform is not None and (platform.get(key) or implied) != (config.get(key) or implied):
                self._found(
                    name, f"{key} is {platform.get(key)} in the index and {config.get(key)} in the configuration"
                )
        diff_ids = (config.get("rootfs") or {}).get("diff_ids") or []
        history = config.get("history")
        made = sum(not line.get("empty_layer") for line in history or [])
        if len(diff_ids) != len(layers):
            self._found(name, f"{len(diff_ids)} diff IDs for {len(layers)} layers")
        if history and made != len(layers):
            self._found(name, f"{made} lines of history that made a layer, for {len(layers)} layers")
        for number, layer in enumerate(layers):
            found = self._layer(layer)
            if found is not None and number < len(diff_ids) and found != diff_ids[number]:
                self._found(
                    layer.get("digest"), f"its tar hashes to {found} and the configuration says {diff_ids[number]}"
                )

    def _json(self, descriptor: dict[str, Any]) -> dict[str, Any] | None:
        name = descriptor.get("digest")
        if not isinstance(descriptor.get("size"), int) or descriptor["size"] > LIMITS.manifest_bytes:
            self._found(name, f"a document of {descriptor.get('size')} bytes")
            return None
        data = b"".join(self._bytes(descriptor))
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            self._found(name, "is not JSON")
            return None
        if isinstance(value, dict):
            return value
        self._found(name, "is not a JSON object")
        return None

    def _bytes(self, descriptor: dict[str, Any]) -> Iterator[bytes]:
        """The blob, and findings when it is missing, of another size, or of another hash."""
        name, size, seen, digest = descriptor.get("digest"), descriptor.get("size"), 0, hashlib.sha256()
        try:
            with self._source.open(Descriptor.from_json(descriptor)) as stream:
                while chunk := stream.read(LIMITS.chunk_bytes):
                    digest.update(chunk)
                    seen += len(chunk)
                    yield chunk
        except (NotFoundError, UsageError, VerificationError) as error:
            self._found(name, error.what)
            return
        if seen != size:
            self._found(name, f"is {seen} bytes and was announced with {size}")
        if f"sha256:{digest.hexdigest()}" != name:
            self._found(name, f"hashes to sha256:{digest.hexdigest()}")

    def _layer(self, descriptor: dict[str, Any]) -> str | None:
        """The diff ID of a layer, each looked at once."""
        name = str(descriptor.get("digest"))
        if name not in self._layers:
            packed = self._bytes(descriptor)
            plain = _Plain(self._unpacked(descriptor, packed), self._limit)
            try:
                self._entries(name, plain, (descriptor.get("annotations") or {}))
                self._layers[name] = plain.finish()
            except (tarfile.TarError, zlib.error, EOFError, ValueError, RecursionError) as error:
                self._found(name, f"cannot be unpacked ({error})")
                self._layers[name] = None
            for _ in packed:  # whatever stopped the unpacking, the blob's own hash is looked at
                pass
            said = (descriptor.get("annotations") or {}).get("io.edgepack.layer.unpacked-size")
            if self._layers[name] is not None and said not in (None, str(plain.size)):
                self._found(name, f"unpacks to {plain.size} bytes and says {said}")
        return self._layers[name]

    def _unpacked(self, descriptor: dict[str, Any], packed: Iterator[bytes]) -> Iterator[bytes]:
        media_type = str(descriptor.get("mediaType"))
        if media_type.endswith((".tar+gzip", ".tar.gzip")):
            yield from _gunzip(packed)
        elif media_type.endswith(".tar+zstd"):
            yield from _unzstd(packed)
        elif media_type.endswith(".tar"):
            yield from packed
        else:
            raise ValueError(f"{media_type} is not a layer")

    def _entries(self, layer: str, plain: _Plain, annotations: dict[str, str]) -> None:
        ours = annotations.get("io.edgepack.layer.kind") in _OURS
        seen: dict[str, bytes] = {}
        last, times = b"", set()
        with tarfile.open(fileobj=plain, mode="r|", encoding="utf-8") as tar:  # type: ignore[call-overload]
            for entry in tar:
                where = f"{layer} {entry.name}"
                path = posixpath.normpath(entry.name)
                if path.startswith("/") or ".." in entry.name.split("/"):
                    self._found(where, "the path climbs out of the image")
                if self._foreign_links and not ours:
                    continue
                if path in seen and not (entry.isdir() and seen[path] == tarfile.DIRTYPE):
                    self._found(where, "is listed twice in the layer")
                self._links(where, path, entry, seen)
                seen[path] = entry.type
                if ours:
                    times.add(entry.mtime)
                    self._rules(where, path, entry, seen, last)
                    last = path.encode()
        if len(times) > 1:
            self._found(layer, f"{len(times)} different times")

    def _links(self, where: str, path: str, entry: tarfile.TarInfo, seen: dict[str, bytes]) -> None:
        if not (entry.isreg() or entry.isdir() or entry.issym() or entry.islnk()) or entry.issparse():
            self._found(where, "is a device node, a FIFO or a sparse file")
        if entry.islnk() and posixpath.normpath(entry.linkname) not in seen:
            self._found(where, f"is a hard link to {entry.linkname!r}, which does not come before it")
        if entry.issym() and not entry.linkname.startswith("/"):
            target = posixpath.normpath(posixpath.join("/root", posixpath.dirname(path), entry.linkname))
            if target != "/root" and not target.startswith("/root/"):
                self._found(where, f"links out of the image, to {entry.linkname!r}")
        if posixpath.basename(path).startswith(".wh.") and not (entry.isreg() and entry.size == 0):
            self._found(where, "is named as a whiteout and is not an empty file")

    def _rules(self, where: str, path: str, entry: tarfile.TarInfo, seen: dict[str, bytes], last: bytes) -> None:
        """What holds for a layer that we wrote."""
        if path.encode() <= last:
            self._found(where, "is not in the order of the names' bytes")
        if (entry.uid, entry.gid, entry.uname, entry.gname) != (0, 0, "", ""):
            self._found(where, f"belongs to {entry.uid}:{entry.gid} {entry.uname}:{entry.gname}")
        parent = posixpath.dirname(path)
        if parent and seen.get(parent) != tarfile.DIRTYPE:
            self._found(where, "its directory does not come before it")
        if posixpath.basename(path).startswith(".wh."):
            self._found(where, "is a whiteout, and layers of this kind remove nothing")
        if not isinstance(entry.mtime, int) or set(entry.pax_headers) - {"path", "linkpath", "size"}:
            self._found(where, f"has PAX headers {sorted(entry.pax_headers)}")


class _Plain:
    """A readable of the chunks of a plain tar that hashes and counts what passes, up to a limit."""

    def __init__(self, chunks: Iterator[bytes], limit: int) -> None:
        self._chunks = chunks
        self._limit = limit
        self._rest = b""
        self._digest = hashlib.sha256()
        self.size = 0

    def read(self, amount: int) -> bytes:
        while len(self._rest) < amount and (chunk := next(self._chunks, None)) is not None:
            self._digest.update(chunk)
            self.size += len(chunk)
            if self.size > self._limit:
                raise ValueError(f"more than {self._limit} bytes")
            self._rest += chunk
        data, self._rest = self._rest[:amount], self._rest[amount:]
        return data

    def finish(self) -> str:
        """The digest of all of it; raises ``ValueError`` unless what is left is padding."""
        while rest := self.read(LIMITS.chunk_bytes):
            if rest.strip(b"\0"):
                raise ValueError("bytes after the end of the tar")
        return f"sha256:{self._digest.hexdigest()}"


def _gunzip(packed: Iterator[bytes]) -> Iterator[bytes]:
    unzip = zlib.decompressobj(wbits=31)
    for chunk in packed:
        data = chunk
        while data:
            if unzip.eof:
                unzip = zlib.decompressobj(wbits=31)
            yield unzip.decompress(data, LIMITS.chunk_bytes)
            data = unzip.unconsumed_tail or unzip.unused_data
    yield unzip.flush()
    if not unzip.eof:
        raise EOFError("the gzip stream is cut short")


def _unzstd(packed: Iterator[bytes]) -> Iterator[bytes]:
    try:
        zstd = importlib.import_module("compression.zstd" if sys.version_info >= (3, 14) else "backports.zstd")
    except ImportError:
        raise ValueError("zstd is not installed here") from None
    unzip = zstd.ZstdDecompressor()
    try:
        for chunk in packed:
            data = chunk
            while data or not (unzip.eof or unzip.needs_input):
                if unzip.eof:  # frames may follow each other (RFC 8878, section 3.1)
                    unzip = zstd.ZstdDecompressor()
                yield unzip.decompress(data, LIMITS.chunk_bytes)
                data = unzip.unused_data if unzip.eof else b""
    except zstd.ZstdError as error:
        raise ValueError(str(error)) from error
    if not unzip.eof:
        raise EOFError("the zstd stream is cut short")
