"""Carries out what ``edgepack service`` and the SDK ask for: builds what is missing and hands it to the target."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from edgepack.errors import EdgepackError, UsageError
from edgepack.host.progress import Progress, unseen
from edgepack.names import ModelRef, check_service_name
from edgepack.oci.descriptor import Platform
from packager.services.configuration.values import Deployment, LocalDeployment
from packager.services.registry import ServiceRegistry, now
from packager.services.service import Service, Source
from packager.services.targets.base import Observation, ServiceTarget
from packager.services.targets.table import target_of
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.images.build import BuildOptions


@dataclass(frozen=True)
class Request:
    """What is to run: a service of these ``models``, built with ``options`` and run as ``deployment`` says.

    ``where`` is the device, or the context of a Kubernetes' configuration, where that kind of target has several.
    """

    name: str
    models: tuple[ModelRef, ...]
    options: BuildOptions
    deployment: Deployment = field(default_factory=LocalDeployment)
    written: Mapping[str, Any] = field(default_factory=dict)
    where: str | None = None
    source: Source | None = None
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)


class Services:
    """The services of ``workspace``, and what changes them."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._records = ServiceRegistry(workspace.database)

    def deploy(self, request: Request, *, overwrite: bool = False, progress: Progress = unseen) -> Service:
        """Build what is missing, and run it; returns the service as it is recorded.

        Raises ``UsageError`` where a service has that name already, unless it is to be overwritten. What ran before
        goes on after a failure.
        """
        former = self._records.find(check_service_name(request.name))
        if former is not None and not overwrite:
            raise UsageError(
                "is there already", where=f"service {request.name}",
                hint=f"give --overwrite, or change it: edgepack service update {request.name}",
            )  # fmt: skip
        service = self._built(request, former, progress)
        target = target_of(self._workspace, service)
        return self._applied(target, target.settle(service))

    def _built(self, request: Request, former: Service | None, progress: Progress) -> Service:
        workspace, created = self._workspace, now()
        models = tuple(workspace.models.get(ref) for ref in request.models)
        tag = f"services/{request.name}"
        built = workspace.builder.build(
            [model.ref for model in models], f"{tag}:next", [Platform.host()], request.options, progress
        )
        package = f"{tag}:{built.descriptor.digest.short}"
        workspace.store.tag(package, built.descriptor)
        workspace.store.untag([f"{tag}:next"])
        return Service(
            request.name, request.deployment.compute_type, tuple(model.id for model in models), package,
            built.descriptor.digest, request.written, request.where, request.deployment.port_asked,
            request.deployment.auth, request.source, request.description, request.tags, request.properties,
            created if former is None else former.created, created,
        )  # fmt: skip

    def _applied(self, target: ServiceTarget, service: Service) -> Service:
        try:
            target.apply(service)
        except EdgepackError as error:
            self._records.put(replace(service, error=str(error)))
            raise
        self._records.put(service)
        return service

    def list(self) -> tuple[Service, ...]:
        """All services by name."""
        return self._records.list()

    def observe(self, name: str) -> tuple[Service, Observation]:
        """The service called ``name``, and how it is now; raises ``NotFoundError``."""
        service = self._records.get(name)
        return service, target_of(self._workspace, service).observe(service)

    def target(self, name: str) -> tuple[Service, ServiceTarget]:
        """The service called ``name`` and where it runs; raises ``NotFoundError``."""
        service = self._records.get(name)
        return service, target_of(self._workspace, service)

    def delete(self, name: str) -> Service:
        """Stop, remove and forget a service; raises ``NotFoundError``."""
        service, target = self.target(name)
        target.delete(service)
        return self._records.remove(name)
