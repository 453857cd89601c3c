"""Every runtime keeps the protocol of ``edge_agent.runtimes.base``, with real engines and a real image."""

from __future__ import annotations

import ast
import json
import os
import select
import shutil
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from edge_agent.runtimes.base import Instance, Runtime
from edge_agent.runtimes.kills import NONE, Kills, kills_of
from edgepack.errors import IncompatibleError, NotFoundError, RuntimeFailedError, VerificationError
from edgepack.limits import LIMITS
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer
from edgepack.oci.serve import serve
from edgepack.oci.store import Store
from edgepack.state.desired import DesiredService
from edgepack.state.host_access import DeviceNode, Mount
from edgepack.state.service_auth import KeyAuth, TokenAuth
from tests.edge_agent.support.runtimes import build_image, copy_store, make_runtime
from tests.support import http_client
from tests.support.http_client import listens
from tests.support.running import run
from tests.support.sampling import WHOLE
from tests.support.waiting import wait_until

ROOT = Path(__file__).parents[2]
KINDS = [
    pytest.param("docker", marks=pytest.mark.real("dockerd", "mmdebstrap", "ip")),
    pytest.param("podman", marks=pytest.mark.real("podman", "runc", "mmdebstrap")),
    pytest.param("crun", marks=pytest.mark.real("crun", "mmdebstrap")),
    pytest.param("runc", marks=pytest.mark.real("runc", "mmdebstrap")),
    "process",
]
CONTAINERS = ("docker", "podman", "crun", "runc")


@dataclass
class Lab:
    """A runtime, the store that it takes images from, and a way to make another of each."""

    kind: str
    store: Store
    base: Layer | None
    state: Path
    address: str | None

    def runtime(self, store: Store | None = None, state: Path | None = None) -> Runtime:
        return make_runtime(self.kind, store or self.store, state or self.state, self.address)

    def image(self, text: str, store: Store | None = None, **changes: Any) -> Digest:
        return build_image(store or self.store, self.base, text, **changes)


@pytest.fixture(scope="module", params=KINDS)
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    kind = request.param
    if kind != "process" and os.geteuid() != 0:
        pytest.skip("needs root")
    folder = tmp_path_factory.mktemp(kind)
    address = {"docker": "dockerd", "podman": "podman_service"}.get(kind)
    address = request.getfixturevalue(address) if address else None
    if kind == "process":
        made = Lab(kind, Store.create(folder / "store"), None, folder / "state", address)
    else:
        source, base = request.getfixturevalue("base_store")
        made = Lab(kind, copy_store(source, folder / "store"), base, folder / "state", address)
    pinned = made.image("pinned")  # keeps the base in place, so that each test does not bring it again
    made.runtime().prepare(pinned)
    yield made
    made.runtime().forget_image(pinned)
    if kind in ("crun", "runc"):
        assert "overlay" not in mounts_below(made.state)


def mounts_below(folder: Path) -> str:
    return "\n".join(line for line in Path("/proc/self/mounts").read_text().splitlines() if str(folder) in line)


@pytest.fixture
def runtime(lab: Lab) -> Iterator[Runtime]:
    made = lab.runtime()
    yield made
    made.stop("churn", 1)


@pytest.fixture
def spec(lab: Lab, runtime: Runtime, free_port: Callable[[], int]) -> Iterator[DesiredService]:
    image = lab.image("one")
    runtime.prepare(image)
    yield DesiredService("churn", image, free_port(), env={"GREETING": "hello there"})
    runtime.stop("churn", 1)
    runtime.forget_image(image)


def ask(port: int) -> dict[str, Any]:
    """What the service says of itself, as soon as it answers."""

    def answer() -> bytes:
        try:
            return http_client.ask(port, "GET", "/").body
        except OSError:
            return b""

    return dict(ast.literal_eval(wait_until(answer).decode()))


def wait_for_exit(runtime: Runtime, service: str) -> Instance:
    def exited() -> Instance | None:
        found = runtime.inspect(service)
        return found if found is not None and found.state == "exited" else None

    return wait_until(exited)


