"""The base images that were built from recipes, and the facts of every base seen; all workspaces share them."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from platform import python_version

from edgepack.errors import EdgepackError
from edgepack.host.files import locked, make_dirs, publish, temporary_beside
from edgepack.host.progress import Progress, unseen
from edgepack.host.scratch import scratch_folder
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.config import History, ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.manifest import Manifest
from edgepack.oci.sources import BlobSource
from edgepack.oci.store import Store
from edgepack.oci.tar.compression import decompressed
from edgepack.oci.unpack import unpack_layer
from packager.bases.debian import (
    PACKAGES,
    BaseRecipe,
    base_entries,
    load_recipe,
    newest_package,
    python_release,
    recipes,
)
from packager.bases.facts import BaseFacts, base_facts
from packager.layers.compiler import Compiler, compiler_in, this_compiler
from packager.layers.compressors import compressor_name, write_best_layer
from packager.layers.dates import at_seconds

_log = logging.getLogger(__name__)
# Of what a recipe becomes besides its layer: 2 is an image with the date of its newest package.
_FORMAT = 2


class BaseCache:
    """Base images below ``<root>/bases`` and facts below ``<root>/facts``."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._compilers: dict[Path, Compiler | None] = {}

    @cached_property
    def store(self) -> Store:
        """The images."""
        return Store.create(self._root / "bases")

    def facts(self, source: BlobSource, descriptor: Descriptor, manifest: Manifest) -> BaseFacts:
        """The facts of the image ``manifest`` in ``source``, read once."""
        return base_facts(source, descriptor, manifest, self._root)

    def built(self, recipe: BaseRecipe, platform: Platform) -> Descriptor | None:
        """The image of ``recipe``, ``None`` where it is not built."""
        found = self.store.tags().get(recipe_tag(recipe, platform))
        return None if found is None else replace(found, annotations={})

    def build(
        self,
        name: str,
        platform: Platform,
        *,
        offline: bool = False,
        rebuild: bool = False,
        mirrors: Sequence[str] = (),
        progress: Progress = unseen,
    ) -> Descriptor:
        """The image of recipe ``name``, built where it does not exist yet or with ``rebuild``.

        ``mirrors`` are addresses of Debian's archives. Raises what the recipe raises.
        """
        recipe = load_recipe(name)
        recipe.of_platform(platform)
        if not rebuild and (found := self.built(recipe, platform)) is not None:
            return found
        if offline:
            raise EdgepackError(
                f"base {name} for {platform} is not built yet",
                where="--offline",
                hint=f"build it while there is a network: edgepack base build {name}",
            )
        _log.info("building base %s for %s from Debian's packages, once", name, platform)
        with scratch_folder("base") as folder:
            # For another processor by the Python of the base for this one.
            own = platform == Platform.host()
            compiler = None if own else self.compiler(recipe.python_minor, mirrors=mirrors, progress=progress)
            entries = base_entries(recipe, platform, folder, mirrors=mirrors, compiler=compiler, progress=progress)
            layer = write_best_layer(entries, self.store, kind="base", title=name, progress=progress)
            created = at_seconds(newest_package(folder / PACKAGES))
        config = ImageConfig(
            platform,
            (layer.diff_id,),
            env=recipe.env,
            cmd=(recipe.python,),
            labels={"io.edgepack.base": name},
            history=(History(f"edgepack: base {name}", created=created),),
            created=created,
        )
        described = self.store.put_bytes(config.to_bytes(), mediatypes.CONFIG)
        manifest = Manifest(described, (layer.descriptor,))
        descriptor = self.store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST)
        self.store.tag(recipe_tag(recipe, platform), descriptor)
        return descriptor

    def compiler(
        self, python: str, *, offline: bool = False, mirrors: Sequence[str] = (), progress: Progress = unseen
    ) -> Compiler | None:
        """What makes bytecode for Python ``python`` here: that of the recipe's base for this machine.

        It is built where it is not yet, and not needed where this interpreter is of the same release. Without such a
        recipe or machine it is this interpreter, and ``None`` where that has another version.
        """
        host = Platform.host()
        for name in recipes():
            recipe = load_recipe(name)
            if recipe.python_minor == python and str(host) in recipe.platforms:
                if (same := this_compiler(python, python_release(recipe))) is not None:
                    return same
                descriptor = self.build(name, host, offline=offline, mirrors=mirrors, progress=progress)
                tree = self._unpacked(descriptor)
                if tree not in self._compilers:  # a process is started to find out
                    self._compilers[tree] = compiler_in(tree, recipe.python)
                return self._compilers[tree] or this_compiler(python)
        return this_compiler(python)

    def _unpacked(self, descriptor: Descriptor) -> Path:
        """The folder of the files of a recipe's image, which has one layer."""
        folder = self._root / "interpreters"
        make_dirs(folder)
        target = folder.resolve() / descriptor.digest.hex
        with locked(folder / f".{target.name}.lock"):
            if not target.is_dir():
                (layer,) = self.store.manifest(descriptor).layers
                with temporary_beside(target) as temporary, self.store.open(layer) as blob:
                    unpack_layer(decompressed(blob, layer, LIMITS.layer_unpacked_bytes), temporary, keep_owner=False)
                    publish(temporary, target)
        return target


def recipe_tag(recipe: BaseRecipe, platform: Platform) -> str:
    """The tag of a recipe's image in the cache.

    It changes with the recipe, its lock, the compressor and the Python that compiles: the base's own, or on a machine
    where no base of the recipe runs this one.
    """
    compiler = python_release(recipe) if str(Platform.host()) in recipe.platforms else python_version()
    key = hashlib.sha256()
    for path in sorted(recipe.folder.iterdir()):
        key.update(path.name.encode() + b"\0" + path.read_bytes())
    key.update(f"{_FORMAT} {compressor_name()} {compiler}".encode())
    return f"{recipe.name}:{platform.os}-{platform.architecture}-{key.hexdigest()[:16]}"
