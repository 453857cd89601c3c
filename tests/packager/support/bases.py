"""Small base images made to measure: the files that tell what a base offers, and nothing else."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.store import Store

AMD64, ARM64 = Platform("linux", "amd64"), Platform("linux", "arm64")
# What compiled files of the server's wheels need, and the small base lacks.
NOT_IN_TINY = frozenset(
    {"libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "ld-linux-x86-64.so.2", "libz.so.1", "libpthread.so.0",
     "libdl.so.2", "librt.so.1", "libutil.so.1"}
)  # fmt: skip
MACHINES = {"amd64": 62, "arm64": 183, "386": 3}
MUSL = {"lib/ld-musl-x86_64.so.1": b"\x7fELF"}


def elf(architecture: str = "amd64", rest: bytes = b"") -> bytes:
    """The head of a program (System V gABI, chapter 4) with ``rest`` behind it."""
    return b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HH", 3, MACHINES[architecture]) + bytes(44) + rest


def libc(version: str = "2.36", architecture: str = "amd64", path: str | None = None) -> dict[str, bytes]:
    """A C library that says its version as Debian's does."""
    says = f"GNU C Library (Debian GLIBC {version}-9) stable release version {version}.\n".encode()
    return {path or f"usr/lib/{architecture}-linux-gnu/libc.so.6": elf(architecture, bytes(5000) + says)}


def debian(architecture: str = "amd64") -> dict[str, bytes | str]:
    """What a base with Debian's Python 3.11 has."""
    return {
        "usr/bin/python3.11": elf(architecture),
        "usr/bin/python3": "python3.11",
        **libc("2.36", architecture),
    }


def layer_tar(files: Mapping[str, bytes | str]) -> bytes:
    """A tar of ``files``; a text is what a symbolic link says."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for path, content in files.items():
            info = tarfile.TarInfo(path)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size, info.mode = len(content), 0o755
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def make_base(
    store: Store,
    layers: Sequence[Mapping[str, bytes | str]],
    platform: Platform = AMD64,
    *,
    env: Mapping[str, str] | None = None,
    config: ImageConfig | None = None,
) -> Descriptor:
    """An image of these layers, with the media type of Docker's own."""
    descriptors, diff_ids = [], []
    for files in layers:
        plain = layer_tar(files)
        descriptors.append(store.put_bytes(plain, mediatypes.DOCKER_LAYER))
        diff_ids.append(Digest.of(plain))
    config = replace(config or ImageConfig(platform), platform=platform, diff_ids=tuple(diff_ids))
    config = replace(config, env=env if env is not None else config.env)
    described = store.put_bytes(config.to_bytes(), mediatypes.CONFIG)
    return store.put_bytes(Manifest(described, tuple(descriptors)).to_bytes(), mediatypes.MANIFEST)


def make_index(store: Store, images: Iterable[tuple[Platform, Descriptor]]) -> Descriptor:
    """An index of ``images``."""
    index = Index(tuple(replace(descriptor, platform=platform) for platform, descriptor in images))
    return store.put_bytes(index.to_bytes(), mediatypes.INDEX)