def test_starts_answers_and_stops(runtime: Runtime, spec: DesiredService, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENT_SECRET", "for nobody")
    runtime.prepare(spec.image)
    assert runtime.inspect("churn") is None
    assert runtime.logs("churn") == "" or runtime.name != "docker"

    started = runtime.start(spec)
    assert started == Instance("churn", spec.image, "running", spec.port)
    answer = ask(spec.port)
    assert (answer["text"], answer["greeting"], answer["home_of_agent"]) == ("one", "hello there", None)
    assert runtime.inspect("churn") == started
    assert "starting one" in runtime.logs("churn")
    assert runtime.logs("churn", lines=0) == ""

    runtime.stop("churn", 1)
    assert runtime.inspect("churn") is None
    assert not listens(spec.port)
    runtime.stop("churn", 1)


def test_starting_the_same_again_leaves_it_alone(lab: Lab, runtime: Runtime, spec: DesiredService) -> None:
    runtime.start(spec)
    marker = started_at(lab, runtime)
    lab.runtime().start(spec)  # another process of the agent, after a restart
    assert started_at(lab, runtime) == marker
    assert ask(spec.port)["text"] == "one"


def started_at(lab: Lab, runtime: Runtime) -> object:
    """Something that changes when the service is started anew."""
    if lab.kind in ("docker", "podman"):
        return runtime._container("churn").id  # type: ignore[attr-defined]
    return (lab.state / "run" / lab.kind / "churn" / "process.json").read_bytes()


def test_other_keys_are_seen_without_a_restart(lab: Lab, runtime: Runtime, spec: DesiredService) -> None:
    file = "os.environ['EDGEPACK_AUTH_FILE']"
    probe = f"lambda: [os.environ['EDGEPACK_AUTH_MODE'], read({file}), writable(os.path.dirname({file}))]"
    keys = KeyAuth(f"sha256:{'a' * 64}", f"sha256:{'b' * 64}")
    spec = replace(spec, env={"PROBE": probe}, auth=keys)
    runtime.start(spec)
    assert ask(spec.port)["probe"] == ["key", f'{{"primary":"sha256:{"a" * 45}', os.geteuid() != 0]
    before = started_at(lab, runtime)
    for letter in "cd":
        runtime.start(replace(spec, auth=replace(keys, primary=f"sha256:{letter * 64}")))
        assert ask(spec.port)["probe"][1] == f'{{"primary":"sha256:{letter * 45}'
    assert started_at(lab, runtime) == before
    runtime.start(replace(spec, auth=TokenAuth("PEM", "churn")))
    assert ask(spec.port)["probe"][:2] == ["token", '{"algorithm":"EdDSA","audience":"churn","public_key":"PEM","sche']
    assert started_at(lab, runtime) != before
    runtime.start(replace(spec, env={"PROBE": "os.environ.get('EDGEPACK_AUTH_FILE')"}, auth=None))
    assert ask(spec.port)["probe"] is None
    runtime.stop("churn")
    assert not list(lab.state.rglob("keys.json"))


def test_another_spec_takes_the_place_of_the_first(
    lab: Lab, runtime: Runtime, spec: DesiredService, free_port: Callable[[], int]
) -> None:
    runtime.start(spec)
    assert ask(spec.port)["greeting"] == "hello there"
    runtime.start(replace(spec, env={"GREETING": "again"}))  # on the same port
    assert ask(spec.port)["greeting"] == "again"

    second = lab.image("two")
    runtime.prepare(second)
    moved = DesiredService("churn", second, free_port())
    assert runtime.start(moved).port == moved.port
    assert ask(moved.port)["text"] == "two"
    assert not listens(spec.port)
    runtime.stop("churn", 1)
    runtime.forget_image(second)


def test_a_port_that_is_taken_is_named(runtime: Runtime, spec: DesiredService) -> None:
    with socket.create_server(("127.0.0.1", spec.port)):
        with pytest.raises(RuntimeFailedError, match=str(spec.port)):
            runtime.start(spec)
        found = runtime.inspect("churn")
        assert found is None or found.state == "exited"
    runtime.start(spec)
    assert ask(spec.port)["text"] == "one"


def test_a_crash_shows_with_its_exit_code_and_its_words(runtime: Runtime, spec: DesiredService) -> None:
    runtime.start(replace(spec, env={"CRASH": "7"}))
    found = wait_for_exit(runtime, "churn")
    assert (found.state, found.exit_code, found.image) == ("exited", 7, spec.image)
    assert "crashing" in runtime.logs("churn")
    runtime.start(spec)
    assert ask(spec.port)["text"] == "one"


def test_an_entrypoint_that_is_not_there(lab: Lab, runtime: Runtime, spec: DesiredService) -> None:
    if lab.kind == "process":
        broken = lab.image("broken", entrypoint=("/usr/bin/absent", "-m", "app"))
        with pytest.raises(IncompatibleError, match=r"/usr/bin/absent"):
            runtime.prepare(broken)
        return
    broken = lab.image("broken", entrypoint=("/usr/bin/absent", "-m", "app"))
    runtime.prepare(broken)
    with pytest.raises(RuntimeFailedError, match=r"/usr/bin/absent"):
        runtime.start(replace(spec, image=broken))
    found = runtime.inspect("churn")
    assert found is None or found.state == "exited"
    runtime.stop("churn", 1)
    runtime.forget_image(broken)


def test_memory_is_limited_where_it_runs_in_a_container(lab: Lab, runtime: Runtime, spec: DesiredService) -> None:
    runtime.start(replace(spec, memory_bytes=256 << 20, cpus=0.5))
    groups = ask(spec.port)["cgroups"]
    if lab.kind not in CONTAINERS:
        return
    first = next((line for line in groups if ":memory:" in line), None)
    if first is not None:
        limit = Path("/sys/fs/cgroup/memory", first.rpartition(":")[2].lstrip("/"), "memory.limit_in_bytes")
    else:
        limit = Path("/sys/fs/cgroup", groups[-1].rpartition(":")[2].lstrip("/"), "memory.max")
    assert int(limit.read_text()) == 256 << 20
    runtime.stop("churn", 1)
    assert not limit.exists()


def test_what_a_base_says_of_health_and_volumes_is_not_kept(
    lab: Lab, runtime: Runtime, spec: DesiredService, free_port: Callable[[], int]
) -> None:
    volumes: dict[str, object] = {"/opt/edgepack/server": {}, "/srv/new": {}, "/tmp": {}}
    check = {"Test": ["CMD", "/bin/false"], "Interval": 1_000_000_000, "Retries": 1}
    image = lab.image("with volumes", other={"Volumes": volumes, "Healthcheck": check})
    runtime.prepare(image)
    port = free_port()
    runtime.start(replace(spec, image=image, port=port))
    answer = ask(port)  # its program is in a volume
    assert (answer["here"], answer["root"]) == (False, False)
    if lab.kind in ("docker", "podman"):
        container = runtime._container("churn")  # type: ignore[attr-defined]
        assert not (container.attrs["State"].get("Health") or {}).get("Status")
        mounts = {mount["Destination"]: mount["RW"] for mount in container.attrs["Mounts"]}
        assert {"/opt/edgepack/server": False, "/srv/new": False}.items() <= mounts.items()
        names = {mount.get("Name") for mount in container.attrs["Mounts"]} - {None, ""}
        runtime.stop("churn", 1)
        assert not names & {*runtime._engine.volumes()}  # type: ignore[attr-defined]
    runtime.stop("churn", 1)
    runtime.forget_image(image)


def test_memory_beyond_its_limit_is_told(lab: Lab, runtime: Runtime, spec: DesiredService) -> None:
    if lab.kind == "process" and os.geteuid() != 0:
        pytest.skip("needs root")
    runtime.start(replace(spec, memory_bytes=96 << 20, env={"EAT": "300"}))
    found = wait_for_exit(runtime, "churn")
    assert (found.exit_code, found.out_of_memory) == (137, True)
    runtime.start(replace(spec, env={"EAT": "3"}))
    assert ask(spec.port)["text"] == "one"


def test_what_is_killed_of_a_service_that_runs_on_is_counted(lab: Lab, runtime: Runtime, spec: DesiredService) -> None:
    if lab.kind == "process" and os.geteuid() != 0:
        pytest.skip("needs control groups")
    greedy = "__import__('subprocess').call([sys.executable, '-S', '-c', 'bytes([1]) * (300 << 20)'])"
    limited = replace(spec, memory_bytes=96 << 20, env={"PROBE": f"[{greedy}, {greedy}]"})
    assert kills_of(runtime.start(limited)) == NONE
    assert ask(spec.port)["probe"] == [-signal.SIGKILL, -signal.SIGKILL]
    found = runtime.inspect("churn")
    assert found is not None
    assert (found.state, kills_of(found)) == ("running", Kills(2))
    # Of another run nothing was killed yet.
    runtime.stop("churn", 1)
    runtime.start(replace(limited, env={}))
    ask(spec.port)
    found = runtime.inspect("churn")
    assert found is not None
    assert kills_of(found) == NONE


def test_the_log_of_an_engine_stays_short(lab: Lab, runtime: Runtime, spec: DesiredService) -> None:
    if lab.kind not in ("docker", "podman"):
        pytest.skip("no engine")
    from edge_agent.runtimes.engine import options

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(options, "LIMITS", replace(LIMITS, log_bytes=100_000))
        runtime.start(replace(spec, env={"CHATTER": "20000"}))
    assert ask(spec.port)["text"] == "one"
    container = runtime._container("churn")  # type: ignore[attr-defined]
    config = container.attrs["HostConfig"]["LogConfig"]
    if config["Type"] == "journald":
        return  # which has its own limits
    # Then nothing more is written, and nothing is renamed. Podman divides a line at the end of what it read at once.
    wait_until(lambda: "line 19999" in runtime.logs("churn").replace("\n", ""))
    path = Path(container.attrs.get("LogPath") or config["Path"])
    files = list(path.parent.glob(f"{path.name}*"))
    assert 0 < sum(file.stat().st_size for file in files) < 300_000, files


def test_inside_it_is_nobody_and_everything_is_read_only(lab: Lab, runtime: Runtime, spec: DesiredService) -> None:
    if lab.kind not in CONTAINERS:
        pytest.skip("a process is no container")
    runtime.start(spec)
    answer = ask(spec.port)
    assert (answer["uid"], answer["gid"]) == (10001, 10001)
    assert (answer["root"], answer["here"], answer["tmp"]) == (False, False, True)
    effective, bounding, no_new_privileges = sorted(answer["capabilities"], key=len, reverse=True)
    assert (int(effective, 16), int(bounding, 16), no_new_privileges) == (0, 0, "1")


@pytest.mark.parametrize(
    ("user", "expected"),
    [("", 65534), ("0", 65534), ("00:7", 65534), ("root", 65534), ("boss", 65534), ("worker", 1234)],
)
def test_no_image_is_run_as_root(lab: Lab, runtime: Runtime, spec: DesiredService, user: str, expected: int) -> None:
    if lab.kind == "process" and os.geteuid() != 0:
        pytest.skip("needs root")
    image = lab.image("as somebody", user=user)
    runtime.prepare(image)
    runtime.start(replace(spec, image=image))
    assert ask(spec.port)["uid"] == expected
    runtime.stop("churn", 1)
    runtime.forget_image(image)


def test_a_service_finds_this_machine_by_its_name(runtime: Runtime, spec: DesiredService) -> None:
    runtime.start(spec)
    assert ask(spec.port)["localhost"] == "127.0.0.1"


def test_a_working_folder_that_no_layer_has_is_made(lab: Lab, runtime: Runtime, spec: DesiredService) -> None:
    image = lab.image("elsewhere", working_dir="/nowhere/at/all")
    runtime.prepare(image)
    runtime.start(replace(spec, image=image))
    assert ask(spec.port)["cwd"] == "/nowhere/at/all" or lab.kind == "process"
    runtime.stop("churn", 1)
    runtime.forget_image(image)


def test_another_device_s_service_of_the_same_name_is_left_alone(
    lab: Lab, runtime: Runtime, spec: DesiredService, open_dir: Path, free_port: Callable[[], int]
) -> None:
    if lab.kind not in ("docker", "podman"):
        pytest.skip("each device has its own")
    runtime.start(spec)
    other = lab.runtime(copy_store(lab.store, open_dir / "other/store"))
    mine = replace(spec, port=free_port())
    other.prepare(mine.image)
    assert other.inspect("churn") is None
    other.stop("churn", 1)
    with pytest.raises(RuntimeFailedError, match=r"container edgepack-churn belongs to the device in .*another name"):
        other.start(mine)
    assert ask(spec.port)["text"] == "one"
    shutil.rmtree(open_dir / "other")


def test_a_missing_blob_is_named(lab: Lab, open_dir: Path) -> None:
    store = copy_store(lab.store, open_dir / "store")
    image = lab.image("incomplete", store)
    layer = store.manifest(store.describe(image)).layers[-1]
    store.path(layer.digest).unlink()
    with pytest.raises(NotFoundError, match=layer.digest.hex):
        lab.runtime(store).prepare(image)


def test_an_image_that_was_never_prepared(runtime: Runtime, spec: DesiredService) -> None:
    absent = Digest.of(b"absent")
    with pytest.raises(NotFoundError, match=absent.hex):
        runtime.prepare(absent)
    with pytest.raises(NotFoundError, match=absent.hex):
        runtime.start(replace(spec, image=absent))
    runtime.forget_image(absent)


# What a service is given of the device


@pytest.fixture
def device(lab: Lab) -> Iterator[str]:
    """A character device that reads as zeros, which only a group of its own may open; any where none can be made."""
    if os.geteuid() != 0:
        yield "/dev/urandom"
        return
    path = f"/dev/edp-{os.getpid()}-{lab.kind}"
    os.mknod(path, 0o660 | stat.S_IFCHR, os.makedev(1, 5))
    Path(path).chmod(0o660)
    os.chown(path, 0, 4242)
    yield path
    Path(path).unlink()


def secret(lab: Lab, name: str, text: str) -> Path:
    """A secret of the device, as its owner puts it there."""
    path = device_folder(lab) / "secrets" / name
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o600)
    return path


