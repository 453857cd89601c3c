"""Makes the tables, and brings those of an earlier edgepack to this one's form: in one transaction, once.

A new version of the tables adds its step to ``_STEPS``; a test takes a database of each earlier version through them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgepack import __version__
from edgepack.errors import IncompatibleError
from edgepack.text import printable
from packager.database.connection import Connection
from packager.database.tables import SCHEMA, SCHEMA_VERSION, TABLES

# The tables of the first edgepack, which wrote no version.
_FIRST = frozenset({"models", "model_names"})

_VERSION = "SELECT version FROM edgepack_schema"

# The way from each earlier version to the next. A step stays as it is: it makes the tables of its time, not today's.
_STEPS: Mapping[int, Sequence[str]] = {
    1: (  # in SQLite only
        "CREATE TABLE edgepack_schema (version INTEGER NOT NULL, edgepack VARCHAR(32) NOT NULL)",
        "INSERT INTO edgepack_schema VALUES (1, '0')",
        """CREATE TABLE last_versions (
            kind VARCHAR(32) NOT NULL, name VARCHAR(255) NOT NULL, version INTEGER NOT NULL,
            PRIMARY KEY (kind, name))""",
        "INSERT INTO last_versions SELECT 'model', name, last_version FROM model_names",
        "DROP TABLE model_names",
        "ALTER TABLE models ADD COLUMN created_by VARCHAR(255)",
        "ALTER TABLE models ADD COLUMN description TEXT",
        "ALTER TABLE models ADD COLUMN properties JSON NOT NULL DEFAULT '{}'",
        "ALTER TABLE models ADD COLUMN resources JSON",
        "ALTER TABLE models ADD COLUMN experiment VARCHAR(255)",
        "ALTER TABLE models ADD COLUMN run VARCHAR(255)",
        "ALTER TABLE models ADD COLUMN size BIGINT NOT NULL DEFAULT 0",
        "ALTER TABLE models ADD COLUMN sample_output JSON",
        "UPDATE models SET size = (SELECT coalesce(sum(json_extract(value, '$[1]')), 0) FROM json_each(files))",
        "CREATE INDEX models_by_run ON models (run)",
        """CREATE TABLE shared_blobs (
            digest VARCHAR(71) NOT NULL, repository VARCHAR(512) NOT NULL, PRIMARY KEY (digest, repository))""",
        """CREATE TABLE environments (
            id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(255) NOT NULL, version INTEGER NOT NULL,
            created VARCHAR(32) NOT NULL, digest VARCHAR(71) NOT NULL, definition JSON NOT NULL,
            UNIQUE (name, version))""",
    ),
    2: (
        """CREATE TABLE devices (
            name VARCHAR(128) NOT NULL, public_key TEXT NOT NULL, platform VARCHAR(64) NOT NULL,
            member_of JSON NOT NULL, added VARCHAR(32) NOT NULL, UNIQUE (name))""",
        """CREATE TABLE deployments (
            kind VARCHAR(32) NOT NULL, name VARCHAR(128) NOT NULL, serial BIGINT NOT NULL, signed VARCHAR(32),
            document JSON, UNIQUE (kind, name))""",
    ),
    3: (
        "ALTER TABLE devices ADD COLUMN reach JSON",
        """CREATE TABLE services (
            name VARCHAR(32) NOT NULL, compute_type VARCHAR(32) NOT NULL, created VARCHAR(32) NOT NULL,
            updated VARCHAR(32) NOT NULL, definition JSON NOT NULL, UNIQUE (name))""",
    ),
}


def is_current(connection: Connection) -> bool:
    """Whether the tables say that they have this version: one question, since every command asks it."""
    try:
        return connection.column(_VERSION) == [SCHEMA_VERSION]
    except connection.dialect.failures:  # such tables are not there, or are another program's
        return False


def prepare(connection: Connection) -> None:
    """Make the tables, or upgrade them, in the transaction of ``connection``; raises ``IncompatibleError``."""
    for statement in connection.dialect.preparing:
        connection.run(statement)
    found = _version(connection)  # again: another process may have been first
    if found == 0:
        for table in TABLES:
            for statement in table.statements(connection.dialect.row_number):
                connection.run(statement)
        connection.insert(SCHEMA, [{"version": SCHEMA_VERSION, "edgepack": __version__}])
    elif found < SCHEMA_VERSION:
        for version in range(found, SCHEMA_VERSION):
            for statement in _STEPS[version]:
                connection.run(statement)
        connection.run("UPDATE edgepack_schema SET version = ?, edgepack = ?", SCHEMA_VERSION, __version__)


def _version(connection: Connection) -> int:
    """The version of the tables that are there, 0 for none."""
    where = connection.dialect.where
    names = frozenset(connection.column(connection.dialect.table_names))
    if SCHEMA.name not in names:
        if not names:
            return 0
        if names == _FIRST:
            return 1
        raise IncompatibleError(
            f"is the database of another program (it has a table {min(names)!r})", where=where,
            hint="name another database, or another folder as the workspace",
        )  # fmt: skip
    (row,) = connection.select(SCHEMA)
    version, edgepack = int(row["version"]), str(row["edgepack"])
    if version > SCHEMA_VERSION:
        raise IncompatibleError(
            f"needs edgepack {printable(edgepack)} or later: its tables have version {version}, and edgepack "
            f"{__version__} reads those up to {SCHEMA_VERSION}",
            where=where, hint="install that edgepack here, or name another workspace",
        )  # fmt: skip
    return version
