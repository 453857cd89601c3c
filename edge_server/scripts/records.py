"""Log records of the script, as JSON lines through a separate pipe, so that no ``print`` can mix with them."""

from __future__ import annotations

import logging
import os

import orjson

from edge_server.config.sizes import SIZES
from edge_server.telemetry.logs import request_id

_LONGEST = SIZES.log_message

# Attributes that every record has; any other came by `extra=`.
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}


class PipeHandler(logging.Handler):
    """Writes each record as one JSON line to a pipe, whose reader is the server."""

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self._descriptor = descriptor

    def emit(self, record: logging.LogRecord) -> None:
        """Write the record; errors are reported as ``logging`` reports them."""
        try:
            line = {"name": record.name, "level": record.levelno, "time": record.created}
            line["message"] = record.getMessage()[:_LONGEST]
            if name := request_id.get():
                line["request_id"] = name
            extras = {key: value for key, value in vars(record).items() if key not in _STANDARD}
            if record.exc_info and record.exc_info[1] is not None:
                extras["traceback"] = logging.Formatter().formatException(record.exc_info)[:_LONGEST]
            if extras:
                line["extras"] = extras
            data = orjson.dumps(line, _text, orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE)
            if len(data) > 4 * _LONGEST:
                line.pop("extras", None)
                data = orjson.dumps(line, _text, orjson.OPT_NON_STR_KEYS | orjson.OPT_APPEND_NEWLINE)
            view = memoryview(data)
            while view:
                view = view[os.write(self._descriptor, view) :]
        except RecursionError:
            raise
        except Exception:  # noqa: BLE001 - as every handler of logging
            self.handleError(record)


def _text(value: object) -> str:
    return str(value)[:1000]
