"""The base image of a context: its files inside of the context, or a pinned reference to a registry that has it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edgepack.errors import UsageError, disk_errors
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import VerifyingReader
from edgepack.oci.recompress import plain_tar
from edgepack.oci.reference import Reference
from edgepack.oci.sources import BlobSource
from edgepack.oci.store import Store
from edgepack.oci.tar.stream import TarStream
from packager.bases.find import Base
from packager.layers.compressors import Gzip
from packager.places.registry import Registry
from packager.registries.access import Access

_FOLDER = "base"
_WHITEOUT = ".wh."


@dataclass(frozen=True)
class ContextBase:
    """Where a context's base comes from: ``archives`` in it, one after the other, or the ``reference`` elsewhere."""

    archives: tuple[str, ...] = ()
    reference: str | None = None


def base_archives(base: Base, store: BlobSource, folder: Path) -> ContextBase:
    """Write the layers of ``base`` below ``folder``, as archives that every engine's ADD unpacks.

    Raises ``UsageError`` for layers that take files of others away, which archives cannot say.
    """
    if len(base.manifest.layers) > 1:
        for layer in base.manifest.layers:
            _check_adds_only(store, layer, base)
    (folder / _FOLDER).mkdir()
    names = []
    for number, layer in enumerate(base.manifest.layers, start=1):
        stem = f"{_FOLDER}/base" if len(base.manifest.layers) == 1 else f"{_FOLDER}/base-{number:02}"
        plain = layer.media_type in mediatypes.PLAIN_LAYERS
        name = f"{stem}.tar" if plain else f"{stem}.tar.gz"
        with disk_errors(folder), (folder / name).open("xb") as file:
            for chunk in _archive(store, layer):
                file.write(chunk)
        names.append(name)
    return ContextBase(tuple(names))


def pushed_base(base: Base, store: Store, repository: Reference, access: Access) -> ContextBase:
    """Push ``base`` to ``repository``, where it is named by its digest; raises what the registry raises."""
    platform = base.config.platform
    # A tag, so that the registry does not take the image for garbage.
    named = replace(repository, tag=f"{platform.os}-{platform.architecture}-{base.descriptor.digest.hex[:16]}")
    Registry(str(named), str(named), access).send(store, str(named), base.descriptor)
    return ContextBase(reference=f"{named.name}@{base.descriptor.digest}")


def base_repository(text: str) -> Reference:
    """The repository that ``text`` names in a registry, without a tag; raises ``UsageError`` for anything else."""
    wanted = Reference.parse(text)
    if not text.startswith(f"{wanted.registry}/") or wanted.name != text:
        raise UsageError(
            "does not name a registry and a repository alone", where=text,
            hint="write it as --base-registry registry.example/bases",
        )  # fmt: skip
    return replace(wanted, tag=None)


def _archive(store: BlobSource, layer: Descriptor) -> Iterator[bytes]:
    """The bytes of ``layer``, verified; with gzip in place of zstd, which older engines do not unpack."""
    if layer.media_type in mediatypes.ZSTD_LAYERS:
        compressor = Gzip()
        with plain_tar(store, layer) as tar:
            while chunk := tar.read(LIMITS.chunk_bytes):
                yield compressor.compress(chunk)
        yield compressor.flush()
        return
    with store.open(layer) as blob:
        reader = VerifyingReader(blob, layer.digest, layer.size)
        while chunk := reader.read(LIMITS.chunk_bytes):
            yield chunk


def _check_adds_only(store: BlobSource, layer: Descriptor, base: Base) -> None:
    with plain_tar(store, layer) as tar:
        for member in TarStream(tar, as_engines=True):
            if member.name.rpartition("/")[2].startswith(_WHITEOUT):
                raise UsageError(
                    f"its layer {layer.digest.short} removes {member.name}, which an archive in a folder cannot say",
                    where=f"base {base.name}", hint="push it to a registry, with --base-registry REGISTRY/REPOSITORY",
                )  # fmt: skip
