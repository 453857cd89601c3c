"""``edge-agent run`` on a device with small images, and what a test asks of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.edge_agent.support.agent import ROOT, Agent
from tests.support.waiting import wait_until


@dataclass
class Resident:
    """The agent of ``device``, which can be killed and started again. ``more`` are fields of its configuration."""

    device: Agent
    runtime: str = "process"
    more: dict[str, Any] = field(default_factory=dict)
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None
    serial: int = 0

    @property
    def folder(self) -> Path:
        return self.device.root.parent

    @property
    def inbox(self) -> Path:
        return self.folder / "inbox"

    @property
    def file(self) -> Path:
        return self.folder / "agent.json"

    @property
    def log(self) -> str:
        path = self.folder / "agent.log"
        return path.read_text(errors="replace") if path.exists() else ""

    def configure(self, **more: Any) -> None:
        self.more |= more
        value = {
            "device": "dev1", "state_dir": str(self.device.root), "runtime": self.runtime, "inbox": [str(self.inbox)],
            "allow_unsigned_documents": True, **self.more,
        }  # fmt: skip
        self.file.write_text(json.dumps(value))

    def start(self, *, ready: bool = True) -> subprocess.Popen[bytes]:
        """Start it, and wait until it watches."""
        self.configure()
        before = self.log.count("watching")
        with (self.folder / "agent.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "edge_agent", "run", "--config", str(self.file)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env=self.device.environment(**{"PYTHONPATH": str(ROOT), **self.environment}),
            )  # fmt: skip
        if ready:
            self.wait(lambda: self.log.count("watching") > before)
        return self.process

    def end(self, number: int = signal.SIGTERM) -> int:
        """End it by a signal; its exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        code = self.process.wait(60)
        self.process = None
        return code

    def kill_everything(self) -> None:
        """SIGKILL for the agent, the supervisors and the services at once, as when the device loses its power."""
        assert self.process is not None
        mine = [self.process.pid, *self.of_the_device()]
        for pid in mine:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.process.wait()
        self.process = None
        self.wait(lambda: not self.of_the_device())

    def of_the_device(self) -> list[int]:
        """Supervisors and services of the device's folder."""
        root = os.fsencode(self.device.root.resolve())
        found = []
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    words = (entry / "cmdline").read_bytes()
                    inside = (entry / "cwd").readlink().is_relative_to(self.device.root.resolve())
                except OSError:
                    continue
                if inside or (b"edgepack-service" in words and root in words):
                    found.append(int(entry.name))
        return found

    def put(self, *services: dict[str, Any], name: str = "desired.json", **fields: Any) -> None:
        """Put a desired state into the inbox."""
        self.inbox.mkdir(exist_ok=True)
        self.serial += 1
        value = {"schema": "edgepack.desired/v1", "serial": self.serial, "services": list(services), **fields}
        (self.inbox / f".{name}").write_text(json.dumps(value))
        (self.inbox / f".{name}").rename(self.inbox / name)

    def service(self, image: str = "v1", name: str = "churn", port: int | None = None, **more: Any) -> dict[str, Any]:
        return {
            "name": name, "image": str(self.device.images.digests[image]), "port": port or self.device.port, **more
        }  # fmt: skip

    @property
    def reported(self) -> dict[str, Any]:
        """What it last reported."""
        try:
            found: dict[str, Any] = json.loads((self.device.root / "state" / "reported.json").read_bytes())
        except FileNotFoundError:
            return {"services": [], "documents": []}
        return found

    def of(self, name: str = "churn") -> dict[str, Any]:
        """What it last reported of a service."""
        return next((one for one in self.reported["services"] if one["name"] == name), {"state": None, "reason": None})

    def wait(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Wait for what the agent does; shows its log when it does not come."""
        end = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < end, f"{self.log[-4000:]}\n{json.dumps(self.reported, indent=1)}"
            time.sleep(0.05)

    def wait_for(self, state: str, name: str = "churn", reason: str = "") -> dict[str, Any]:
        """Wait until a service is reported in ``state``, with a reason that has ``reason`` in it."""
        self.wait(lambda: self.of(name)["state"] == state and reason in (self.of(name)["reason"] or ""))
        return self.of(name)

    def pid_of(self, port: int | None = None) -> int:
        """The process of the service, by its own word."""
        from tests.support.http_client import ask

        return int(ask(port or self.device.port, "GET", "/").body.decode().split()[1])

    def close(self) -> None:
        if self.process is not None:
            self.end(signal.SIGKILL)
        self.device.close()
        wait_until(lambda: not self.of_the_device())
