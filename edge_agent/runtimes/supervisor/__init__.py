"""The small parent process of a service: it needs no agent to record how the service ended, to keep its log short, and
to lead its port into it. It stays in memory as long as the service, so it imports little.
"""

from __future__ import annotations

import binascii
import json

# Sockets in a service's folder: its supervisor answers the agent on one, the service is asked in private on the other.
CONTROL, PROBE = "control.sock", "probe.sock"


def start_ticks(pid: int) -> int | None:
    """When ``pid`` started, in clock ticks since boot; ``None`` for a process that has ended, reaped or not.

    See proc(5), ``/proc/[pid]/stat``: the second field may hold anything, so counting starts behind its parenthesis.
    """
    try:
        # Its first thread's, which is the same: the other file qemu makes up for a process that it emulates.
        with open(f"/proc/{pid}/task/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] in (b"Z", b"X") else int(fields[19])


def checksum(record: object) -> int:
    """What shows that a record of a process is as it was written."""
    return binascii.crc32(json.dumps(record, sort_keys=True).encode())
