"""A device of the fleet: told by a signed document, at a broker or in a folder that is carried to it.

A document names every service of the device, since only the last one is retained by a broker, and a device that was
away for two of them gets the second alone.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.documents import canonical_json, parse_object
from edgepack.errors import EdgepackError, IncompatibleError, RuntimeFailedError, UsageError
from edgepack.host.files import BY_UMASK, atomic_write
from edgepack.oci.platforms import platform_manifest
from edgepack.signing.envelope import sign
from edgepack.signing.keys import PrivateKey
from edgepack.state.desired import PAYLOAD_TYPE, Desired, DesiredService, Status
from edgepack.state.presence import DeviceStatus
from edgepack.state.reported import ReportedDevice, ReportedService, ServiceState, Stage
from edgepack.state.topics import DeviceTopics
from packager.fleet.device import Device
from packager.fleet.documents import addressed
from packager.fleet.reach import Reach
from packager.fleet.registry import Deployment, Target
from packager.layers.secrets import check_written
from packager.services.configuration.values import DeviceDeployment
from packager.services.credentials.callers import auth_of
from packager.services.pushing import push
from packager.services.service import Service
from packager.services.states import State, reported
from packager.services.targets.base import Observation, UnseenError
from packager.services.workloads import deployment_of
from packager.workspaces.workspace import Workspace

if TYPE_CHECKING:
    from packager.fleet.broker import Connection

FIRST_PORT, _LAST_PORT = 6789, 65535
_GIB = 1 << 30
# How long a device may take to fetch and start what it is told to run, while it tells that it is at work.
_PATIENCE_SECONDS = 600.0
# A retained message comes at once.
_RETAINED_SECONDS = 5.0
_WAYS = "say how: edgepack device reach NAME --key KEY --broker URL, or --folder DIR"


@dataclass(frozen=True)
class DeviceTarget:
    """The ``device`` of ``workspace``, which gets ``patience`` seconds while it is connected."""

    workspace: Workspace
    device: Device
    patience: float = _PATIENCE_SECONDS

    def settle(self, service: Service) -> Service:
        """See ``ServiceTarget``: the port as asked for, or the first that no document gives to another service."""
        deployment = self._deployment(service)
        if deployment.collect_data:
            raise UsageError(
                "is not there yet for services on devices", where="dataCollection.storageEnabled",
                hint="build the package with --service-config that collects",
            )  # fmt: skip
        self._reach()
        taken = {one.port for one in self._wanted().values() if one.name != service.name and one.status != "removed"}
        if service.port is None:
            port = next(port for port in range(FIRST_PORT, _LAST_PORT) if port not in taken)
            return replace(service, port=port)
        if service.port in taken:
            raise UsageError(
                f"port {service.port} belongs to another service there", where=f"device {self.device.name}",
                hint="give another port, or none",
            )  # fmt: skip
        return service

    def apply(self, service: Service) -> Observation:
        """See ``ServiceTarget``; what a folder carries is taken later, and not waited for."""
        self._hand_over(service, is_waited_for=True)
        return self.observe(service)

    def begin(self, service: Service, lock: int) -> Observation:
        """See ``ServiceTarget``; nothing of this machine is at work once the device is told."""
        self._hand_over(service, is_waited_for=False)
        return Observation(State.TRANSITIONING, "the device is told", port=service.port)

    def _hand_over(self, service: Service, *, is_waited_for: bool) -> None:
        self._check_platform(service)
        reach = self._reach()
        key = self.workspace.keys.get(reach.key)
        if reach.folder is not None:
            self._put_bundle(service, reach.folder, key)
        else:
            push(self.workspace, service, key)
        self._tell(self._spec(service, "running"), reach, key, is_waited_for=is_waited_for)

    def delete(self, service: Service) -> None:
        """See ``ServiceTarget``; the device keeps what a rollback needs."""
        known = self._wanted().get(service.name)
        if known is None:
            return
        reach = self._reach()
        self._tell(replace(known, status="removed"), reach, self.workspace.keys.get(reach.key))

    def observe(self, service: Service) -> Observation:
        """See ``ServiceTarget``: what the device reports at its broker, and whether it is there."""
        reach = self._reach()
        if reach.folder is not None:
            deployment = self.workspace.devices.deployment(self._target)
            serial = "" if deployment is None else f"; serial {deployment.serial} is in {reach.folder}"
            return Observation(State.UNKNOWN, f"the device is reached by a folder, and reports nothing here{serial}")
        from packager.fleet.broker import access_of, connected

        topics = DeviceTopics(self.device.name)
        with connected(access_of(reach), topics.reported, topics.status) as connection:
            seen = _Seen(topics)
            connection.wait_for(seen.both, _RETAINED_SECONDS)
        return self._observed(service, seen)

    def _observed(self, service: Service, seen: _Seen) -> Observation:
        if seen.device is None:
            return Observation(State.UNKNOWN, "the device has not reported anything yet")
        found = next((one for one in seen.device.services if one.name == service.name), None)
        away = "" if seen.is_there else "; the device is not connected now, and this is what it told last"
        deployment = self.workspace.devices.deployment(self._target)
        if deployment is not None and _serial(seen.device) < deployment.serial:
            return Observation(State.TRANSITIONING, f"the device has not taken serial {deployment.serial} yet{away}")
        if found is None:
            return Observation(State.DELETED, away.lstrip("; ") or None)
        if found.stage not in (None, Stage.DONE, Stage.FAILED):
            percent = "" if found.percent is None else f", {found.percent} %"
            return Observation(State.TRANSITIONING, f"{found.stage}{percent}{away}", found.digest, found.port)
        reason = f"{found.reason or ''}{away}".lstrip("; ") or None
        return Observation(reported(found.state.value), reason, found.digest, found.port)

    def logs(self, service: Service, lines: int = 5000) -> str:
        """See ``ServiceTarget``; a device is asked for them by a signed command."""
        raise self._by_command(service)

    def follow(self, service: Service, lines: int = 0) -> Iterator[str]:
        """See ``ServiceTarget``."""
        raise self._by_command(service)

    def _by_command(self, service: Service) -> UsageError:
        reach = self._reach()
        way = f"edgepack device command {self.device.name} logs {service.name} --key {reach.key}"
        hint = (
            f"run: {way} --broker {reach.url}"
            if reach.url is not None
            else f"run there: edge-agent logs {service.name}"
        )
        return UsageError("are on the device", where=f"logs of service {service.name}", hint=hint)

    def address(self, service: Service) -> str | None:
        """See ``ServiceTarget``: by the name of the device's host, where the configuration gives one."""
        deployment = self._deployment(service)
        host = deployment.host_name or (None if deployment.tls is None else deployment.tls.name)
        scheme = "http" if deployment.tls is None else "https"
        return None if host is None or service.port is None else f"{scheme}://{host}:{service.port}"

    # Parts

    @property
    def _target(self) -> Target:
        return Target("device", self.device.name)

    def _reach(self) -> Reach:
        if self.device.reach is None:
            hint = _WAYS.replace("NAME", self.device.name)
            raise UsageError("it is not known how it is reached", where=f"device {self.device.name}", hint=hint)
        return self.device.reach

    def _deployment(self, service: Service) -> DeviceDeployment:
        found = deployment_of(service)
        if not isinstance(found, DeviceDeployment):
            raise UsageError("is not for a device", where=f"service {service.name}")
        return found

    def _check_platform(self, service: Service) -> None:
        store = self.workspace.store
        try:
            platform_manifest(store, self.workspace.image(service.package), self.device.platform)
        except IncompatibleError as error:
            raise IncompatibleError(error.what, where=f"device {self.device.name}", hint=error.hint) from error

    def _spec(self, service: Service, status: Status) -> DesiredService:
        """The service as a document has it: on all addresses where it has a host's name, else on loopback."""
        deployment = self._deployment(service)
        env: dict[str, str] = {}
        secrets: tuple[str, ...] = ()
        if deployment.tls is not None:
            # The key of a certificate travels by no broker and on no stick: both are secrets of the device.
            certificate, key = f"{service.name}.crt", f"{service.name}.key"
            env = {
                "EDGEPACK_TLS_CERTIFICATE": f"/run/secrets/{certificate}",
                "EDGEPACK_TLS_KEY": f"/run/secrets/{key}",
            }  # fmt: skip
            secrets = (certificate, key)
        public = deployment.host_name is not None or deployment.tls is not None
        return DesiredService(
            service.name, service.image, service.port or 0, status,
            "0.0.0.0" if public else "127.0.0.1",  # noqa: S104 - asked for by a host's name
            env, memory_bytes=int(deployment.memory_gb * _GIB), cpus=deployment.cpu, secrets=secrets,
            auth=auth_of(self.workspace.root, service),
        )  # fmt: skip

    def _wanted(self) -> Mapping[str, DesiredService]:
        """The services of the last document for the device, by name."""
        deployment = self.workspace.devices.deployment(self._target)
        if deployment is None:
            return {}
        document = Desired.from_bytes(canonical_json(deployment.document), str(self._target))
        return {one.name: one for one in document.services}

    def _put_bundle(self, service: Service, folder: Path, key: PrivateKey) -> None:
        from edgepack.bundle.write import write_bundle

        if not folder.is_dir():
            raise UsageError("there is no such folder", where=folder, hint="put the stick in, or mount it")
        write_bundle(
            self.workspace.store, [service.package], folder / f"{service.name}-{service.image.short}.bundle", key=key,
            platform=self.device.platform,
        )  # fmt: skip

    def _tell(self, spec: DesiredService, reach: Reach, key: PrivateKey, *, is_waited_for: bool = True) -> None:
        """Sign and hand over a document in which the service is ``spec``, and wait where an answer can come."""
        desired = Desired(tuple({**self._wanted(), spec.name: spec}.values()))
        check_written(desired.to_bytes(), f"service {spec.name}", "a desired state")

        def write(serial: int) -> dict[str, Any]:
            return parse_object(addressed(desired, self._target, serial, int(time.time())).to_bytes(), "desired state")

        def signed(deployment: Deployment) -> bytes:
            return sign(canonical_json(deployment.document), PAYLOAD_TYPE, key)

        devices = self.workspace.devices
        if reach.folder is not None:
            file = reach.folder / f"{self.device.name}.desired.json"
            devices.deploy(self._target, write, send=lambda one: atomic_write(file, signed(one), BY_UMASK))
            return
        from packager.fleet.broker import access_of, connected

        topics = DeviceTopics(self.device.name)
        with connected(access_of(reach), topics.reported, topics.status) as connection:

            def send(one: Deployment) -> None:
                connection.publish(topics.desired, signed(one), retain=True)

            deployment = devices.deploy(self._target, write, send=send)
            if is_waited_for:
                self._wait(connection, topics, spec, deployment.serial)

    def _wait(self, connection: Connection, topics: DeviceTopics, spec: DesiredService, serial: int) -> None:
        """Wait for the device's word on ``spec`` of the document ``serial``; raises what it reports."""
        seen = _Seen(topics)

        def judged(topic: str, data: bytes) -> ReportedService | EdgepackError | None:
            seen.take(topic, data)
            if seen.device is None:
                return None
            refused = next((one for one in seen.device.documents if one.refused_serial == serial), None)
            if refused is not None:
                what = f"refused the document ({int(refused.status)}): {refused.reason}"
                return RuntimeFailedError(what, where=f"device {self.device.name}")
            return _settled(seen.device, spec, serial)

        found = connection.wait_for(judged, _RETAINED_SECONDS)
        if found is None and seen.is_there:
            found = connection.wait_for(judged, self.patience)
        if found is None:
            how = "is at work on it" if seen.is_there else "is not connected"
            raise UnseenError(
                f"has not said yet how it goes: it {how}", where=f"device {self.device.name}",
                hint=f"the broker keeps the document for it; see: edgepack service show {spec.name}",
            )  # fmt: skip
        if isinstance(found, EdgepackError):
            raise found
        assert isinstance(found, ReportedService)  # noqa: S101 - what else is taken
        if found.stage is Stage.FAILED:
            raise RuntimeFailedError(
                found.reason or "failed", where=f"service {spec.name} on device {self.device.name}"
            )


class _Seen:
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


def _serial(device: ReportedDevice) -> int:
    """The serial of the document of its own that it has taken."""
    return max((one.serial or 0 for one in device.documents if one.scope == "device"), default=0)


def _settled(device: ReportedDevice, spec: DesiredService, serial: int) -> ReportedService | None:
    """The service, once the device has done what document ``serial`` says of it, or given up."""
    if _serial(device) < serial:
        return None
    found = next((one for one in device.services if one.name == spec.name), None)
    if found is None or found.stage not in (Stage.DONE, Stage.FAILED) or (found.serial or 0) < serial:
        return None
    # Else the agent has not looked yet how it is.
    return found if found.state is not ServiceState.TRANSITIONING else None
