"""Further steps of a Dockerfile, executed by a container engine: it builds the context up to the end of the steps.

What it makes of the base and the packages is what the builder makes itself, so that only the layers of the steps are
taken back; all others are those that a build without an engine has, and a device that has them need not fetch them.
"""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from edgepack.errors import UsageError, VerificationError
from edgepack.host.scratch import scratch_folder
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.archive.read import Archive
from edgepack.oci.config import History, ImageConfig
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.graph import read_manifest
from edgepack.oci.layer import Layer, store_tar
from edgepack.oci.recompress import plain_tar
from edgepack.oci.sources import read_verified
from edgepack.oci.tar.header import END, padding, tar_header
from edgepack.text import printable
from packager.contexts.base import base_archives
from packager.contexts.save import check_plan, pip_wheel
from packager.contexts.steps import check_steps
from packager.contexts.write import write_context
from packager.images.build import Builder, BuildOptions
from packager.images.plan import MAX_LAYERS, LayerPlan, ReadyLayer
from packager.images.steps import ExecutedSteps
from packager.layers.compressors import Gzip, compressor_name
from packager.layers.paths import MODELS_ROOT
from packager.layers.secrets import SecretSearch, known_secrets
from packager.places.docker_daemon import Engine
from packager.wheels.groups import WheelGroup
from packager.wheels.settings import LayerSettings
from packager.wheels.trim import holding

# The stage of the Dockerfile that has the packages and the steps, and nothing above them.
_STAGE = "environment"
_TITLE_CHARS = 120


@dataclass(frozen=True)
class EngineSteps:
    """Has ``engine`` execute the steps of a plan; ``log`` gets what it prints, line by line.

    Without ``network`` the steps have none. Called with a plan it raises ``EdgepackError`` with the step that failed
    and its last lines, ``MissingPartError`` where no engine answers; nothing that it made is then in the store.
    """

    builder: Builder
    options: BuildOptions
    engine: Engine
    log: Callable[[str], None]
    network: bool = False

    def __call__(self, plan: LayerPlan) -> ExecutedSteps:
        """Execute the steps of ``plan``."""
        check_steps(plan.steps, "extra steps")
        search = SecretSearch(known_secrets())
        check_plan(plan, search)
        with scratch_folder("engine") as folder:
            context = folder / "context.tar"
            self._write(plan, folder / "context", context)
            image = self.engine.build(context, _STAGE, network=self.network, log=self.log)
            context.unlink()
            self.engine.save(image, folder / "image.tar")
            with Archive(folder / "image.tar") as archive:
                (root,) = archive.images().values()
                return self._taken(plan, archive, root, search)

    def _write(self, plan: LayerPlan, tree: Path, context: Path) -> None:
        if PurePosixPath(MODELS_ROOT).name not in plan.steps:
            # No step reads them, and an engine would copy them for nothing.
            plan = replace(plan, layers=tuple(one for one in plan.layers if not isinstance(one, ReadyLayer)))
        tree.mkdir()
        facts = plan.base.facts
        settings = LayerSettings(facts.python_version, facts.python, rules=holding(self.options.rules, plan.wheels))
        base = base_archives(plan.base, self.builder.store, tree)
        pip = pip_wheel(self.builder, plan, offline=self.options.offline)
        write_context(plan, self.builder.store, base, settings, pip, tree)
        with tarfile.open(context, "w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(tree.rglob("*")):
                tar.add(path, str(path.relative_to(tree)), recursive=False, filter=_nobodys)

    def _taken(self, plan: LayerPlan, archive: Archive, root: Descriptor, search: SecretSearch) -> ExecutedSteps:
        manifest = read_manifest(archive, root)
        config = ImageConfig.from_bytes(read_verified(archive, manifest.config), "the engine's image")
        config.check_layers(manifest.layers, "the engine's image")
        known = len(plan.base.manifest.layers) + sum(isinstance(one, WheelGroup) for one in plan.layers)
        if len(manifest.layers) < known:
            raise VerificationError(
                f"the engine made {len(manifest.layers)} layers of {known} instructions", where="--engine",
                hint="let it keep a layer for each, or build the folder that edgepack package save writes",
            )  # fmt: skip
        others = len(plan.base.manifest.layers) + len(plan.layers)
        if len(manifest.layers) - known + others > MAX_LAYERS:
            raise UsageError(
                f"the image would have more than {MAX_LAYERS} layers", where="extra steps",
                hint="join steps: RUN one && two",
            )  # fmt: skip
        history = _above(config.history, known)
        titles = [line.created_by for line in history if not line.empty_layer]
        layers = tuple(
            self._layer(archive, layer, diff_id, titles[at] if at < len(titles) else "step", search)
            for at, (layer, diff_id) in enumerate(
                zip(manifest.layers[known:], config.diff_ids[known:], strict=True)
            )
        )  # fmt: skip
        lines = tuple(History(line.created_by, empty_layer=line.empty_layer, created=plan.created) for line in history)
        return ExecutedSteps.of(layers, lines, config)

    def _layer(self, archive: Archive, layer: Descriptor, diff_id: Digest, title: str, search: SecretSearch) -> Layer:
        notes = {
            mediatypes.LAYER_TITLE: printable(title)[:_TITLE_CHARS],
            mediatypes.LAYER_COMPRESSOR: compressor_name(),
        }
        with plain_tar(archive, layer) as tar:
            pieces = iter(lambda: tar.read(LIMITS.compressor_piece_bytes), b"")
            searched = search.passing(pieces, f"the step {title}")
            stored = store_tar(searched, self.builder.store, Gzip(), kind="step", annotations=notes)
        if stored.diff_id != diff_id:
            raise VerificationError(f"the engine gave another layer than {diff_id}", where=title, hint="try again")
        return stored


@contextmanager
def engine_base(
    options: BuildOptions, engine: Engine, log: Callable[[str], None], *, network: bool = False
) -> Iterator[BuildOptions]:
    """``options`` with the base that ``engine`` builds of an environment's own Dockerfile, in the block.

    Raises what ``Engine.build`` raises.
    """
    environment = options.environment
    if options.base is not None or environment is None or environment.base_dockerfile is None:
        yield options
        return
    data = environment.base_dockerfile.encode()
    with scratch_folder("base") as folder:
        context = folder / "context.tar"
        context.write_bytes(tar_header("Dockerfile", size=len(data)) + data + padding(len(data)) + END)
        image = engine.build(context, None, network=network, log=log)
        engine.save(image, folder / "base.tar")
        yield replace(options, base=f"docker-archive:{folder / 'base.tar'}")


def _nobodys(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """``member`` without an owner of this machine."""
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    return member


def _above(history: tuple[History, ...], layers: int) -> tuple[History, ...]:
    """The lines after those of the first ``layers`` layers."""
    for at, line in enumerate(history):
        layers -= not line.empty_layer
        if layers == 0:
            return history[at + 1 :]
    return ()
