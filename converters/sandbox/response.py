"""The response of a conversion's process: that it is done, or which error it ended with. A small JSON file.

It is written beside untrusted code, so the caller checks everything in it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from converters.ways_out import REPORT_FAULT
from edgepack.errors import ConversionError, EdgepackError, UsageError

FILE = "response.json"
# By their names in the file; any other error of ours is a conversion's.
_ERRORS: Mapping[str, type[EdgepackError]] = {"usage": UsageError, "conversion": ConversionError}


@dataclass(frozen=True)
class Response:
    """``error`` is what the conversion was refused or failed with, None where it is done."""

    error: EdgepackError | None = None

    def to_bytes(self) -> bytes:
        """The file's content."""
        if self.error is None:
            return json.dumps({"ok": True}).encode()
        kind = next((kind for kind, error in _ERRORS.items() if isinstance(self.error, error)), "conversion")
        fields = {"kind": kind, "what": self.error.what, "where": self.error.where, "hint": self.error.hint}
        return json.dumps({"ok": False, "error": fields}).encode()


def parse(data: bytes) -> Response | None:
    """The response in ``data``; None where it is not one."""
    try:
        document: Any = json.loads(data)
    except ValueError:
        return None
    if not isinstance(document, dict):
        return None
    if document.get("ok") is True:
        return Response()
    fields = document.get("error")
    if not isinstance(fields, dict):
        return Response(ConversionError("the conversion failed without a reason", hint=REPORT_FAULT))
    error = _ERRORS.get(str(fields.get("kind")), ConversionError)
    return Response(error(str(fields.get("what")), where=fields.get("where"), hint=str(fields.get("hint"))))
