"""When an image was created: the date of the newest of its inputs that has one, so that it is the same again.

Files of users have no such date: that of a copy is another one, and a registration is made again on another host.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

from edgepack.oci.config import EPOCH

_FORM = "%Y-%m-%dT%H:%M:%SZ"


def newest(dates: Iterable[str]) -> str:
    """The latest of these RFC 3339 times, in whole seconds of UTC; 1970 where none can be read."""
    return max((found for date in dates if (found := _in_utc(date)) is not None), default=EPOCH)


def at_seconds(seconds: int) -> str:
    """The RFC 3339 time of so many seconds since 1970; 1970 itself for what no year has."""
    try:
        return datetime.fromtimestamp(seconds, UTC).strftime(_FORM)
    except (ValueError, OverflowError, OSError):
        return EPOCH


def of_wheel(path: Path) -> str:
    """The date of the newest file in a wheel; without a time zone there, it is taken for UTC."""
    with zipfile.ZipFile(path) as wheel:
        return of_files(wheel.infolist())


def of_files(files: Iterable[zipfile.ZipInfo]) -> str:
    """The date of the newest of the files of a zip archive; see ``of_wheel``."""
    found = max((info.date_time for info in files), default=None)
    if found is None:
        return EPOCH
    try:
        # Zip archives begin in 1980, which stands for no date.
        return datetime(*found, tzinfo=UTC).strftime(_FORM) if found[0] > 1980 else EPOCH
    except ValueError:
        return EPOCH


def _in_utc(date: str) -> str | None:
    try:
        found = datetime.fromisoformat(date)
    except ValueError:
        return None
    if found.tzinfo is None:
        return None
    try:
        found = found.astimezone(UTC)
    except OverflowError:
        return None
    return found.strftime(_FORM) if found.year >= 1970 else None
