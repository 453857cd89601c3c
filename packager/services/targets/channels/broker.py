"""A broker, at which a device takes retained documents and reports, and a registry from which it fetches images."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from edgepack.errors import EdgepackError, RuntimeFailedError, UsageError
from edgepack.state.commands import MAX_LINES
from edgepack.state.desired import DesiredService
from edgepack.state.endpoints import DesiredEndpoint
from edgepack.state.presence import DeviceStatus
from edgepack.state.reported import ReportedDevice, ReportedService, Stage
from edgepack.state.reported_endpoints import EndpointState, ReportedEndpoint
from edgepack.state.times import age
from edgepack.state.topics import DeviceTopics
from packager.fleet.reach import Reach, UnseenError
from packager.services.pushing import push
from packager.services.service import Service
from packager.services.states import State
from packager.services.targets.base import Observation
from packager.services.targets.channels.documents import Documents
from packager.services.targets.channels.reports import has_ended, has_taken, joined, observed, taken_serial
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.fleet.broker import Connection

_T = TypeVar("_T")
# How long a device may take to fetch and start what it is told to run, while it tells that it is at work.
PATIENCE_SECONDS = 600.0
# How long it may take to tell of an endpoint: its agent looks at them every ten seconds.
_ENDPOINT_SECONDS = 30.0
# A retained message comes at once.
_RETAINED_SECONDS = 5.0
# A device that is connected answers at once; its clock may differ by the second one.
_ANSWER_SECONDS, _VALID_SECONDS = 60.0, 300
# Whoever only looks does not wait as long for a broker as who has something to publish.
_LOOK_SECONDS = 8.0


@dataclass(frozen=True)
class BrokerChannel:
    """The broker of ``reach``, and the device called ``device``, which gets ``patience`` seconds while connected."""

    workspace: Workspace
    device: str
    reach: Reach
    documents: Documents
    patience: float = PATIENCE_SECONDS

    def bring(self, service: Service) -> None:
        """See ``Channel``: to the registry that the device fetches from, signed."""
        push(self.workspace, service, self.workspace.keys.get(self.reach.key))

    def tell(self, spec: DesiredService, lock: int | None = None) -> None:
        """See ``Channel``; nothing of this machine is at work once the device is told."""
        from packager.fleet.broker import access_of, connected

        topics = DeviceTopics(self.device)
        with connected(access_of(self.reach), topics.reported, topics.status) as connection:
            deployment = self.documents.send(spec, lambda signed: self._publish(connection, topics, signed))
            if lock is None:
                self._wait(connection, topics, spec, deployment.serial)

    def tell_endpoint(self, endpoint: DesiredEndpoint) -> ReportedEndpoint | None:
        """See ``Channel``."""
        from packager.fleet.broker import access_of, connected

        topics = DeviceTopics(self.device)
        with connected(access_of(self.reach), topics.reported, topics.status) as connection:
            deployment = self.documents.send_endpoint(
                endpoint, lambda signed: self._publish(connection, topics, signed)
            )
            return self._wait_for_endpoint(connection, topics, endpoint, deployment.serial)

    def endpoint(self, name: str) -> ReportedEndpoint | None:
        """See ``Channel``: as the device last reported it."""
        from dataclasses import replace

        seen = self._look()
        found = None if seen.device is None else _endpoint(seen.device, name)
        if seen.device is None or found is None:
            return None
        note, coming = seen.note, self._coming(seen.device)
        if coming is not None:
            return replace(found, state=EndpointState.TRANSITIONING, reason=joined(coming, note))
        return replace(found, reason=joined(found.reason, note))

    def _publish(self, connection: Connection, topics: DeviceTopics, signed: bytes) -> None:
        connection.publish(topics.desired, signed, retain=True)

    def observe(self, services: Sequence[Service]) -> list[Observation]:
        """See ``Channel``: what the device reports at its broker, and whether it is there."""
        seen = self._look()
        return [self._observed(one, seen) for one in services]

    def _look(self) -> Seen:
        """What the broker has of the device."""
        from dataclasses import replace

        from packager.fleet.broker import access_of, connected

        topics = DeviceTopics(self.device)
        access = replace(access_of(self.reach), seconds=_LOOK_SECONDS)
        with connected(access, topics.reported, topics.status) as connection:
            seen = Seen(topics)
            connection.wait_for(seen.both, _RETAINED_SECONDS)
        return seen

    def _observed(self, service: Service, seen: Seen) -> Observation:
        if seen.device is None:
            return Observation(State.UNKNOWN, "the device has not reported anything yet")
        note, coming = seen.note, self._coming(seen.device)
        if coming is not None:
            return Observation(State.TRANSITIONING, joined(coming, note))
        return observed(service, seen.device.services, note)

    def _coming(self, device: ReportedDevice) -> str | None:
        """That the last document is on its way to the device still, in words."""
        deployment = self.documents.last()
        if deployment is None or taken_serial(device.documents, "device") >= deployment.serial:
            return None
        return f"the device has not taken serial {deployment.serial} yet"

    def logs(self, service: Service, lines: int) -> str:
        """See ``Channel``: the device is asked by a signed command."""
        from packager.fleet.broker import access_of, connected
        from packager.fleet.commanding import Order, publish_order, raise_refused, wait_for_answer

        topics = DeviceTopics(self.device)
        order = Order.new(self.device, "logs", service.name, _VALID_SECONDS, min(max(lines, 1), MAX_LINES))
        with connected(access_of(self.reach), topics.events, topics.status) as connection:
            self._check_there(connection, topics)
            key = self.workspace.keys.get(self.reach.key)
            order.sign(self.workspace.devices, key, lambda signed: publish_order(connection, topics, signed))
            found = wait_for_answer(connection, topics, order, _ANSWER_SECONDS)
        raise_refused(found)
        return "".join(f"{line}\n" for line in found.payload.get("lines") or [])

    def _check_there(self, connection: Connection, topics: DeviceTopics) -> None:
        """Raise ``RuntimeFailedError`` for a device of which the broker knows that it is away."""
        seen = Seen(topics)
        connection.wait_for(seen.presence_only, _RETAINED_SECONDS)
        if not seen.is_there:
            raise RuntimeFailedError(
                "is not connected to its broker, so its logs cannot be asked for", where=f"device {self.device}",
                hint="start its agent, or wait until it is back",
            )  # fmt: skip

    def follow(self, service: Service, lines: int) -> Iterator[str]:
        """See ``Channel``."""
        raise UsageError(
            "cannot be followed by a broker", where=f"logs of service {service.name}",
            hint=f"leave out --follow, or run on the device: edge-agent logs {service.name} -f",
        )  # fmt: skip

    def _wait(self, connection: Connection, topics: DeviceTopics, spec: DesiredService, serial: int) -> None:
        """Wait for the device's word on ``spec`` of the document ``serial``; raises what it reports."""

        def told(device: ReportedDevice) -> ReportedService | None:
            found = next((one for one in device.services if one.name == spec.name), None)
            return found if found is not None and has_ended(found, serial) else None

        found = self._answer(connection, topics, serial, told, self.patience, f"edgepack service show {spec.name}")
        if found.stage is Stage.FAILED:
            raise RuntimeFailedError(found.reason or "failed", where=f"service {spec.name} on device {self.device}")

    def _wait_for_endpoint(
        self, connection: Connection, topics: DeviceTopics, endpoint: DesiredEndpoint, serial: int
    ) -> ReportedEndpoint | None:
        """Wait for the device's word on ``endpoint`` of the document ``serial``; ``None`` for one that is gone."""
        look = f"edgepack endpoint show {endpoint.name}"
        if endpoint.status == "removed":
            self._answer(connection, topics, serial, lambda _: True, _ENDPOINT_SECONDS, look)
            return None

        def told(device: ReportedDevice) -> ReportedEndpoint | None:
            found = _endpoint(device, endpoint.name)
            return found if found is not None and (found.serial or 0) >= serial else None

        found = self._answer(connection, topics, serial, told, _ENDPOINT_SECONDS, look)
        if found.state is EndpointState.FAILED:
            reason = found.reason or "failed"
            raise RuntimeFailedError(reason, where=f"endpoint {endpoint.name} on device {self.device}")
        return found

    def _answer(
        self,
        connection: Connection,
        topics: DeviceTopics,
        serial: int,
        told: Callable[[ReportedDevice], _T | None],
        patience: float,
        look: str,
    ) -> _T:
        """What is ``told`` by a device that has taken the document ``serial``, which gets ``patience`` while connected.

        Raises what the device refuses it with, and ``UnseenError``, which names the command ``look``.
        """
        seen = Seen(topics)

        def judged(topic: str, data: bytes) -> _T | None:
            seen.take(topic, data)
            return told(seen.device) if seen.device is not None and has_taken(seen.device, serial) else None

        found = connection.wait_for(judged, _RETAINED_SECONDS)
        if found is None and seen.is_there:
            found = connection.wait_for(judged, patience)
        if found is None:
            how = "is at work on it" if seen.is_there else "is not connected"
            raise UnseenError(
                f"has not said yet how it goes: it {how}", where=f"device {self.device}",
                hint=f"the broker keeps the document for it; see: {look}",
            )  # fmt: skip
        return found


