"""An engine's errors as ours. An engine gives the reason as text only: this is the one module that reads it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from edgepack.errors import NoSpaceError, RuntimeFailedError


class EngineRefusedError(RuntimeFailedError):
    """The container engine refused a request, or did not answer it."""


@contextmanager
def engine_errors(where: str) -> Iterator[None]:
    """Turn an error of the engine, or of the connection to it, into ``EngineRefusedError`` or ``NoSpaceError``."""
    import docker
    import requests

    try:
        yield
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise refused(message(error), where) from error


def refused(text: str, where: str) -> EngineRefusedError | NoSpaceError:
    """The error for an engine's message, which is all that an engine says when its disk is full."""
    if "no space left" in text:
        return NoSpaceError("no space left where the engine keeps its images and containers", where=where)
    return EngineRefusedError(f"the container engine refuses ({text})", where=where, hint="look at the engine's log")


def message(error: BaseException) -> str:
    """An engine's error message in one line."""
    text = getattr(error, "explanation", None) or str(error)
    return " ".join(str(text).split())
