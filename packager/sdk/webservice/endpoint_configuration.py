"""How a version of an endpoint is to run, by the arguments of scripts.

Azure's endpoints are on Kubernetes; ours are on this machine and on devices. What has no meaning there is refused by
its name, and not ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from edgepack.errors import UsageError
from packager.sdk.webservice.deployment import DEVICE, KUBERNETES, DeploymentConfiguration
from packager.services.configuration.rules import Configuration
from packager.services.configuration.values import ComputeType
from packager.services.plan import LOCAL

# What the router of an endpoint does, and thus the same for all of its versions.
ROUTED = ("replica_max_concurrent_requests", "max_request_wait_time")
# Values that say what is so on a device anyway.
_SAY_NOTHING: Mapping[str, object] = {
    "autoscale_enabled": False, "num_replicas": 1, "gpu_cores": 0, "token_auth_enabled": False,
}  # fmt: skip
_CLUSTER_ONLY = tuple(name for name in KUBERNETES if name not in DEVICE and name not in ROUTED)


@dataclass(frozen=True)
class Routing:
    """What is said of the router: the requests that a version gets at once, and how long others wait."""

    max_connections: int | None = None
    queue_seconds: float | None = None


class EndpointConfiguration(DeploymentConfiguration):
    """How an endpoint and its first version are to run; ``AksEndpoint.deploy_configuration`` makes one."""

    _NAMES: ClassVar[tuple[str, ...]] = (*DeploymentConfiguration._NAMES, "version_name", "traffic_percentile")

    def __init__(self, given: Mapping[str, Any]) -> None:
        self.version_name = given.get("version_name")
        self.traffic_percentile = given.get("traffic_percentile")
        super().__init__("aks", given)

    def to_configuration(self) -> Configuration:
        """What it says as a value, for the device that it names; see ``configuration_on``."""
        return self.configuration_on(ComputeType.DEVICE)

    def configuration_on(self, kind: ComputeType) -> Configuration:
        """What it says as a value on that kind of target; raises ``InvalidDocumentError``, and ``UsageError``."""
        self.share  # noqa: B018 - which is checked there
        if not self.version_name:
            raise UsageError("is missing", where="version_name", hint="name the first version: version_name='v1'")
        given = {name: getattr(self, name) for name in KUBERNETES}
        if kind is ComputeType.DEVICE and given["auth_enabled"] is None:
            given["auth_enabled"] = True  # as Azure has it where it is not said
        return version_configuration(given, kind, is_routed=True)

    @property
    def share(self) -> int:
        """The percent of the requests that the first version is given; raises ``UsageError``."""
        return share_of(self.traffic_percentile) or 0

    @property
    def routing(self) -> Routing:
        """What it says of the router."""
        connections, waits = (getattr(self, name) for name in ROUTED)
        return Routing(connections, None if waits is None else waits / 1000)


def version_configuration(given: Mapping[str, Any], kind: ComputeType, *, is_routed: bool = False) -> Configuration:
    """What arguments by Azure's names say of a version on that ``kind`` of target.

    Raises ``InvalidDocumentError`` with every violation, and ``UsageError`` for what has no meaning there. With
    ``is_routed`` what its router does may be said too.
    """
    said = {name: value for name, value in given.items() if value is not None}
    DeploymentConfiguration("aks", said)
    for name in _CLUSTER_ONLY:
        if name in said and said[name] != _SAY_NOTHING.get(name):
            raise UsageError(
                "is for Kubernetes, and endpoints are on this machine or on a device", where=name, hint="leave it out"
            )
    for name in () if is_routed else ROUTED:
        if name in said:
            raise UsageError(
                "is the same for all versions of an endpoint", where=name,
                hint="give it to AksEndpoint.deploy_configuration, or see: edgepack endpoint update -h",
            )  # fmt: skip
    if kind is ComputeType.LOCAL:
        for name in DEVICE:
            if said.get(name):
                raise UsageError(
                    "is for a device, and the endpoint is on this machine", where=name,
                    hint="leave it out, or name a device: compute_target_name='press-7'",
                )  # fmt: skip
        return LOCAL
    return DeploymentConfiguration("aci", {name: said[name] for name in DEVICE if name in said}).to_configuration()


def share_of(percent: object) -> int | None:
    """A share of the requests in whole percent; raises ``UsageError``."""
    if percent is None:
        return None
    if not isinstance(percent, int | float) or isinstance(percent, bool) or not 0 <= percent <= 100 or percent % 1:
        raise UsageError(f"{percent!r} is not a whole number from 0 to 100", where="traffic_percentile")
    return int(percent)
