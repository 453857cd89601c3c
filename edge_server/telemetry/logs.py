"""Logs: one JSON object a line on stderr, so that any collector can read them."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from edge_server.telemetry.lines import LineWriter


# The id of the request that is being served, for log records of code that does not have it, such as an entry script's.
request_id: ContextVar[str] = ContextVar("request_id", default="")

# Attributes that every LogRecord has; any other came by `extra=` and belongs in the line.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

# How long the process waits at its end until the log is read.
_FLUSH_SECONDS = 2.0


class JsonLines(logging.Formatter):
    """Formats a record as one line: time (UTC, ISO 8601), level, logger, message, request id, extras, traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line without its line end; values that are not JSON are written as text."""
        line: dict[str, object] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if current := request_id.get():
            line["request_id"] = current
        line.update((key, value) for key, value in vars(record).items() if key not in _STANDARD)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return dump(line).decode()


def dump(line: dict[str, object]) -> bytes:
    """One line of JSON, also for text that is not Unicode and numbers that JSON does not have."""
    try:
        return orjson.dumps(line, default=str, option=orjson.OPT_NON_STR_KEYS)
    except TypeError:
        return orjson.dumps({_text(key): _text(value) for key, value in line.items()})


def dropped(number: int) -> bytes:
    """The line that says how many lines were dropped."""
    record = logging.LogRecord(
        __name__, logging.WARNING, "", 0, "log lines were dropped: they were not read in time", (), None
    )
    record.dropped = number
    return JsonLines().format(record).encode() + b"\n"


def configure(level: str, writer: LineWriter | None = None) -> None:
    """Send every logger's records of ``level`` (one of ``LEVELS``) and above to stderr, or to what writes there."""
    handler = logging.StreamHandler(sys.stderr) if writer is None else _Handler(writer)
    handler.setFormatter(JsonLines())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())


class _Handler(logging.Handler):
    def __init__(self, writer: LineWriter) -> None:
        super().__init__()
        self._writer = writer

    def emit(self, record: logging.LogRecord) -> None:
        """Queue the record's line."""
        self._writer.write(self.format(record).encode() + b"\n")

    def flush(self) -> None:
        """Wait a moment until the lines are written; ``logging`` calls this at the end of the process."""
        self._writer.flush(_FLUSH_SECONDS)


def _text(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode()
