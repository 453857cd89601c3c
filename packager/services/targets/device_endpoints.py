"""Endpoints on a device of the fleet, told by the same documents as its services."""

from __future__ import annotations

from collections.abc import Sequence

from edgepack.errors import RuntimeFailedError, UsageError
from edgepack.host.files import BY_UMASK, atomic_write
from edgepack.state.endpoints import DesiredEndpoint, removed_endpoint
from edgepack.state.reported_endpoints import EndpointState, ReportedEndpoint
from edgepack.state.topics import DeviceTopics
from packager.fleet.reach import Reach
from packager.services.service import Service
from packager.services.targets.channels.broker import Seen
from packager.services.targets.channels.reports import taken_serial
from packager.services.targets.device import FIRST_PORT, DeviceTarget

_LAST_PORT = 65535
# How long a device may take to tell of an endpoint: its agent looks at them every ten seconds.
_ENDPOINT_SECONDS = 30.0
_RETAINED_SECONDS = 5.0


class DeviceEndpoints(DeviceTarget):
    """The device as a place where endpoints are; see ``RoutingTarget``."""

    def endpoint_port(self, name: str, asked: int | None, besides: int | None = None) -> int:
        """See ``RoutingTarget``."""
        taken = self._documents(self._way(name)).ports_beside(name)
        if asked in taken:
            raise UsageError(
                f"port {asked} belongs to something else there", where=f"device {self.device.name}",
                hint="give another port, or none",
            )  # fmt: skip
        return asked or next(port for port in range(FIRST_PORT, _LAST_PORT) if port not in taken | {besides})

    def route(self, endpoint: DesiredEndpoint, services: Sequence[Service]) -> ReportedEndpoint | None:
        """See ``RoutingTarget``; the services are in the device's document already."""
        return self._route(endpoint)

    def unroute(self, name: str) -> None:
        """See ``RoutingTarget``."""
        if name in {one.name for one in self._documents(self._way(name)).desired().endpoints}:
            self._route(removed_endpoint(name))

    def routed(self, name: str) -> ReportedEndpoint | None:
        """See ``RoutingTarget``: as the device last reported it."""
        reach = self._way(name)
        if reach.folder is not None:
            return None
        from packager.fleet.broker import access_of, connected

        topics = DeviceTopics(self.device.name)
        with connected(access_of(reach), topics.reported, topics.status) as connection:
            seen = Seen(topics)
            connection.wait_for(seen.both, _RETAINED_SECONDS)
        return None if seen.device is None else next((one for one in seen.device.endpoints if one.name == name), None)

    def _way(self, name: str) -> Reach:
        reach = self._reach()
        if reach.ssh is not None:
            raise UsageError(
                f"is reached by ssh, by which endpoints are not told yet (endpoint {name})",
                where=f"device {self.device.name}",
                hint=f"reach it by a broker or a folder: edgepack device reach {self.device.name}",
            )  # fmt: skip
        return reach

    def _route(self, endpoint: DesiredEndpoint) -> ReportedEndpoint | None:
        reach = self._way(endpoint.name)
        documents = self._documents(reach)
        if reach.folder is not None:
            file = reach.folder / f"{self.device.name}.desired.json"
            documents.send_endpoint(endpoint, lambda signed: atomic_write(file, signed, BY_UMASK))
            return None
        from packager.fleet.broker import access_of, connected

        topics, found = DeviceTopics(self.device.name), list[ReportedEndpoint]()
        with connected(access_of(reach), topics.reported, topics.status) as connection:

            def send(signed: bytes) -> None:
                connection.publish(topics.desired, signed, retain=True)

            serial, seen = documents.send_endpoint(endpoint, send).serial, Seen(topics)

            def judged(topic: str, data: bytes) -> bool | None:
                seen.take(topic, data)
                if seen.device is None:
                    return None
                refused = next((one for one in seen.device.documents if one.refused_serial == serial), None)
                if refused is not None:
                    what = f"refused the document ({int(refused.status)}): {refused.reason}"
                    raise RuntimeFailedError(what, where=f"device {self.device.name}")
                if taken_serial(seen.device.documents, "device") < serial:
                    return None
                one = next((one for one in seen.device.endpoints if one.name == endpoint.name), None)
                if one is not None and (one.serial or 0) >= serial:
                    found.append(one)
                return True if found or endpoint.status == "removed" else None

            connection.wait_for(judged, _ENDPOINT_SECONDS)
        if found and found[-1].state is EndpointState.FAILED:
            reason = found[-1].reason or "failed"
            raise RuntimeFailedError(reason, where=f"endpoint {endpoint.name} on device {self.device.name}")
        return found[-1] if found else None
