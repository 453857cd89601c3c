"""Checks the key or token of each request."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Protocol

from edge_server.config.values import Auth
from edge_server.config.watched import Clock, Watched
from edge_server.errors import ConfigurationError
from edge_server.http.messages import Request
from edge_server.security.refusals import ambiguous, nothing_tried

# The scheme as nearly every client writes it; case does not matter (RFC 9110, section 11.1).
_SCHEME = b"Bearer "


class Checker(Protocol):
    """Keys or tokens."""

    @property
    def files(self) -> tuple[Path, ...]:
        """Every file that was read for it."""

    def check(self, credential: bytes, now: float) -> None:
        """Raise BadRequest when the credential is not valid at ``now``."""


class Guard:
    """Requires a key or token, and reads their files again when they change.

    Raises MissingFileError or ConfigurationError when a file cannot be used at the start. ``clock`` gives seconds since
    1970, by which tokens expire.
    """

    def __init__(self, auth: Auth, clock: Clock = time.time) -> None:
        self._clock = clock
        self._watched = _watched(auth, clock)

    def check(self, request: Request) -> None:
        """Raise BadRequest with a ``www-authenticate`` header when the request may not be answered.

        The statuses are listed in ``refusals``.
        """
        if self._watched is None:
            return
        value = None
        for name, found in request.headers:
            if name == b"authorization":
                if value is not None:
                    raise ambiguous("the request has several Authorization headers")
                value = found
        if value is None or not (value.startswith(_SCHEME) or value[:7].lower() == _SCHEME.lower()):
            raise nothing_tried()
        credential = value[7:]
        if credential.startswith(b" "):
            credential = credential.lstrip(b" ")
        now = self._clock()
        self._watched.current(now).check(credential, now)


def _watched(auth: Auth, clock: Clock) -> Watched[Checker] | None:
    if auth.mode == "none":
        return None
    if auth.file is None:
        raise ConfigurationError("auth", [f"file is missing: mode {auth.mode} needs one"])
    # Each mode loads what it needs: a service with keys needs no tokens.
    if auth.mode == "key":
        from edge_server.security.keys import read_keys

        return Watched("keys file", partial(read_keys, auth.file), clock)
    if auth.mode == "token":
        from edge_server.security.tokens import read_tokens

        return Watched("tokens file", partial(read_tokens, auth.file), clock)
    raise ConfigurationError("auth", [f"mode must be none, key or token, not {auth.mode!r:.60}"])
