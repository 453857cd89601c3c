"""A version of an endpoint as scripts see it: a service, and its part of the requests."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Any

from packager.sdk.owner import Owner
from packager.sdk.webservice.service import Webservice
from packager.services.service import Service

if TYPE_CHECKING:
    from packager.services.endpoints.endpoint import Endpoint


class VersionType(Enum):
    """Whether others are compared with a version, or it with another one."""

    control = "Control"
    treatment = "Treatment"


class EndpointVersion(Webservice):
    """A version of an endpoint, which changes it: ``update_version`` and ``delete_version``."""

    version_name: str
    """What it is called in its endpoint; ``name`` is that of its service."""
    traffic_percentile: int
    """Its share of the requests; the default version has what the others leave."""
    is_default: bool
    """Whether it gets what the others leave."""
    is_control_version_type: bool
    """Whether the others are compared with it."""

    @classmethod
    def _part_of(cls, workspace: Owner, endpoint: Endpoint, name: str, service: Service) -> EndpointVersion:
        made = object.__new__(cls)
        made.workspace = workspace
        made._take(service)
        made.version_name, made.traffic_percentile = name, endpoint.shares[name]
        made.is_default, made.is_control_version_type = name == endpoint.default, name == endpoint.control
        return made

    @property
    def version_type(self) -> str:
        """``Control`` or ``Treatment``."""
        return str((VersionType.control if self.is_control_version_type else VersionType.treatment).value)

    @property
    def state(self) -> str:
        """Its state, by the names that an endpoint has them."""
        return self._observed.state.value

    def serialize(self) -> dict[str, Any]:
        """Its fields by Azure's names."""
        return super().serialize() | {
            "versionName": self.version_name, "trafficPercentile": self.traffic_percentile,
            "isDefault": self.is_default, "type": self.version_type,
        }  # fmt: skip
