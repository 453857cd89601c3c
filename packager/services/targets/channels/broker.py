"""A broker, at which a device takes retained documents and reports, and a registry from which it fetches images."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.errors import EdgepackError, RuntimeFailedError, UsageError
from edgepack.state.commands import MAX_LINES
from edgepack.state.desired import DesiredService
from edgepack.state.presence import DeviceStatus
from edgepack.state.reported import ReportedDevice, ReportedService, Stage
from edgepack.state.times import age
from edgepack.state.topics import DeviceTopics
from packager.fleet.reach import Reach
from packager.services.pushing import push
from packager.services.service import Service
from packager.services.states import State
from packager.services.targets.base import Observation, UnseenError
from packager.services.targets.channels.documents import Documents
from packager.services.targets.channels.reports import has_ended, observed, taken_serial
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.fleet.broker import Connection

# How long a device may take to fetch and start what it is told to run, while it tells that it is at work.
PATIENCE_SECONDS = 600.0
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

            def send(signed: bytes) -> None:
                connection.publish(topics.desired, signed, retain=True)

            deployment = self.documents.send(spec, send)
            if lock is None:
                self._wait(connection, topics, spec, deployment.serial)

    def observe(self, services: Sequence[Service]) -> list[Observation]:
        """See ``Channel``: what the device reports at its broker, and whether it is there."""
        from dataclasses import replace

        from packager.fleet.broker import access_of, connected

        topics = DeviceTopics(self.device)
        access = replace(access_of(self.reach), seconds=_LOOK_SECONDS)
        with connected(access, topics.reported, topics.status) as connection:
            seen = Seen(topics)
            connection.wait_for(seen.both, _RETAINED_SECONDS)
        return [self._observed(one, seen) for one in services]

    def _observed(self, service: Service, seen: Seen) -> Observation:
        if seen.device is None:
            return Observation(State.UNKNOWN, "the device has not reported anything yet")
        told = age(time.time() - seen.device.time)
        note = "" if seen.is_there else f"the device is not connected now, and this is what it told last, {told}"
        deployment = self.documents.last()
        if deployment is not None and taken_serial(seen.device.documents, "device") < deployment.serial:
            reason = f"the device has not taken serial {deployment.serial} yet"
            return Observation(State.TRANSITIONING, f"{reason}; {note}" if note else reason)
        return observed(service, seen.device.services, note)

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
        seen = Seen(topics)

        def judged(topic: str, data: bytes) -> ReportedService | EdgepackError | None:
            seen.take(topic, data)
            if seen.device is None:
                return None
            refused = next((one for one in seen.device.documents if one.refused_serial == serial), None)
            if refused is not None:
                what = f"refused the document ({int(refused.status)}): {refused.reason}"
                return RuntimeFailedError(what, where=f"device {self.device}")
            if taken_serial(seen.device.documents, "device") < serial:
                return None
            found = next((one for one in seen.device.services if one.name == spec.name), None)
            return found if found is not None and has_ended(found, serial) else None

        found = connection.wait_for(judged, _RETAINED_SECONDS)
        if found is None and seen.is_there:
            found = connection.wait_for(judged, self.patience)
        if found is None:
            how = "is at work on it" if seen.is_there else "is not connected"
            raise UnseenError(
                f"has not said yet how it goes: it {how}", where=f"device {self.device}",
                hint=f"the broker keeps the document for it; see: edgepack service show {spec.name}",
            )  # fmt: skip
        if isinstance(found, EdgepackError):
            raise found
        assert isinstance(found, ReportedService)  # noqa: S101 - what else is taken
        if found.stage is Stage.FAILED:
            raise RuntimeFailedError(found.reason or "failed", where=f"service {spec.name} on device {self.device}")


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
