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
from edge_agent.runtimes.supervisor.forward import Forwarder
from edge_agent.runtimes.supervisor.log import Log
from edge_agent.runtimes.supervisor.memory import LOOK_SECONDS, MemoryWatch

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing would stay in memory as long as the service
    from edge_agent.runtimes.supervisor.job import Answer, Job, Way

_CHUNK = 1 << 16
_PIPE_CHUNKS = 16  # a pipe holds at most a mebibyte (pipe(7))
# How long connections go on after the service has ended, for what it has sent but nobody has fetched.
_DRAIN_SECONDS = 2.0


def main() -> None:
    """Start the job, answer, stay until it has ended, write how it ended."""
    job: Job = json.load(sys.stdin)
    if os.fork():
        os._exit(0)  # the agent's child ends here; the supervisor is a daemon of its own
    try:  # noqa: SIM105 - contextlib would stay in memory
        kernel.adopt_orphans()
    except OSError:
        pass  # a machine that is emulated: what leaves the service's session is not ended with it then
    listener, step = None, ""
    try:
        if job["way"] is not None:
            step = "port"
            listener = _listen(job["way"])
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
    log_read, pid = _start(job)
    _raise_limit_of_files()
    epoll = select.epoll()
    epoll.register(wake_read, select.EPOLLIN)
    epoll.register(log_read, select.EPOLLIN)
    forwarder = None if listener is None else Forwarder(epoll, listener, (job["way"] or {"inside": 0})["inside"])
    status = _serve(epoll, pid, wake_read, log_read, log, forwarder, memory)
    if forwarder is not None:
        forwarder.stop()
    _end_what_is_left()
    code = os.waitstatus_to_exitcode(status)
    _write(
        f"{job['folder']}/exit.json",
        {"code": 128 - code if code < 0 else code, "out_of_memory": code != 0 and memory.killed()},
    )
    if forwarder is not None:
        _drain(epoll, forwarder)


def _listen(way: Way) -> socket.socket:
    """Listen for the service at the device's address; raises ``OSError``."""
    family = socket.AF_INET6 if ":" in way["address"] else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((way["address"], way["port"]))
    listener.listen(1024)
    return listener


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
    epoll: select.epoll, pid: int, wake: int, output: int, log: Log, forwarder: Forwarder | None, memory: MemoryWatch
) -> int:
    """Keep the log and lead connections until the service has ended; how it ended, as wait(2) tells."""
    look_at = time.monotonic() + LOOK_SECONDS
    while True:
        events = epoll.poll(max(0.0, look_at - time.monotonic()) if memory.watches else None)
        if memory.watches and time.monotonic() >= look_at:
            memory.look()
            look_at = time.monotonic() + LOOK_SECONDS
        # First what the service wrote: whoever has its answer finds it in the log.
        if any(fd == output for fd, _ in events) and not _take_output(output, log):
            epoll.unregister(output)
        for fd, event in events:
            if forwarder is not None and forwarder.handles(fd):
                forwarder.handle(fd, event)
        if any(fd == wake for fd, _ in events):
            os.read(wake, 64)
            if (status := _reap(pid)) is not None:
                for _ in range(_PIPE_CHUNKS):  # what is left of it; what it has started may go on writing
                    if not _take_output(output, log, whole=False):
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


def _take_output(output: int, log: Log, *, whole: bool = True) -> bool:
    """Move what is there to the log; false at its end, or without ``whole`` when there is nothing more now."""
    try:
        data = os.read(output, _CHUNK)
    except BlockingIOError:
        return whole
    log.write(data)
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
