"""The documents of one device: each names every service of it, since the device gets the last one alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgepack.documents import canonical_json, parse_object
from edgepack.signing.envelope import sign
from edgepack.state.desired import PAYLOAD_TYPE, Desired, DesiredService
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

    def wanted(self) -> Mapping[str, DesiredService]:
        """The services of the last one, by name."""
        deployment = self.last()
        if deployment is None:
            return {}
        document = Desired.from_bytes(canonical_json(deployment.document), str(self._target))
        return {one.name: one for one in document.services}

    def send(self, spec: DesiredService, send: Callable[[bytes], None]) -> Deployment:
        """Record one in which the service is ``spec``, with the next serial, and ``send`` it signed.

        Raises what ``send`` raises; nothing is recorded then, unless it may have been sent.
        """
        desired = Desired(tuple({**self.wanted(), spec.name: spec}.values()))
        return self._send(desired, f"service {spec.name}", send)

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
        key = self.workspace.keys.get(self.key)

        def write(serial: int) -> dict[str, Any]:
            return parse_object(addressed(desired, self._target, serial, int(time.time())).to_bytes(), "desired state")

        def signed(deployment: Deployment) -> None:
            send(sign(canonical_json(deployment.document), PAYLOAD_TYPE, key))

        return self._devices.deploy(self._target, write, send=signed)
