"""The small parent process of a service, which records its exit code when no agent runs.

Run as ``python -I -S supervisor.py`` with a job as JSON on standard input; it answers ``{}`` or ``{"error": …}`` on
standard output once the service runs or could not be started. It imports little and nothing of ours: it stays in
memory as long as the service.
"""

from __future__ import annotations

import json
import os
import sys


def start_ticks(pid: int) -> int | None:
    """When ``pid`` started, in clock ticks since boot; ``None`` for a process that has ended, reaped or not.

    See proc(5), ``/proc/[pid]/stat``: the second field may hold anything, so counting starts behind its parenthesis.
    """
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def _write(path: str, value: object) -> None:
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        json.dump(value, file)
        file.flush()
        os.fsync(file.fileno())
    os.replace(f"{path}.tmp", path)  # noqa: PTH105 - pathlib would cost memory for as long as the service runs


def _hide(mount: str) -> None:
    """Hide ``mount`` from this process, in a mount namespace of its own (mount_namespaces(7))."""
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    new_namespace, private_below, detach = 0x20000, 0x40000 | 0x4000, 2
    if (
        libc.unshare(new_namespace)
        or libc.mount(b"none", b"/", None, private_below, None)
        or libc.umount2(mount.encode(), detach)
    ):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code), mount)


def _service(job: dict[str, object], log: int, go: int, failed: int) -> None:
    """The child: become the service."""
    try:
        os.setsid()
        os.close(job["lock"])  # type: ignore[arg-type]
        if os.read(go, 1) != b"!":  # the supervisor died before anybody could know of this process
            return
        null = os.open("/dev/null", os.O_RDONLY)
        os.dup2(null, 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(str(job["cwd"]))
        os.umask(0o022)
        if job["hide"] is not None:
            _hide(str(job["hide"]))
        if job["user"] is not None:
            uid, gid = job["user"]  # type: ignore[misc]
            os.setgroups([])
            os.setgid(gid)  # type: ignore[has-type]
            os.setuid(uid)  # type: ignore[has-type]
        argv = job["argv"]
        os.execve(argv[0], argv, job["env"])  # type: ignore[index,arg-type]  # noqa: S606
    except OSError as error:
        os.write(failed, f"{error.filename or ''}: {error.strerror}".encode())
    finally:
        os._exit(127)


def main() -> None:
    """Start the job, answer, wait for its end, write how it ended."""
    job = json.load(sys.stdin)
    if os.fork():
        os._exit(0)  # the agent's child ends here; the supervisor is a daemon of its own
    folder = job["folder"]
    log = os.open(job["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    go_read, go_write = os.pipe()
    failed_read, failed_write = os.pipe()  # not inherited over exec: it closes when the service runs
    pid = os.fork()
    if pid == 0:
        os.close(go_write)
        _service(job, log, go_read, failed_write)
    os.close(failed_write)
    # The record exists before the service does: whoever starts next knows what to stop.
    me = os.getpid()
    _write(
        f"{folder}/process.json",
        {"boot": job["boot"], "supervisor": [me, start_ticks(me)], "service": [pid, start_ticks(pid)]},
    )
    os.close(job["lock"])
    os.write(go_write, b"!")
    os.close(go_write)
    error = os.read(failed_read, 4096).decode("utf-8", "replace")
    os.write(1, json.dumps({"error": error} if error else {}).encode())
    null = os.open("/dev/null", os.O_RDWR)
    for number in (0, 1, 2, log):
        os.dup2(null, number)
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    _write(f"{folder}/exit.json", {"code": 128 - code if code < 0 else code})


if __name__ == "__main__":
    main()
