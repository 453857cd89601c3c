"""What can go wrong, as one tree.

ScoringError                 exit code 1: the server cannot start or go on
├── ConfigurationError       exit code 2: service.json, a manifest or an argument breaks its rules
└── MissingFileError         exit code 3: a file that was named is not there
BadRequest                   never ends the server: an answer of 4xx to one request
"""

from __future__ import annotations

from collections.abc import Sequence


class ScoringError(Exception):
    """The server cannot start. `str(error)` is one sentence: what, where, what to do."""

    exit_code = 1


class ConfigurationError(ScoringError):
    """Every violation of one file, reported together.

    `violations` are sentences that begin with the field; `where` names the file.
    """

    exit_code = 2

    def __init__(self, where: str, violations: Sequence[str]) -> None:
        self.where = where
        self.violations = tuple(violations)
        super().__init__(f"{where}: " + "; ".join(self.violations))


class MissingFileError(ScoringError):
    """A file that was named is not there, or is not a file."""

    exit_code = 3


class BadRequest(Exception):  # noqa: N818 - an answer to a client, not an error of ours
    """The request is the client's fault; `status` is the HTTP status, `message` the body's message."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.message = message
        self.status = status
