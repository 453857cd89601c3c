"""What only one runtime has to do: mounts, process identities, this machine's Python, and the choice between them."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.runtimes import processes, reach, supervision
from edge_agent.runtimes.base import Runtime
from edge_agent.runtimes.crun import ControlGroupError, CrunRuntime
from edge_agent.runtimes.engine.connect import sockets
from edge_agent.runtimes.engine.errors import EngineRefusedError, refused
from edge_agent.runtimes.instances import service_lock, tail
from edge_agent.runtimes.process import check_executable
from edge_agent.runtimes.select import choose
from edge_agent.runtimes.supervisor import checksum, start_ticks
from edge_agent.runtimes.translate import command, environment, python_minor
from edge_agent.runtimes.unpacked.images import UnpackedImage
from edge_agent.runtimes.unpacked.trees import merge_trees
from edgepack.errors import (
    IncompatibleError,
    InvalidReferenceError,
    MissingPartError,
    NoSpaceError,
    RuntimeFailedError,
    UnsafeArchiveError,
)
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.layer import Layer, LayerEntry, NoCompression, write_layer
from edgepack.oci.manifest import Manifest
from edgepack.oci.store import Store
from edgepack.state.desired import DesiredService
from tests.edge_agent.support.runtimes import build_image, copy_store, make_runtime
from tests.support.running import run
from tests.support.waiting import wait_until


def test_a_signal_is_for_a_process_and_not_for_the_next_one_with_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["sleep", "60"]) as child:
        ticks, boot = start_ticks(child.pid) or 0, processes.boot_id()
        for other in (
            processes.ProcessIdentity(child.pid, ticks + 1, boot), processes.ProcessIdentity(child.pid, ticks, "-"),
            processes.ProcessIdentity(1 << 30, ticks, boot),
        ):  # fmt: skip
            assert not other.signal(signal.SIGKILL)
        known = processes.ProcessIdentity(child.pid, ticks, boot)
        assert known.signal(0)
        with monkeypatch.context() as patch:
            patch.delattr(os, "pidfd_open")  # as by a Python or a kernel without
            assert not processes.ProcessIdentity(child.pid, ticks + 1, boot).signal(signal.SIGKILL)
            assert known.signal(0)
        assert known.signal(signal.SIGTERM)
        assert child.wait(30) == -signal.SIGTERM
        assert not known.signal(signal.SIGTERM)


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def store(open_dir: Path) -> Store:
    return Store.create(open_dir / "store")


@pytest.fixture
def process(store: Store, open_dir: Path) -> Iterator[Runtime]:
    runtime = make_runtime("process", store, open_dir / "state", None)
    yield runtime
    runtime.stop("churn", 1)


def script(store: Store, text: str, layers: tuple[Layer, ...] = (), **changes: Any) -> Digest:
    """An image of kind ``code`` that runs ``text`` as ``python3.11 -m app``."""
    app = write_layer([LayerEntry.of_bytes("srv/app.py", text.encode())], store, NoCompression(), kind="code")
    every = (*layers, app)
    fields: dict[str, Any] = {
        "platform": Platform.host(),
        "diff_ids": tuple(layer.diff_id for layer in every),
        "env": {"PYTHONPATH": "/srv"},
        "entrypoint": (f"/usr/bin/python3.{sys.version_info.minor}", "-m", "app"),
    }
    config = store.put_bytes(ImageConfig(**(fields | changes)).to_bytes(), mediatypes.CONFIG)
    manifest = Manifest(config, tuple(layer.descriptor for layer in every))
    return store.put_bytes(manifest.to_bytes(), mediatypes.MANIFEST).digest


# Processes


def test_a_process_sees_no_package_of_this_machine(process: Runtime, store: Store, free_port: Any) -> None:
    image = script(store, "import sys\nprint(sys.path, flush=True)\nimport pytest")
    process.prepare(image)
    process.start(DesiredService("churn", image, free_port()))
    wait_until(lambda: "No module named 'pytest'" in process.logs("churn"))


def test_the_tree_holds_all_layers_but_the_base(process: Runtime, store: Store, open_dir: Path) -> None:
    def layer(kind: str, **files: str) -> Layer:
        entries = [LayerEntry.of_bytes(f"srv/{name}", text.encode()) for name, text in files.items()]
        return write_layer(entries, store, NoCompression(), kind=kind)

    image = script(store, "x", (layer("base", base="b"), layer("wheel", both="1", first="1"), layer("model", both="2")))
    process.prepare(image)
    tree = open_dir / "state/rootfs" / image.hex / "srv"
    assert {path.name: path.read_text() for path in tree.iterdir()} == {"both": "2", "first": "1", "app.py": "x"}
    assert (tree / "first").stat().st_nlink == 2  # no disk is taken twice
    process.forget_image(image)
    assert not tree.exists()


def test_a_program_that_starts_others_is_ended_with_them(process: Runtime, store: Store, free_port: Any) -> None:
    text = (
        "import os, signal, subprocess, sys, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'], process_group=0)\n"
        "print('child', child.pid, flush=True)\ntime.sleep(600)"
    )
    image = script(store, text)
    process.prepare(image)
    process.start(DesiredService("churn", image, free_port()))
    wait_until(lambda: "child" in process.logs("churn"))
    child = int(process.logs("churn").split()[-1])
    assert start_ticks(child) is not None
    process.stop("churn", 0.2)
    assert start_ticks(child) is None


# Forks twice, as daemons do: the second child is in another session, has no living parent, and is hard to end.
DAEMON = """
import os, signal, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print('child', os.getpid(), flush=True)
    time.sleep(600)
