"""The agent of a device, called by the system's own ssh: what it lacks goes there, and its JSON comes back."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from edgepack.errors import NotFoundError, RuntimeFailedError, UsageError, VerificationError
from edgepack.host.locks import is_locked
from edgepack.host.scratch import scratch_folder
from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService
from edgepack.state.endpoints import DesiredEndpoint
from edgepack.state.reported import ReportedService, ServiceState, Stage, read_services
from edgepack.state.reported_endpoints import EndpointState, ReportedEndpoint, read_endpoint
from packager.fleet.device import Device
from packager.fleet.reach import UnseenError
from packager.fleet.registry import Deployment
from packager.fleet.ssh import UnreachedError, last_line
from packager.services.remote_agent import RemoteAgent
from packager.services.service import Service
from packager.services.states import State
from packager.services.targets.base import Observation
from packager.services.targets.channels.documents import Documents
from packager.services.targets.channels.reports import has_ended, observed
from packager.workspaces.workspace import Workspace

# How long a device may take to start what it is told to run, and to judge what it has received.
_PATIENCE_SECONDS = 600.0
# A line that is slower than this has not the time to carry an image.
_LEAST_BYTES_A_SECOND = 10_000
# A receipt is made by reading all that the device holds.
_RECEIPT_SECONDS = 600.0


class SshChannel:
    """The agent of ``device``; ``beside`` has a lock a service, and what a command said that goes on by itself."""

    def __init__(
        self, workspace: Workspace, device: Device, agent: RemoteAgent, documents: Documents, beside: Path
    ) -> None:
        self._workspace = workspace
        self._device = device
        self._agent = agent
        self._documents = documents
        self._beside = beside
        self._is_reached = False

    def bring(self, service: Service) -> None:
        """See ``Channel``: a bundle of what it lacks, verified there while it comes; what came before a cut stays."""
        if service.image in self._held():
            return
        from edgepack.bundle.receipt import Receipt
        from edgepack.bundle.write import write_bundle

        receipt = Receipt.from_bytes(
            self._agent.text("receipt", seconds=_RECEIPT_SECONDS).strip(), f"receipt of device {self._device.name}"
        )
        key = self._workspace.keys.get(self._documents.key)
        with scratch_folder("ssh") as folder:
            made = write_bundle(
                self._workspace.store, [service.package], folder / "bundle", key=key, receipt=receipt,
                platform=self._device.platform,
            )  # fmt: skip
            with made.path.open("rb") as bundle:
                seconds = _PATIENCE_SECONDS + made.size / _LEAST_BYTES_A_SECOND
                try:
                    self._agent.json("import", "-", seconds=seconds, stdin=bundle)
                except UnreachedError as error:
                    raise UnreachedError(
                        f"{error.what}, before it had the image of service {service.name}", where=error.where,
                        hint="what came is kept there, and nothing else was changed; run it again",
                    ) from error  # fmt: skip

    def tell(self, spec: DesiredService, lock: int | None = None) -> None:
        """See ``Channel``."""
        self._said(spec.name).unlink(missing_ok=True)
        former = self._documents.last()
        signed, deployment = self._signed(lambda send: self._documents.send(spec, send))
        if lock is not None:
            self._begin(spec, signed, lock)
            return
        failure = self._apply(signed, deployment, former, f"edgepack service show {spec.name}")
        if failure is None:
            return
        # Of a document that the device has taken, each service goes its own way.
        found = self._reported().get(spec.name)
        if found is None or found.stage is Stage.FAILED or not has_ended(found, deployment.serial):
            raise failure

    def tell_endpoint(self, endpoint: DesiredEndpoint) -> ReportedEndpoint | None:
        """See ``Channel``."""
        former = self._documents.last()
        signed, deployment = self._signed(lambda send: self._documents.send_endpoint(endpoint, send))
        failure = self._apply(signed, deployment, former, f"edgepack endpoint show {endpoint.name}")
        found = self.endpoint(endpoint.name)
        if failure is None:
            return found
        # As of services: another part of the document may be what has failed.
        is_gone = found is None and endpoint.status == "removed"
        is_there = found is not None and (found.serial or 0) >= deployment.serial
        if is_gone or (is_there and found is not None and found.state is not EndpointState.FAILED):
            return found
        raise failure

    def endpoint(self, name: str) -> ReportedEndpoint | None:
        """See ``Channel``."""
        return read_endpoint(self._status(), name, f"status of device {self._device.name}")

    def _signed(self, send: Callable[[Callable[[bytes], None]], Deployment]) -> tuple[bytes, Deployment]:
        """The next document, which ``send`` makes, and its record."""
        if not self._is_reached:  # which is found out before a serial is taken
            self._status()
        signed: list[bytes] = []
        deployment = send(signed.append)
        return signed[0], deployment

    def _apply(
        self, signed: bytes, deployment: Deployment, former: Deployment | None, look: str
    ) -> RuntimeFailedError | None:
        """Hand over the document of ``deployment``, which came after ``former``; what has failed of it.

        Raises ``UnseenError``, which names the command ``look``, and what the device refuses it with.
        """
        try:
            done = self._agent.run("apply", "-", "--output", "json", seconds=_PATIENCE_SECONDS, stdin=signed)
        except UnreachedError as error:
            raise UnseenError(
                f"has not said how it goes ({error.what})", where=f"device {self._device.name}",
                hint=f"it may go on with it; see: {look}",
            ) from error  # fmt: skip
        if done.code == 0:
            return None
        failure = self._agent.error(done, "apply")
        if isinstance(failure, RuntimeFailedError):
            return failure
        if isinstance(failure, UsageError | VerificationError | NotFoundError):
            self._documents.take_back(deployment, former)  # refused, so that nothing was changed there
        raise failure

    def _begin(self, spec: DesiredService, signed: bytes, lock: int) -> None:
        """Let a process of its own go on, which holds the descriptor ``lock``."""
        command = self._agent.ssh.line(self._agent.fed("apply", "-"))
        with self._said(spec.name).open("wb") as said:
            process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True,
                pass_fds=[lock],
            )  # fmt: skip
        assert process.stdin is not None  # noqa: S101 - a pipe is asked for
        with process.stdin as pipe:
            pipe.write(signed)

    def observe(self, services: Sequence[Service]) -> list[Observation]:
        """See ``Channel``."""
        reported = tuple(self._reported().values())
        return [self._observed(one, reported) for one in services]

    def _observed(self, service: Service, reported: Sequence[ReportedService]) -> Observation:
        seen = observed(service, reported)
        if seen.state not in (State.DELETED, State.FAILED):
            return seen
        # A command that was not waited for may be at work on it, or have said why it is not there.
        if is_locked(self._beside / f"{service.name}.lock"):
            return replace(seen, state=State.TRANSITIONING, reason="the device is at work on it")
        if seen.state is State.DELETED and (said := self._last_said(service.name)):
            return replace(seen, state=State.FAILED, reason=said)
        return seen

    def logs(self, service: Service, lines: int) -> str:
        """See ``Channel``."""
        return self._agent.text("logs", service.name, "-n", str(lines)).decode("utf-8", "replace")

    def follow(self, service: Service, lines: int) -> Iterator[str]:
        """See ``Channel``."""
        return self._agent.lines("logs", service.name, "-n", str(lines), "-f")

    # Parts

    def _status(self) -> Mapping[str, Any]:
        found = self._agent.json("status")
        self._is_reached = True
        return found

    def _reported(self) -> dict[str, ReportedService]:
        return {one.name: one for one in read_services(self._status(), f"status of device {self._device.name}")}

    def _held(self) -> set[Digest]:
        """The images that its services run, or return to."""
        found = [one for one in self._reported().values() if one.state is not ServiceState.REMOVED]
        return {image for one in found for image in (one.digest, one.last_good) if image is not None}

    def _said(self, name: str) -> Path:
        return self._beside / f"{name}.said"

    def _last_said(self, name: str) -> str | None:
        try:
            return last_line(self._said(name).read_text("utf-8", "replace")).removeprefix("edge-agent: ") or None
        except OSError:
            return None
