"""An engine's errors as ours. An engine gives the reason as text only: this is the one module that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgepack.errors import MissingPartError, NoSpaceError, RuntimeFailedError

# A status of HTTP.
NOT_FOUND, CONFLICT = 404, 409
_HINT = "look at the engine's log"


class CallError(RuntimeFailedError):
    """A request that the engine refused with ``status``, or did not answer, which is status 0."""

    def __init__(self, what: str, status: int = 0) -> None:
        super().__init__(" ".join(what.split()))
        self.status = status


class EngineRefusedError(RuntimeFailedError):
    """The container engine refused a request, or did not answer it."""


class EngineAwayError(EngineRefusedError, MissingPartError):
    """The container engine does not answer now: what needs it waits."""


@contextmanager
def engine_errors(where: str) -> Iterator[None]:
    """Turn an error of the engine, or of the connection to it, into one of ours.

    ``EngineAwayError`` where it does not answer, which passes; else ``EngineRefusedError`` or ``NoSpaceError``.
    """
    try:
        yield
    except CallError as error:
        if error.status == 0:
            raise EngineAwayError(f"the container engine refuses ({error.what})", where=where, hint=_HINT) from error
        raise refused(error.what, where) from error


def refused(text: str, where: str) -> EngineRefusedError | NoSpaceError:
    """The error for an engine's message, which is all that an engine says when its disk is full."""
    if "no space left" in text:
        return NoSpaceError("no space left where the engine keeps its images and containers", where=where)
    return EngineRefusedError(f"the container engine refuses ({text})", where=where, hint=_HINT)
