"""Builds images: gathers what a plan needs, plans, and has the plan carried out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from edgepack.errors import UsageError
from edgepack.host.progress import Progress, unseen
from edgepack.names import ModelRef
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.manifest import Index
from edgepack.oci.reference import image_tag
from edgepack.oci.store import Store
from packager.bases.cache import BaseCache
from packager.bases.choose import base_for
from packager.bases.find import Base, find_base, is_recipe
from packager.environments.asked import asked_of
from packager.environments.environment import Environment, base_reference
from packager.images.attachments import Attachment, attach_built
from packager.images.describe import describe
from packager.images.plan import LayerPlan, description_annotation, plan_image, service_document
from packager.images.provenance import Request
from packager.images.steps import Execute
from packager.images.write import BuiltImage, ImageWriter
from packager.inference.configuration import InferenceConfiguration
from packager.inference.entry_script import EntryScript, check_entry_script
from packager.inference.server import server_entries
from packager.inference.service_settings import ServiceSettings
from packager.layers.compiler import Compiler, this_compiler
from packager.layers.dates import newest
from packager.layers.secrets import SecretSearch, known_secrets
from packager.models.conversion import served
from packager.models.registry import ModelRegistry
from packager.models.served import ServedModel
from packager.native.image import check_image
from packager.registries.access import Access
from packager.wheels.cache import WheelCache
from packager.wheels.groups import WheelGroup
from packager.wheels.indexes import Indexes
from packager.wheels.listing import listing_of
from packager.wheels.requirements import Asked
from packager.wheels.solving import released
from packager.wheels.stack import check_extras, environment_wheels, lock_of, locked_wheels, modules_of, scoring_wheels
from packager.wheels.tags import Target
from packager.wheels.trim import RULES, TrimRule

_log = logging.getLogger(__name__)
# More than any minor version of Python had.
_PATCHES = 40


@dataclass(frozen=True)
class BuildOptions:
    """What a user may choose about a build: ``rules`` are what stays out of wheels, ``script`` runs the models.

    ``access`` says how a base's registry is reached. ``steps`` are further steps of a Dockerfile, for an engine.
    ``environment`` is what the script needs besides the server, its wheels from its indexes and the folders
    ``find_links``; ``keep_packages`` are installed even where the server has its own form of them. ``lock`` is a file
    with every wheel; without one, the lock that the workspace keeps is used, or with ``upgrade`` solved anew. Where no
    ``base`` is given, the environment chooses it.
    ``without_libraries`` are shared libraries that compiled files may lack.
    ``description`` says what the image is.
    """

    base: str | None = None
    offline: bool = False
    script: EntryScript | None = None
    rules: tuple[TrimRule, ...] = RULES
    access: Access = field(default_factory=Access)
    extras: tuple[str, ...] = ()
    settings: ServiceSettings | None = None
    steps: str = ""
    environment: Environment | None = None
    find_links: tuple[Path, ...] = ()
    keep_packages: frozenset[str] = frozenset()
    lock: Path | None = None
    upgrade: bool = False
    description: str | None = None
    without_libraries: frozenset[str] = frozenset()

    def of(self, inference: InferenceConfiguration) -> BuildOptions:
        """These options with what an inference configuration says; raises what reading its script raises."""
        access, login = self.access, inference.base_login
        if login is not None and self.base is None and access.logins.typed is None:
            # For the base of the configuration, whose registry is the login's, and for no other that is given.
            access = replace(access, logins=replace(access.logins, typed=login.credentials))
        return replace(
            self, script=inference.script(), environment=inference.environment, steps=inference.steps,
            description=inference.description, access=access,
        )  # fmt: skip


@dataclass(frozen=True)
class Build:
    """What ``tag`` now names: one image, or an index of several."""

    tag: str
    descriptor: Descriptor
    images: tuple[BuiltImage, ...]


@dataclass(frozen=True)
class Builder:
    """Builds images in ``store`` from registered models, bases and wheels.

    Further what is kept for the next build, each in its folder: ``conversions``, reports of ``refusals``, ``locks`` of
    wheels for bases with none of their own, and notes on the ``layers`` made of wheels.
    """

    store: Store
    models: ModelRegistry
    bases: BaseCache
    wheels: WheelCache
    conversions: Path
    refusals: Path
    locks: Path
    layers: Path

    def build(
        self,
        refs: Sequence[ModelRef],
        tag: str,
        platforms: Sequence[Platform],
        options: BuildOptions | None = None,
        progress: Progress = unseen,
        execute: Execute | None = None,
    ) -> Build:
        """Build the image of the models ``refs`` for each platform and let ``tag`` name it; ``progress`` watches.

        The same inputs give the same digests. ``tag`` changes at the very end; the previous image stays when it
        fails. ``execute`` has an engine execute the further steps, which nothing else does.
        """
        tag = image_tag(tag)
        options = _based(options or BuildOptions(), platforms)
        if options.steps and execute is None:
            raise UsageError(
                "steps of a Dockerfile must be executed, and this build executes nothing", where="extraDockerfileSteps",
                hint="add --engine docker, or write a Dockerfile with them: edgepack package save -o DIR",
            )  # fmt: skip
        search = SecretSearch(known_secrets())
        search.check_name(tag)
        writer = ImageWriter(
            self.store, self.layers, options.rules, search, lambda python: self.compiler(python, options), progress
        )
        plans = self.plan(refs, platforms, options, progress)
        built = tuple(writer.write(plan, None if execute is None else execute(plan)) for plan in plans)
        for plan, image in zip(plans, built, strict=True):
            self.describe(plan, image.descriptor, options, search)
        root = built[0].descriptor
        if len(built) > 1:
            listed = tuple(replace(image.descriptor, platform=image.platform) for image in built)
            index = Index(listed, annotations=description_annotation(options.description))
            data = index.to_bytes()
            search.check([data], "image index")
            root = self.store.put_bytes(data, mediatypes.INDEX)
        self.store.tag(tag, root)
        return Build(tag, root, built)

    def plan(
        self,
        refs: Sequence[ModelRef],
        platforms: Sequence[Platform],
        options: BuildOptions,
        progress: Progress = unseen,
    ) -> tuple[LayerPlan, ...]:
        """Bring together what an image needs and plan it, once for each platform.

        Raises ``UsageError``, ``NotFoundError``, ``IncompatibleError``, ``ConversionError`` for what does not fit.
        """
        options = _based(options, platforms)
        if len(set(platforms)) != len(platforms) or not platforms:
            raise UsageError(
                "a platform is listed twice, or the list is empty", where="--platform", hint="list each platform once"
            )
        if not refs and options.script is None:
            raise UsageError("an image needs a model or an entry script", hint="give -m or --entry-script")
        for platform in platforms:
            # Raises for a platform that has no wheels, before anything is fetched for another one.
            Target(platform, has_wheelhouse=options.lock is not None and bool(options.find_links))
        check_extras(options.extras)
        models = self.served_models(refs, options, progress)
        if options.settings is not None:
            options.settings.check(service_document(models, options.script))
        asked = _asked(options)
        return tuple(
            replace(self._planned(models, platform, asked, options, progress), steps=options.steps)
            for platform in platforms
        )

    def describe(self, plan: LayerPlan, image: Descriptor, options: BuildOptions, search: SecretSearch) -> None:
        """Attach to ``image``, which was built of ``plan``, its SBOM, its provenance and its lock.

        They take the place of what an earlier build attached. Raises ``EdgepackError`` for a credential in one of them.
        """
        # An environment that is not registered has the name of its file, which is this machine's own.
        chosen = options.environment
        environment = None if chosen is None or chosen.version is None else chosen.id
        made = self.documents(plan, image, options, environment)
        for document in made:
            search.check([document.data], document.annotations[mediatypes.ATTACHMENT_KIND])
        attach_built(self.store, image, made)

    def documents(
        self, plan: LayerPlan, image: Descriptor, options: BuildOptions, environment: str | None
    ) -> tuple[Attachment, ...]:
        """What ``describe`` attaches; ``environment`` is the registered one that was asked for."""
        records = {model.id: model for model in map(self.models.get, plan.models)}
        python = plan.base.facts.python_version
        request = Request(
            options.rules, options.extras, options.script, options.settings, environment, options.description
        )
        return describe(
            self.store, plan, image, request, records, cache=self.conversions / "sbom",
            bytecode=None if self.compiler(python, options) is None else python,
        )  # fmt: skip

    def compiler(self, python: str, options: BuildOptions) -> Compiler | None:
        """What makes bytecode for Python ``python``: for a base of ours always the same, whatever Python runs this."""
        if is_recipe(options.base):
            return self.bases.compiler(python, offline=options.offline)
        return this_compiler(python)

    def served_models(
        self, refs: Sequence[ModelRef], options: BuildOptions, progress: Progress = unseen
    ) -> tuple[ServedModel, ...]:
        """The models as the image has them: converted, or for a script as they were registered."""
        found = [self.models.get(ref) for ref in refs]
        if len({model.id for model in found}) != len(found):
            raise UsageError("a model is listed twice", where="-m", hint="give each one once")
        if options.script is not None:
            return tuple(ServedModel(model.name, model.version, "", model.layers) for model in found)
        ready = []
        for model in found:
            with progress(f"convert {model.id}", 0, "none"):
                ready.append(
                    served(self.models, model, self.conversions, refusals=self.refusals, offline=options.offline)
                )
        return tuple(ready)

    def _planned(
        self,
        models: tuple[ServedModel, ...],
        platform: Platform,
        asked: Asked,
        options: BuildOptions,
        progress: Progress,
    ) -> LayerPlan:
        base = find_base(
            options.base, platform, self.store, self.bases, offline=options.offline, access=options.access,
            progress=progress,
        )  # fmt: skip
        wheels = self._wheels(base, platform, asked, options, progress)
        if options.script is not None:
            # What a foreign base holds besides Python is not known.
            packages = modules_of(wheels) if is_recipe(options.base) else None
            check_entry_script(options.script, base.facts.python_version, packages, base.lacks_module)
        records = () if options.script is None else [self.models.get(ModelRef(one.name, one.version)) for one in models]
        check_image(
            base, platform, wheels, options.rules,
            script=options.script, models=records, source=self.store, missing=options.without_libraries,
        )  # fmt: skip
        _check_python(base, options)
        variables = {**asked.variables, **(options.environment.variables if options.environment is not None else {})}
        return self.assembled(models, platform, base, wheels, options, variables)

    def assembled(
        self,
        models: tuple[ServedModel, ...],
        platform: Platform,
        base: Base,
        wheels: tuple[WheelGroup, ...],
        options: BuildOptions,
        variables: Mapping[str, str],
    ) -> LayerPlan:
        """The plan of parts that are all at hand, with what the build itself adds."""
        python = base.facts.python_version
        server = server_entries(python, self.compiler(python, options), self.layers / "layers")
        dates = [listing_of(wheel).newest for group in wheels for wheel in group.wheels]
        created = newest([base.config.created, *dates])
        return plan_image(
            platform, base, wheels, server, models, options.script, created, options.settings,
            variables=variables, lock=lock_of(wheels), description=options.description,
        )  # fmt: skip

    def _wheels(
        self, base: Base, platform: Platform, asked: Asked, options: BuildOptions, progress: Progress
    ) -> tuple[WheelGroup, ...]:
        """What the server needs, and with it what the environment asks for."""
        has_script = options.script is not None
        if options.lock is not None:
            return locked_wheels(
                options.lock, asked, base.facts, platform, options.rules, self.wheels, self.locks,
                has_script=has_script, offline=options.offline, extras=options.extras, progress=progress,
            )  # fmt: skip
        if not asked.names:
            return scoring_wheels(
                base.facts, platform, options.rules, self.wheels, self.locks,
                offline=options.offline, extras=options.extras, progress=progress,
            )  # fmt: skip
        return environment_wheels(
            asked, base.facts, platform, options.rules, self.wheels, self.locks,
            has_script=has_script, offline=options.offline, extras=options.extras, again=options.upgrade,
            progress=progress,
        )  # fmt: skip


def _check_python(base: Base, options: BuildOptions) -> None:
    """Say that a base of the user's has another Python than the environment asks for; the base decides."""
    from packaging.specifiers import SpecifierSet

    asked = options.environment.python if options.environment is not None else None
    python = base.facts.python_version
    if asked is not None and not any(SpecifierSet(asked).contains(f"{python}.{patch}") for patch in range(_PATCHES)):
        _log.warning("the environment asks for Python %s, and the base %s has Python %s", asked, base.name, python)


def _asked(options: BuildOptions) -> Asked:
    """What the environment asks for besides the server; what is left out of it is said."""
    environment = options.environment
    if environment is None:
        return Asked(indexes=Indexes(folders=options.find_links))
    asked = asked_of(environment, options.keep_packages, options.find_links)
    for note in asked.notes:
        _log.info("environment %s: %s", environment.id, note)
    return asked


def _based(options: BuildOptions, platforms: Sequence[Platform]) -> BuildOptions:
    """``options`` with the base that the environment chooses, where none is given."""
    environment = options.environment
    if options.base is not None or environment is None:
        return options
    if environment.base_dockerfile is not None:
        raise UsageError(
            "its base is a Dockerfile, which must be executed", where=f"environment {environment.id}",
            hint="add --engine docker, or build it yourself and give --base docker-daemon:NAME",
        )  # fmt: skip
    if (base := base_reference(environment)) is not None:
        return replace(options, base=base)

    def pins(python: str) -> tuple[list[str], list[str]]:
        target = Target(next(iter(platforms), Platform.host()), python)
        return released(asked_of(environment, options.keep_packages), target, offline=options.offline)

    return replace(options, base=base_for(environment.python, pins=pins))
