"""Jobs of the resident agent: short-lived children that do what needs much memory, the network or signatures.

A job gets the configuration, and a document where it is about one, as JSON on its standard input, and tells on its
standard output, a JSON object a line, how far it is and how it ended. Each may be killed at any moment.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from edge_agent.daemon.forks import Forked, ForkServer
from edgepack.limits import LIMITS

_log = logging.getLogger(__name__)
# A line tells of one thing; what is longer is dropped.
_LINE_BYTES = LIMITS.job_line_bytes
_CHUNK = 64 << 10


@dataclass
class Job:
    """A child: ``verb`` and ``words`` say what it does, ``told`` is what it last told."""

    verb: str
    words: tuple[str, ...]
    process: subprocess.Popen[bytes] | Forked
    out: BinaryIO
    told: Mapping[str, Any] = field(default_factory=dict)
    cancelled: bool = False
    buffer: bytearray = field(default_factory=bytearray)

    @property
    def fd(self) -> int:
        """The descriptor on which it tells."""
        return self.out.fileno()

    def __str__(self) -> str:
        return " ".join((self.verb, *self.words))


def program(module: str) -> list[str]:
    """The command that runs a module of the agent with this Python, whatever the current folder is."""
    return [sys.executable, "-P", "-m", module]


def start(verb: str, words: Sequence[str], given: Mapping[str, Any], forks: ForkServer | None = None) -> Job:
    """Start a job, by ``forks`` where it can; raises ``OSError`` when the device cannot."""
    given_fd = os.memfd_create("job", os.MFD_CLOEXEC)
    read, write = os.pipe2(os.O_CLOEXEC)
    out = os.fdopen(read, "rb", buffering=0)
    try:
        _give(given_fd, given)
        process: subprocess.Popen[bytes] | Forked | None = None
        if forks is not None:
            process = forks.start((verb, *words), given_fd, write)
        if process is None:
            # It has to notice that this process was gone before it could ask to be told of that.
            _give(given_fd, {**given, "agent": os.getpid()})
            argv = [*program("edge_agent.jobs"), verb, *words]
            process = subprocess.Popen(argv, stdin=given_fd, stdout=write, cwd="/")
    except OSError:
        out.close()
        raise
    finally:
        os.close(given_fd)
        os.close(write)
    job = Job(verb, tuple(words), process, out)
    os.set_blocking(job.fd, False)
    return job


def _give(fd: int, given: Mapping[str, Any]) -> None:
    """Let the file ``fd`` have ``given`` as its content, and be read from its beginning."""
    os.ftruncate(fd, 0)
    os.lseek(fd, 0, os.SEEK_SET)
    data = json.dumps(given).encode()
    while data:
        data = data[os.write(fd, data) :]
    os.lseek(fd, 0, os.SEEK_SET)


def take(job: Job, on_line: Callable[[Mapping[str, Any]], None]) -> bool:
    """Take what the job has told, and give it line by line to ``on_line``; False when it tells no more."""
    while True:
        try:
            data = os.read(job.fd, _CHUNK)
        except BlockingIOError:
            return True
        except OSError:
            data = b""
        if not data:
            return False
        job.buffer += data
        while (end := job.buffer.find(b"\n")) >= 0:
            line = bytes(job.buffer[:end])
            del job.buffer[: end + 1]
            _tell(job, line, on_line)
        if len(job.buffer) > _LINE_BYTES:
            job.buffer.clear()


def _tell(job: Job, line: bytes, on_line: Callable[[Mapping[str, Any]], None]) -> None:
    try:
        told = json.loads(line)
    except ValueError:
        _log.debug("the job %s wrote something else than JSON", job)
        return
    if isinstance(told, dict):
        job.told = {**job.told, **told}
        on_line(told)


def finish(job: Job) -> int:
    """Wait for a job that tells no more; its exit code, negative after a signal."""
    job.out.close()
    try:
        return job.process.wait(10.0)
    except subprocess.TimeoutExpired:  # it has closed its output, and goes on
        job.process.kill()
        return job.process.wait()


def cancel(job: Job) -> None:
    """End a job; it is made for that."""
    job.cancelled = True
    job.process.terminate()
