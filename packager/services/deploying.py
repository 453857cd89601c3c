"""Carries out what ``edgepack service`` and the SDK ask for: builds what is missing and hands it to the target."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from edgepack.errors import (
    EdgepackError,
    MissingPartError,
    NotFoundError,
    RuntimeFailedError,
    UsageError,
    VerificationError,
)
from edgepack.hidden import HiddenText
from edgepack.host.progress import Progress, unseen
from edgepack.names import ModelRef, check_service_name
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from packager.fleet.reach import NotToldError, UnseenError
from packager.layers.secrets import check_record
from packager.services.configuration.rules import Keys
from packager.services.configuration.values import Auth
from packager.services.crashes import CrashedError
from packager.services.credentials.callers import require
from packager.services.credentials.folder import CredentialFolder
from packager.services.credentials.keys import ServiceKeys, Which
from packager.services.exclusive import exclusive
from packager.services.plan import Change, Request, changed, plan_update
from packager.services.registry import ServiceRegistry, now
from packager.services.service import Service
from packager.services.states import State
from packager.services.targets.base import Observation, ServiceTarget
from packager.services.targets.places import SERVICES
from packager.services.targets.table import is_known, place_of, platform_of, target_of
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.images.build import BuildOptions

# Images of services, by their service and their content.
_TAGS = "services"
_SOURCES = "sources"
_POLL_SECONDS = 0.25
# After these a target has not begun with a service.
_NOT_BEGUN = (UsageError, NotFoundError, VerificationError, MissingPartError, NotToldError)


class Deployed(NamedTuple):
    """A service as it is recorded, and how it was when its target had it."""

    service: Service
    seen: Observation


def _unseen(seen: Observation) -> None:
    """Nobody is told."""


class Services:
    """The services of ``workspace``, and what changes them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._records = ServiceRegistry.of(workspace, self._endpoint_of)
        self._credentials = CredentialFolder(workspace.root)

    def _endpoint_of(self, name: str) -> str | None:
        from packager.services.endpoints.store import EndpointStore

        is_one = EndpointStore(self._workspace.root).find(name) is not None
        return f"it is an endpoint, see: edgepack endpoint show {name}" if is_one else None

    def list(self) -> tuple[Service, ...]:
        """All services by name."""
        return self._records.list()

    def find(self, name: str) -> Service | None:
        """The service called ``name``; ``None`` without one."""
        return self._records.find(name)

    def get(self, name: str) -> Service:
        """The service called ``name``; raises ``NotFoundError``."""
        return self._records.get(name)

    def target(self, name: str) -> tuple[Service, ServiceTarget]:
        """The service called ``name`` and where it runs; raises ``NotFoundError``."""
        service = self._records.get(name)
        return service, target_of(self._workspace, service)

    def observe_all(self) -> tuple[Deployed, ...]:
        """All services by name, and how each of them is."""
        from packager.services.looking import look

        found = self.list()
        seen = look(self._workspace, found)
        return tuple(Deployed(one, seen[one.name]) for one in found)

    def observe(self, name: str) -> tuple[Service, Observation]:
        """The service called ``name``, and how it is now; raises ``NotFoundError``.

        Of one whose target does not answer: why, and how it was when it last did.
        """
        from packager.services.looking import look

        service = self._records.get(name)
        return service, look(self._workspace, [service])[name]

    def deploy(
        self, request: Request, *, overwrite: bool = False, wait: bool = True, progress: Progress = unseen
    ) -> Deployed:
        """Build what is missing, and run it until it is healthy; without ``wait`` return when its target has it.

        Raises ``UsageError`` where a service has that name already, unless it is to be overwritten. What ran before
        goes on after a failure.
        """
        name = check_service_name(request.name)
        with self.changing(name) as lock:
            former = self._records.find(name)
            self._check_name(name, former, overwrite=overwrite)
            kind = request.configuration.deployment.compute_type
            place = place_of(self._workspace, kind, request.where)
            if former is not None and (former.compute_type, former.target) != (kind, place):
                raise UsageError(
                    f"runs on {former.target or former.compute_type}, where it would stay", where=f"service {name}",
                    hint=f"delete it there first: edgepack service delete {name}",
                )  # fmt: skip
            platform = platform_of(self._workspace, kind, place)
            models, package, image = self._build(name, request.models, platform, request.options, progress)
            deployment, moment = request.configuration.deployment, now()
            service = Service(
                name, deployment.compute_type, models, package, image, request.configuration.written, place,
                deployment.port_asked, deployment.auth, request.source, request.description, request.tags,
                request.properties, moment if former is None else former.created, moment,
            )  # fmt: skip
            if service.port is None and former is not None:
                service = replace(service, port=former.port)
            return self._apply(service, former, request.configuration.keys, None if wait else lock)

    def _check_name(self, name: str, former: Service | None, *, overwrite: bool) -> None:
        """Raise ``UsageError`` unless a service may be called ``name``, where a ``former`` one is perhaps."""
        from packager.services.endpoints.store import EndpointStore

        endpoints, where = EndpointStore(self._workspace.root), f"service {name}"
        if (part := endpoints.part(name)) is not None:
            raise UsageError(
                f"is version {part.version} of endpoint {part.endpoint.name}", where=where,
                hint=f"change it there: edgepack endpoint update {part.endpoint.name} --version {part.version}",
            )  # fmt: skip
        if endpoints.find(name) is not None:
            raise UsageError(
                "is the name of an endpoint", where=where,
                hint=f"choose another name, or give the endpoint a version: edgepack endpoint create-version {name}",
            )  # fmt: skip
        if former is not None and not overwrite:
            raise UsageError(
                "is there already", where=where, hint=f"give --overwrite, or change it: edgepack service update {name}"
            )

    def _check_part(self, service: Service, former: Service) -> None:
        """Raise ``UsageError`` where a version of an endpoint would ask its callers for something else than others."""
        from packager.services.endpoints.endpoint import check_auth
        from packager.services.endpoints.store import EndpointStore

        part = EndpointStore(self._workspace.root).part(service.name)
        if part is not None and len(part.endpoint.weights) > 1:
            check_auth(part.version, service.auth, former.auth)

    def update(self, name: str, change: Change, progress: Progress = unseen) -> Deployed:
        """Change what ``change`` says, and build only what it needs.

        The old version answers until the new one is healthy, and goes on when that fails. Raises ``NotFoundError``,
        ``UsageError`` and what building and the target raise.
        """
        with self.changing(name):
            former = self._records.get(name)
            rebuild = plan_update(former, change)
            service = replace(former, **changed(former, change), updated=now(), error=None)
            self._check_part(service, former)
            if rebuild is not None:
                options = self._options() if rebuild.options is None else rebuild.options
                platform = platform_of(self._workspace, former.compute_type, former.target)
                models, package, image = self._build(name, rebuild.models, platform, options, progress)
                service = replace(service, models=models, package=package, image=image, source=rebuild.source)
                service = replace(service, reload_folder=None)
            keys = Keys() if change.configuration is None else change.configuration.keys
            return self._apply(service, former, keys)

    def regenerate(self, name: str, which: Which, own: HiddenText | None = None) -> ServiceKeys:
        """Put another key in place of one of the two of a service, ``own`` or a new one; returns both.

        Callers that show the other key go on, and nothing is started again. Raises ``NotFoundError``, ``UsageError``
        for a service that asks for no keys, and what the target raises; both keys are then as they were.
        """
        with self.changing(name):
            service, target = self.target(name)
            require(service, Auth.KEY)
            with self._credentials.regenerated(name, which, own) as found:
                target.apply(service)
        return found.keys

    def delete(self, name: str) -> Service:
        """Stop, remove and forget a service; raises ``NotFoundError``."""
        with self.changing(name):
            service = self._records.get(name)
            if is_known(self._workspace, service.compute_type, service.target, f"service {name}"):
                target_of(self._workspace, service).delete(service)
            from packager.services.endpoints.store import EndpointStore
            from packager.services.looking import Sightings
            from packager.services.source_copy import forget_copies

            forget_copies(self._sources(name))
            removed = self._records.remove(name)
            self._credentials.remove(name)
            Sightings.of(self._workspace).forget(name)
            EndpointStore(self._workspace.root).unmark(name)
            return removed

    def reload(self, name: str) -> Deployed:
        """Let a service of this machine run its source as it is now, in its image, which is not built again.

        A script that does not start leaves what ran. Raises ``UsageError`` for a service elsewhere or without a script.
        """
        from packager.services.source_copy import copy_source, forget_copies
        from packager.services.targets.local import LocalTarget

        with self.changing(name):
            former, target = self.target(name)
            where, hint = f"service {name}", f"change it by: edgepack service update {name}"
            if not isinstance(target, LocalTarget):
                raise UsageError(f"runs on {former.compute_type}, where only images go", where=where, hint=hint)
            if former.source is None:
                raise UsageError("has no entry script, so that nothing of it can change", where=where, hint=hint)
            folder = self._sources(name)
            copy = str(copy_source(former.source, folder, self._python_of(former)))
            service = replace(former, reload_folder=copy, updated=now(), error=None)
            try:
                if copy == former.reload_folder and target.observe(former).state is State.HEALTHY:
                    found = Deployed(service, target.restart(service))
                    self._records.put(service)
                else:
                    found = self._apply(service, former, Keys(), is_settled=True)  # to ask the device again takes long
            except EdgepackError:
                forget_copies(folder, (former.reload_folder,))
                target.settle(service)  # which says it better where another program has the port
                raise
            # What ran before is what the device returns to by itself.
            forget_copies(folder, (copy, former.reload_folder))
            return found

    def start(self, name: str) -> Deployed:
        """Run a service as it is recorded, as after a start of the machine; one that runs is left alone."""
        with self.changing(name):
            service = self._records.get(name)
            return self._apply(replace(service, error=None), service, Keys())

    def wait(self, name: str, seconds: float | None = None, tell: Callable[[Observation], None] = _unseen) -> Deployed:
        """Wait until a service is no longer on its way, ``tell`` of each look at it; returns how it is then.

        Raises ``NotFoundError``, and ``RuntimeFailedError`` after ``seconds``.
        """
        end = None if seconds is None else time.monotonic() + seconds
        while True:
            service, target = self.target(name)
            found = Deployed(service, target.observe(service))
            tell(found.seen)
            if found.seen.state is not State.TRANSITIONING:
                return found
            if end is not None and time.monotonic() >= end:
                raise RuntimeFailedError(
                    f"is on its way still after {seconds:g} s", where=f"service {name}",
                    hint=f"see how it is: edgepack service show {name}",
                )  # fmt: skip
            time.sleep(_POLL_SECONDS)

    def _sources(self, name: str) -> Path:
        """The folder of the copies of a service's source."""
        return self._workspace.root / SERVICES / _SOURCES / name

    def _python_of(self, service: Service) -> str | None:
        """The Python of its image, such as 3.11; ``None`` where the workspace does not have the image any more."""
        from edgepack.oci.config import ImageConfig
        from edgepack.oci.graph import images
        from edgepack.oci.sources import read_verified

        store = self._workspace.store
        root = store.tags().get(service.package)
        if root is None:
            return None
        (_, manifest), *_ = images(store, root)
        return ImageConfig.from_bytes(read_verified(store, manifest.config)).labels.get("io.edgepack.python")

    def _options(self) -> BuildOptions:
        from packager.images.build import BuildOptions

        return BuildOptions(offline=self._workspace.is_offline)

    def _build(
        self, name: str, refs: Sequence[ModelRef], platform: Platform, options: BuildOptions, progress: Progress
    ) -> tuple[tuple[str, ...], str, Digest]:
        """Build the image of ``refs``: the models by their versions, the image's tag, and its digest."""
        workspace, tag = self._workspace, f"{_TAGS}/{name}"
        models = tuple(workspace.models.get(ref) for ref in refs)
        built = workspace.builder.build([model.ref for model in models], f"{tag}:next", [platform], options, progress)
        package = f"{tag}:{built.descriptor.digest.short}"
        workspace.store.tag(package, built.descriptor)
        workspace.store.untag([f"{tag}:next"])
        return tuple(model.id for model in models), package, built.descriptor.digest

    def _shown(self, service: Service, former: Service | None, given: Keys) -> AbstractContextManager[object]:
        """What callers of ``service`` show from now on, made where it is missing."""
        if former is None:  # of an earlier service of that name, which was deleted by another workstation
            self._credentials.remove(service.name)
        if service.auth is Auth.NONE:
            return nullcontext()
        if former is not None and former.auth is not Auth.NONE and given == Keys():
            self._credentials.get(service.name)  # which another workstation may have: those are not replaced by chance
        return self._credentials.changed(service.name, given)

    def _failed(self, service: Service, former: Service | None, error: EdgepackError) -> None:
        """Record why; of a service that was not there before and was never begun, there is nothing to record."""
        sentence = error.sentence if isinstance(error, CrashedError) else str(error)
        if former is not None or not isinstance(error, _NOT_BEGUN):
            self._records.put(replace(former or service, error=sentence))
        elif self._records.find(service.name) is not None:
            self._records.remove(service.name)

    def _apply(
        self, service: Service, former: Service | None, keys: Keys, lock: int | None = None, *, is_settled: bool = False
    ) -> Deployed:
        """Hand ``service`` to its target and record it; what is known of the ``former`` stays when that fails.

        With a ``lock`` it is not waited for: the descriptor is held by what goes on.
        """
        check_record(service.to_row(), f"service {service.name}")
        target = target_of(self._workspace, service)
        if not is_settled:
            service = target.settle(service)
        try:
            with self._shown(service, former, keys):
                seen = target.apply(service) if lock is None else target.begin(service, lock)
        except UnseenError as error:
            self._records.put(replace(service, error=str(error)))
            raise
        except EdgepackError as error:
            self._failed(service, former, error)
            raise
        self._records.put(service)
        return Deployed(service, seen)

    def changing(self, name: str) -> AbstractContextManager[int]:
        """Keep others from changing the service at the same time; see ``exclusive``."""
        return exclusive(self._workspace.root / SERVICES / f"{name}.lock", f"service {name}")
