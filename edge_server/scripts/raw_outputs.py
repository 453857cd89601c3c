"""An AMLResponse that ``run`` returned, as status, headers and body of the answer."""

from __future__ import annotations

import re

import orjson

from edge_server.scripts.outputs import UnserializableError
from edge_server.scripts.raw_responses import AMLResponse

# Headers that the connection and the server write (RFC 9110, sections 7.6.1 and 8.6).
_OURS = frozenset(
    ("connection", "content-length", "date", "keep-alive", "server", "te", "trailer", "transfer-encoding", "upgrade")
)
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")
_FAILED = "x-ms-run-function-failed"


def encode_raw(answer: AMLResponse) -> tuple[int, bool, bytes, bytes]:
    """Status, failed flag, meta part and body of an AMLResponse, b"" for one that is streamed.

    Raises UnserializableError when HTTP has no such answer.
    """
    status = answer.status_code
    if not 200 <= status <= 599:
        raise UnserializableError(f"{status} is not a status that can be answered with")
    failed = answer.run_function_failed or status >= 500
    content_type: str | None = None
    headers = []
    for name, value in answer.headers:
        lower = name.lower()
        if not _NAME.fullmatch(name) or not _VALUE.fullmatch(value):
            raise UnserializableError(f"the response header {name!r:.60} has a name or value that HTTP does not allow")
        if lower == "content-type":
            content_type = value
        elif lower == _FAILED:
            failed = failed or value.lower() == "true"
        elif lower not in _OURS:
            headers.append((lower, value))
    return status, failed, orjson.dumps((content_type, headers)), b"" if answer.is_streamed else answer.get_data()