def device_folder(lab: Lab) -> Path:
    """The device's folder: that of its store to an engine, which keeps nothing beside it."""
    return lab.store.root.parent if lab.kind in ("docker", "podman") else lab.state


def skip_in_a_sample(lab: Lab, *kinds: str) -> None:
    """Leave out runtimes that do as another one does, but where everything is run."""
    if lab.kind in kinds and not WHOLE:
        pytest.skip("is like another one; runs with EDGEPACK_WHOLE=1")


def is_recorded_anywhere(lab: Lab, runtime: Runtime, text: str) -> bool:
    """Whether ``text`` is in what the runtime keeps of a service, or an engine shows of it."""
    if lab.kind in ("docker", "podman"):
        return text in str(runtime._container("churn").attrs)  # type: ignore[attr-defined]
    kept = [path for path in (lab.state / "run").rglob("*") if path.is_file() and "rootfs" not in path.parts]
    kept += list((lab.state / "logs").iterdir())
    return any(text.encode() in path.read_bytes() for path in kept)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_a_service_has_what_it_is_given_of_the_device_and_no_more(
    lab: Lab, runtime: Runtime, spec: DesiredService, open_dir: Path, device: str
) -> None:
    (open_dir / "read only").mkdir()
    (open_dir / "read only" / "data").write_text("of the device")
    (open_dir / "shared").mkdir()
    (open_dir / "shared").chmod(0o777)
    (open_dir / "file").write_text("a file")
    key = secret(lab, "key", "first value")
    secret(lab, "other", "of another service")
    probe = (
        "{'data': read('/given/deep/data'), 'write': writable('/given/deep'), 'shared': writable('/srv/shared'),"
        f" 'file': read('/given.txt'), 'device': read({device!r}), 'secret': read(os.environ['EDGEPACK_SECRETS'] +"
        " '/key'), 'secrets': entries('/run/secrets'), 'write_secret': writable('/run/secrets'), 'mode':"
        " oct(os.stat('/run/secrets/key').st_mode)[-3:], 'mine': os.stat('/run/secrets/key').st_uid == os.getuid(),"
        " 'groups': sorted({*os.getgroups()} - {os.getgid()}), 'environment': [one for one in os.environ.values()"
        " if one.startswith('first')]}"
    )
    given = replace(
        spec, env={"PROBE": probe}, secrets=("key",), devices=(DeviceNode(device),),
        mounts=(
            Mount(f"{open_dir}/read only", "/given/deep"), Mount(f"{open_dir}/file", "/given.txt"),
            Mount(f"{open_dir}/shared", "/srv/shared", read_only=False),
        ),
    )  # fmt: skip
    runtime.start(given)
    seen = ask(spec.port)["probe"]
    assert seen == {
        "data": "of the device", "write": False, "shared": True, "file": "a file", "device": "\0" * 64,
        "secret": "first value", "secrets": ["key"], "write_secret": False, "mode": "400", "mine": True,
        "groups": [4242], "environment": [],
    }  # fmt: skip
    assert runtime.start(given).state == "running"  # it is found as it was recorded
    assert not is_recorded_anywhere(lab, runtime, "first value")
    copies = copies_of_secrets(lab, "churn")
    assert [path.name for path in copies] == ["key"]
    assert memory_backed(copies[0])

    key.write_text("second value")
    runtime.stop("churn", 1)
    assert copies_of_secrets(lab, "churn") == []
    runtime.start(given)
    assert ask(spec.port)["probe"]["secret"] == "second value"


