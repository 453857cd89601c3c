"""The child of a supervisor, on its way to become the service."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal

from edge_agent.runtimes.supervisor import kernel, places

TYPE_CHECKING = False
if TYPE_CHECKING:  # typing would stay in the supervisor's memory
    from edge_agent.runtimes.supervisor.job import Job, View

# One instruction: everything is allowed (seccomp(2), SECCOMP_RET_ALLOW).
_ALLOW_ALL = bytes.fromhex("060000000000ff7f")


def become(job: Job, log: int, go: int, failed: int) -> None:
    """Become the service once ``go`` says so; never returns. An error is written to ``failed``, behind its step.

    ``log`` takes the service's output.
    """
    step = ""
    try:
        os.setsid()
        os.close(job["lock"])
        if os.read(go, 1) != b"!":  # the supervisor died before anybody could know of this process
            return
        os.umask(0o022)
        _leave_the_agent_s_own()
        step = "groups"
        for group in job["groups"]:
            _join(group)
        step = "mounts"
        _arrange_mounts(job, log)
        step = ""
        os.dup2(os.open("/dev/null", os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(job["cwd"])
        step = "limits"
        for kind, limit in job["limits"]:
            resource.setrlimit(kind, (limit, limit))
        step = "user"
        if job["user"] is not None:
            uid, gid = job["user"]
            os.fchown(log, uid, gid)  # so that the service may open /dev/stdout
            kernel.drop_capabilities()
        if job["confined"]:  # before the user changes, who may not reach this Python's libraries
            kernel.forbid_new_privileges()
            if job["calls"]:
                step = "calls"
                _filter_calls(bytes.fromhex(job["calls"]))
                step = "user"
        if job["user"] is not None:
            os.setgroups(job["further"])
            os.setgid(gid)
            os.setuid(uid)
        step = ""
        env = job["env"]
        if job["sockets"] and job["way"] is None:
            failed = fcntl.fcntl(failed, fcntl.F_DUPFD_CLOEXEC, 16)
            env = {**env, **_hand_over(job["sockets"])}
        os.execve(job["argv"][0], job["argv"], env)  # noqa: S606
    except OSError as error:
        os.write(failed, f"{step}\0{error.filename or ''}: {error.strerror}".encode("utf-8", "replace"))
    except (ImportError, OverflowError, ValueError) as error:  # a library that is not there; a number out of range
        os.write(failed, f"{step}\0{error}".encode("utf-8", "replace"))
    finally:
        os._exit(127)


def _hand_over(sockets: list[int]) -> dict[str, str]:
    """Let this process have ``sockets`` where what it becomes looks for them (sd_listen_fds(3)); its variables."""
    above = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, 16) for fd in sockets]  # out of the way of each other
    for number, fd in enumerate(above):
        os.dup2(fd, 3 + number)
    return {"LISTEN_FDS": str(len(above)), "LISTEN_PID": str(os.getpid())}


def _filter_calls(program: bytes) -> None:
    """Filter the calls of this process, where there are filters: what emulates a processor, as qemu does, has none."""
    try:
        kernel.filter_calls(program)
    except OSError as error:
        if error.errno != errno.EINVAL or _takes_filters():
            raise
        os.write(2, b"edge-agent: the system calls of this service are not filtered: its processor is emulated\n")


def _takes_filters() -> bool:
    try:
        kernel.filter_calls(_ALLOW_ALL)
    except OSError:
        return False
    return True


def _leave_the_agent_s_own() -> None:
    """Take back what a service manager grants the agent, and what Python does with signals."""
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for number in (signal.SIGPIPE, signal.SIGXFSZ, signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    try:
        with open("/proc/self/oom_score_adj", "r+", encoding="ascii") as file:
            if int(file.read()) < 0:  # the agent is spared when memory runs out; what it runs is not
                file.seek(0)
                file.write("0")
    except OSError:
        pass


def _join(group: str) -> None:
    with open(group, "w", encoding="ascii") as file:
        file.write("0")


def _arrange_mounts(job: Job, log: int) -> None:
    """Hide and show what the job says, for this process alone."""
    if job["hide"] is None and not (job["views"] or job["aliases"] or job["given"] or job["sealed"]):
        return
    kernel.own_mounts()
    if job["hide"] is not None:
        kernel.unmount(job["hide"])
    # Opened before anything covers them.
    sources = {path: os.open(path, os.O_PATH) for path in _sources(job)}
    if job["given"]:
        places.give(job["given"], sources, job["folder"])
    for view in job["views"]:
        _show(view, sources)
    for path, alias in job["aliases"]:
        above = alias.rpartition("/")[0]
        os.makedirs(above, 0o755, exist_ok=True)  # noqa: PTH103
        # Private too, so that no folder is left for each service.
        kernel.mount("tmpfs", above, "tmpfs", kernel.NO_SUID | kernel.NO_DEVICES, "mode=0711,size=1m")
        os.makedirs(alias, 0o755)  # noqa: PTH103
        kernel.mount(f"/proc/self/fd/{sources[path]}", alias, None, kernel.BIND | kernel.RECURSIVE)
    if job["sealed"]:
        _seal([one["target"] for one in job["given"] if not one["read_only"]], log)
    for fd in sources.values():
        os.close(fd)


def _seal(writable: list[str], log: int) -> None:
    """Make the device's files read-only to the service, where that can be: an emulator may not know how."""
    try:
        places.seal(writable)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        os.write(log, b"edge-agent: the device's files are not read-only to this service: its processor is emulated\n")


def _sources(job: Job) -> list[str]:
    shown = [path for view in job["views"] for path in view["show"]]
    return [*shown, *(path for path, _ in job["aliases"]), *(one["source"] for one in job["given"])]


def _show(view: View, sources: dict[str, int]) -> None:
    """Put an empty folder that everybody may enter over one that the service's user may not, and the paths into it."""
    flags = kernel.NO_SUID | kernel.NO_DEVICES
    kernel.mount("tmpfs", view["cover"], "tmpfs", flags, "mode=0711,size=1m")
    for path in view["show"]:
        os.makedirs(path, 0o755, exist_ok=True)  # noqa: PTH103
        kernel.mount(f"/proc/self/fd/{sources[path]}", path, None, kernel.BIND | kernel.RECURSIVE)
    kernel.mount("none", view["cover"], None, flags | kernel.REMOUNT | kernel.BIND | kernel.READ_ONLY)
