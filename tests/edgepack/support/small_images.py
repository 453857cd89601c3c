"""Small images made by the code under test, and tars made by the standard library."""

from __future__ import annotations

import gzip
import io
import tarfile
import zlib
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from edgepack.oci import mediatypes
from edgepack.oci.config import History, ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.layer import Layer, LayerEntry, NoCompression, write_layer
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.store import Store

AMD64 = Platform("linux", "amd64")
ARM64 = Platform("linux", "arm64")


class Gzip:
    """The standard library's gzip, as one member."""

    media_type = mediatypes.LAYER_GZIP

    def __init__(self) -> None:
        self._zip = zlib.compressobj(6, wbits=31)

    def compress(self, data: bytes) -> bytes:
        return self._zip.compress(data)

    def flush(self) -> bytes:
        return self._zip.flush()


def entries(text: str = "hello") -> list[LayerEntry]:
    """A folder with a file, an executable, a link and a name that is not ASCII."""
    return [
        LayerEntry.of_bytes("opt/app/greeting.txt", f"{text}\n".encode()),
        LayerEntry.of_bytes("opt/app/bin/run", b"#!/bin/sh\necho run\n", 0o755),
        LayerEntry("opt/app/latest", "symlink", 0o777, linkname="greeting.txt"),
        LayerEntry.of_bytes("opt/app/größe.txt", b"1\n"),
    ]


def image(store: Store, layers: Iterable[Layer], platform: Platform = AMD64) -> Descriptor:
    """An image of these layers."""
    layers = tuple(layers)
    config = ImageConfig(
        platform,
        tuple(layer.diff_id for layer in layers),
        env={"PATH": "/bin"},
        entrypoint=("/opt/app/bin/run",),
        user="10001:10001",
        history=tuple(History(created_by="edgepack") for _ in layers),
    )
    manifest = Manifest(
        store.put_bytes(config.to_bytes(), mediatypes.CONFIG), tuple(layer.descriptor for layer in layers)
    )
    return replace(store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST), platform=platform)


def small_image(store: Store, platform: Platform = AMD64, text: str = "hello") -> Descriptor:
    """An image with a gzip layer and a plain one."""
    packed = write_layer(entries(text), store, Gzip(), kind="code")
    plain = write_layer(
        [LayerEntry.of_bytes("opt/model.bin", text.encode() * 1000)], store, NoCompression(), kind="model"
    )
    return image(store, (packed, plain), platform)


def two_platforms(store: Store) -> Descriptor:
    """An index of an amd64 and an arm64 image."""
    index = Index((small_image(store, AMD64), small_image(store, ARM64, "hallo")))
    return store.put_bytes(index.to_bytes(), mediatypes.INDEX)


def tar_of(*members: tuple[tarfile.TarInfo, bytes]) -> bytes:
    """A tar by the standard library."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, data in members:
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def member(
    name: str, data: bytes = b"", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    """One member for ``tar_of``."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, data


def gzipped(path: Path) -> Path:
    """``path`` compressed, beside it."""
    packed = path.with_name(path.name + ".gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    return packed