def copies_of_secrets(lab: Lab, service: str) -> list[Path]:
    """The copies for a service of this device: others run at the same time."""
    name = f"edgepack-secrets-{Digest.of(os.fsencode(device_folder(lab).resolve())).hex[:12]}"
    places = [Path("/run"), Path("/dev/shm"), Path(f"/run/user/{os.getuid()}")]
    return [path for place in places for path in place.glob(f"{name}/*-{service}/*")]


def memory_backed(path: Path) -> bool:
    return run("stat", "-f", "-c", "%T", path).strip() in ("tmpfs", "ramfs")


def test_what_a_service_cannot_have_of_the_device_is_refused_with_the_reason(
    lab: Lab, runtime: Runtime, spec: DesiredService, open_dir: Path
) -> None:
    skip_in_a_sample(lab, "podman", "runc")
    state = device_folder(lab)
    (open_dir / "link").symlink_to(state)
    secret(lab, "open", "x").chmod(0o640)
    (state / "secrets" / "link").symlink_to("open")
    (open_dir / "d").mkdir()
    wrong = [
        ({"mounts": (Mount(f"{open_dir}/absent", "/x"),)}, r"/absent, which its mounts name, cannot be used \(No such"),
        ({"mounts": (Mount(str(state), "/x"),)}, "holds what the agent keeps, or is in it"),
        ({"mounts": (Mount(f"{open_dir}/link", "/x"),)}, "holds what the agent keeps, or is in it"),
        ({"mounts": (Mount(str(state.parent), "/x"),)}, "holds what the agent keeps, or is in it"),
        ({"mounts": (Mount(f"{open_dir}/d", "/etc/passwd"),)}, "its image has a file at /etc/passwd, which a mount"),
        ({"mounts": (Mount(f"{open_dir}/d", "/etc"),)}, "its image has files in /etc, which a mount"),
        ({"mounts": (Mount(f"{open_dir}/d", "/etc/passwd/x"),)}, "its image has a file at /etc/passwd, which a mount"),
        ({"devices": (DeviceNode("/dev/edp-absent"),)}, r"device /dev/edp-absent is not there .*connect it"),
        ({"secrets": ("absent",)}, r"secret absent is not on this device; .*install -D -m 600 FILE .*/secrets/absent"),
        ({"secrets": ("open",)}, r"secret open is open to other users; .*chmod 600"),
        ({"secrets": ("link",)}, r"secret link cannot be read"),
    ]
    for fields, reason in wrong:
        if "mounts" in fields and os.geteuid() != 0:
            reason = "its mounts need an agent that may make mounts"
        wanted = replace(spec, **fields)
        for attempt in (
            lambda wanted=wanted: runtime.check(wanted, held=False),
            lambda wanted=wanted: runtime.start(wanted),
        ):
            with pytest.raises((RuntimeFailedError, IncompatibleError), match=reason):
                attempt()
    found = runtime.inspect("churn")
    assert found is None or found.state == "exited"
    assert copies_of_secrets(lab, "churn") == []
    if lab.kind in ("docker", "podman"):
        assert not [one for one in runtime._engine.containers() if "look" in one]  # type: ignore[attr-defined]


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_network_is_its_own_or_the_device_s_as_it_asks(
    lab: Lab, runtime: Runtime, spec: DesiredService, free_port: Callable[[], int]
) -> None:
    skip_in_a_sample(lab, "podman", "runc")
    with socket.create_server(("127.0.0.1", 0)) as other:
        probe = {"PROBE": f"reaches(('127.0.0.1', {other.getsockname()[1]}))"}
        runtime.start(replace(spec, network="own", env=probe))
        assert ask(spec.port)["probe"] is False
        runtime.start(replace(spec, network="device", env=probe))
        assert ask(spec.port)["probe"] is True
    found = runtime.inspect("churn")
    assert found is not None
    assert found.port == spec.port


