"""Starts a service and stays until it has ended; run by ``supervision.launch`` with a job as JSON on standard input.

It answers on standard output, as JSON, once the service runs or could not be started.
"""

from __future__ import annotations

import json
import os
import resource
import select
import signal
import socket
import sys
import time

from edge_agent.runtimes.supervisor import checksum, kernel, start_ticks
from edge_agent.runtimes.supervisor.become import become
from edge_agent.runtimes.supervisor.control import Control
from edge_agent.runtimes.supervisor.forward import Forwarder
from edge_agent.runtimes.supervisor.log import Log
from edge_agent.runtimes.supervisor.memory import LOOK_SECONDS, MemoryWatch

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing would stay in memory as long as the service
    from edge_agent.runtimes.supervisor.job import Answer, Job

_CHUNK = 1 << 16
_PIPE_CHUNKS = 16  # a pipe holds at most a mebibyte (pipe(7))
# How long connections go on after the service has ended, for what it has sent but nobody has fetched.
_DRAIN_SECONDS = 2.0
# It is looked whether a service listens that has just begun: often at first, and less and less often.
_FIRST_PAUSE_SECONDS, _LAST_PAUSE_SECONDS, _GROWTH = 0.02, 1.0, 1.05


def main() -> None:
    """Start the job, answer, stay until it has ended, write how it ended."""
    job: Job = json.load(sys.stdin)
    if os.fork():
        os._exit(0)  # the agent's child ends here; the supervisor is a daemon of its own
    try:  # noqa: SIM105 - contextlib would stay in memory
        kernel.adopt_orphans()
    except OSError:
        pass  # a machine that is emulated: what leaves the service's session is not ended with it then
    step, way = "", job["way"]
    sockets = [socket.socket(fileno=fd) for fd in job["sockets"]]
    for one in sockets:
        one.set_inheritable(False)
    try:
        if way is not None:
            step = "network"
            kernel.own_network()
        step = "log"
        log = Log(job["log"], job["log_bytes"])
    except OSError as error:
        _answer({"error": error.strerror or str(error), "step": step})
        os._exit(1)
    memory = MemoryWatch(job["oom"])
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake_write)
    epoll = select.epoll()
    forwarder = None
    if way is not None:
        forwarder = Forwarder(epoll, sockets[0], way["inside"], sockets[1], told=way["told"])
    control = Control(epoll, job["folder"], sockets[0] if sockets else None, forwarder)
    log_read, pid = _start(job)
    if forwarder is None:
        for one in sockets[1:]:  # that of the service itself
            one.close()
    _raise_limit_of_files()
    epoll.register(wake_read, select.EPOLLIN)
    epoll.register(log_read, select.EPOLLIN)
    status = _serve(epoll, pid, wake_read, log_read, log, forwarder, memory, control)
    if forwarder is not None:
        forwarder.stop()
    _end_what_is_left()
    code = os.waitstatus_to_exitcode(status)
    _write(
        f"{job['folder']}/exit.json",
        {
            "code": 128 - code if code < 0 else code,
            "out_of_memory": code != 0 and memory.killed(),
            "said": control.said.decode("utf-8", "replace"),
        },
    )
    if forwarder is not None:
        _drain(epoll, forwarder)


def _start(job: Job) -> tuple[int, int]:
    """Start the service and answer; the reading end of its output, and its process."""
    log_read, log_write = os.pipe2(os.O_CLOEXEC)
    go_read, go_write = os.pipe()
    failed_read, failed_write = os.pipe()  # not inherited over exec: it closes when the service runs
    pid = os.fork()
    if pid == 0:
        os.close(go_write)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        become(job, log_write, go_read, failed_write)
    for fd in (failed_write, log_write, go_read):
        os.close(fd)
    os.set_blocking(log_read, False)
    # The record exists before the service does: whoever starts next knows what to stop.
    me = os.getpid()
    record = {"boot": job["boot"], "supervisor": [me, start_ticks(me)], "service": [pid, start_ticks(pid)]}
    # Twice: nobody could end a service whose only record is damaged.
    for name in ("process.json", "process.copy.json"):
        _write(f"{job['folder']}/{name}", {**record, "crc32": checksum(record)})
    os.close(job["lock"])
    os.write(go_write, b"!")
    os.close(go_write)
    step, _, error = os.read(failed_read, 4096).decode("utf-8", "replace").partition("\0")
    os.close(failed_read)
    _answer({"error": error, "step": step} if error else {})
    return log_read, pid


