"""The tables of a workspace, the same in SQLite and PostgreSQL.

``SCHEMA_VERSION`` counts every change to them; ``packager.database.upgrades`` goes from each version to the next.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

SCHEMA_VERSION = 4
# All tables in a PostgreSQL database are in this schema of it, so that it may be another program's database too.
POSTGRES_SCHEMA = "edgepack"
# The type of a column that numbers the rows, in the words of each database (``packager.database.dialects``).
ROW_NUMBER = "ROW NUMBER"
# Columns of this type hold documents; ``packager.database.connection`` writes and reads them as JSON.
_DOCUMENT = "JSON"


@dataclass(frozen=True)
class Table:
    """A table: the types of its columns in SQL, which of them are unique together, and further statements."""

    name: str
    columns: Mapping[str, str]
    unique: tuple[str, ...] = ()
    further: tuple[str, ...] = ()

    @property
    def documents(self) -> frozenset[str]:
        """The columns that hold documents."""
        return frozenset(name for name, kind in self.columns.items() if kind.startswith(_DOCUMENT))

    def statements(self, row_number: str) -> Sequence[str]:
        """What makes it; ``row_number`` is the type of a column that numbers the rows."""
        parts = [f"{name} {row_number if kind == ROW_NUMBER else kind}" for name, kind in self.columns.items()]
        if self.unique:
            parts.append(f"UNIQUE ({', '.join(self.unique)})")
        return f"CREATE TABLE {self.name} ({', '.join(parts)})", *self.further


# One row: the version of these tables, and the edgepack that made it so. Its name tells our database from others.
SCHEMA = Table("edgepack_schema", {"version": "INTEGER NOT NULL", "edgepack": "VARCHAR(32) NOT NULL"})

# The last version number that was given to a name; numbers are never given twice, also after a deletion.
LAST_VERSIONS = Table(
    "last_versions",
    {"kind": "VARCHAR(32) NOT NULL", "name": "VARCHAR(255) NOT NULL", "version": "INTEGER NOT NULL"},
    unique=("kind", "name"),
)

MODELS = Table(
    "models",
    {
        "id": ROW_NUMBER,
        "name": "VARCHAR(255) NOT NULL",
        "version": "INTEGER NOT NULL",
        "framework": "VARCHAR(32) NOT NULL",
        "framework_version": "VARCHAR(64)",
        "created": "VARCHAR(32) NOT NULL",
        "created_by": "VARCHAR(255)",
        "description": "TEXT",
        "tags": "JSON NOT NULL",
        "properties": "JSON NOT NULL",
        "resources": "JSON",
        "experiment": "VARCHAR(255)",
        "run": "VARCHAR(255)",
        "size": "BIGINT NOT NULL",
        "files": "JSON NOT NULL",
        "layers": "JSON NOT NULL",
        "sample": "JSON",
        "sample_output": "JSON",
        "conversion": "JSON",
    },
    unique=("name", "version"),
    further=("CREATE INDEX models_by_run ON models (run)",),
)

# The repositories of a team's image registry that hold a blob, by its digest.
SHARED_BLOBS = Table(
    "shared_blobs",
    {"digest": "VARCHAR(71) NOT NULL", "repository": "VARCHAR(512) NOT NULL"},
    unique=("digest", "repository"),
)

ENVIRONMENTS = Table(
    "environments",
    {
        "id": ROW_NUMBER,
        "name": "VARCHAR(255) NOT NULL",
        "version": "INTEGER NOT NULL",
        "created": "VARCHAR(32) NOT NULL",
        "digest": "VARCHAR(71) NOT NULL",
        "definition": "JSON NOT NULL",
    },
    unique=("name", "version"),
)

# The devices of a fleet, and how each is reached; ``groups`` is a word of SQL's, so it has another name here.
DEVICES = Table(
    "devices",
    {
        "name": "VARCHAR(128) NOT NULL",
        "public_key": "TEXT NOT NULL",
        "platform": "VARCHAR(64) NOT NULL",
        "member_of": "JSON NOT NULL",
        "added": "VARCHAR(32) NOT NULL",
        "reach": "JSON",
    },
    unique=("name",),
)

# The last desired state that was signed for a device or a group, and its serial, which only grows.
DEPLOYMENTS = Table(
    "deployments",
    {
        "kind": "VARCHAR(32) NOT NULL",
        "name": "VARCHAR(128) NOT NULL",
        "serial": "BIGINT NOT NULL",
        "signed": "VARCHAR(32)",
        "document": "JSON",
    },
    unique=("kind", "name"),
)

# The compute type of the services that run on the workstation itself.
HERE = "Local"
# The services that were deployed from here: what they are made of, how they are to run, and where.
SERVICES = Table(
    "services",
    {
        "name": "VARCHAR(32) NOT NULL",
        "compute_type": "VARCHAR(32) NOT NULL",
        "created": "VARCHAR(32) NOT NULL",
        "updated": "VARCHAR(32) NOT NULL",
        "definition": "JSON NOT NULL",
    },
    unique=("name",),
)

TABLES = (SCHEMA, LAST_VERSIONS, MODELS, SHARED_BLOBS, ENVIRONMENTS, DEVICES, DEPLOYMENTS, SERVICES)
