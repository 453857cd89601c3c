"""What a service's supervisor does for it without an agent: its log, its port, its user, its limits, how it ended."""

from __future__ import annotations

import contextlib
import io
import json
import os
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent.runtimes import cgroups, reach, seccomp, supervision
from edge_agent.runtimes.base import Foreseeing, Runtime
from edge_agent.runtimes.cgroups import ControlGroupError, Limits
from edge_agent.runtimes.runtime_spec import inside_port, service_user
from edge_agent.runtimes.supervisor.log import Log
from edge_agent.runtimes.unpacked.overlay import stacked
from edgepack.errors import IncompatibleError, RuntimeFailedError, UnsafeArchiveError
from edgepack.limits import LIMITS
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer, LayerEntry, NoCompression, write_layer
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store
from edgepack.state.desired import DesiredService
from tests.edge_agent.support.runtimes import copy_store, make_runtime
from tests.support.running import finish, run
from tests.support.waiting import wait_until

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
CONTAINERS = [
    pytest.param("crun", marks=[as_root, pytest.mark.real("crun", "mmdebstrap")]),
    pytest.param("runc", marks=[as_root, pytest.mark.real("runc", "mmdebstrap"), pytest.mark.whole]),
]
WITHOUT_ENGINE = [*CONTAINERS, "process"]


class Place:
    """A state folder, a store with a base, and runtimes on them, whose service ``churn`` is stopped at the end."""

    def __init__(self, folder: Path, source: tuple[Store, Layer] | None, port: int) -> None:
        self.folder = folder
        self.store = copy_store(source[0], folder / "store") if source else Store.create(folder / "store")
        self.base = source[1] if source else None
        self.port = port
        self.made: list[Runtime] = []

    def image(
        self, text: str, *, layers: int = 1, programs: tuple[str, ...] = (), above: bytes | None = None, **changes: Any
    ) -> Digest:
        """An image that runs ``text``, with ``programs`` of this machine in ``/srv``.

        Its base, if it has one, is listed ``layers`` times. ``above`` is a tar that is the last layer.
        """
        files = [LayerEntry.of_bytes("srv/app.py", text.encode())]
        for name in programs:
            data = Path(shutil.which(name) or name).read_bytes()
            files.append(LayerEntry.of_bytes(f"srv/{name}", data, 0o755))
        app = write_layer(files, self.store, NoCompression(), kind="code")
        every = [*([self.base] * layers if self.base else []), app]
        if above is not None:
            blob = self.store.put_bytes(above, mediatypes.LAYER, {mediatypes.LAYER_KIND: "code"})
            every.append(Layer(blob, blob.digest, blob.size))
        fields: dict[str, Any] = {
            "platform": Platform.host(),
            "diff_ids": tuple(layer.diff_id for layer in every),
            "env": {"PYTHONPATH": "/srv"},
            "entrypoint": (f"/usr/bin/python3.{11 if self.base else sys.version_info.minor}", "-m", "app"),
            "user": "10001:10001",
        }
        config = self.store.put_bytes(ImageConfig(**(fields | changes)).to_bytes(), mediatypes.CONFIG)
        manifest = Manifest(config, tuple(layer.descriptor for layer in every))
        return self.store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST).digest

    def start(self, kind: str, text: str, state: Path | None = None, **changes: Any) -> Runtime:
        """A runtime that runs ``text`` as its service."""
        fields = {name: changes.pop(name) for name in ("memory_bytes", "cpus") if name in changes}
        image = self.image(text, **changes)
        runtime = make_runtime(kind, self.store, state or self.folder / "state", None)
        runtime.prepare(image)
        self.made.append(runtime)
        runtime.start(DesiredService("churn", image, self.port, **fields))
        return runtime


@pytest.fixture
def place(request: pytest.FixtureRequest, open_dir: Path, free_port: Callable[[], int]) -> Iterator[Place]:
    kind = request.node.callspec.params.get("kind") if hasattr(request.node, "callspec") else None
    source = request.getfixturevalue("base_store") if kind in ("crun", "runc") else None
    made = Place(open_dir, source, free_port())
    yield made
    for runtime in made.made:
        runtime.stop("churn", 1)
    assert str(open_dir) not in Path("/proc/self/mounts").read_text()


