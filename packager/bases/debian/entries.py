"""The files of a base image: those of packages, those that are made, and bytecode."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from edgepack.errors import IncompatibleError, NotFoundError, disk_errors
from edgepack.host.progress import Progress, unseen
from edgepack.oci.descriptor import Platform
from edgepack.oci.layer import LayerEntry, NoCompression, ordered, write_layer
from edgepack.oci.store import Store
from packager.bases.debian.debs import Package, unpacked, without_dangling
from packager.bases.debian.download import locked_packages
from packager.bases.debian.recipe import BaseRecipe, Lock, lock_path, read_lock, release_of, write_lock
from packager.bases.debian.resolve import newest_packages
from packager.bases.debian.sources import find_sources
from packager.layers.bytecode import compile_sources, compiled_path
from packager.layers.compiler import Compiler, compiler_in, this_compiler
from packager.layers.rules import path_pattern

_log = logging.getLogger(__name__)
# The folder of the packages' files below a working folder.
PACKAGES = "packages"
_CERTIFICATES = "usr/share/ca-certificates"
_CERTIFICATE_BUNDLE = "etc/ssl/certs/ca-certificates.crt"


def base_entries(
    recipe: BaseRecipe,
    platform: Platform,
    workdir: Path,
    *,
    mirrors: Sequence[str] = (),
    compiler: Compiler | None = None,
    progress: Progress = unseen,
) -> Iterator[LayerEntry]:
    """The files of the base image, to be written as one layer while ``workdir`` is still there.

    Bytecode is made by ``compiler``, else by this interpreter if it is the locked release, else by the base's own.

    The lock decides: it names the packages by their hashes, and nothing else is taken. ``mirrors`` are addresses of
    Debian's archives; see ``find_sources`` for what is asked without any. What ``workdir`` already holds is not
    downloaded again. Raises ``NotFoundError`` without a lock and for a package that is nowhere to be had,
    ``UsageError`` for a platform that the recipe lacks, ``DigestMismatchError``, ``NoSpaceError``, and
    ``EdgepackError`` when no mirror can be read.
    """
    recipe.of_platform(platform)
    where = lock_path(recipe, platform)
    lock = read_lock(recipe, platform)
    if lock is None:
        raise NotFoundError("there is no lock", where=where, hint="write one first")
    pins = [pin for pin in lock.packages if recipe.rules.of_package(pin.name) is None]
    packages = locked_packages(pins, workdir / PACKAGES, find_sources(mirrors), where, progress)
    yield from _entries(recipe, platform, workdir, packages, compiler)


def update_lock(
    recipe: BaseRecipe,
    platform: Platform,
    workdir: Path,
    *,
    mirrors: Sequence[str] = (),
    compiler: Compiler | None = None,
) -> Lock:
    """Write the lock of the newest versions that the mirror has.

    Bytecode is made as in ``base_entries``; raises ``IncompatibleError`` where neither ``compiler`` is given nor the
    recipe's Python runs here.
    """
    recipe.of_platform(platform)
    packages = newest_packages(recipe, platform, workdir / PACKAGES, mirrors)
    entries = _entries(recipe, platform, workdir, packages, compiler)
    if not any(entry.path.endswith(".pyc") for entry in entries):
        hint = f"run it on a machine for one of {', '.join(recipe.platforms)}"
        raise IncompatibleError("a lock names a layer with bytecode in it", where=recipe.name, hint=hint)
    layer = write_layer(entries, Store.create(workdir / "store"), NoCompression(), kind="base")
    lock = Lock(tuple(package.locked for package in packages), str(layer.diff_id), layer.unpacked_size)
    write_lock(recipe, platform, lock)
    return lock


def _entries(
    recipe: BaseRecipe, platform: Platform, workdir: Path, packages: Sequence[Package], compiler: Compiler | None
) -> list[LayerEntry]:
    kept = [package for package in packages if recipe.rules.of_package(package.locked.name) is None]
    tree = workdir / "tree"
    with disk_errors(workdir):
        shutil.rmtree(tree, ignore_errors=True)
        found = {
            entry.path: entry for package in kept for entry in unpacked(package, recipe.rules, tree, _CERTIFICATES)
        }
        found.update((entry.path, entry) for entry in _made(recipe, platform, kept, tree))
        found = without_dangling(found)
        compiler = compiler or _compiler(recipe, packages, found, tree)
        found.update((entry.path, entry) for entry in _bytecode(recipe, found, tree, compiler))
    return ordered(found.values())


def _made(recipe: BaseRecipe, platform: Platform, packages: Iterable[Package], tree: Path) -> Iterator[LayerEntry]:
    for path, mode in recipe.folders.items():
        yield LayerEntry(path, "dir", mode)
    for path in ("bin", "sbin", *recipe.of_platform(platform)["library_dirs"]):
        yield LayerEntry(path, "symlink", 0o777, linkname=f"usr/{path}")
    for path, target in recipe.links.items():
        yield LayerEntry(path, "symlink", 0o777, linkname=target)
    for path, text in recipe.files.items():
        yield LayerEntry.of_bytes(path, text.encode())
    certificates = sorted((tree / _CERTIFICATES).rglob("*.crt"))
    bundle = b"".join(path.read_bytes().rstrip(b"\n") + b"\n" for path in certificates)
    yield LayerEntry.of_bytes(_CERTIFICATE_BUNDLE, bundle)
    # Scanners for licenses and vulnerabilities find the packages here, in the form of dpkg's own database.
    status = "\n".join(package.installed() for package in packages)
    yield LayerEntry.of_bytes("var/lib/dpkg/status", status.encode())


def _bytecode(
    recipe: BaseRecipe, found: Mapping[str, LayerEntry], tree: Path, compiler: Compiler | None
) -> Iterator[LayerEntry]:
    """Bytecode of the modules that a server imports: deterministic, and never checked against its source."""
    if compiler is None:
        _log.info("no bytecode in the base: no Python %s runs here", recipe.python_minor)
        return
    wanted = path_pattern(f"usr/lib/python{recipe.python_minor}/{pattern}" for pattern in recipe.bytecode)
    sources = sorted(path for path, entry in found.items() if entry.kind == "file" and wanted.fullmatch(path))
    compiled = compile_sources(((f"/{path}", (tree / path).read_bytes()) for path in sources), compiler.command)
    for path, data in zip(sources, compiled, strict=True):
        if data is not None:
            yield LayerEntry.of_bytes(compiled_path(path, recipe.python_minor), data)


def _compiler(
    recipe: BaseRecipe, packages: Iterable[Package], found: Mapping[str, LayerEntry], tree: Path
) -> Compiler | None:
    """This interpreter if it is the packages' release, else the base's own, else this one of the minor version."""
    release = release_of(recipe, [package.locked for package in packages])
    return (
        this_compiler(recipe.python_minor, release)
        or _own_compiler(recipe, found, tree)
        or this_compiler(recipe.python_minor)
    )


def _own_compiler(recipe: BaseRecipe, found: Mapping[str, LayerEntry], tree: Path) -> Compiler | None:
    """The base's own Python in ``tree``, if it runs on this machine; its libraries need their links."""
    for path, entry in found.items():
        if entry.kind == "symlink" and not os.path.lexists(tree / path):
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).symlink_to(entry.linkname)
    return compiler_in(tree, recipe.python)
