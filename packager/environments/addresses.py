"""Addresses in an environment: package indexes, channels, archives. None may carry a credential."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from edgepack.limits import LIMITS
from packager.layers.secrets import credentials_in
from packager.wheels.indexes import VARIABLE

_TOKEN_IN_PATH = re.compile(r"/t/[^/\s]+(?:/|$)")
_TOKEN_IN_QUERY = re.compile(r"[?&](?:sig|signature|token|access_token|password|passwd|secret|api[_-]?key)=", re.I)
_SCHEME = re.compile(r"(?P<scheme>[a-zA-Z][a-zA-Z0-9+.-]*):")
_WEB = ("http", "https")
# What pip can check out (its documentation, "VCS Support"), each over these.
_VCS = ("git", "hg", "svn", "bzr")


def scheme_of(text: str) -> str | None:
    """The scheme of an address, in lower case, such as ``git+https``; None for what is not one."""
    found = _SCHEME.match(text)
    return found["scheme"].lower() if found else None


def is_version_control(scheme: str) -> bool:
    """Whether an address of this scheme is checked out."""
    return scheme.partition("+")[0] in _VCS


def is_remote(scheme: str | None) -> bool:
    """Whether others can reach an address of this scheme too, as they cannot reach a file of this machine."""
    if scheme is None:
        return False
    program, _, transport = scheme.partition("+")
    return scheme in _WEB or (program in _VCS and transport != "file")


def problem_of(address: str) -> str | None:
    """Why an environment cannot keep this address, such as a password in it; None when it can.

    The text never holds the credential.
    """
    if len(address) > LIMITS.requirement_chars:
        return f"has more than {LIMITS.requirement_chars} characters"
    known = VARIABLE.sub("", address)
    if any(not char.isprintable() or char.isspace() for char in address):
        return "holds a space or a character that cannot be printed"
    try:
        parts = urlsplit(VARIABLE.sub("x", address))
        _ = parts.port
    except ValueError as error:
        return f"is not a valid address ({error})"
    if next(credentials_in(known), None) is not None:
        return "carries a password or token; keep it in .netrc or in a variable, written as ${NAME}"
    if _TOKEN_IN_PATH.search(known):
        return "carries a token in its path (/t/…); leave it out and configure it where images are built"
    if _TOKEN_IN_QUERY.search(known):
        return "carries a token after its '?'; leave it out and configure it where images are built"
    if scheme_of(address) in _WEB and not parts.hostname:
        return "names no host"
    return None


def shown(address: str) -> str:
    """``address`` without what may be a credential, for an error to show."""
    if len(address) > LIMITS.requirement_chars:
        return f"({len(address)} characters)"
    text = re.sub(r"(?<=://)[^/]*@", "****@", address)
    text = _TOKEN_IN_PATH.sub("/t/****/", text)
    return (text.partition("?")[0] if _TOKEN_IN_QUERY.search(text) else text)[:200]
