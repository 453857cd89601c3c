"""Calls a service over HTTP as its users do."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from edgepack.errors import EdgepackError, RuntimeFailedError, UsageError, package_errors

if TYPE_CHECKING:
    from urllib3 import BaseHTTPResponse

# A call may take as long as the contract's longest time limit.
_SECONDS = 3600.0
_OK, _UNAUTHORIZED, _FORBIDDEN = 200, 401, 403
_SHOWN = 2000
_OTHER_KEYS = "what it asks for is not what this workspace has; call from where it was deployed, or deploy it from here"
# A document is answered at once.
_DOCUMENT_SECONDS = 10.0


def nothing_shown() -> Sequence[str]:
    """Of a service that asks for nothing."""
    return ()


def score(address: str | None, body: Any, *, where: str, shown: Callable[[], Sequence[str]] = nothing_shown) -> Any:
    """Post ``body``, a text or bytes of JSON, to ``address``; returns the answer, read as JSON where it is JSON.

    ``shown`` says which keys or tokens the service takes, the best first; after a 401 it is asked again, and what was
    not tried yet is tried once. Raises ``RuntimeFailedError`` with the status, the headers and the text of an answer
    that is not 200, and where nothing answers.
    """
    if address is None:
        raise EdgepackError("has no address that is known here", where=where, hint="see: edgepack service show")
    if not isinstance(body, str | bytes | bytearray):
        raise UsageError("is no text and no bytes", where="input", hint="write json.dumps(…) around it")
    data = body.encode() if isinstance(body, str) else bytes(body)
    tried = next(iter(shown()), None)
    answer = _post(address, data, tried, where)
    if answer.status == _UNAUTHORIZED and tried is not None:
        another = next((one for one in shown() if one != tried), None)
        if another is not None:
            answer = _post(address, data, another, where)
    text = answer.data.decode(errors="replace")
    if answer.status != _OK:
        headers = dict(answer.headers.items())
        hint = _OTHER_KEYS if answer.status in (_UNAUTHORIZED, _FORBIDDEN) else None
        raise RuntimeFailedError(
            f"answered with code {answer.status}, headers {headers} and content {text[:_SHOWN]}", where=where,
            hint=hint,
        )  # fmt: skip
    try:
        return json.loads(text)
    except ValueError:
        return text


def example_body(address: str | None, *, where: str, shown: Callable[[], Sequence[str]] = nothing_shown) -> Any:
    """The example of a request's body in the OpenAPI document at ``address``; ``None`` where that cannot be had."""
    if address is None:
        return None
    try:
        answer = _asked("GET", address, None, next(iter(shown()), None), where, _DOCUMENT_SECONDS)
        document = json.loads(answer.data)
    except (EdgepackError, ValueError):
        return None
    found: Any = document
    for key in ("definitions", "ServiceInput", "example"):
        found = found.get(key) if isinstance(found, dict) else None
    return found


def _post(address: str, data: bytes, credential: str | None, where: str) -> BaseHTTPResponse:
    return _asked("POST", address, data, credential, where, _SECONDS)


def _asked(
    method: str, address: str, data: bytes | None, credential: str | None, where: str, seconds: float
) -> BaseHTTPResponse:
    with package_errors("packager"):
        import urllib3
    headers = {} if data is None else {"Content-Type": "application/json"}
    if credential is not None:
        headers["Authorization"] = f"Bearer {credential}"
    try:
        return urllib3.request(method, address, body=data, headers=headers, timeout=seconds, retries=False)
    except urllib3.exceptions.HTTPError as error:
        hint = "see how it is: edgepack service list"
        raise RuntimeFailedError(f"does not answer ({error})", where=where, hint=hint) from error
