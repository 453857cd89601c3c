"""Real images of random bytes, and bundles taken apart and put together again, for the tests of signing and bundles."""

from __future__ import annotations

import hashlib
import io
import random
import tarfile
from collections.abc import Collection, Iterable
from pathlib import Path

from edgepack.bundle.listing import PAYLOAD_TYPE, Contents
from edgepack.bundle.tar import INDEX, LAYOUT, LIST, TarWriter, blob_name
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.store import Store
from edgepack.signing import envelope
from edgepack.signing.keys import PrivateKey, PublicKey

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


def add_layer(store: Store, size: int, seed: object) -> Descriptor:
    """A layer of ``size`` random bytes, the same for the same seed."""
    draw = random.Random(str(seed))  # noqa: S311
    with store.writer() as blob:
        for start in range(0, size, 1 << 20):
            blob.write(draw.randbytes(min(1 << 20, size - start)))
        digest, length = blob.commit()
    return Descriptor(mediatypes.LAYER, digest, length)


def add_image(store: Store, layers: Iterable[Descriptor], platform: Platform = AMD64) -> Descriptor:
    """A manifest over ``layers``."""
    layers = tuple(layers)
    config = ImageConfig(platform, diff_ids=tuple(layer.digest for layer in layers))
    held = store.put_bytes(config.to_bytes(), mediatypes.CONFIG)
    manifest = store.put_bytes(Manifest(held, layers).to_bytes(), mediatypes.MANIFEST)
    return Descriptor(manifest.media_type, manifest.digest, manifest.size, platform=platform)


def add_index(store: Store, *manifests: Descriptor) -> Descriptor:
    """An index over ``manifests``."""
    return store.put_bytes(Index(manifests).to_bytes(), mediatypes.INDEX)


def simple(root: Path, sizes: Iterable[int] = (70_000, 1000, 513), tag: str = "churn:1") -> Store:
    """A store with one tagged image of random layers."""
    store = Store.create(root)
    store.tag(tag, add_image(store, [add_layer(store, size, (tag, n)) for n, size in enumerate(sizes)]))
    return store


def members(path: Path) -> list[tuple[tarfile.TarInfo, bytes]]:
    """What is in a tar, as an independent reader sees it."""
    with tarfile.open(path) as tar:
        return [(info, tar.extractfile(info).read()) for info in tar]  # type: ignore[union-attr]


def write_tar(path: Path, parts: Iterable[tuple[tarfile.TarInfo, bytes]], tail: bytes = bytes(1024)) -> None:
    """The members as they are given, faults included."""
    out = io.BytesIO()
    for info, data in parts:
        out.write(info.tobuf(tarfile.USTAR_FORMAT, "utf-8"))
        out.write(data + bytes(-len(data) % 512))
    path.write_bytes(out.getvalue() + tail)


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    """A member to put into a hostile bundle."""
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(data), kind, link
    return info, data


def forge(path: Path, contents: Contents, store: Store, *keys: PrivateKey, payload_type: str = PAYLOAD_TYPE) -> None:
    """A bundle over any list, signed; its blobs come from ``store`` as they are there."""
    signed = envelope.sign(contents.to_bytes(), payload_type, *keys)
    with path.open("wb") as file:
        tar = TarWriter(file)
        for name, data in ((LIST, signed), LAYOUT, (INDEX, contents.layout_index())):
            tar.add(name, len(data), [data])
        for blob in contents.blobs:
            tar.add(blob_name(blob.digest), blob.size, [store.path(blob.digest).read_bytes()])
        tar.end()


def contents_of(path: Path, trusted: Collection[PublicKey] = ()) -> tuple[Contents, tuple[str, ...]]:
    """The list of a bundle and the keys that signed it, as an independent reader of tars finds it."""
    name, data = next((info.name, data) for info, data in members(path))
    assert name == LIST
    opened = None if trusted else envelope.open_unsigned(data, PAYLOAD_TYPE)
    opened = opened or envelope.verify(data, PAYLOAD_TYPE, trusted)
    return Contents.from_bytes(opened.payload), opened.key_ids


def damage(store: Store) -> list[str]:
    """The blobs of ``store`` whose bytes do not hash to their name."""
    folder = store.root / "blobs" / "sha256"
    return [path.name for path in folder.iterdir() if hashlib.sha256(path.read_bytes()).hexdigest() != path.name]


def blobs(store: Store) -> set[str]:
    """The names of the blobs in ``store``."""
    return {path.name for path in (store.root / "blobs" / "sha256").iterdir()}


def snapshot(root: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file below ``root`` with inode, time and hash: equal only when nothing was touched."""
    return {
        str(path.relative_to(root)): (
            path.stat().st_ino,
            path.stat().st_mtime_ns,
            hashlib.sha256(path.read_bytes()).digest(),
        )
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def digest_of(path: Path) -> Digest:
    """The hash of a file."""
    return Digest.of(path.read_bytes())
