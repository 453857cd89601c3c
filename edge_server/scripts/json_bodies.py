"""JSON of requests to scripts, read as Python's own ``json`` reads it, at the speed of orjson where that agrees.

orjson refuses what ``json.dumps`` of a client writes (``NaN``, ``Infinity``), numbers beyond a float (``1e400``), lone
surrogates, a byte order mark and UTF-16; and it makes floats of whole numbers beyond 64 bits. Scripts are written and
tried with ``json``, so ``json`` reads such bodies.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

# A whole number beyond 64 bits has 19 digits or more, 20 where it is positive. A run of digits is found fast where each
# of them is "0"; whether it is a fraction's is asked of the few bodies that have one.
_RUN = b"0" * 19
_AS_ZEROS = bytes(ord("0") if ord("0") <= byte <= ord("9") else ord(" ") for byte in range(256))
_WHOLE = re.compile(rb"-[1-9]\d{18}|(?<![.\d])[1-9]\d{19}")


def read_json(body: bytes) -> Any:
    """The value in ``body``; ValueError, which says where, for what is not JSON, and for nesting that is too deep."""
    if _RUN not in body.translate(_AS_ZEROS) or _WHOLE.search(body) is None:
        try:
            return orjson.loads(body)
        except ValueError:
            pass  # json decides, and says why
    try:
        return json.loads(body)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def is_json_type(media_type: str) -> bool:
    """Whether a media type, in lower case and without parameters, is one of JSON (RFC 6839 for ``+json``)."""
    return media_type == "application/json" or (media_type.startswith("application/") and media_type.endswith("+json"))
