"""A service without a container: the system calls it may make, the rights it has, and the files it may change."""

from __future__ import annotations

import ast
import ctypes
import ctypes.util
import os
import signal
import struct
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from edge_agent.runtimes import reach, seccomp, seccomp_program
from edge_agent.runtimes.base import Runtime
from edgepack.errors import IncompatibleError, RuntimeFailedError
from edgepack.oci.store import Store
from edgepack.state.desired import DesiredService
from edgepack.state.host_access import DeviceNode, Mount
from tests.edge_agent.support.runtimes import build_image, make_runtime
from tests.support.waiting import wait_until

ROOT = os.geteuid() == 0
MACHINES = ("x86_64", "aarch64", "riscv64")
NOT_PERMITTED, NOT_THERE, ALLOWED = 0x00050000 | 1, 0x00050000 | 38, 0x7FFF0000


@pytest.mark.parametrize("machine", MACHINES)
def test_the_numbers_of_system_calls_are_those_that_libseccomp_knows(machine: str) -> None:
    name = ctypes.util.find_library("seccomp")
    if name is None:
        pytest.skip("libseccomp is not here")
    resolve = ctypes.CDLL(name).seccomp_syscall_resolve_name_arch
    audit = seccomp_program._PROCESSORS[machine][0]
    known = {one: resolve(ctypes.c_uint32(audit), one.encode()) for one in seccomp_program.numbers(machine)}
    # A library that is older than a call does not know it.
    assert {one: number for one, number in seccomp_program.numbers(machine).items() if known[one] != number} == {
        one: seccomp_program.numbers(machine)[one] for one in known if known[one] == -1
    }
    there = {one for one in seccomp.REFUSED if resolve(ctypes.c_uint32(audit), one.encode()) >= 0}
    assert there <= set(seccomp_program.numbers(machine))


def answer(program: bytes, audit: int, number: int, first: int = 0) -> int:
    """What the kernel would answer: the program, as bpf(4) says that it is carried out."""
    data = struct.pack("=IIQ6Q", number, audit, 0, first, 0, 0, 0, 0, 0)
    lines = [struct.unpack_from("=HBBI", program, at) for at in range(0, len(program), 8)]
    at, value = 0, 0
    while True:
        code, yes, no, operand = lines[at]
        at += 1
        if code == 0x20:
            (value,) = struct.unpack_from("=I", data, operand)
        elif code == 0x06:
            return int(operand)
        else:
            holds = {0x15: value == operand, 0x35: value >= operand, 0x45: bool(value & operand)}[code]
            at += yes if holds else no


@pytest.mark.parametrize("machine", MACHINES)
def test_the_filter_refuses_what_containers_are_refused(machine: str) -> None:
    program = seccomp_program.program(machine)
    assert program is not None
    audit, known = seccomp_program._PROCESSORS[machine][0], seccomp_program.numbers(machine)
    special = {"clone", "clone3", "socket", "personality"}
    for name in known.keys() - special:
        assert answer(program, audit, known[name]) == NOT_PERMITTED, name
    for number in {0, 1, 2, 3, 60, 63, 64, 93, 231, 434, 436, 441, 449} - set(known.values()):
        assert answer(program, audit, number) == ALLOWED
    assert answer(program, audit, known["clone3"]) == NOT_THERE
    assert answer(program, audit, known["clone"], 0x003D0F00) == ALLOWED  # as a C library makes threads
    assert answer(program, audit, known["clone"], 0x10000000) == NOT_PERMITTED
    assert answer(program, audit, known["socket"], 2) == ALLOWED
    assert answer(program, audit, known["socket"], 40) == NOT_PERMITTED
    found = {answer(program, audit, known["personality"], one) for one in seccomp.PERSONALITIES}
    assert (found, answer(program, audit, known["personality"], 0x0040000)) == ({ALLOWED}, NOT_PERMITTED)
    assert answer(program, 0x40000003, 1) == NOT_THERE  # of 32 bits
    assert answer(program, audit, 0x40000001) == (NOT_THERE if machine == "x86_64" else ALLOWED)
    assert seccomp_program.program("armv7l") is None


TRIES = """
import ctypes, os, socket, threading
libc = ctypes.CDLL(None, use_errno=True)
def call(*numbers):
    return 0 if libc.syscall(*numbers) >= 0 else ctypes.get_errno()
def try_to(work):
    try:
        return work() and None
    except OSError as error:
        return error.errno
def write(path):
    with open(path + "/edp-probe", "w"):
        pass
    os.unlink(path + "/edp-probe")
thread = threading.Thread(target=lambda: None)
thread.start()
thread.join()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print({
    "status": [status[name].strip() for name in ("NoNewPrivs", "Seccomp", "CapBnd", "CapEff")],
    "unshare": call(NUMBERS["unshare"], 0x10000000), "clone3": call(435, 0, 0), "keyctl": call(NUMBERS["keyctl"], 0),
    "vsock": try_to(lambda: socket.socket(40, socket.SOCK_STREAM)), "tcp": try_to(lambda: socket.socket()),
    "spared": int(open("/proc/self/oom_score_adj").read()), "blocked": status["SigBlk"].strip(),
    "null": try_to(lambda: open("/dev/null", "w").close()),
    "comm": try_to(lambda: open("/proc/self/comm", "w").close()),
    "tmp": try_to(lambda: write("/tmp")), "open": try_to(lambda: write(OPEN)),
    "lock": try_to(lambda: __import__("multiprocessing").Lock()),
}, flush=True)
print("!", flush=True)
"""