def test_a_log_is_kept_within_its_quota(lab: Lab, runtime: Runtime, spec: DesiredService) -> None:
    skip_in_a_sample(lab, "runc", "process")
    runtime.start(replace(spec, log_bytes=100_000, env={"CHATTER": "20000"}))
    ask(spec.port)
    wait_until(lambda: "line 19999" in runtime.logs("churn"))
    if lab.kind in ("docker", "podman"):
        container = runtime._container("churn")  # type: ignore[attr-defined]
        path = Path(container.attrs.get("LogPath") or container.attrs["HostConfig"]["LogConfig"]["Path"])
    else:
        path = lab.state / "logs/churn.log"
    assert 0 < sum(file.stat().st_size for file in path.parent.glob(f"{path.name}*")) <= 110_000


def test_its_end_is_noticed_at_once_and_its_log_followed_over_its_restarts(
    lab: Lab, runtime: Runtime, spec: DesiredService
) -> None:
    assert runtime.watch("churn") is None
    (lab.state / "logs/churn.log").unlink(missing_ok=True)
    runtime.start(spec)
    pieces: list[str] = []
    follower = threading.Thread(target=lambda: pieces.extend(takewhile_not_over(runtime, pieces)), daemon=True)
    follower.start()
    ask(spec.port)
    watch = runtime.watch("churn")
    assert watch is not None
    with closing(watch):
        select.select([watch], [], [], 0.2)
        assert not watch.ended()
        wait_until(lambda: "starting one" in "".join(pieces))  # an engine forgets a log with its container
        os.kill(process_of(lab, runtime), signal.SIGKILL)
        deadline = time.monotonic() + 60
        while not watch.ended() and time.monotonic() < deadline:
            select.select([watch], [], [], 5)
        assert watch.ended()
    found = wait_for_exit(runtime, "churn")
    assert (found.exit_code, found.out_of_memory) == (137, False)
    assert runtime.watch("churn") is None
    runtime.start(replace(spec, env={"CRASH": "3"}))
    follower.join(60)
    assert "".join(pieces).count("starting one") == 2
    assert wait_for_exit(runtime, "churn").exit_code == 3


