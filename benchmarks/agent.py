"""The resident agent: its memory and processor when idle, and how soon it does what it is for.

Limits: 30 MB (PSS) by ``crun`` and ``process``, 40 MB by ``docker``, connected to a broker, with one service; 0.5 % of
a core; from a published desired state to a healthy service 0.7 s more than the container and the server need
themselves; all of 10 services healthy within 3 s more than that, when everything was killed and the agent is started.

``python -m benchmarks.agent [RUNTIME…]``; needs ``mosquitto``, and for containers root and ``mmdebstrap``.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from edge_agent.device import Device
from edge_agent.runtimes.base import Runtime
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer, LayerEntry, NoCompression, write_layer
from edgepack.oci.store import Store
from edgepack.state.desired import DesiredService
from tests.edge_agent.support.runtimes import build_image, copy_store, debian_base
from tests.support.broker import Mosquitto, running
from tests.support.parts import docker_engine
from tests.support.ports import free_port

SETTLE_SECONDS = 15.0
IDLE_SECONDS = 30.0
ROUNDS = 7
SERVICES = 10
LIMITS = {"process": 30.0, "crun": 30.0, "docker": 40.0}
# What makers and users of other agents say of them: megabytes, and where that is said.
OTHERS = (
    ("Azure IoT Edge: edgeAgent", "about 100", "iotedge issue 4545"),
    ("Azure IoT Edge: edgeHub", "115 to 150, 300 to 500 advised", "iotedge issues 821, 6983"),
    ("AWS Greengrass nucleus 2", "96 at least, with a JRE", "its documentation"),
    ("AWS Greengrass nucleus lite 2.5", "12.4 to 15.8 (PSS)", "aws-greengrass-lite, benchmark/REPORT.md"),
    ("balena-supervisor", "45 idle, 60 to 80 active", "its issue 1300"),
    ("balena-supervisor after 100 days", "85 to 321 (RSS)", "its issue 2193"),
    ("KubeEdge edgecore", "about 70", "its documentation"),
    ("thin-edge.io: agent, and its broker", "8 and 10", "its documentation"),
    ("Mender, Kanto", "none published", ""),
)


@dataclass
class Lab:
    """A device with its agent, a broker, and two versions of a small service."""

    folder: Path
    runtime: str
    broker: Mosquitto
    base: tuple[Store, Layer] | None
    environment: dict[str, str]
    versions: list[Digest] = field(default_factory=list)
    serial: int = 0
    agent: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        self.root = self.folder / "device"
        self.root.mkdir()
        self.root.chmod(0o711)
        if self.base is None:
            store = Store.create(self.root / "store")
            base = write_layer([LayerEntry.of_bytes("etc/os", b"none\n")], store, NoCompression(), kind="base")
        else:
            store, base = copy_store(self.base[0], self.root / "store"), self.base[1]
        self.versions = [build_image(store, base, f"v{number}") for number in (1, 2)]
        self.device = Device(self.root, self.runtime)
        value = {
            "device": "bench", "state_dir": str(self.root), "runtime": self.runtime,
            "broker": {"url": f"mqtt://127.0.0.1:{self.broker.port}"},
            "allow_unsigned_documents": True, "allow_unsigned_images": True,
        }  # fmt: skip
        (self.folder / "agent.json").write_text(json.dumps(value))

    def start(self) -> float:
        """Start the agent; when that was."""
        begun = time.perf_counter()
        with (self.folder / "agent.log").open("ab") as log:
            argv = [sys.executable, "-m", "edge_agent", "run", "--config", str(self.folder / "agent.json")]
            self.agent = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment)
        return begun

    def publish(self, specs: list[DesiredService]) -> float:
        """Publish what is desired; when it was sent."""
        self.serial += 1
        value = {"schema": "edgepack.desired/v1", "serial": self.serial, "services": [one.to_json() for one in specs]}
        self.broker.publish("edgepack/v1/devices/bench/desired", json.dumps(value))
        return time.perf_counter()

    def kill_everything(self) -> None:
        """SIGKILL for the agent, its jobs, supervisors and services, as far as they are processes of this device."""
        assert self.agent is not None
        for pid in [self.agent.pid, *family(self.agent.pid), *self._processes()]:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        self.agent.wait()
        self.agent = None
        if self.runtime == "docker":
            listed = self._docker("ps", "--quiet").split()
            if listed:
                self._docker("rm", "--force", *listed)  # "kill" fails where one has just ended

    def _docker(self, *words: str) -> str:
        return subprocess.run(
            ["docker", *words], env=self.environment, capture_output=True, text=True, check=True
        ).stdout

    def _processes(self) -> list[int]:
        found, inside = [], os.fsencode(self.root.resolve())
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit() and int(entry.name) != os.getpid():
                try:
                    mine = inside in (entry / "cmdline").read_bytes() or self._is_of_container(entry)
                    if mine or (entry / "cwd").readlink().is_relative_to(self.root.resolve()):
                        found.append(int(entry.name))
                except OSError:
                    continue
        return found

    def _is_of_container(self, process: Path) -> bool:
        return any(f"edgepack/{self.root.name}" in line for line in (process / "cgroup").read_text().splitlines())

    def close(self) -> None:
        if self.agent is not None:
            self.agent.kill()
            self.agent.wait()
        runtime = self.device.runtime_for(None)
        for name in self.device.services():
            runtime.stop(name, 0.0)


def answer(port: int) -> str | None:
    """What the service at ``port`` says it is."""
    try:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
        connection.request("GET", "/")
        found = connection.getresponse()
        return found.read().decode() if found.status == 200 else None
    except (OSError, http.client.HTTPException):
        return None
    finally:
        connection.close()


def until(port: int, text: str, log: Path, starting: Future[None] | None = None) -> float:
    """When the service at ``port`` first answers ``text``; ``starting`` is its start, where this process does it."""
    end = time.perf_counter() + 120
    while text not in (answer(port) or ""):
        if starting is not None and starting.done():
            starting.result()  # raises what kept it from starting
        if time.perf_counter() > end:
            whose = "by the runtime alone" if starting is not None else "by the agent"
            sys.exit(f"no answer {text} on port {port}, started {whose}\n{_reported(log)}\n{log.read_text()[-3000:]}")
        time.sleep(0.02)
    return time.perf_counter()


def _reported(log: Path) -> str:
    """What the agent says of each service."""
    try:
        value = json.loads((log.parent / "device" / "state" / "reported.json").read_bytes())
    except (OSError, ValueError) as error:
        return str(error)
    names = ("name", "state", "stage", "restarts", "reason")
    return "\n".join(" ".join(f"{name}={one.get(name)}" for name in names) for one in value["services"])


def own_need(runtime: Runtime, specs: list[DesiredService], text: str, log: Path) -> float:
    """How long the containers and the servers of ``specs`` need by themselves, side by side."""

    def exchange(spec: DesiredService) -> None:
        runtime.stop(spec.name)
        runtime.start(spec)

    with ThreadPoolExecutor(len(specs)) as threads:
        begun = time.perf_counter()
        started = [threads.submit(exchange, spec) for spec in specs]
        # Asked from the beginning, as where the agent does it: an engine's network answers later to who asks too soon.
        return max(until(spec.port, text, log, one) for spec, one in zip(specs, started, strict=True)) - begun


def memory(pid: int) -> dict[str, float]:
    """Megabytes of a process by kind: ``Pss``, ``Rss``, ``Private_Dirty`` and others."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    return {line.split(":")[0]: int(line.split()[1]) / 1000 for line in lines}


