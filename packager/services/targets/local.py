"""This machine: a device of the workspace's own, driven by ``edge-agent`` as any device is."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgepack.errors import EdgepackError, NotFoundError, RuntimeFailedError, UsageError
from edgepack.host.files import atomic_write, make_dirs
from edgepack.host.locks import is_locked
from edgepack.oci.digest import Digest
from edgepack.state.desired import Desired, DesiredService
from edgepack.state.endpoints import DesiredEndpoint, removed_endpoint
from edgepack.state.host_access import Mount
from edgepack.state.reported_endpoints import ReportedEndpoint, read_endpoint
from packager.services.agent_command import AgentCommand
from packager.services.crashes import crash_of
from packager.services.service import Service
from packager.services.states import State, reported
from packager.services.targets.base import Observation

if TYPE_CHECKING:
    from edgepack.signing.keys import PublicKey

_ADDRESS = "127.0.0.1"
_CONFIGURATION = "edge-agent.yml"
# Where a service sees the copy of its source that a reload made, and how its server is told.
_SOURCE = "/srv/edgepack-source"
_SOURCE_VARIABLE = "EDGEPACK_SOURCE_DIRECTORY"


class LocalTarget:
    """The device at ``folder``, which takes images from the layout at ``store``; ``locks`` has a lock a service.

    It trusts the public ``keys`` of the workspace: an image that one of them has signed is no stranger's.
    """

    def __init__(
        self,
        folder: Path,
        store: Path,
        locks: Path,
        runtime: str = "auto",
        keys: Callable[[], Iterable[PublicKey]] = tuple,
    ) -> None:
        self._folder = folder
        self._keys = keys
        self._store = store
        self._locks = locks
        self._agent = AgentCommand(folder, runtime)

    def settle(self, service: Service) -> Service:
        """See ``ServiceTarget``: the port as asked for, or a free one."""
        if service.port is None:
            with socket.create_server((_ADDRESS, 0)) as free:
                return replace(service, port=int(free.getsockname()[1]))
        if _is_taken(service.port):
            self._check_port(service, service.port)
        return service

    def _check_port(self, service: Service, port: int) -> None:
        """Raise ``UsageError`` for a port that answers and is not this service's own."""
        where = f"service {service.name}"
        for one in self._services():
            if one["port"] == port and one["url"] is not None:
                if one["name"] == service.name:
                    return
                raise UsageError(
                    f"port {port} is that of service {one['name']}", where=where,
                    hint=f"choose another port, or delete it: edgepack service delete {one['name']}",
                )  # fmt: skip
        raise UsageError(
            f"port {port} is taken by another program", where=where,
            hint="choose another port, or none for a free one",
        )  # fmt: skip

    def apply(self, service: Service) -> Observation:
        """See ``ServiceTarget``."""
        document, began = self._prepare(service), datetime.now(UTC)
        try:
            answer = self._agent.json("apply", str(document), "--pull", "--allow-unsigned")
        except RuntimeFailedError as error:
            raise self._crashed(service, error, began) from error
        return _observation(answer, service)

    def _crashed(self, service: Service, error: RuntimeFailedError, began: datetime) -> EdgepackError:
        answer = {"services": self._services()}
        goes_on = _observation(answer, service).state is State.HEALTHY
        return crash_of(service.name, error, self.logs(service, 200), began, goes_on=goes_on)

    def begin(self, service: Service, lock: int) -> Observation:
        """See ``ServiceTarget``: a process of its own goes on."""
        command = self._agent.line("apply", str(self._prepare(service)), "--pull", "--allow-unsigned")
        with self._said(service).open("wb") as said:
            subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=said, start_new_session=True,
                pass_fds=[lock], env=self._agent.environment(),
            )  # fmt: skip
        return Observation(State.TRANSITIONING, port=service.port)

    def restart(self, service: Service) -> Observation:
        """Start it anew as it is; raises as ``apply``."""
        began = datetime.now(UTC)
        try:
            answer = self._agent.json("restart", service.name)
        except RuntimeFailedError as error:
            raise self._crashed(service, error, began) from error
        return _observation(answer, service)

    def _said(self, service: Service) -> Path:
        """What the command said that ``begin`` began."""
        return self._locks / f"{service.name}.said"

    def _prepare(self, service: Service) -> Path:
        """Make the device, and the document of the service that it is to run."""
        self._make_device()
        self._said(service).unlink(missing_ok=True)
        return self._document(service.name, Desired((self._spec(service),)))

    def _make_device(self) -> None:
        """Make the device, which fetches from the workspace's store."""
        make_dirs(self._folder)
        # On a device the service runs as a user of its own, who must be able to pass through here.
        self._folder.chmod(0o711)
        configuration = {"sources": [{"folder": str(self._store)}], "allow_unsigned_images": True}
        atomic_write(self._folder / _CONFIGURATION, json.dumps(configuration, indent=2).encode())
        self._trust()

    def _document(self, name: str, desired: Desired) -> Path:
        document = self._folder / f"{name}.desired.json"
        atomic_write(document, desired.to_bytes())
        return document

    def _trust(self) -> None:
        """Let the device trust the keys that it was not told of yet."""
        told = self._folder / "told.json"
        known = set(json.loads(told.read_bytes())) if told.exists() else set()
        new = [key for key in self._keys() if key.id not in known]
        for key in new:
            file = self._folder / f"{key.id[:12]}.pub"
            atomic_write(file, key.to_pem())
            self._agent.json("trust", str(file))
            file.unlink()
        if new:
            atomic_write(told, json.dumps(sorted({*known, *(key.id for key in new)})).encode())

    def _spec(self, service: Service) -> DesiredService:
        spec = DesiredService(service.name, service.image, service.port or 0)
        if service.reload_folder is None:
            return spec
        if self._sees_files(service):
            return replace(spec, env={_SOURCE_VARIABLE: service.source_in(service.reload_folder)})
        mount = Mount(service.reload_folder, _SOURCE)
        return replace(spec, env={_SOURCE_VARIABLE: service.source_in(_SOURCE)}, mounts=(mount,))

    def _sees_files(self, service: Service) -> bool:
        """Whether it runs as a process of this user's, who is shown nothing by mounts, and sees what this one sees."""
        if os.geteuid() == 0:
            return False
        return any(one["name"] == service.name and one["runtime"] == "process" for one in self._services())

    def _services(self) -> list[Mapping[str, Any]]:
        if not self._folder.is_dir():
            return []
        found: list[Mapping[str, Any]] = self._agent.json("status", tolerant=True)["services"]
        return found

    def observe(self, service: Service) -> Observation:
        """See ``ServiceTarget``."""
        return self.observations([service])[0]

    def observations(self, services: Sequence[Service]) -> list[Observation]:
        """How each of them is, by one question."""
        answer = {"services": self._services()}
        return [self._with_begun(service, _observation(answer, service)) for service in services]

    def _with_begun(self, service: Service, seen: Observation) -> Observation:
        """A service that another command is at work on is on its way, also before the device knows of it."""
        final = (State.DELETED, State.FAILED, State.UNKNOWN)
        if seen.state in final and is_locked(self._locks / f"{service.name}.lock"):
            return replace(seen, state=State.TRANSITIONING)
        if seen.state is State.DELETED and (said := self._last_said(service)):
            return replace(seen, state=State.FAILED, reason=said)
        return seen

    def _last_said(self, service: Service) -> str | None:
        try:
            lines = self._said(service).read_text("utf-8", "replace").splitlines()
        except OSError:
            return None
        return lines[-1].removeprefix("edge-agent: ") if lines else None

    def logs(self, service: Service, lines: int = 5000) -> str:
        """See ``ServiceTarget``."""
        return "".join(f"{line}\n" for line in self._lines(service, "-n", str(lines)))

    def follow(self, service: Service, lines: int = 0) -> Iterator[str]:
        """See ``ServiceTarget``."""
        return self._lines(service, "-n", str(lines), "-f")

    def _lines(self, service: Service, *words: str) -> Iterator[str]:
        command = self._agent.line("logs", service.name, *words)
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True) as process:
            try:
                for line in process.stdout or ():
                    yield line.rstrip("\n")
            finally:
                process.terminate()

    def start(self, service: Service) -> Observation:
        """Run it as it ran before, as after a start of this machine; raises as ``apply``."""
        return self.apply(service)

    def delete(self, service: Service) -> None:
        """See ``ServiceTarget``."""
        self._trust()
        self._said(service).unlink(missing_ok=True)
        if not self._folder.is_dir():
            return
        try:
            self._agent.json("remove", service.name)
        except NotFoundError:
            return

    # Endpoints

    def endpoint_port(self, name: str, asked: int | None, besides: int | None = None) -> int:
        """See ``RoutingTarget``."""
        if asked is None:
            with socket.create_server((_ADDRESS, 0)) as free:
                return int(free.getsockname()[1])
        if _is_taken(asked):
            raise UsageError(f"port {asked} is taken", where=f"endpoint {name}", hint="choose another port, or none")
        return asked

    def route(self, endpoint: DesiredEndpoint, services: Sequence[Service]) -> ReportedEndpoint | None:
        """See ``RoutingTarget``."""
        self._make_device()
        desired = Desired(tuple(map(self._spec, services)), endpoints=(endpoint,))
        answer = self._agent.json("apply", str(self._document(endpoint.name, desired)), "--pull", "--allow-unsigned")
        return read_endpoint(answer, endpoint.name, "edge-agent apply")

    def unroute(self, name: str) -> None:
        """See ``RoutingTarget``."""
        if self._folder.is_dir():
            desired = Desired((), endpoints=(removed_endpoint(name),))
            self._agent.json("apply", str(self._document(name, desired)))

    def routed(self, name: str) -> ReportedEndpoint | None:
        """See ``RoutingTarget``."""
        if not self._folder.is_dir():
            return None
        return read_endpoint(self._agent.json("status"), name, "edge-agent status")

    def address(self, service: Service) -> str | None:
        """See ``ServiceTarget``."""
        return None if service.port is None else f"http://{_ADDRESS}:{service.port}"


def _observation(answer: Mapping[str, Any], service: Service) -> Observation:
    for one in answer["services"]:
        if one["name"] == service.name:
            image = None if one["digest"] is None else Digest.parse(one["digest"])
            return Observation(reported(one["state"]), one["reason"], image, one["port"])
    return Observation(State.DELETED)


def _is_taken(port: int) -> bool:
    """Whether something holds the port on the loopback address."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            tried.bind((_ADDRESS, port))
        except OSError:
            return True
    return False
