"""Calls a service over HTTP as its users do."""

from __future__ import annotations

import json
from typing import Any

from edgepack.errors import EdgepackError, RuntimeFailedError, UsageError, package_errors

# A call may take as long as the contract's longest time limit.
_SECONDS = 3600.0
_OK = 200
_SHOWN = 2000


def score(address: str | None, body: Any, *, where: str) -> Any:
    """Post ``body``, a text or bytes of JSON, to ``address``; returns the answer, read as JSON where it is JSON.

    Raises ``RuntimeFailedError`` with the status, the headers and the text of an answer that is not 200, and where
    nothing answers.
    """
    if address is None:
        raise EdgepackError("has no address that is known here", where=where, hint="see: edgepack service show")
    if not isinstance(body, str | bytes | bytearray):
        raise UsageError("is no text and no bytes", where="input", hint="write json.dumps(…) around it")
    with package_errors("packager"):
        import urllib3
    data = body.encode() if isinstance(body, str) else bytes(body)
    try:
        answer = urllib3.request(
            "POST", address, body=data, headers={"Content-Type": "application/json"}, timeout=_SECONDS, retries=False
        )
    except urllib3.exceptions.HTTPError as error:
        hint = "see how it is: edgepack service list"
        raise RuntimeFailedError(f"does not answer ({error})", where=where, hint=hint) from error
    text = answer.data.decode(errors="replace")
    if answer.status != _OK:
        headers = dict(answer.headers.items())
        raise RuntimeFailedError(
            f"answered with code {answer.status}, headers {headers} and content {text[:_SHOWN]}", where=where
        )
    try:
        return json.loads(text)
    except ValueError:
        return text