@pytest.fixture
def runtime(open_dir: Path) -> Iterator[Runtime]:
    made = make_runtime("process", Store.create(open_dir / "store"), open_dir / "state", None)
    yield made
    made.stop("churn", 1)


@pytest.fixture
def start(runtime: Runtime, open_dir: Path, free_port: Callable[[], int]) -> Callable[..., dict[str, Any]]:
    """Runs ``TRIES`` as a service, and gives what it found."""
    store = Store(open_dir / "store")

    def run(text: str, **fields: Any) -> dict[str, Any]:
        folder = open_dir / "everybody's"
        folder.mkdir(exist_ok=True)
        folder.chmod(0o777)
        numbers = seccomp_program.numbers(os.uname().machine)
        start = f"NUMBERS = {numbers!r}\nOPEN = {str(folder)!r}\n" + text
        image = build_image(store, None, start, entrypoint=ENTRY)
        runtime.prepare(image)
        runtime.stop("churn", 1)
        (open_dir / "state/logs/churn.log").unlink(missing_ok=True)
        runtime.start(DesiredService("churn", image, free_port(), env={"RUN": start}, **fields))
        wait_until(lambda: "!" in runtime.logs("churn") or runtime.inspect("churn").state == "exited")  # type: ignore[union-attr]
        said = runtime.logs("churn")
        return dict(ast.literal_eval(next(line for line in said.splitlines() if line.startswith("{"))))

    return run


ENTRY = (f"/usr/bin/python3.{__import__('sys').version_info.minor}", "-c", "import os; exec(os.environ['RUN'])")


@pytest.mark.skipif(os.uname().machine not in MACHINES, reason="no filter for this processor")
def test_a_process_is_confined_as_far_as_the_agent_may(start: Callable[..., dict[str, Any]]) -> None:
    found = start(TRIES)
    no_new_privileges, filtered, bounding, effective = found["status"]
    assert (no_new_privileges, filtered, int(effective, 16)) == ("1", "2", 0)
    if ROOT:
        assert int(bounding, 16) == 0
    assert (found["unshare"], found["clone3"], found["keyctl"], found["vsock"]) == (1, 38, 1, 1)
    assert [found[name] for name in ("tcp", "lock", "null", "comm")] == [None] * 4
    # Below /tmp everybody may write what he may; elsewhere nobody.
    assert (found["tmp"], found["open"]) == (None, None)


def test_a_service_is_not_spared_as_its_agent_is(start: Callable[..., dict[str, Any]]) -> None:
    own = Path("/proc/self/oom_score_adj")
    before = own.read_text()
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})
    try:
        with suppress(PermissionError):  # only who may raise limits may be spared
            own.write_text("-500")  # as the unit of systemd says for an agent
        found = start(TRIES)
        assert (found["spared"], int(found["blocked"], 16)) == (0, 0)
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGUSR1})
        own.write_text(before)


@pytest.mark.skipif(not ROOT or not reach.can_seal(), reason="needs root and Linux 5.12")
def test_the_device_s_files_are_read_only_to_a_process_but_for_its_mounts(
    start: Callable[..., dict[str, Any]], open_dir: Path
) -> None:
    folder = Path("/var/lib/edp-everybody's")
    folder.mkdir()
    folder.chmod(0o777)
    try:
        text = f"OPEN = {str(folder)!r}\n{TRIES}"
        assert start(text)["open"] == 30  # EROFS
        assert start(text, mounts=(Mount(str(folder), str(folder), read_only=False),))["open"] is None
    finally:
        folder.rmdir()


def test_what_a_process_cannot_have_is_refused_with_the_way_out(
    runtime: Runtime, open_dir: Path, free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "can_arrange_mounts", lambda: False)
    image = build_image(Store(open_dir / "store"), None, "x")
    runtime.prepare(image)
    spec = DesiredService("churn", image, free_port())
    for fields, reason in (
        ({"mounts": (Mount("/srv", "/x"),)}, "its mounts need an agent that may make mounts.*or leave mounts out"),
        ({"devices": (DeviceNode("/dev/tty9", "/dev/x"),)}, "device /dev/tty9 cannot have another name without"),
        ({"secrets": ("key",)}, "its secrets need an agent that may make mounts" if ROOT else "secret key is not on"),
    ):
        with pytest.raises((IncompatibleError, RuntimeFailedError), match=reason):
            runtime.start(DesiredService("churn", image, spec.port, **fields))  # type: ignore[arg-type]


@pytest.mark.skipif(ROOT, reason="is for an agent that is not root")
def test_without_root_a_process_finds_its_secrets_by_name(start: Callable[..., dict[str, Any]], open_dir: Path) -> None:
    (open_dir / "state/secrets").mkdir(parents=True)
    (open_dir / "state/secrets/key").touch(0o600)
    (open_dir / "state/secrets/key").write_text("value")
    text = "print({'seen': open(os.environ['EDGEPACK_SECRETS'] + '/key').read()}, flush=True)\nprint('!', flush=True)"
    assert start(text, secrets=("key",)) == {"seen": "value"}
