"""A lack of memory in words: of a service that was killed for it, and of one that runs on; pure."""

from __future__ import annotations

from dataclasses import replace

from edge_agent.runtimes.kills import Kills
from edgepack.state.reported import ReportedService
from edgepack.text import human_memory


def used_up(memory_bytes: int | None) -> str:
    """What a service has used that was killed as a whole."""
    return "all of the device's memory" if memory_bytes is None else f"all of {human_memory(memory_bytes)}"


def told(kills: Kills, memory_bytes: int | None) -> str | None:
    """What ``kills`` say of a service that runs, which may use ``memory_bytes``; ``None`` without any."""
    if not kills.count:
        return None
    times = "once" if kills.count == 1 else f"{kills.count} times"
    if memory_bytes is None or not kills.by_limit:
        return (
            f"the device had no memory left, and a process of it was killed, {times} since its start; let it run with "
            "less beside it"
        )
    return (
        f"it reached its memory limit of {human_memory(memory_bytes)}, and a process of it was killed, {times} since "
        "its start; give it more memory_bytes, or look for a leak in its entry script"
    )


def with_kills(found: ReportedService, kills: Kills, memory_bytes: int | None) -> ReportedService:
    """The report on a service that runs, with what of it was killed."""
    words, reason = told(kills, memory_bytes), found.reason
    if words is not None and words not in (reason or ""):
        reason = "; ".join(one for one in (reason, words) if one)
    return replace(found, memory_kills=kills.count, reason=reason)
