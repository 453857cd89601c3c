"""This machine: a device of the workspace's own, driven by ``edge-agent`` as any device is."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edgepack.errors import NotFoundError
from edgepack.host.files import atomic_write, make_dirs
from edgepack.oci.digest import Digest
from edgepack.state.desired import Desired, DesiredService
from packager.services.agent_command import AgentCommand
from packager.services.service import Service
from packager.services.states import State, reported
from packager.services.targets.base import Observation

_ADDRESS = "127.0.0.1"
_CONFIGURATION = "edge-agent.yml"


class LocalTarget:
    """The device at ``folder``, which takes images from the layout at ``store``."""

    def __init__(self, folder: Path, store: Path, runtime: str = "auto") -> None:
        self._folder = folder
        self._store = store
        self._agent = AgentCommand(folder, runtime)

    def settle(self, service: Service) -> Service:
        """See ``ServiceTarget``: the port as asked for, or a free one."""
        if service.port is not None:
            return service
        with socket.create_server((_ADDRESS, 0)) as free:
            return replace(service, port=int(free.getsockname()[1]))

    def apply(self, service: Service) -> None:
        """See ``ServiceTarget``."""
        self._prepare()
        document = self._folder / f"{service.name}.desired.json"
        atomic_write(document, Desired((self._spec(service),)).to_bytes())
        # The image was built by this workspace: its digest is not from anybody else.
        self._agent.json("pull", str(service.image), "--allow-unsigned")
        self._agent.json("apply", str(document), "--allow-unsigned")

    def _spec(self, service: Service) -> DesiredService:
        return DesiredService(service.name, service.image, service.port or 0)

    def _prepare(self) -> None:
        """Make the device, which fetches from the workspace's store."""
        make_dirs(self._folder)
        # On a device the service runs as a user of its own, who must be able to pass through here.
        self._folder.chmod(0o711)
        configuration = {"sources": [{"folder": str(self._store)}], "allow_unsigned_images": True}
        atomic_write(self._folder / _CONFIGURATION, json.dumps(configuration, indent=2).encode())

    def observe(self, service: Service) -> Observation:
        """See ``ServiceTarget``."""
        if not self._folder.is_dir():
            return Observation(State.DELETED)
        for one in self._agent.json("status", tolerant=True)["services"]:
            if one["name"] == service.name:
                image = None if one["digest"] is None else Digest.parse(one["digest"])
                return Observation(reported(one["state"]), one["reason"], image, one["port"])
        return Observation(State.DELETED)

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

    def delete(self, service: Service) -> None:
        """See ``ServiceTarget``."""
        if not self._folder.is_dir():
            return
        try:
            self._agent.json("remove", service.name)
        except NotFoundError:
            return

    def address(self, service: Service) -> str | None:
        """See ``ServiceTarget``."""
        return None if service.port is None else f"http://{_ADDRESS}:{service.port}"
