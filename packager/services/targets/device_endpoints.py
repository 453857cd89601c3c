"""Endpoints on a device of the fleet, told by the same documents as its services."""

from __future__ import annotations

from collections.abc import Sequence

from edgepack.errors import UsageError
from edgepack.state.endpoints import DesiredEndpoint, removed_endpoint
from edgepack.state.reported_endpoints import ReportedEndpoint
from packager.services.service import Service
from packager.services.targets.device import FIRST_PORT, DeviceTarget

_LAST_PORT = 65535


class DeviceEndpoints(DeviceTarget):
    """The device as a place where endpoints are; see ``RoutingTarget``."""

    def endpoint_port(self, name: str, asked: int | None, besides: int | None = None) -> int:
        """See ``RoutingTarget``."""
        taken = self._documents(self.reach()).ports_beside(name)
        if asked in taken:
            raise UsageError(
                f"port {asked} belongs to something else there", where=f"device {self.device.name}",
                hint="give another port, or none",
            )  # fmt: skip
        return asked or next(port for port in range(FIRST_PORT, _LAST_PORT) if port not in taken | {besides})

    def route(self, endpoint: DesiredEndpoint, services: Sequence[Service]) -> ReportedEndpoint | None:
        """See ``RoutingTarget``; the services are in the device's document already."""
        return self._channel().tell_endpoint(endpoint)

    def unroute(self, name: str) -> None:
        """See ``RoutingTarget``."""
        known = {one.name for one in self._documents(self.reach()).desired().endpoints if one.status == "running"}
        if name in known:
            self._channel().tell_endpoint(removed_endpoint(name))

    def routed(self, name: str) -> ReportedEndpoint | None:
        """See ``RoutingTarget``."""
        return self._channel().endpoint(name)
