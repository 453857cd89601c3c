"""What an export is of: a service of the workspace, or a package of it."""

from __future__ import annotations

from dataclasses import replace

from edgepack.trees.yaml_tree import json_tree
from packager.exports.packages import workload_of
from packager.exports.workload import Workload
from packager.services.configuration.rules import Rules
from packager.services.configuration.values import Deployment
from packager.services.deployed import deployed
from packager.services.registry import ServiceRegistry
from packager.services.service import Service
from packager.workspaces.workspace import Workspace


def find_workload(
    workspace: Workspace, service: str, name: str | None = None, repository: str | None = None
) -> Workload:
    """The service called ``service`` as a workload, with its deployment configuration, or else that package.

    Raises as ``workload_of``.
    """
    record = ServiceRegistry.of(workspace).find(service) if workspace.exists else None
    if record is None:
        return workload_of(workspace, service, name, repository)
    return service_workload(workspace, record, name, repository)


def service_workload(
    workspace: Workspace, service: Service, name: str | None = None, repository: str | None = None
) -> Workload:
    """A service of the workspace as a workload; raises as ``workload_of``."""
    found = workload_of(workspace, service.package, name or service.name, repository)
    return deployed(
        replace(found, version=_version(service), tags=service.tags, host_port=service.port or 0),
        deployment_of(service),
    )


def deployment_of(service: Service) -> Deployment:
    """The deployment configuration in the record of ``service``; raises ``InvalidDocumentError``."""
    where = f"deployment configuration of the service {service.name}"
    return Rules(json_tree(service.deployment, where)).configuration(where).deployment


def _version(service: Service) -> str:
    """Of the one model, or else the image's."""
    return service.models[0].rpartition(":")[2] if len(service.models) == 1 else service.image.short
