"""Services on Kubernetes as a workspace has them: its registry, its records, its kubeconfig."""

from __future__ import annotations

from edgepack.documents import canonical_json
from packager.exports.secrets import Credentials
from packager.exports.workload import Workload
from packager.services.configuration.values import KubernetesDeployment
from packager.services.credentials.callers import auth_of
from packager.services.pushing import push, repository_of
from packager.services.service import Service
from packager.services.targets.compute_targets import ComputeTargets
from packager.services.targets.kubernetes import KubernetesTarget
from packager.services.workloads import deployment_of, service_workload
from packager.workspaces.workspace import Workspace


def kubernetes_target(workspace: Workspace, service: Service) -> KubernetesTarget:
    """The cluster that ``service`` names by a compute target or a context; ``UsageError`` without a known registry."""
    deployment = deployment_of(service)
    namespace = deployment.namespace if isinstance(deployment, KubernetesDeployment) else None
    kubectl, pull_secret = ComputeTargets(workspace).kubectl(service.target, namespace)

    def workload(one: Service) -> Workload:
        return service_workload(workspace, one, repository=repository_of(workspace, one))

    def send(one: Service) -> None:
        push(workspace, one)

    def credentials(one: Service) -> Credentials:
        auth = auth_of(workspace.root, one)
        return Credentials({} if auth is None else {auth.file: canonical_json(auth.document())})

    return KubernetesTarget(kubectl, workload, send, credentials=credentials, pull_secret=pull_secret)
