"""Which target a service runs on."""

from __future__ import annotations

import os

from edgepack.errors import UsageError
from packager.services.configuration.values import ComputeType
from packager.services.service import Service
from packager.services.targets.base import ServiceTarget
from packager.workspaces.workspace import Workspace

# The folder of the device that a workspace has on its own machine.
LOCAL_DEVICE = "device"
# The folder of what a workspace keeps of its services beside their records: locks, and copies of sources.
SERVICES = "services"
# What runs services on this machine, as edge-agent reads it.
RUNTIME = "EDGEPACK_RUNTIME"


def target_of(workspace: Workspace, service: Service) -> ServiceTarget:
    """Where ``service`` runs."""
    match service.compute_type:
        case ComputeType.LOCAL:
            from packager.services.targets.local import LocalTarget

            runtime = os.environ.get(RUNTIME, "auto")
            return LocalTarget(workspace.root / LOCAL_DEVICE, workspace.store.root, workspace.root / SERVICES, runtime)
        case ComputeType.KUBERNETES:
            from packager.services.targets.cluster import kubernetes_target

            return kubernetes_target(workspace, service)
        case ComputeType.DEVICE:
            raise UsageError(f"services on {service.compute_type} are not there yet", where=f"service {service.name}")
