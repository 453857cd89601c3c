"""How often something of a running service was killed for lack of memory (Linux, cgroup-v1/memory, cgroup-v2).

What is killed is rarely the service itself: its server goes on, with another worker in the place of the one that took
too much. Only the kernel tells of that, in a file of the service's control group.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edge_agent.runtimes.base import Instance

# The file of each version, and the file and the line beside it that count how often the limit was reached.
EVENTS, CONTROL = "memory.events", "memory.oom_control"
_REACHED = {EVENTS: (EVENTS, "max"), CONTROL: ("memory.failcnt", "")}


@dataclass(frozen=True)
class Kills:
    """How many processes of a running instance were killed; ``by_limit`` unless its own limit was never reached."""

    count: int = 0
    by_limit: bool = True


NONE = Kills()


def counters_in(folders: Sequence[Path]) -> tuple[Path, ...]:
    """The files that count kills in the control groups ``folders`` and in the groups below them."""
    found = []
    for folder in folders:
        for name in (EVENTS, CONTROL):
            if (folder / name).exists():
                # Version 1 counts in the very group of what is killed, such as the container's own.
                found += [folder / name, *folder.glob(f"*/{name}")]
                break
    return tuple(found)


def read_kills(counters: Sequence[Path], *, at_least: int = 0) -> Kills:
    """What ``counters`` tell, nothing for those that are gone; ``at_least`` is what is known otherwise.

    Version 2 counts what is killed in every group around it too, so the greatest of the counts is that of all.
    """
    count = max((_number(path, "oom_kill") for path in counters), default=0)
    if count <= 0:
        return Kills(at_least) if at_least else NONE
    reached = (_REACHED[path.name] for path in counters)
    limited = any(_number(path.with_name(name), line) > 0 for path, (name, line) in zip(counters, reached, strict=True))
    return Kills(max(count, at_least), limited)


def kills_of(instance: Instance) -> Kills:
    """What was killed of a running instance; an engine that only tells that something was counts as one."""
    return read_kills(instance.counters, at_least=int(instance.out_of_memory))


def _number(path: Path, line: str) -> int:
    """The number in the ``line`` of the file that begins so; 0 where it cannot be read."""
    try:
        for text in path.read_text("ascii").splitlines():
            name, _, number = text.rpartition(" ")
            if name == line:
                return int(number)
    except (OSError, ValueError):
        pass
    return 0