def said(runtime: Runtime, end: str = "!") -> str:
    """What the service wrote up to ``end``."""
    wait_until(lambda: end in runtime.logs("churn") or runtime.inspect("churn").state == "exited")  # type: ignore[union-attr]
    return runtime.logs("churn").partition(end)[0]


@pytest.mark.parametrize("kind", WITHOUT_ENGINE)
def test_a_supervisor_goes_on_when_the_agent_died_before_its_answer(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def ask_and_die(job: Any) -> dict[str, str]:
        read, write = os.pipe()
        os.close(read)  # as when the agent is killed
        program = supervision._PROGRAM.format(str(supervision._ROOT))
        subprocess.run(
            [sys.executable, "-I", "-S", "-c", program], input=json.dumps(job).encode(), stdout=write, env={}, cwd="/",
            start_new_session=True, pass_fds=(job["lock"], *job["sockets"]), check=False,
        )  # fmt: skip
        os.close(write)
        wait_until(lambda: supervision.find(Path(job["folder"])))
        return {}

    monkeypatch.setattr(supervision, "_ask", ask_and_die)
    runtime = place.start(kind, "import time\nprint('written!', flush=True)\ntime.sleep(600)\n")
    assert "written" in said(runtime)
    found = runtime.inspect("churn")
    assert found is not None
    assert found.state == "running"


# What emulates a processor, as qemu does, refuses these with EINVAL.
EMULATED = """
import errno
from edge_agent.runtimes.supervisor import kernel
real = kernel._call
def call(function, *arguments, name=None):
    if function == "prctl" and arguments[0] in (kernel._CHILD_SUBREAPER, kernel._FILTER_CALLS) or function == "syscall":
        raise OSError(errno.EINVAL, "Invalid argument")
    real(function, *arguments, name=name)
kernel._call = call
"""


def test_a_service_runs_where_the_kernel_is_emulated_and_what_it_lacks_is_in_its_log(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = supervision._PROGRAM.replace("from edge_agent", f"exec({EMULATED!r}); from edge_agent")
    monkeypatch.setattr(supervision, "_PROGRAM", program)
    runtime = place.start("process", "import time\nprint('written!', flush=True)\ntime.sleep(600)\n")
    wait_until(lambda: "written" in runtime.logs("churn"))
    assert "system calls of this service are not filtered: its processor is emulated" in runtime.logs("churn")
    assert ("not read-only to this service" in runtime.logs("churn")) is (os.geteuid() == 0)
    runtime.stop("churn", 1)
    assert runtime.inspect("churn") is None


def test_each_step_of_a_start_that_fails_is_named_as_itself(place: Place) -> None:
    log = place.folder / "state/logs/churn.log"
    log.mkdir(parents=True)
    with pytest.raises(RuntimeFailedError, match=r"its log cannot be written \(Is a directory\); look at .*churn.log"):
        place.start("process", "")


@pytest.mark.parametrize("kind", WITHOUT_ENGINE)
def test_the_last_words_of_an_instance_are_not_those_of_the_one_before(place: Place, kind: str) -> None:
    runtime = place.start(kind, "print('of old!', flush=True)\n")
    wait_until(lambda: runtime.inspect("churn").state == "exited")  # type: ignore[union-attr]
    assert "of old" in runtime.logs("churn", since_start=True)
    runtime.stop("churn", 1)
    again = place.start(kind, "raise SystemExit(7)\n")
    wait_until(lambda: again.inspect("churn").state == "exited")  # type: ignore[union-attr]
    assert (again.logs("churn", since_start=True), "of old" in again.logs("churn")) == ("", True)


# Which user


SEES = "import os\nprint(os.getuid(), os.getgid(), os.getgroups(), flush=True)\nprint('!', flush=True)\n"
CLOSED = Path("/root")


@as_root
@pytest.mark.parametrize("kind", WITHOUT_ENGINE)
@pytest.mark.parametrize("user", ["10001:10001", "", "0", "root:root"])
def test_root_runs_no_service_as_root(place: Place, kind: str, user: str) -> None:
    runtime = place.start(kind, SEES, user=user)
    expected = 10001 if user.startswith("1") else 65534
    assert said(runtime) == f"{expected} {expected} []\n"


@as_root
@pytest.mark.parametrize("kind", WITHOUT_ENGINE)
def test_a_user_by_name_is_looked_up_in_the_image(place: Place, kind: str) -> None:
    out = io.BytesIO()
    files = {"etc/passwd": b"root:x:0:0::/:\nworker:x:1234:5678::/:\n", "etc/group": b"staff:x:50:\n"}
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in files.items():
            made = tarfile.TarInfo(name)
            made.size = len(data)
            tar.addfile(made, io.BytesIO(data))
    for user, expected in (("worker", "1234 5678"), ("worker:staff", "1234 50"), ("7:staff", "7 50")):
        runtime = place.start(kind, SEES, above=out.getvalue(), user=user)
        assert said(runtime) == f"{expected} []\n"
        runtime.stop("churn", 1)
        (place.folder / "state/logs/churn.log").unlink()
    with pytest.raises(IncompatibleError, match="its USER is 'nobody-here', which its /etc/passwd"):
        place.start(kind, SEES, above=out.getvalue(), user="nobody-here")


@as_root
@pytest.mark.parametrize("kind", WITHOUT_ENGINE)
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_service_reaches_its_files_below_a_folder_that_only_root_may_enter(
    place: Place, kind: str, umask: int
) -> None:
    closed = place.folder / "closed"
    closed.mkdir(mode=0o700)
    before = os.umask(umask)
    try:
        text = f"import os\nprint(os.listdir({str(closed)!r}) if os.path.exists({str(closed)!r} + '/x') else 0)\n{SEES}"
        (closed / "x").touch()
        runtime = place.start(kind, text, closed / "a:b, c")
    finally:
        os.umask(before)
    assert said(runtime) == "0\n10001 10001 []\n"
    assert closed.stat().st_mode & 0o777 == 0o700


@as_root
def test_what_cannot_be_shown_is_refused_with_the_way_out(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = place.folder / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(reach, "has_capability", lambda number: False)
    with pytest.raises(
        IncompatibleError, match=rf"10001 may not enter {closed}, .*--state-dir, or .*chmod o\+x {closed}"
    ):
        place.start("process", SEES, closed / "state")
    with pytest.raises(IncompatibleError, match=rf"10001 may not enter {closed};"):
        reach.views([closed], (10001, 10001))


def test_a_user_that_is_root_by_any_name_is_nobody() -> None:
    users = {
        text: service_user(ImageConfig(Platform.host(), user=text)) for text in ("", "0", "root", "0:0", "7", "7:8")
    }
    nobody = (65534, 65534)
    assert users == {"": nobody, "0": nobody, "root": nobody, "0:0": nobody, "7": (7, 7), "7:8": (7, 8)}


def test_without_root_a_path_with_a_colon_is_refused_and_others_run(place: Place) -> None:
    colon = place.folder / "a:b"
    if os.geteuid() != 0:
        with pytest.raises(IncompatibleError, match=r"has a colon.*--state-dir"):
            place.start("process", SEES, colon)
    runtime = place.start("process", SEES, place.folder / "a, b\\c")
    assert said(runtime)


# Its log


def test_a_log_is_cut_at_lines_and_never_longer_than_its_limit(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = Log(str(path), 1000)
    written = b""
    for number in range(200):
        log.write(line := b"line %d\n" % number * (number % 3))
        written += line
        assert path.stat().st_size <= 1000
    older = tmp_path / "log.1"
    assert written.endswith(older.read_bytes() + path.read_bytes())
    assert older.stat().st_size > 900
    assert older.read_bytes().endswith(b"\n")
    log.write(b"x" * 2500)
    assert (older.stat().st_size, path.stat().st_size) == (1000, 500)
    log.close()
    assert Log(str(path), 100)._size == 500  # one that is longer already is set aside at the first line


def test_a_log_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    log = Log(str(tmp_path / "log"), 10_000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (50, before[1]))  # as with: ulimit -f
    try:
        for _ in range(10):
            log.write(b"x" * 30 + b"\n")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    log.write(b"again\n")
    log.close()
    assert (tmp_path / "log").read_bytes().endswith(b"again\n")


@pytest.mark.parametrize("kind", WITHOUT_ENGINE)
def test_the_log_stays_short_while_the_service_writes_without_end(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "LIMITS", replace(LIMITS, log_bytes=100_000))
    text = "import os, time\nfor n in range(40000):\n  os.write(1, b'line %06d\\n' % n)\n"
    runtime = place.start(kind, f"{text}print('!', flush=True)\ntime.sleep(600)")
    said(runtime)
    logs = place.folder / "state/logs"
    assert {path.name for path in logs.iterdir()} == {"churn.log", "churn.log.1"}
    assert sum(path.stat().st_size for path in logs.iterdir()) <= 200_000
    lines = runtime.logs("churn", 9000).splitlines()
    assert lines[-1] == "!"
    assert lines[:-1] == [f"line {number:06d}" for number in range(40_001 - len(lines), 40_000)]
    assert len(lines) > 8000


# Its network


LISTENS = """
import os, socket, sys
server = socket.create_server((os.environ["EDGEPACK_HOST"], int(os.environ["EDGEPACK_PORT"])))
print("!", flush=True)
while True:
    connection, _ = server.accept()
    data = b""
    while part := connection.recv(65536):
        data += part
    connection.sendall(data[::-1])
    connection.close()
"""
REACHES = """
import os, socket
for host, port in ((%r, %d), ("127.0.0.1", %d)):
    try:
        socket.create_connection((host, port), 1)
        print("reached", host)
    except OSError as error:
        print("not reached", flush=True)
print(os.spawnv(os.P_WAIT, "/srv/unshare", ["unshare", "--user", "/bin/true"]))
print("!", flush=True)
"""


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_container_reaches_nothing_of_the_device_and_makes_no_namespace(place: Place, kind: str) -> None:
    with socket.create_server(("0.0.0.0", 0)) as other:  # noqa: S104 - in the test's own machine
        port = other.getsockname()[1]
        own = socket.gethostbyname(socket.gethostname())
        found = said(place.start(kind, REACHES % (own, port, port), programs=("unshare",))).split("\n")
    assert found[:4] == ["not reached"] * 2 + ["unshare: unshare failed: Operation not permitted", "1"]


@pytest.mark.parametrize("kind", CONTAINERS)
def test_its_port_is_led_into_a_network_of_its_own(place: Place, kind: str) -> None:
    runtime = place.start(kind, LISTENS, exposed_ports=("80/tcp",))  # low, where the user may not listen elsewhere
    said(runtime)
    sizes = [1, 100, 5_000_000, 0, 70_000] * 4
    answers: list[bool] = []

    def ask(size: int) -> None:
        data = os.urandom(size)
        with socket.create_connection(("127.0.0.1", place.port), 10) as connection:
            threading.Thread(target=lambda: (connection.sendall(data), connection.shutdown(socket.SHUT_WR))).start()
            answer = b""
            while part := connection.recv(65536):
                answer += part
        answers.append(answer == data[::-1])

    threads = [threading.Thread(target=ask, args=(size,)) for size in sizes]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [True] * len(sizes)
    hanging = socket.create_connection(("127.0.0.1", place.port), 10)
    started = time.monotonic()
    runtime.stop("churn", 1)
    assert time.monotonic() - started < 60
    assert hanging.recv(1) == b""
    hanging.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", place.port), 10)


FORWARDS = """
import resource, select, socket, sys
sys.path.insert(0, sys.argv[1])
from edge_agent.runtimes.supervisor.forward import Forwarder
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
epoll = select.epoll()
private = socket.create_server(("127.0.0.1", 0))
forwarder = Forwarder(epoll, socket.socket(fileno=int(sys.argv[2])), int(sys.argv[3]), private)
forwarder.take()
while True:
    for fd, event in epoll.poll():
        if forwarder.handles(fd):
            forwarder.handle(fd, event)
"""


def test_no_connection_is_lost_where_files_are_few_and_clients_rude() -> None:
    with (
        socket.create_server(("127.0.0.1", 0), backlog=128) as inner,
        socket.create_server(("127.0.0.1", 0), backlog=128) as outer,
    ):
        argv = [sys.executable, "-I", "-S", "-c", FORWARDS, str(Path(__file__).parents[2]), str(outer.fileno())]
        with subprocess.Popen([*argv, str(inner.getsockname()[1])], pass_fds=[outer.fileno()]) as child:
            try:
                threading.Thread(target=echo, args=(inner,), daemon=True).start()
                answers = [0] * 60
                clients = [
                    threading.Thread(target=be_a_client, args=(outer.getsockname(), number, answers))
                    for number in range(len(answers))
                ]
                for client in clients:
                    client.start()
                for client in clients:
                    client.join()
                assert answers == [300 if number % 3 else 0 for number in range(len(answers))]
                assert child.poll() is None
            finally:
                child.kill()


def echo(server: socket.socket) -> None:
    """Answer every connection with what it sends."""

    def answer(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while data := connection.recv(65536):
                connection.sendall(data)

    with contextlib.suppress(OSError):
        while True:
            threading.Thread(target=answer, args=(server.accept()[0],), daemon=True).start()


def be_a_client(address: tuple[str, int], number: int, answers: list[int]) -> None:
    """Send a few bytes and count what comes back; every third one resets its connection instead."""
    for _ in range(3):
        with socket.create_connection(address, 60) as connection:
            connection.sendall(b"x" * 100)
            if number % 3 == 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                continue
            got = 0
            while got < 100 and (part := connection.recv(100)):
                got += len(part)
            answers[number] += got


@pytest.mark.parametrize("kind", CONTAINERS)
def test_where_no_network_can_be_made_the_device_s_is_used_and_said(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    real = supervision._ask
    monkeypatch.setattr(
        supervision, "_ask", lambda job: {"error": "not permitted", "step": "network"} if job["way"] else real(job)
    )
    runtime = place.start(kind, LISTENS)
    said(runtime)
    with socket.create_connection(("127.0.0.1", place.port), 10) as connection:
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(1) == b""
    assert "on the network of the device: it cannot have a network of its own (not permitted)" in caplog.text


LAUNCH = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from edge_agent.runtimes import supervision
from edge_agent.runtimes.instances import service_lock
from edge_agent.runtimes.sockets import Sockets, open_listener, open_probe
from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService
folder, port = Path(sys.argv[2]), int(sys.argv[3])
given = Sockets(open_listener(DesiredService("churn", Digest.of(b""), port)), open_probe(folder))
within = supervision.Surroundings(way={"inside": 1, "told": False}, sockets=given.descriptors)
with service_lock(folder, "churn") as lock:
    try:
        supervision.launch(folder, ["/bin/true"], env={}, cwd=folder, log=folder / "log", lock=lock, within=within)
    except supervision.NoOwnNetworkError as error:
        print(error)
"""


def test_a_supervisor_that_may_make_no_network_says_so(open_dir: Path, free_port: Callable[[], int]) -> None:
    port = free_port()
    less = ["setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"] if os.geteuid() == 0 else []
    argv = [*less, sys.executable, "-c", LAUNCH, str(Path(__file__).parents[2]), str(open_dir), str(port)]
    assert run(*argv) == "it cannot have a network of its own (Operation not permitted)\n"
    with socket.create_server(("127.0.0.1", port)):
        done = finish(*argv)
    assert f"port {port} on 127.0.0.1 cannot be used (Address already in use)" in done.stderr


def test_the_port_inside_is_the_first_that_the_image_exposes() -> None:
    ports = [(), ("8080/tcp",), ("53/udp", "80"), ("http/tcp",)]
    assert [inside_port(ImageConfig(Platform.host(), exposed_ports=one)) for one in ports] == [5001, 8080, 80, 5001]


def test_the_filter_of_system_calls_names_each_once() -> None:
    rules = seccomp.profile("x86_64")["syscalls"]
    plain = [name for rule in rules if "args" not in rule for name in rule["names"]]
    assert len(plain) == len(set(plain))
    assert {"read", "execve", "futex", "epoll_wait"} <= set(rules[0]["names"])
    assert {"unshare", "mount", "setns", "bpf", "clone3"} & set(rules[0]["names"]) == set()
    assert seccomp.profile("s390x")["syscalls"][3]["args"][0]["index"] == 1
    assert "architectures" not in seccomp.profile("loongarch64")


# Its limits


EATS = "print('!', flush=True)\nheld = []\nwhile True:\n  held.append(bytearray(1 << 20))\n"


@as_root
@pytest.mark.parametrize("kind", WITHOUT_ENGINE)
def test_memory_beyond_its_limit_ends_it_and_is_told(place: Place, kind: str) -> None:
    runtime = place.start(kind, EATS, memory_bytes=64 << 20, cpus=1.0)
    wait_until(lambda: runtime.inspect("churn").state == "exited")  # type: ignore[union-attr]
    found = runtime.inspect("churn")
    assert found is not None
    assert (found.exit_code, found.out_of_memory) == (137, True)
    runtime.stop("churn", 1)
    name = cgroups.group_name(place.folder / "state/run" / kind / "churn", "churn")
    assert cgroups._existing(name, cgroups.ROOT)
    assert not any(path.exists() for path in cgroups._existing(name, cgroups.ROOT))


@pytest.mark.parametrize("kind", WITHOUT_ENGINE)
def test_an_end_by_signal_is_no_lack_of_memory(place: Place, kind: str) -> None:
    limits = {"memory_bytes": 256 << 20} if os.geteuid() == 0 else {}
    runtime = place.start(kind, "import os, signal\nos.abort() if os.getpid() > 1 else os._exit(134)", **limits)
    wait_until(lambda: runtime.inspect("churn").state == "exited")  # type: ignore[union-attr]
    found = runtime.inspect("churn")
    assert found is not None
    assert (found.exit_code, found.out_of_memory) == (134, False)


def no_groups(*_: object) -> None:
    raise ControlGroupError("/sys/fs/cgroup: Read-only file system")


def test_without_control_groups_memory_is_limited_by_process_and_cpus_are_refused(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(cgroups, "create", no_groups)
    with pytest.raises(IncompatibleError, match=r"cpus cannot be limited here.*Read-only.*leave cpus out"):
        place.start("process", EATS, cpus=0.5)
    runtime = place.start("process", EATS, memory_bytes=64 << 20)
    wait_until(lambda: runtime.inspect("churn").state == "exited")  # type: ignore[union-attr]
    assert "MemoryError" in runtime.logs("churn")
    assert "limits each of its processes, not all together" in caplog.text


@pytest.mark.parametrize("kind", CONTAINERS)
def test_a_container_whose_limits_cannot_be_kept_is_refused(
    place: Place, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cgroups, "create", no_groups)
    with pytest.raises(RuntimeFailedError, match=r"memory_bytes and cpus cannot be kept here .*Read-only"):
        place.start(kind, EATS, memory_bytes=64 << 20)
    runtime = place.made[-1]
    assert isinstance(runtime, Foreseeing)
    image = place.image(EATS)
    with pytest.raises(RuntimeFailedError, match="leave them out"):
        runtime.check(DesiredService("churn", image, place.port, memory_bytes=64 << 20), held=False)


def modern(root: Path, own: str | None = None) -> Path:
    """A folder that looks like version 2 of control groups, as far as making groups goes."""
    for group in (root, root / "edgepack", root / "edgepack/x"):
        group.mkdir(exist_ok=True)
        (group / "cgroup.controllers").write_text("cpu memory pids")
        (group / "cgroup.subtree_control").write_text("")
    for name in ("memory.max", "memory.events", "cpu.max"):
        (root / "edgepack/x" / name).write_text("oom_kill 0\n")
    return root


@as_root
def test_groups_of_version_2_get_their_limits(tmp_path: Path) -> None:
    root = modern(tmp_path / "cgroup")
    group = cgroups.create("x", Limits(1 << 20, 1.5), root)
    folder = root / "edgepack/x"
    assert (group.joined, group.memory_events) == ((folder / "cgroup.procs",), folder / "memory.events")
    assert ((folder / "memory.max").read_text(), (folder / "cpu.max").read_text()) == ("1048576", "150000 100000")
    assert (root / "cgroup.subtree_control").read_text() == "+cpu"
    with pytest.raises(ControlGroupError, match="no control groups of memory"):
        cgroups.create("x", Limits(1 << 20), tmp_path / "absent")


# Its layers


def test_a_layer_that_is_listed_twice_or_hides_all_is_mounted_once(tmp_path: Path) -> None:
    a, b, c = (tmp_path / name for name in "abc")
    for folder in (a, b, c):
        folder.mkdir()
    assert stacked(tmp_path, [a, b, a]) == [tmp_path, b, a]
    assert stacked(tmp_path, [a, a, b, b]) == [tmp_path, a, b]
    (b / ".wh..wh..opq").touch()
    assert stacked(tmp_path, [a, b, c]) == [tmp_path, b, c]


@pytest.mark.parametrize("kind", WITHOUT_ENGINE)
def test_an_image_that_lists_a_layer_twice_runs(place: Place, kind: str) -> None:
    assert said(place.start(kind, SEES, layers=2)).startswith("10001" if os.geteuid() == 0 else str(os.getuid()))


def foreign_layer() -> bytes:
    """A layer as other tools make them, with what only they do."""
    out = io.BytesIO()
    with tarfile.open(
        fileobj=out, mode="w", format=tarfile.PAX_FORMAT, pax_headers={"comment": "x", "uid": "7"}
    ) as tar:
        for name, kind, link in (
            ("dev/sda", tarfile.BLKTYPE, ""),
            ("srv/pipe", tarfile.FIFOTYPE, ""),
            ("/srv/a", tarfile.REGTYPE, ""),
            ("srv/hard", tarfile.LNKTYPE, "/srv/a"),
            ("srv/soft", tarfile.SYMTYPE, "../../../srv/x/../a"),
            ("srv/softer", tarfile.LNKTYPE, "srv/soft"),
            ("srv/x/.wh.gone", tarfile.REGTYPE, ""),
            ("srv/.wh.a", tarfile.REGTYPE, ""),
            ("srv/a", tarfile.REGTYPE, ""),
        ):
            made = tarfile.TarInfo(name)
            made.type, made.linkname = kind, link
            tar.addfile(made)
    return out.getvalue()


@pytest.mark.parametrize("kind", WITHOUT_ENGINE)
def test_a_layer_as_other_tools_make_them_runs(place: Place, kind: str) -> None:
    text = "import os, sys\nprint(sorted(os.listdir(os.path.dirname(os.path.abspath(__file__)))))\n"
    text += "print(os.path.exists(os.path.dirname(os.path.abspath(__file__)) + '/softer'))\nprint('!', flush=True)"
    found = said(place.start(kind, text, above=foreign_layer())).splitlines()
    assert found == ["['a', 'app.py', 'hard', 'pipe', 'soft', 'softer', 'x']", "True"]


@pytest.mark.parametrize("kind", WITHOUT_ENGINE)
def test_a_layer_that_cannot_be_unpacked_is_not_called_damaged(place: Place, kind: str) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("a/../../b"))
    with pytest.raises(
        UnsafeArchiveError, match=r"a/\.\./\.\./b: a name that leads out .*build the image again"
    ) as raised:
        place.start(kind, "x", above=out.getvalue())
    assert "damaged" not in str(raised.value)