os.wait()
"""


@pytest.mark.parametrize("by_itself", [False, True], ids=["stopped", "ends by itself"])
def test_what_a_service_leaves_behind_ends_with_it(
    process: Runtime, store: Store, open_dir: Path, free_port: Any, by_itself: bool
) -> None:
    go = open_dir / "go"
    wait = f"while not os.path.exists({str(go)!r}):\n    time.sleep(0.02)\nsys.exit(3)"
    image = script(store, DAEMON + wait)
    process.prepare(image)
    process.start(DesiredService("churn", image, free_port()))
    wait_until(lambda: "child" in process.logs("churn"))
    child = int(process.logs("churn").split()[-1])
    assert start_ticks(child) is not None
    if by_itself:
        go.touch()
        wait_until(lambda: process.inspect("churn").exit_code == 3)  # type: ignore[union-attr]
    else:
        process.stop("churn", 0.2)
    assert start_ticks(child) is None


def test_a_process_number_that_was_given_to_another_is_not_touched(
    process: Runtime, store: Store, open_dir: Path, free_port: Any
) -> None:
    image = script(store, "import time\ntime.sleep(600)")
    process.prepare(image)
    spec = DesiredService("churn", image, free_port())
    process.start(spec)
    record = open_dir / "state/run/process/churn/process.json"
    value = json.loads(record.read_text())
    time.sleep(0.05)  # the kernel counts starts in hundredths of a second
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"], start_new_session=True) as other:
        try:
            mine = value["service"][0]
            value["service"][0] = other.pid  # as after a reboot, or when numbers have gone round
            del value["crc32"]
            record.write_text(json.dumps({**value, "crc32": checksum(value)}))
            found = process.inspect("churn")
            os.kill(mine, signal.SIGKILL)
            assert found is not None
            assert found.state == "exited"
            process.stop("churn", 0.1)
            assert other.poll() is None
        finally:
            other.kill()


def test_a_record_of_another_boot_is_of_nothing_that_runs(
    process: Runtime, store: Store, open_dir: Path, free_port: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = script(store, "import time\ntime.sleep(600)")
    process.prepare(image)
    process.start(DesiredService("churn", image, free_port()))
    with monkeypatch.context() as patch:
        patch.setattr(processes, "boot_id", lambda: "another")
        found = process.inspect("churn")
        assert found is not None
        assert (found.state, found.exit_code) == ("exited", None)
    assert process.inspect("churn") != found


def test_every_process_but_the_kernel_s_own_may_be_of_a_service() -> None:
    long = "x" * 100_000  # more than is read at once
    with subprocess.Popen([sys.executable, "-c", "input()", long, "the end"], stdin=subprocess.PIPE) as child:
        wait_until(lambda: processes._words(child.pid)[-2:] == [b"the end", b""])
        found = processes.living()
        assert found[child.pid].parent == os.getpid()
        threads = Path("/proc/2/comm")
        assert not threads.exists() or threads.read_text() != "kthreadd\n" or 2 not in found
        child.communicate(b"\n")


def test_another_python_is_named(process: Runtime, store: Store) -> None:
    with pytest.raises(IncompatibleError, match=r"Python 3\.99.*install python3\.99"):
        process.prepare(script(store, "x", entrypoint=("/usr/bin/python3.99", "-m", "app")))


NOT_UTF8 = os.fsdecode(b"not \xff unicode")


def test_a_path_need_not_be_unicode(store: Store, open_dir: Path, free_port: Any) -> None:
    runtime = make_runtime("process", store, open_dir / NOT_UTF8, None)
    image = script(store, "import time\nprint('here', flush=True)\ntime.sleep(600)")
    runtime.prepare(image)
    try:
        runtime.start(DesiredService("churn", image, free_port()))
        wait_until(lambda: "here" in runtime.logs("churn"))
    finally:
        runtime.stop("churn", 1)


@as_root
@pytest.mark.real("crun")
def test_a_path_that_the_program_cannot_write_down_is_refused(store: Store, open_dir: Path) -> None:
    runtime = make_runtime("crun", store, open_dir / NOT_UTF8, None)
    with pytest.raises(IncompatibleError, match="its path is not UTF-8, and crun takes no other; give another --state"):
        runtime.prepare(script(store, "x"))


@as_root
def test_a_file_system_from_which_nothing_can_be_run_is_named(store: Store, open_dir: Path) -> None:
    (open_dir / "state").mkdir()
    run("mount", "-t", "tmpfs", "-o", "noexec,size=1m", "none", open_dir / "state")
    try:
        program = open_dir / "state/python3.11"
        program.touch()
        with pytest.raises(IncompatibleError, match=r"noexec, so that python3\.11 cannot be run .*another --state-dir"):
            check_executable(program)
        check_executable(Path(sys.executable))
    finally:
        run("umount", open_dir / "state")


@as_root
@pytest.mark.real("crun")
def test_root_that_may_not_mount_runs_plain_processes(
    store: Store, open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "has_capability", lambda number: False)  # as in a container
    monkeypatch.setenv("DOCKER_HOST", f"unix://{open_dir}/none.sock")
    assert choose("auto", open_dir / "state", store).name == "process"
    with pytest.raises(MissingPartError, match=r"it may not mount anything .*use --runtime process"):
        choose("crun", open_dir / "state", store)
    hidden = io.BytesIO()
    with tarfile.open(fileobj=hidden, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("srv/sub/.wh..wh..opq"))
    data = store.put_bytes(hidden.getvalue(), mediatypes.LAYER, {mediatypes.LAYER_KIND: "code"})
    image = script(store, "x", (Layer(data, data.digest, data.size),))
    choose("process", open_dir / "state", store).prepare(image)
    # In the form that overlay mounts do not read, and so not among those that they do.
    assert not (open_dir / "state/layers" / data.digest.hex).exists()


def test_an_image_that_does_not_name_its_base_does_not_run_as_a_process(process: Runtime, store: Store) -> None:
    layer = write_layer([LayerEntry.of_bytes("a", b"b")], store, NoCompression(), kind="x")
    nameless = Layer(store.put_bytes(store.read(layer.descriptor), mediatypes.LAYER), layer.diff_id, 0)
    with pytest.raises(IncompatibleError, match="layers are the base"):
        process.prepare(script(store, "x", (nameless,)))


def test_a_program_that_cannot_be_entered_fails_at_start(open_dir: Path) -> None:
    (open_dir / "f").mkdir()
    with service_lock(open_dir, "churn") as lock, pytest.raises(RuntimeFailedError, match="/absent/program"):
        supervision.launch(open_dir / "f", ["/absent/program"], env={}, cwd=open_dir, log=open_dir / "log", lock=lock)


@as_root
def test_as_root_the_service_is_the_images_user_where_it_can_be(process: Runtime, store: Store, free_port: Any) -> None:
    import edge_agent.runtimes.process as module

    image = script(store, "import os\nprint('uid', os.getuid(), flush=True)", user="10001:10001")
    process.prepare(image)
    process.start(DesiredService("churn", image, free_port()))
    wait_until(lambda: "uid" in process.logs("churn"))
    config = ImageConfig(Platform.host(), user="10001:10001")
    reachable = module._user(config, "churn", (Path(sys.executable).resolve(),)) is not None
    assert f"uid {10001 if reachable else os.getuid()}" in process.logs("churn")


def test_words_and_lists_of_paths_are_translated_where_the_tree_has_them(tmp_path: Path) -> None:
    (tmp_path / "opt/a").mkdir(parents=True)
    config = ImageConfig(Platform.host(), entrypoint=("/usr/bin/python3.11", "-m", "x", "--at=/opt/a", "/opt/a"))
    assert python_minor(config) == 11
    assert command(config, "/py", tmp_path) == ["/py", "-s", "-S", "-m", "x", "--at=/opt/a", f"{tmp_path}/opt/a"]
    env = environment({"P": "/opt/a:/opt/b:", "PATH": "/opt/a:/usr/bin", "N": "/", "U": "/opt/../etc"}, tmp_path)
    assert env["P"] == f"{tmp_path}/opt/a:/opt/b:"
    assert env["PATH"].startswith(f"{tmp_path}/opt/a:/usr/local/bin")
    assert (env["N"], env["U"]) == ("/", "/opt/../etc")


def test_merging_lets_later_layers_win_whatever_stands_there(tmp_path: Path) -> None:
    for name in ("a/d/x", "a/f", "a/l", "b/f/y", "c/l/z"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "b/d").symlink_to("f")
    (tmp_path / "a/l").unlink()
    (tmp_path / "a/l").symlink_to("/etc")
    merge_trees([tmp_path / "a", tmp_path / "b", tmp_path / "c"], tmp_path / "out")
    assert str((tmp_path / "out/d").readlink()) == "f"
    assert (tmp_path / "out/f/y").read_text() == "b/f/y"
    assert (tmp_path / "out/l/z").read_text() == "c/l/z"  # the link to /etc was replaced, not followed
    os.mkfifo(tmp_path / "a/p")
    with pytest.raises(UnsafeArchiveError, match="/p"):
        merge_trees([tmp_path / "a"], tmp_path / "other")
    assert not list(tmp_path.glob("other*"))


# Containers without an engine


@as_root
@pytest.mark.real("crun", "mmdebstrap")
def test_after_a_reboot_the_service_is_found_exited_and_starts_again(
    base_store: tuple[Store, Layer], open_dir: Path, free_port: Any
) -> None:
    store = copy_store(base_store[0], open_dir / "store")
    runtime = make_runtime("crun", store, open_dir / "state", None)
    image = build_image(store, base_store[1], "x")
    runtime.prepare(image)
    spec = DesiredService("churn", image, free_port())
    runtime.start(spec)
    bundle = open_dir / "state/run/crun/churn"
    found = supervision.find(bundle)
    assert found is not None
    # What a power cut leaves: no process, no mount, but every file.
    os.kill(found.supervisor.pid, signal.SIGKILL)
    os.kill(found.service.pid, signal.SIGKILL)
    os.kill(int((bundle / "pid").read_text()), signal.SIGKILL)
    run("umount", "--lazy", bundle / "rootfs")
    try:
        wait_until(lambda: not found.service.alive and runtime.inspect("churn").state == "exited")  # type: ignore[union-attr]
        assert runtime.start(spec).state == "running"
    finally:
        runtime.stop("churn", 1)
    assert not bundle.exists()
    assert str(open_dir) not in Path("/proc/self/mounts").read_text()


# The record of each program, with its fields for the first process and when that started.
CONTAINER_RECORDS = {
    "crun": ("status", "pid", "process-start-time"),
    "runc": ("state.json", "init_process_pid", "init_process_start"),
}


@as_root
@pytest.mark.real("crun", "runc", "mmdebstrap")
@pytest.mark.parametrize("kind", CONTAINER_RECORDS)
def test_a_container_of_another_boot_whose_number_is_anothers_now_is_not_touched(
    kind: str, base_store: tuple[Store, Layer], open_dir: Path, free_port: Any
) -> None:
    """A device that starts the same way each time may give the same number at the same moment after each start."""
    store = copy_store(base_store[0], open_dir / "store")
    runtime = make_runtime(kind, store, open_dir / "state", None)
    image = build_image(store, base_store[1], "x")
    runtime.prepare(image)
    spec = DesiredService("churn", image, free_port())
    runtime.start(spec)
    bundle = open_dir / f"state/run/{kind}/churn"
    found = supervision.find(bundle)
    assert found is not None
    for pid in (found.supervisor.pid, found.service.pid, int((bundle / "pid").read_text())):
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not found.service.alive)
    run("umount", "--lazy", bundle / "rootfs")
    with subprocess.Popen(["sleep", "600"], start_new_session=True) as other:
        try:
            for name in ("process.json", "process.copy.json"):
                value = json.loads((bundle / name).read_bytes()) | {"boot": "another"}
                value["service"] = value["supervisor"] = [other.pid, start_ticks(other.pid)]
                del value["crc32"]
                (bundle / name).write_text(json.dumps({**value, "crc32": checksum(value)}))
            name, number, start = CONTAINER_RECORDS[kind]
            record = open_dir / "state" / kind / "edgepack-churn" / name
            value = json.loads(record.read_bytes()) | {number: other.pid, start: start_ticks(other.pid)}
            record.write_text(json.dumps(value))

            seen = runtime.inspect("churn")
            assert seen is not None
            assert (seen.state, seen.exit_code) == ("exited", None)
            assert runtime.start(spec).state == "running"
            assert other.poll() is None
            runtime.stop("churn", 1)
            assert other.poll() is None
        finally:
            runtime.stop("churn", 1)
            other.kill()


@as_root
@pytest.mark.real("crun", "mmdebstrap")
def test_sixty_layers_are_mounted_and_whiteouts_hide(
    base_store: tuple[Store, Layer], open_dir: Path, free_port: Any
) -> None:
    import io
    import tarfile

    store = copy_store(base_store[0], open_dir / "store")
    runtime = make_runtime("crun", store, open_dir / "state", None)
    layers = [base_store[1]]
    for number in range(57):
        entries = [LayerEntry.of_bytes(f"many/{number}", b""), LayerEntry.of_bytes("many/last", b"%d" % number)]
        layers.append(write_layer(entries, store, NoCompression(), kind="wheel"))
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("many/.wh.0"))
    blob = store.put_bytes(data.getvalue(), mediatypes.LAYER)
    layers.append(Layer(blob, blob.digest, blob.size))
    text = "import os, time\nprint(sorted(os.listdir('/many')), open('/many/last').read(), flush=True)\ntime.sleep(600)"
    image = script(store, text, tuple(layers), entrypoint=("/usr/bin/python3.11", "-m", "app"))
    runtime.prepare(image)
    try:
        runtime.start(DesiredService("churn", image, free_port()))
        wait_until(lambda: "]" in runtime.logs("churn"))
        said = runtime.logs("churn")
        assert "'0'" not in said
        assert "'1'" in said
        assert said.strip().endswith("56")
    finally:
        runtime.stop("churn", 1)


# The choice


def test_a_choice_that_cannot_work_says_why(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingPartError, match=r"absent\.sock.*--runtime"):
        choose("docker", tmp_path, store)
    with pytest.raises(MissingPartError, match="crun is not installed"):
        choose("crun", tmp_path, store)
    assert choose("process", tmp_path, store).name == "process"
    assert choose("auto", tmp_path, store).name == "process"


@as_root
@pytest.mark.real("crun")
def test_without_an_engine_root_gets_containers(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/absent.sock")
    assert choose("auto", tmp_path, store).name == "crun"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert choose("auto", tmp_path, store).name == "process"
    with pytest.raises(MissingPartError, match="needs root"):
        choose("crun", tmp_path, store)


@pytest.mark.parametrize("name", ["", "..", "a/b", "Ä", "A", "-x", "x" * 33, "abc\n"])
def test_names_that_are_no_service(name: str, process: Runtime) -> None:
    with pytest.raises(InvalidReferenceError):
        process.inspect(name)


def test_the_tail_of_a_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert tail(log, 5) == ""
    log.write_bytes(b"".join(b"line %d\n" % number for number in range(100_000)) + b"\xff end")
    assert tail(log, 2) == "line 99999\n\ufffd end"
    assert tail(log, 0) == ""


@as_root
@pytest.mark.real("crun")
def test_without_a_control_group_a_container_runs_without_limits(
    store: Store, open_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = CrunRuntime(open_dir / "state", store)
    messages = open_dir / "messages.log"
    messages.write_text("first line\nlevel=error msg=cannot create cgroup: read-only file system\n")
    tried: list[str | None] = []

    def run(start: object, cgroup: str | None) -> None:
        tried.append(cgroup)
        if cgroup is not None:
            runtime._raise_failure(messages, spec.name)

    monkeypatch.setattr(runtime, "_run", run)
    monkeypatch.setattr(runtime, "_lay_out", lambda *_: None)
    spec = DesiredService("churn", Digest.of(b"image"), 1)
    image = UnpackedImage(spec.image, ImageConfig(Platform.host(), ()), ())
    runtime._launch(open_dir, image, spec, 0, None, told=False)

    assert tried[1:] == [None]
    messages.write_text("exec: no such file\n")
    with pytest.raises(RuntimeFailedError, match="exec: no such file") as raised:
        runtime._raise_failure(messages, "churn")
    assert not isinstance(raised.value, ControlGroupError)
    messages.unlink()
    runtime._raise_failure(messages, "churn")


def test_an_engine_whose_disk_is_full_is_named_so() -> None:
    full = refused("write /var/lib/docker/x: no space left on device", "image x")

    assert isinstance(full, NoSpaceError)
    assert isinstance(refused("manifest unknown", "image x"), EngineRefusedError)


def test_a_socket_that_another_user_hides_is_no_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    def denied(self: Path, **_: object) -> os.stat_result:
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "stat", denied)

    assert sockets({"XDG_RUNTIME_DIR": "/run/user/1"}) == ()