def _endpoint(device: ReportedDevice, name: str) -> ReportedEndpoint | None:
    return next((one for one in device.endpoints if one.name == name), None)


class Seen:
    """What a device has told at its broker so far."""

    def __init__(self, topics: DeviceTopics) -> None:
        self._topics = topics
        self.device: ReportedDevice | None = None
        self.presence: DeviceStatus | None = None

    @property
    def is_there(self) -> bool:
        """Whether it is connected."""
        return self.presence is not None and self.presence.presence.value == "online"

    @property
    def note(self) -> str:
        """What is to be said beside what it has reported."""
        if self.is_there or self.device is None:
            return ""
        told = age(time.time() - self.device.time)
        return f"the device is not connected now, and this is what it told last, {told}"

    def take(self, topic: str, data: bytes) -> None:
        """Take a message; what cannot be read is passed over."""
        try:
            if topic == self._topics.status:
                self.presence = DeviceStatus.from_bytes(data)
            elif topic == self._topics.reported:
                self.device = ReportedDevice.from_bytes(data)
        except EdgepackError:
            return

    def both(self, topic: str, data: bytes) -> bool | None:
        """As ``take``; whether both have come."""
        self.take(topic, data)
        return True if self.device is not None and self.presence is not None else None

    def presence_only(self, topic: str, data: bytes) -> bool | None:
        """As ``take``; whether it is known if the device is there."""
        self.take(topic, data)
        return True if self.presence is not None else None