def children(pid: int) -> list[int]:
    """The processes that a process has started, its jobs."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def family(pid: int) -> list[int]:
    """The processes that a process has started, and those that they have."""
    return [one for child in children(pid) for one in (child, *family(child))]


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and its children that have ended."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(int(one) for one in fields[11:15]) / os.sysconf("SC_CLK_TCK")


def measure(lab: Lab) -> None:
    """Measure one runtime and print it."""
    log, port = lab.folder / "agent.log", free_port()
    spec = [DesiredService("churn", image, port) for image in lab.versions]
    lab.start()
    lab.publish(spec[:1])
    until(port, "v1", log)
    time.sleep(SETTLE_SECONDS)
    assert lab.agent is not None
    own = [lab.agent.pid, *family(lab.agent.pid)]  # with what its jobs are forked from
    before = sum(map(cpu_seconds, own))
    time.sleep(IDLE_SECONDS)
    used = (sum(map(cpu_seconds, own)) - before) / IDLE_SECONDS
    each = [memory(pid)["Pss"] for pid in own]
    parts = " + ".join(f"{one:.1f}" for one in each)
    line(f"{lab.runtime}: idle memory (PSS)", f"{sum(each):.1f} MB ({parts})", LIMITS[lab.runtime])
    line(f"{lab.runtime}: idle processor", f"{100 * used:.2f} % of a core", 0.5)

    took = []
    for number in range(1, ROUNDS + 1):
        begun = lab.publish([spec[number % 2]])
        took.append(until(port, f"v{1 + number % 2}", log) - begun)
    runtime = lab.device.runtime_for(None)
    lab.kill_everything()
    need = []
    for number in range(ROUNDS):
        need.append(own_need(runtime, [spec[number % 2]], f"v{1 + number % 2}", log))
    over = statistics.median(took) - statistics.median(need)
    line(f"{lab.runtime}: published to healthy", f"{over:.2f} s over {statistics.median(need):.2f} s", 0.7)
    runtime.stop("churn")

    lab.start()
    ten = [DesiredService(f"churn{number}", lab.versions[0], free_port()) for number in range(SERVICES)]
    lab.publish(ten)
    for one in ten:
        until(one.port, "v1", log)
    lab.kill_everything()
    need_ten = own_need(runtime, ten, "v1", log)
    begun = lab.start()
    time.sleep(3)
    lab.kill_everything()
    begun = lab.start()
    took_ten = max(until(one.port, "v1", log) for one in ten) - begun
    line(
        f"{lab.runtime}: {SERVICES} services after a reboot", f"{took_ten - need_ten:.2f} s over {need_ten:.2f} s", 3.0
    )


def line(what: str, text: str, limit: float) -> None:
    """Print one figure with its limit."""
    sys.stdout.write(f"{what:<44}{text:<32}limit {limit:g}\n")
    sys.stdout.flush()


@contextmanager
def lab_of(runtime: str, folder: Path, base: tuple[Store, Layer] | None) -> Iterator[Lab]:
    """A lab for ``runtime``, with an engine of its own for ``docker``."""
    with ExitStack() as parts:
        broker = parts.enter_context(running(Mosquitto(folder / "broker")))
        environment = {name: text for name, text in os.environ.items() if not name.startswith("EDGEPACK_")}
        if runtime == "docker":
            (folder / "engine").mkdir()
            environment["DOCKER_HOST"] = os.environ["DOCKER_HOST"] = parts.enter_context(
                docker_engine(folder / "engine")
            )
        lab = Lab(folder, runtime, broker, base, environment)
        try:
            yield lab
        finally:
            lab.close()


def main() -> None:
    """Measure the runtimes that are named, or all."""
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # what is installed has its bytecode
    runtimes = sys.argv[1:] or ["process", "crun", "docker"]
    top = Path(tempfile.mkdtemp(prefix="eda-"))
    top.chmod(0o755)
    try:
        base = None
        if {*runtimes} - {"process"}:
            (top / "base").mkdir()
            base = debian_base(top / "base")
        for runtime in runtimes:
            folder = top / runtime
            folder.mkdir()
            with lab_of(runtime, folder, None if runtime == "process" else base) as lab:
                measure(lab)
        sys.stdout.write("\nmegabytes of other agents, idle, as their makers and users say\n")
        for name, figure, source in OTHERS:
            sys.stdout.write(f"{name:<44}{figure:<32}{source}\n")
    finally:
        shutil.rmtree(top, ignore_errors=True)


if __name__ == "__main__":
    main()
