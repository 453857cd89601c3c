"""The address of a team's database, checked without loading what talks to it."""

from __future__ import annotations

import re
from urllib.parse import parse_qs, urlsplit

from edgepack.errors import UsageError
from edgepack.text import redacted

_SCHEME = re.compile(r"postgres(?:ql)?")


def check_address(address: str) -> None:
    """Raise ``UsageError`` unless ``address`` is ``postgresql://[USER@]HOST[:PORT]/DATABASE[?OPTION=VALUE]``.

    It goes into a file that others read, so it may hold no password; libpq finds that in ~/.pgpass.
    """
    hint = "write postgresql://USER@HOST:PORT/DATABASE"
    try:
        parts = urlsplit(address)
        shown = f"database {parts.scheme}://{parts.hostname or ''}{parts.path}"
        _ = parts.port  # raises for one that is no number
    except ValueError:
        raise UsageError("is not an address", where=f"database {redacted(address)}", hint=hint) from None
    options = parse_qs(parts.query)
    host = parts.hostname or "host" in options  # of a socket in the file system
    if not _SCHEME.fullmatch(parts.scheme) or not host or not parts.path.strip("/"):
        raise UsageError("is not the address of a PostgreSQL database", where=shown, hint=hint)
    if parts.password is not None or "password" in options:
        raise UsageError(
            "the address holds a password, which would be written to a file", where=shown,
            hint="leave it out and put it into ~/.pgpass (mode 0600) or PGPASSWORD, where psql finds it too",
        )  # fmt: skip
