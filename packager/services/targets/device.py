"""A device of the fleet: told by a signed document, at a broker, in a folder that is carried to it, or by ssh."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from edgepack.errors import IncompatibleError, UsageError
from edgepack.oci.platforms import platform_manifest
from edgepack.state.desired import DesiredService, Status
from packager.fleet.device import Device
from packager.fleet.reach import Reach
from packager.services.configuration.values import DeviceDeployment
from packager.services.credentials.callers import auth_of
from packager.services.service import Service
from packager.services.states import State
from packager.services.targets.base import Observation
from packager.services.targets.channels.base import Channel
from packager.services.targets.channels.documents import Documents
from packager.services.targets.places import SERVICES
from packager.services.workloads import deployment_of
from packager.workspaces.workspace import Workspace

FIRST_PORT, _LAST_PORT = 6789, 65535
_GIB = 1 << 30
_WAYS = "say how: edgepack device reach NAME --key KEY --broker URL, --folder DIR, or --ssh USER@HOST"


@dataclass(frozen=True)
class DeviceTarget:
    """The ``device`` of ``workspace``."""

    workspace: Workspace
    device: Device

    def settle(self, service: Service) -> Service:
        """See ``ServiceTarget``: the port as asked for, or the first that no document gives to another service."""
        deployment = self._deployment(service)
        if deployment.collect_data:
            raise UsageError(
                "is not there yet for services on devices", where="dataCollection.storageEnabled",
                hint="build the package with --service-config that collects",
            )  # fmt: skip
        taken = self._documents(self.reach()).ports_beside(service.name)
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
        self._hand_over(service)
        return self.observe(service)

    def begin(self, service: Service, lock: int) -> Observation:
        """See ``ServiceTarget``."""
        self._hand_over(service, lock)
        return Observation(State.TRANSITIONING, "the device is told", port=service.port)

    def _hand_over(self, service: Service, lock: int | None = None) -> None:
        self._check_platform(service)
        channel = self._channel()
        channel.bring(service)
        channel.tell(self._spec(service, "running"), lock)

    def delete(self, service: Service) -> None:
        """See ``ServiceTarget``; the device keeps what a rollback needs."""
        known = self._documents(self.reach()).wanted().get(service.name)
        if known is not None:
            self._channel().tell(replace(known, status="removed"))

    def observe(self, service: Service) -> Observation:
        """See ``ServiceTarget``."""
        return self.observations([service])[0]

    def observations(self, services: Sequence[Service]) -> list[Observation]:
        """How each of them is, by one question."""
        return self._channel().observe(services)

    def logs(self, service: Service, lines: int = 5000) -> str:
        """See ``ServiceTarget``."""
        return self._channel().logs(service, lines)

    def follow(self, service: Service, lines: int = 0) -> Iterator[str]:
        """See ``ServiceTarget``."""
        return self._channel().follow(service, lines)

    def address(self, service: Service) -> str | None:
        """See ``ServiceTarget``: by the name of the device's host, where the configuration gives one."""
        deployment = self._deployment(service)
        host = deployment.host_name or (None if deployment.tls is None else deployment.tls.name)
        scheme = "http" if deployment.tls is None else "https"
        return None if host is None or service.port is None else f"{scheme}://{host}:{service.port}"

    def reach(self) -> Reach:
        """How it is reached; raises ``UsageError`` where that is not known."""
        if self.device.reach is None:
            hint = _WAYS.replace("NAME", self.device.name)
            raise UsageError("it is not known how it is reached", where=f"device {self.device.name}", hint=hint)
        return self.device.reach

    # Parts

    def _documents(self, reach: Reach) -> Documents:
        return Documents(self.workspace, self.device.name, reach.key)

    def _channel(self) -> Channel:
        reach = self.reach()
        documents = self._documents(reach)
        if reach.ssh is not None:
            from packager.services.remote_agent import RemoteAgent
            from packager.services.targets.channels.ssh import SshChannel

            agent, beside = RemoteAgent.of(self.device.name, reach), self.workspace.root / SERVICES
            return SshChannel(self.workspace, self.device, agent, documents, beside)
        if reach.folder is not None:
            from packager.services.targets.channels.folder import FolderChannel

            return FolderChannel(self.workspace, self.device, reach.folder, documents)
        from packager.services.targets.channels.broker import BrokerChannel

        return BrokerChannel(self.workspace, self.device.name, reach, documents)

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
