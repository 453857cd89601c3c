"""Services on Kubernetes as a workspace has them: its registry, its records, its kubeconfig."""

from __future__ import annotations

import os
from pathlib import Path

from edgepack.errors import UsageError
from edgepack.oci.reference import Reference
from packager.exports.workload import Workload
from packager.registries.access import Access
from packager.services.configuration.values import KubernetesDeployment
from packager.services.service import Service
from packager.services.targets.kubectl import Kubectl
from packager.services.targets.kubernetes import KubernetesTarget
from packager.services.workloads import deployment_of, service_workload
from packager.workspaces.workspace import Workspace

# Where images of services are pushed to, such as registry.example/edge; and as the commands that push read them.
REGISTRY = "EDGEPACK_SERVICE_REGISTRY"
_PLAIN_HTTP, _CA = "EDGEPACK_PLAIN_HTTP", "EDGEPACK_CA"


def kubernetes_target(workspace: Workspace, service: Service) -> KubernetesTarget:
    """The cluster of the context that ``service`` names; raises ``UsageError`` where no registry is known."""
    deployment = deployment_of(service)
    namespace = deployment.namespace if isinstance(deployment, KubernetesDeployment) else None

    def workload(one: Service) -> Workload:
        return service_workload(workspace, one, repository=_repository(workspace, one))

    def send(one: Service) -> None:
        from packager.places.table import find_destination

        tag = one.package.rpartition(":")[2]
        place = find_destination(f"{_repository(workspace, one)}:{tag}", _access(workspace))
        place.send(workspace.store, one.package, workspace.image(one.package))

    return KubernetesTarget(Kubectl(service.target, namespace), workload, send)


def _repository(workspace: Workspace, service: Service) -> str:
    team = workspace.config.team
    if given := os.environ.get(REGISTRY):
        return Reference.parse(f"{given.rstrip('/')}/{service.name}").name
    if team is not None:
        return team.repository(f"services/{service.name}").name
    raise UsageError(
        "no registry is known that the cluster could pull its image from", where=f"service {service.name}",
        hint=f"set {REGISTRY} to one, such as registry.example/edge",
    )  # fmt: skip


def _access(workspace: Workspace) -> Access:
    team = workspace.config.team
    if team is not None and not os.environ.get(REGISTRY):
        return team.access(workspace.logins)
    ca = os.environ.get(_CA)
    plain = tuple(os.environ.get(_PLAIN_HTTP, "").split())
    return Access.of(plain, None if ca is None else Path(ca), workspace.logins)
