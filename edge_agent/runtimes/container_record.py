"""The state of a container as ``crun`` and ``runc`` record it, read without starting them."""

from __future__ import annotations

import json
from pathlib import Path

from edge_agent.runtimes.supervisor import start_ticks

# The file of each program, with its fields for the first process and when that started, in clock ticks since boot.
_RECORDS = (("status", "pid", "process-start-time"), ("state.json", "init_process_pid", "init_process_start"))
# There from when a container is made until it is started.
_WAITS_TO_START = "exec.fifo"


class UnknownRecordError(ValueError):
    """A record of another version of the program, which has to be asked itself."""


def recorded_state(folder: Path) -> str | None:
    """``running``, ``created`` or ``stopped``, by the record in ``folder``; ``None`` for no container or half of one.

    Raises ``UnknownRecordError``.
    """
    for name, pid, start in _RECORDS:
        try:
            value = json.loads((folder / name).read_bytes())
            process, ticks = int(value[pid]), int(value[start])
        except (FileNotFoundError, NotADirectoryError):
            continue
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UnknownRecordError(str(error)) from error
        if process <= 0 or start_ticks(process) != ticks:
            return "stopped"
        return "created" if (folder / _WAITS_TO_START).exists() else "running"
    return None
