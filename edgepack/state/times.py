"""Points in time as documents have them: RFC 3339, in UTC, to the second."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from edgepack.errors import UsageError

_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")


def format_time(seconds: float) -> str:
    """``seconds`` since 1970 as text such as ``2026-11-30T15:35:10Z``; what a year of four digits cannot say is cut."""
    most = 253_402_300_799  # the last second of the year 9999
    return datetime.fromtimestamp(min(max(int(seconds), 0), most), UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def parse_time(text: str) -> int:
    """Seconds since 1970; raises ``UsageError``."""
    try:
        if _TIME.fullmatch(text) and text.isascii():
            return max(int(datetime.fromisoformat(text).timestamp()), 0)
    except ValueError:
        pass
    raise UsageError(f"{text[:40]!r} is not a time such as 2026-11-30T15:35:10Z")


def age(seconds: float) -> str:
    """How long ago something was, in the largest unit that fits."""
    for unit, name in ((86400, "day"), (3600, "hour"), (60, "minute")):
        if seconds >= unit:
            count = int(seconds // unit)
            return f"{count} {name}{'' if count == 1 else 's'} ago"
    return "less than a minute ago"