def _serve(
    epoll: select.epoll, pid: int, wake: int, output: int, log: Log, forwarder: Forwarder | None, memory: MemoryWatch,
    control: Control,
) -> int:  # fmt: skip
    """Keep the log, lead connections and answer the agent until the service has ended; how, as wait(2) tells."""
    look_at = time.monotonic() + LOOK_SECONDS
    pause = _FIRST_PAUSE_SECONDS
    while True:
        waits = [max(0.0, look_at - time.monotonic())] if memory.watches else []
        if forwarder is not None and forwarder.looks:
            forwarder.look()
            waits.append(pause)
            pause = min(pause * _GROWTH, _LAST_PAUSE_SECONDS)
        events = epoll.poll(min(waits, default=None))
        if memory.watches and time.monotonic() >= look_at:
            memory.look()
            look_at = time.monotonic() + LOOK_SECONDS
        # First what the service wrote: whoever has its answer finds it in the log.
        if any(fd == output for fd, _ in events) and not _take_output(output, log, control):
            epoll.unregister(output)
        for fd, event in events:
            if control.handles(fd):
                control.handle()
            elif forwarder is not None and forwarder.handles(fd):
                forwarder.handle(fd, event)
        if any(fd == wake for fd, _ in events):
            os.read(wake, 64)
            if (status := _reap(pid)) is not None:
                for _ in range(_PIPE_CHUNKS):  # what is left of it; what it has started may go on writing
                    if not _take_output(output, log, control, whole=False):
                        break
                return status


def _reap(pid: int) -> int | None:
    """How the service ended, if it has; what it had left to this process and has ended too is taken away."""
    while True:
        try:
            ended, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return None
        if ended in (0, pid):
            return status if ended else None


def _end_what_is_left() -> None:
    """Kill what the service has left running, as the end of a container does: it may hold the service's port."""
    while True:
        left = kernel.children(os.getpid())
        if not left:
            return
        for pid in left:
            os.kill(pid, signal.SIGKILL)  # one that has ended is there until it is waited for
        # What these had started becomes a child of this process when they have ended.
        for _ in left:
            os.waitpid(-1, 0)


def _take_output(output: int, log: Log, control: Control, *, whole: bool = True) -> bool:
    """Move what is there to the log; false at its end, or without ``whole`` when there is nothing more now."""
    try:
        data = os.read(output, _CHUNK)
    except BlockingIOError:
        return whole
    log.write(data)
    control.note(data)
    return bool(data)


def _drain(epoll: select.epoll, forwarder: Forwarder) -> None:
    """Let open connections end by themselves for a moment."""
    deadline = time.monotonic() + _DRAIN_SECONDS
    while not forwarder.settled and (left := deadline - time.monotonic()) > 0:
        for fd, event in epoll.poll(left):
            if forwarder.handles(fd):
                forwarder.handle(fd, event)


def _raise_limit_of_files() -> None:
    """Two descriptors are open for each connection; the service keeps the limit that the agent was started with."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:  # noqa: SIM105
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    except (OSError, ValueError):
        pass  # fewer connections at a time


def _answer(answer: Answer) -> None:
    try:  # noqa: SIM105 - contextlib would stay in memory
        os.write(1, json.dumps(answer).encode())
    except BrokenPipeError:
        pass  # the agent was killed; the service is on record, and goes on
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2):
        os.dup2(null, number)
    os.close(null)


def _write(path: str, value: object) -> None:
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.tmp", path)  # noqa: PTH105
