"""The errors of the server, as one tree.

ScoringError                 exit code 1: the server cannot start or go on
├── ConfigurationError       exit code 2: service.json, a manifest or an argument breaks its rules
├── MissingFileError         exit code 3: a file that was named is not there
└── ScriptError              exit code 5: the entry script cannot be imported, or its init() failed
BadRequest                   never ends the server: an answer of 4xx (or 503) to one request
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager


class ScoringError(Exception):
    """The server cannot start. ``str(error)`` is one sentence: what, where, what to do."""

    exit_code = 1


class ConfigurationError(ScoringError):
    """Every violation of one file, reported together.

    ``violations`` are sentences that begin with the field; ``where`` names the file.
    """

    exit_code = 2

    def __init__(self, where: str, violations: Sequence[str]) -> None:
        self.where = where
        self.violations = tuple(violations)
        super().__init__(f"{where}: " + "; ".join(self.violations))


class MissingFileError(ScoringError):
    """A file that was named is not there, or is not a file."""

    exit_code = 3


class ScriptError(ScoringError):
    """The entry script cannot be imported or its ``init()`` failed: starting it again will not help."""

    exit_code = 5


class BadRequest(Exception):  # noqa: N818 - an answer to a client, not an error of ours
    """The request cannot be answered; ``status`` is the HTTP status, ``message`` the body's message.

    ``headers`` are added to the answer, such as ``retry-after`` and ``www-authenticate``.
    """

    def __init__(self, message: str, status: int = 400, headers: Sequence[tuple[bytes, bytes]] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
        self.headers = tuple(headers)


def cannot_listen(host: str, port: int, error: OSError) -> ScoringError:
    """The error for an address that is not available."""
    reason = error.strerror or str(error)
    return ScoringError(f"cannot listen on {host} port {port}: {reason}; choose another with --port or --host")


@contextmanager
def package_errors() -> Iterator[None]:
    """Turn the lack of a Python package that the server needs into a ScoringError that says how to install it."""
    try:
        yield
    except ModuleNotFoundError as error:
        from importlib.util import find_spec

        package = (error.name or "").partition(".")[0]
        if not package or find_spec(package) is not None:  # a module of a package that is there
            raise
        raise ScoringError(
            f"the Python package {package} is not installed; run: pip install 'edgepack[serve]'"
        ) from error
