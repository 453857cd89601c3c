"""Windows of time in a week, by the device's local clock: when an update may happen, how fast a download may be."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_MINUTES = 24 * 60


@dataclass(frozen=True)
class Window:
    """From ``start`` to ``end``, in minutes after midnight, on each of ``days`` (0 is Monday).

    One whose end is not after its start ends on the next day, and belongs to the day on which it begins.
    """

    start: int
    end: int
    days: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6)

    @property
    def minutes(self) -> int:
        """How long it is open; a window from a time to the same time is open for a day."""
        return (self.end - self.start) % DAY_MINUTES or DAY_MINUTES

    def contains(self, moment: datetime) -> bool:
        """Whether it is open at ``moment``, in local time."""
        return any(begin <= moment < begin + timedelta(minutes=self.minutes) for begin in self._begins(moment, -1, 0))

    def opens_after(self, moment: datetime) -> datetime:
        """The first time after ``moment`` at which it opens."""
        return min(begin for begin in self._begins(moment, 0, 8) if begin > moment)

    def changes_after(self, moment: datetime) -> Iterable[datetime]:
        """The first time after ``moment`` at which it opens, and the first at which it closes."""
        yield self.opens_after(moment)
        length = timedelta(minutes=self.minutes)
        yield min(begin + length for begin in self._begins(moment, -1, 8) if begin + length > moment)

    def _begins(self, moment: datetime, first: int, last: int) -> Iterable[datetime]:
        midnight = moment.replace(hour=0, minute=0, second=0, microsecond=0)
        for away in range(first, last + 1):
            day = midnight + timedelta(days=away)
            if day.weekday() in self.days:
                yield day + timedelta(minutes=self.start)


def is_open(windows: Iterable[Window], moment: datetime) -> bool:
    """Whether one of ``windows`` is open at ``moment``; without windows it always is."""
    found = tuple(windows)
    return not found or any(window.contains(moment) for window in found)


def next_opening(windows: Iterable[Window], moment: datetime) -> datetime | None:
    """When the first of ``windows`` opens after ``moment``; ``None`` without windows."""
    return min((window.opens_after(moment) for window in windows), default=None)


def next_change(windows: Iterable[Window], moment: datetime) -> datetime | None:
    """When the first of ``windows`` opens or closes after ``moment``; ``None`` without windows."""
    return min((found for window in windows for found in window.changes_after(moment)), default=None)


def clock_text(minutes: int) -> str:
    """Minutes after midnight as a configuration has them, such as ``06:30``."""
    return f"{minutes // 60:02}:{minutes % 60:02}"


def clock_minutes(text: str) -> int:
    """The minutes after midnight in a text such as ``06:30``."""
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)
