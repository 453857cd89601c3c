"""The documents of one device: each names every service of it, since the device gets the last one alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgepack.documents import canonical_json, parse_object
from edgepack.signing.envelope import sign
from edgepack.state.desired import PAYLOAD_TYPE, Desired, DesiredService
from edgepack.state.endpoints import DesiredEndpoint
from packager.fleet.documents import addressed
from packager.fleet.registry import Deployment, DeviceRegistry, Target
from packager.layers.secrets import check_written
from packager.workspaces.workspace import Workspace


@dataclass(frozen=True)
class Documents:
    """Those for the device called ``device``, signed by the workspace's key ``key``."""

    workspace: Workspace
    device: str
    key: str

    def last(self) -> Deployment | None:
        """The last one."""
        return self._devices.deployment(self._target)

    def desired(self) -> Desired:
        """What the last one says; an empty one before the first."""
        deployment = self.last()
        if deployment is None:
            return Desired(())
        return Desired.from_bytes(canonical_json(deployment.document), str(self._target))

    def wanted(self) -> Mapping[str, DesiredService]:
        """The services of the last one, by name."""
        return {one.name: one for one in self.desired().services}

    def ports_beside(self, name: str) -> frozenset[int]:
        """The ports of the services and endpoints in the last one, but for ``name``."""
        one = self.desired()
        found = {each.port for each in one.services if each.name != name and each.status != "removed"}
        return frozenset(found | {each.port for each in one.endpoints if each.name != name})

    def send(self, spec: DesiredService, send: Callable[[bytes], None]) -> Deployment:
        """Record one in which the service is ``spec``, with the next serial, and ``send`` it signed.

        Raises what ``send`` raises; nothing is recorded then, unless it may have been sent.
        """
        services = tuple({**self.wanted(), spec.name: spec}.values())
        return self._send(Desired(services, endpoints=self.desired().endpoints), f"service {spec.name}", send)

    def send_endpoint(self, endpoint: DesiredEndpoint, send: Callable[[bytes], None]) -> Deployment:
        """As ``send``, of an endpoint of services that are in it."""
        last = self.desired()
        others = tuple(one for one in last.endpoints if one.name != endpoint.name)
        return self._send(Desired(last.services, endpoints=(*others, endpoint)), f"endpoint {endpoint.name}", send)

    def take_back(self, refused: Deployment, former: Deployment | None) -> None:
        """Let the next one build on ``former`` again: the device has refused the one that came after it.

        Nothing is sent. Where another one was recorded meanwhile, that one stays.
        """
        last = self.last()
        if last is None or last.serial != refused.serial:
            return
        desired = Desired(())
        if former is not None:
            desired = Desired.from_bytes(canonical_json(former.document), str(self._target))
        self._send(desired, str(self._target), lambda _: None)

    @property
    def _target(self) -> Target:
        return Target("device", self.device)

    @property
    def _devices(self) -> DeviceRegistry:
        return self.workspace.devices

    def _send(self, desired: Desired, where: str, send: Callable[[bytes], None]) -> Deployment:
        check_written(desired.to_bytes(), where, "a desired state")
        Desired.from_bytes(desired.to_bytes(), where)  # as the device will hold it to
        key = self.workspace.keys.get(self.key)

        def write(serial: int) -> dict[str, Any]:
            return parse_object(addressed(desired, self._target, serial, int(time.time())).to_bytes(), "desired state")

        def signed(deployment: Deployment) -> None:
            send(sign(canonical_json(deployment.document), PAYLOAD_TYPE, key))

        return self._devices.deploy(self._target, write, send=signed)
