"""A folder that is carried to a device: a stick, or its inbox. Nothing is reported back by it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgepack.errors import UsageError
from edgepack.host.files import BY_UMASK, atomic_write
from edgepack.state.desired import DesiredService
from edgepack.state.endpoints import DesiredEndpoint
from edgepack.state.reported_endpoints import ReportedEndpoint
from packager.fleet.device import Device
from packager.services.service import Service
from packager.services.states import State
from packager.services.targets.base import Observation
from packager.services.targets.channels.documents import Documents
from packager.workspaces.workspace import Workspace


@dataclass(frozen=True)
class FolderChannel:
    """The folder for ``device``."""

    workspace: Workspace
    device: Device
    folder: Path
    documents: Documents

    def bring(self, service: Service) -> None:
        """See ``Channel``: a bundle."""
        from edgepack.bundle.write import write_bundle

        self._check_there()
        write_bundle(
            self.workspace.store, [service.package], self.folder / f"{service.name}-{service.image.short}.bundle",
            key=self.workspace.keys.get(self.documents.key), platform=self.device.platform,
        )  # fmt: skip

    def tell(self, spec: DesiredService, lock: int | None = None) -> None:
        """See ``Channel``; what a folder carries is taken later, and not waited for."""
        self._check_there()
        self.documents.send(spec, self._write)

    def tell_endpoint(self, endpoint: DesiredEndpoint) -> ReportedEndpoint | None:
        """See ``Channel``."""
        self._check_there()
        self.documents.send_endpoint(endpoint, self._write)
        return None

    def endpoint(self, name: str) -> ReportedEndpoint | None:
        """See ``Channel``."""
        return None

    def _check_there(self) -> None:
        if not self.folder.is_dir():
            raise UsageError("there is no such folder", where=self.folder, hint="put the stick in, or mount it")

    def _write(self, signed: bytes) -> None:
        atomic_write(self.folder / f"{self.device.name}.desired.json", signed, BY_UMASK)

    def observe(self, services: Sequence[Service]) -> list[Observation]:
        """See ``Channel``."""
        deployment = self.documents.last()
        serial = "" if deployment is None else f"; serial {deployment.serial} is in {self.folder}"
        reason = f"the device is reached by a folder, and reports nothing here{serial}"
        return [Observation(State.UNKNOWN, reason) for _ in services]

    def logs(self, service: Service, lines: int) -> str:
        """See ``Channel``."""
        raise self._there(service)

    def follow(self, service: Service, lines: int) -> Iterator[str]:
        """See ``Channel``."""
        raise self._there(service)

    def _there(self, service: Service) -> UsageError:
        return UsageError(
            "are on the device, which is reached by a folder", where=f"logs of service {service.name}",
            hint=f"run there: edge-agent logs {service.name}",
        )  # fmt: skip
