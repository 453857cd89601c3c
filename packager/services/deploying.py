"""Carries out what ``edgepack service`` and the SDK ask for: builds what is missing and hands it to the target."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from typing import TYPE_CHECKING

from edgepack.errors import EdgepackError, UsageError
from edgepack.hidden import HiddenText
from edgepack.host.files import make_dirs, open_lock
from edgepack.host.progress import Progress, unseen
from edgepack.names import ModelRef, check_service_name
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from packager.layers.secrets import check_record
from packager.services.configuration.rules import Keys
from packager.services.configuration.values import Auth
from packager.services.credentials.callers import require
from packager.services.credentials.folder import CredentialFolder
from packager.services.credentials.keys import ServiceKeys, Which
from packager.services.plan import Change, Request, changed, plan_update
from packager.services.registry import ServiceRegistry, now
from packager.services.service import Service
from packager.services.targets.base import Observation, ServiceTarget
from packager.services.targets.table import target_of
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.images.build import BuildOptions

# Images of services, by their service and their content.
_TAGS = "services"


class Services:
    """The services of ``workspace``, and what changes them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._records = ServiceRegistry(workspace.database)
        self._credentials = CredentialFolder(workspace.root)

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

    def observe(self, name: str) -> tuple[Service, Observation]:
        """The service called ``name``, and how it is now; raises ``NotFoundError``."""
        service, target = self.target(name)
        return service, target.observe(service)

    def deploy(self, request: Request, *, overwrite: bool = False, progress: Progress = unseen) -> Service:
        """Build what is missing, and run it; returns the service as it is recorded.

        Raises ``UsageError`` where a service has that name already, unless it is to be overwritten. What ran before
        goes on after a failure.
        """
        name = check_service_name(request.name)
        with self._changing(name):
            former = self._records.find(name)
            if former is not None and not overwrite:
                raise UsageError(
                    "is there already", where=f"service {name}",
                    hint=f"give --overwrite, or change it: edgepack service update {name}",
                )  # fmt: skip
            kind = request.configuration.deployment.compute_type
            if former is not None and (former.compute_type, former.target) != (kind, request.where):
                raise UsageError(
                    f"runs on {former.target or former.compute_type}, where it would stay", where=f"service {name}",
                    hint=f"delete it there first: edgepack service delete {name}",
                )  # fmt: skip
            models, package, image = self._build(name, request.models, request.options, progress)
            deployment, moment = request.configuration.deployment, now()
            service = Service(
                name, deployment.compute_type, models, package, image, request.configuration.written, request.where,
                deployment.port_asked, deployment.auth, request.source, request.description, request.tags,
                request.properties, moment if former is None else former.created, moment,
            )  # fmt: skip
            if service.port is None and former is not None:
                service = replace(service, port=former.port)
            return self._apply(service, former, request.configuration.keys)

    def update(self, name: str, change: Change, progress: Progress = unseen) -> Service:
        """Change what ``change`` says, and build only what it needs; returns the service as it is recorded.

        The old version answers until the new one is healthy, and goes on when that fails. Raises ``NotFoundError``,
        ``UsageError`` and what building and the target raise.
        """
        with self._changing(name):
            former = self._records.get(name)
            rebuild = plan_update(former, change)
            service = replace(former, **changed(former, change), updated=now(), error=None)
            if rebuild is not None:
                options = self._options() if rebuild.options is None else rebuild.options
                models, package, image = self._build(name, rebuild.models, options, progress)
                service = replace(service, models=models, package=package, image=image, source=rebuild.source)
            keys = Keys() if change.configuration is None else change.configuration.keys
            return self._apply(service, former, keys)

    def regenerate(self, name: str, which: Which, own: HiddenText | None = None) -> ServiceKeys:
        """Put another key in place of one of the two of a service, ``own`` or a new one; returns both.

        Callers that show the other key go on, and nothing is started again. Raises ``NotFoundError``, ``UsageError``
        for a service that asks for no keys, and what the target raises; both keys are then as they were.
        """
        with self._changing(name):
            service, target = self.target(name)
            require(service, Auth.KEY)
            with self._credentials.regenerated(name, which, own) as found:
                target.apply(service)
        return found.keys

    def delete(self, name: str) -> Service:
        """Stop, remove and forget a service; raises ``NotFoundError``."""
        with self._changing(name):
            service, target = self.target(name)
            target.delete(service)
            removed = self._records.remove(name)
            self._credentials.remove(name)
            return removed

    def _options(self) -> BuildOptions:
        from packager.images.build import BuildOptions

        return BuildOptions(offline=self._workspace.is_offline)

    def _build(
        self, name: str, refs: Sequence[ModelRef], options: BuildOptions, progress: Progress
    ) -> tuple[tuple[str, ...], str, Digest]:
        """Build the image of ``refs``: the models by their versions, the image's tag, and its digest."""
        workspace, tag = self._workspace, f"{_TAGS}/{name}"
        models = tuple(workspace.models.get(ref) for ref in refs)
        built = workspace.builder.build(
            [model.ref for model in models], f"{tag}:next", [Platform.host()], options, progress
        )
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

    def _apply(self, service: Service, former: Service | None, keys: Keys) -> Service:
        """Hand ``service`` to its target and record it; what is known of the ``former`` stays when that fails."""
        check_record(service.to_row(), f"service {service.name}")
        target = target_of(self._workspace, service)
        service = target.settle(service)
        try:
            with self._shown(service, former, keys):
                target.apply(service)
        except EdgepackError as error:
            self._records.put(replace(former or service, error=str(error)))
            raise
        self._records.put(service)
        return service

    @contextmanager
    def _changing(self, name: str) -> Iterator[None]:
        """Keep others from changing the service at the same time; raises ``UsageError`` where one does."""
        folder = self._workspace.root / _TAGS
        make_dirs(folder)
        held = open_lock(folder / f"{name}.lock")
        try:
            try:
                fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise UsageError(
                    "is being changed by another command", where=f"service {name}", hint="wait for it, and try again"
                ) from None
            yield
        finally:
            os.close(held)
