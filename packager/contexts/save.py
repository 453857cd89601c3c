"""``edgepack package save``: gathers and plans as a build does, and writes build contexts, whole or not at all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

from edgepack.errors import disk_errors
from edgepack.host.files import fsync_dir, mode_of_new_folder, temporary_beside
from edgepack.names import ModelRef
from edgepack.oci.descriptor import Platform
from edgepack.oci.reference import Reference
from packager.contexts.base import base_archives, base_repository, pushed_base
from packager.contexts.steps import check_steps
from packager.contexts.write import Written, write_context
from packager.images.build import Builder, BuildOptions
from packager.images.plan import FilesLayer, LayerPlan
from packager.layers.secrets import SecretSearch, known_secrets
from packager.models.export import check_target
from packager.wheels.cache import Wheel
from packager.wheels.groups import WheelGroup
from packager.wheels.locks import parse_lock
from packager.wheels.settings import LayerSettings
from packager.wheels.tags import Target
from packager.wheels.trim import holding


@dataclass(frozen=True)
class SavedContext:
    """One context: its folder, its platform, where its base is (None inside of it), and what was written."""

    folder: Path
    platform: Platform
    base: str | None
    written: Written


def save_contexts(
    builder: Builder,
    refs: Sequence[ModelRef],
    platforms: Sequence[Platform],
    options: BuildOptions,
    folder: Path,
    *,
    base_registry: str | None = None,
) -> tuple[SavedContext, ...]:
    """Write the context of the image of ``refs`` to ``folder``, or one for each of several platforms below it.

    ``base_registry`` is a repository that the base is pushed to; without one the base is inside of the context. Raises
    what ``Builder.plan`` and ``check_target`` raise, and ``EdgepackError`` for a credential; ``folder`` is then as it
    was.
    """
    check_target(folder)
    if options.steps:
        check_steps(options.steps, "extra steps")
    repository = base_repository(base_registry) if base_registry is not None else None
    plans = builder.plan(refs, platforms, options)
    search = SecretSearch(known_secrets())
    target = folder.resolve()
    saved = []
    with disk_errors(folder), temporary_beside(target) as temporary:
        tree = temporary / "context"
        for plan in plans:
            name = str(plan.platform).replace("/", "-") if len(plans) > 1 else "."
            (tree / name).mkdir(parents=True)
            saved.append(_saved(builder, plan, options, tree / name, folder / name, repository, search))
        # Below it every mode is that in the image, whoever makes it.
        tree.chmod(mode_of_new_folder(temporary))
        try:
            tree.rename(target)
        except OSError:
            check_target(folder)  # another process has put something there meanwhile
            raise
        fsync_dir(target.parent)
    return tuple(saved)


def _saved(
    builder: Builder,
    plan: LayerPlan,
    options: BuildOptions,
    tree: Path,
    folder: Path,
    repository: Reference | None,
    search: SecretSearch,
) -> SavedContext:
    check_plan(plan, search)
    facts = plan.base.facts
    settings = LayerSettings(facts.python_version, facts.python, rules=holding(options.rules, plan.wheels))
    pip = pip_wheel(builder, plan, offline=options.offline)
    if repository is None:
        base = base_archives(plan.base, builder.store, tree)
    else:
        base = pushed_base(plan.base, builder.store, repository, options.access)
    written = write_context(plan, builder.store, base, settings, pip, tree)
    for name in ("Dockerfile", "README.md"):
        search.check([(tree / name).read_bytes()], name)
    return SavedContext(folder, plan.platform, base.reference, written)


def check_plan(plan: LayerPlan, search: SecretSearch) -> None:
    """Raise ``EdgepackError`` when what a context of ``plan`` gets of its user holds a credential."""
    for layer in plan.layers:
        if isinstance(layer, FilesLayer):
            search.check_entries(layer.entries)
    search.check([plan.steps.encode()], "extra steps", keys=True)


def pip_wheel(builder: Builder, plan: LayerPlan, *, offline: bool = False) -> Wheel | None:
    """The wheel of pip that installs the others in a build stage; raises what the cache of wheels raises."""
    if not any(isinstance(layer, WheelGroup) for layer in plan.layers):
        return None
    text = files("packager").joinpath("data", "locks", "pip.txt").read_text("ascii")
    facts = plan.base.facts
    target = Target(plan.platform, facts.python_version, facts.glibc, has_wheelhouse=True)
    (found,) = builder.wheels.get(parse_lock(text, "lock of pip"), target, offline=offline)
    return found
