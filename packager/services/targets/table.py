"""Which target a service runs on."""

from __future__ import annotations

import logging
import os
from typing import TYPE_CHECKING

from edgepack.errors import NotFoundError, UsageError
from edgepack.nearness import listed
from edgepack.oci.descriptor import Platform
from packager.services.configuration.values import ComputeType
from packager.services.service import Service
from packager.services.targets.base import RoutingTarget, ServiceTarget
from packager.services.targets.places import LOCAL_DEVICE, SERVICES
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.services.targets.local import LocalTarget

_log = logging.getLogger(__name__)

# What runs services on this machine, as edge-agent reads it.
RUNTIME = "EDGEPACK_RUNTIME"


def target_of(workspace: Workspace, service: Service) -> ServiceTarget:
    """Where ``service`` runs."""
    match service.compute_type:
        case ComputeType.LOCAL:
            return _local(workspace)
        case ComputeType.KUBERNETES:
            from packager.services.targets.cluster import kubernetes_target

            return kubernetes_target(workspace, service)
        case ComputeType.DEVICE:
            from packager.services.targets.device import DeviceTarget

            return DeviceTarget(workspace, workspace.devices.get(service.target or ""))


def routing_target(workspace: Workspace, kind: ComputeType, place: str | None) -> RoutingTarget:
    """Where an endpoint is; raises ``UsageError`` for a kind of target that has none."""
    match kind:
        case ComputeType.LOCAL:
            return _local(workspace)
        case ComputeType.DEVICE:
            from packager.services.targets.device_endpoints import DeviceEndpoints

            return DeviceEndpoints(workspace, workspace.devices.get(place or ""))
        case ComputeType.KUBERNETES:
            raise UsageError("is for this machine and for devices", where="endpoint", hint="give another --dc")


def _local(workspace: Workspace) -> LocalTarget:
    from packager.services.targets.local import LocalTarget

    runtime = os.environ.get(RUNTIME, "auto")
    return LocalTarget(
        workspace.root / LOCAL_DEVICE, workspace.store.root, workspace.root / SERVICES, runtime,
        lambda: workspace.keys.list().values(),
    )  # fmt: skip


def place_of(workspace: Workspace, kind: ComputeType, named: str | None) -> str | None:
    """The target of that kind that is ``named``, or the one that there is; ``None`` where there is nothing to name.

    Raises ``UsageError`` where several could be meant, or it is not known how a device is reached, and
    ``NotFoundError`` for one that is not known.
    """
    match kind:
        case ComputeType.LOCAL if named is not None:
            raise UsageError("is given for a service on this machine", where=named, hint="leave it out, or give --dc")
        case ComputeType.DEVICE if named is not None:
            return _reached(workspace, named)
        case ComputeType.DEVICE:
            names = [one.name for one in workspace.devices.list()]
            if len(names) == 1:
                return _reached(workspace, names[0])
            hint = f"say which by --target: {listed(names)}" if names else "add one: edgepack device add"
            what = "is not said, and there are several" if names else "is not known"
            raise UsageError(f"the device {what}", where="service deploy", hint=hint)
        case _:
            return named


def _reached(workspace: Workspace, name: str) -> str:
    from packager.services.targets.device import DeviceTarget

    DeviceTarget(workspace, workspace.devices.get(name)).reach()
    return name


def is_known(workspace: Workspace, kind: ComputeType, place: str | None, what: str) -> bool:
    """Whether there is anybody to tell that ``what`` is deleted there; that there is not is logged."""
    if kind is not ComputeType.DEVICE:
        return True
    try:
        workspace.devices.get(place or "")
    except NotFoundError:
        _log.warning("%s: device %s is not known any more; what it runs goes on there", what, place)
        return False
    return True


def platform_of(workspace: Workspace, kind: ComputeType, place: str | None) -> Platform:
    """What images for ``place`` are built for."""
    if kind is ComputeType.DEVICE and place is not None:
        return workspace.devices.get(place).platform
    return Platform.host()
