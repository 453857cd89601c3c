"""What a failure of the database is to a user."""

from __future__ import annotations

from edgepack.errors import EdgepackError, NoSpaceError

_TEAM_HINT = (
    "check that the server runs and lets you in: user and password come from the address, ~/.pgpass (mode 0600) "
    "or PGPASSWORD, as for psql"
)
# PostgreSQL, appendix A: error codes.
_DISK_FULL, _NO_RIGHT = "53100", "42501"


def explained(error: Exception, where: str) -> EdgepackError:
    """The error that a driver's is, by SQLite's result codes and PostgreSQL's error codes."""
    lite, state = getattr(error, "sqlite_errorname", None), getattr(error, "sqlstate", None)
    if lite == "SQLITE_FULL":
        return NoSpaceError("no space left on the disk", where=where, hint="free some and run the same command again")
    if state == _DISK_FULL:
        return NoSpaceError("no space left on the database's disk", where=where, hint="free some there and try again")
    said = " ".join(str(error).split()).rstrip(".")
    return EdgepackError(f"the workspace's database cannot be used ({said})", where=where, hint=_hint(lite, state))


def _hint(lite: str | None, state: str | None) -> str:
    if lite is None:
        return "ask for the right to create tables there" if state == _NO_RIGHT else _TEAM_HINT
    if lite in ("SQLITE_NOTADB", "SQLITE_CORRUPT"):
        return "put a copy of it back, or move it away and register the models again"
    if lite.startswith("SQLITE_BUSY"):
        return "another command has it locked; run this one again"
    return "check the disk and the file's permissions"