def takewhile_not_over(runtime: Runtime, pieces: list[str]) -> Iterator[str]:
    """All that the service writes until its second start and its crash are told.

    Which of them comes first is not known: an engine reads the two streams of a container one beside the other.
    """
    for piece in runtime.follow("churn", lines=10):
        yield piece
        text = "".join(pieces)
        if "crashing" in text and text.count("starting one") == 2:
            return


def process_of(lab: Lab, runtime: Runtime) -> int:
    """The first process of the service, by its number on the device."""
    if lab.kind in ("docker", "podman"):
        return int(runtime._container("churn").attrs["State"]["Pid"])  # type: ignore[attr-defined]
    folder = lab.state / "run" / lab.kind / "churn"
    if lab.kind == "process":
        return int(json.loads((folder / "process.json").read_bytes())["service"][0])
    return int((folder / "pid").read_text())


@pytest.mark.parametrize("part", ["layer", "config", "manifest"])
def test_an_altered_blob_is_refused_and_mended_by_a_good_one(lab: Lab, open_dir: Path, part: str) -> None:
    store = copy_store(lab.store, open_dir / "store")
    image = lab.image(f"altered {part}", store)
    manifest = store.manifest(store.describe(image))
    digest = {"layer": manifest.layers[-1].digest, "config": manifest.config.digest, "manifest": image}[part]
    good = store.path(digest).read_bytes()
    bad = bytearray(good)
    bad[len(bad) // 2] ^= 1
    store.path(digest).write_bytes(bad)
    runtime = lab.runtime(store)
    with pytest.raises(VerificationError):
        runtime.prepare(image)
    store.path(digest).write_bytes(good)
    runtime.prepare(image)
    runtime.forget_image(image)


def test_another_platform_is_refused(lab: Lab, runtime: Runtime) -> None:
    foreign = lab.image("foreign", platform=Platform("linux", "riscv64"))
    with pytest.raises(IncompatibleError, match="linux/riscv64"):
        runtime.prepare(foreign)


def test_forgetting_an_image_gives_its_disk_back_but_not_another_s(lab: Lab, runtime: Runtime, open_dir: Path) -> None:
    first, second = lab.image("first"), lab.image("second")
    runtime.prepare(first)
    runtime.prepare(second)
    before = held(lab, runtime)
    runtime.forget_image(first)
    assert held(lab, runtime) == before - 1
    runtime.forget_image(first)
    runtime.prepare(second)
    assert held(lab, runtime) == before - 1
    runtime.prepare(first)
    assert held(lab, runtime) == before
    runtime.forget_image(first)
    runtime.forget_image(second)
    assert held(lab, runtime) == before - 2


def held(lab: Lab, runtime: Runtime) -> int:
    """How many images, or layers of images, take disk."""
    if lab.kind in ("docker", "podman"):
        return len(runtime._engine.images())  # type: ignore[attr-defined]
    return len([path for path in (lab.state / "layers").iterdir() if path.is_dir()])


def test_an_engine_pulls_only_what_it_lacks(lab: Lab, runtime: Runtime, monkeypatch: pytest.MonkeyPatch) -> None:
    if lab.kind not in ("docker", "podman"):
        pytest.skip("no engine")
    from edge_agent.runtimes.engine import images

    sent: list[Digest] = []
    monkeypatch.setattr(images, "serve", lambda store: serve(store, on_blob=lambda digest, amount: sent.append(digest)))
    image = lab.image("small change")
    runtime.prepare(image)
    manifest = lab.store.manifest(lab.store.describe(image))
    assert sorted(sent) == sorted([manifest.config.digest, manifest.layers[-1].digest])
    runtime.prepare(image)
    assert len(sent) == 2
    runtime.forget_image(image)


def test_an_engine_that_does_not_pull_is_given_an_archive(
    lab: Lab, runtime: Runtime, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    if lab.kind not in ("docker", "podman"):
        pytest.skip("no engine")
    from edge_agent.runtimes.engine.errors import EngineRefusedError
    from edge_agent.runtimes.engine.images import EngineImages

    def refuse(self: EngineImages, image: Digest, manifest: object) -> None:
        raise EngineRefusedError("it refuses plain http", where=f"image {image}")

    monkeypatch.setattr(EngineImages, "_pull", refuse)
    image = lab.image("by archive")
    runtime.prepare(image)
    port = free_port()
    runtime.start(DesiredService("churn", image, port))
    assert ask(port)["text"] == "by archive"
    runtime.stop("churn", 1)
    runtime.forget_image(image)


def test_an_image_that_runs_is_not_forgotten(runtime: Runtime, spec: DesiredService) -> None:
    runtime.start(spec)
    runtime.forget_image(spec.image)
    assert ask(spec.port)["text"] == "one"
    runtime.start(replace(spec, env={}))
    assert ask(spec.port)["greeting"] is None


PREPARE = """
import sys
from pathlib import Path
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
sys.path.insert(0, sys.argv[1])
from tests.edge_agent.support.runtimes import make_runtime
kind, store, state, address, image = sys.argv[2:]
runtime = make_runtime(kind, Store.create(Path(store)), Path(state), address or None)
print("go", flush=True)
runtime.prepare(Digest.parse(image))
"""


@pytest.mark.parametrize("delay", [0.0, 0.1, 0.3])
def test_killed_while_it_prepares_it_prepares_again(
    lab: Lab, open_dir: Path, free_port: Callable[[], int], delay: float
) -> None:
    store = copy_store(lab.store, open_dir / "store")
    state = open_dir / "state"
    image = lab.image(f"killed after {delay}", store)
    argv = [sys.executable, "-c", PREPARE, str(ROOT)]
    argv += [lab.kind, str(store.root), str(state), lab.address or "", str(image)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"go\n"
        time.sleep(delay)
        child.kill()
    runtime = lab.runtime(store, state)
    runtime.prepare(image)
    assert not list(state.glob("**/*.tmp"))
    port = free_port()
    runtime.start(DesiredService("killed", image, port))
    try:
        assert ask(port)["text"] == f"killed after {delay}"
    finally:
        runtime.stop("killed", 1)
        runtime.forget_image(image)


START = """
import sys
from pathlib import Path
from edgepack.state.desired import DesiredService
from edgepack.state.host_access import DeviceNode, Mount
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
sys.path.insert(0, sys.argv[1])
from tests.edge_agent.support.runtimes import make_runtime
kind, store, state, address, image, port = sys.argv[2:]
runtime = make_runtime(kind, Store.create(Path(store)), Path(state), address or None)
print("go", flush=True)
runtime.start(DesiredService("churn", Digest.parse(image), int(port), env={"GREETING": "hello there"}))
"""


@pytest.mark.parametrize("delay", [0.01, 0.04])
def test_killed_while_it_starts_a_service_there_is_one_of_it_in_the_end(
    lab: Lab, runtime: Runtime, spec: DesiredService, delay: float
) -> None:
    argv = [sys.executable, "-c", START, str(ROOT)]
    argv += [lab.kind, str(lab.store.root), str(lab.state), lab.address or "", str(spec.image), str(spec.port)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"go\n"
        time.sleep(delay)
        child.kill()
    assert runtime.start(spec).state == "running"
    assert ask(spec.port)["text"] == "one"
    runtime.stop("churn", 1)
    assert runtime.inspect("churn") is None
    assert not listens(spec.port)
    assert f"{lab.state}/run" not in mounts_below(lab.state)
