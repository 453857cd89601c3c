"""When what may be done changes by itself: a window of the configuration opens or closes."""

from __future__ import annotations

from datetime import UTC, datetime

from edge_agent.config.configuration import Configuration
from edge_agent.config.windows import next_change


def seconds_to_change(configuration: Configuration, moment: datetime | None = None) -> float | None:
    """How long it is from ``moment``, in local time and by default now; ``None`` without windows."""
    now = moment or datetime.now(UTC).astimezone().replace(tzinfo=None)
    windows = (*configuration.updates.windows, *(rate.window for rate in configuration.bandwidth.windows))
    found = next_change(windows, now)
    return None if found is None else (found - now).total_seconds()
