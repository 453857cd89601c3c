"""The tables of a workspace, the same in SQLite and PostgreSQL.

``SCHEMA_VERSION`` counts every change to them; ``packager.database.upgrades`` goes from each version to the next.
"""

from __future__ import annotations

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
    UniqueConstraint,
)

SCHEMA_VERSION = 2
# All tables in a PostgreSQL database are in this schema of it, so that it may be another program's database too.
POSTGRES_SCHEMA = "edgepack"

METADATA = MetaData()

# One row: the version of these tables, and the edgepack that made it so. Its name tells our database from others.
SCHEMA = Table(
    "edgepack_schema",
    METADATA,
    Column("version", Integer, nullable=False),
    Column("edgepack", String(32), nullable=False),
)

# The last version number that was given to a name; numbers are never given twice, also after a deletion.
LAST_VERSIONS = Table(
    "last_versions",
    METADATA,
    Column("kind", String(32), nullable=False),
    Column("name", String(255), nullable=False),
    Column("version", Integer, nullable=False),
    PrimaryKeyConstraint("kind", "name"),
)

MODELS = Table(
    "models",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(255), nullable=False),
    Column("version", Integer, nullable=False),
    Column("framework", String(32), nullable=False),
    Column("framework_version", String(64)),
    Column("created", String(32), nullable=False),
    Column("created_by", String(255)),
    Column("description", Text),
    Column("tags", JSON(none_as_null=True), nullable=False),
    Column("properties", JSON(none_as_null=True), nullable=False),
    Column("resources", JSON(none_as_null=True)),
    Column("experiment", String(255)),
    Column("run", String(255)),
    Column("size", BigInteger, nullable=False),
    Column("files", JSON(none_as_null=True), nullable=False),
    Column("layers", JSON(none_as_null=True), nullable=False),
    Column("sample", JSON(none_as_null=True)),
    Column("sample_output", JSON(none_as_null=True)),
    Column("conversion", JSON(none_as_null=True)),
    UniqueConstraint("name", "version"),
    Index("models_by_run", "run"),
)

# The repositories of a team's image registry that hold a blob, by its digest.
SHARED_BLOBS = Table(
    "shared_blobs",
    METADATA,
    Column("digest", String(71), nullable=False),
    Column("repository", String(512), nullable=False),
    PrimaryKeyConstraint("digest", "repository"),
)

ENVIRONMENTS = Table(
    "environments",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("name", String(255), nullable=False),
    Column("version", Integer, nullable=False),
    Column("created", String(32), nullable=False),
    Column("digest", String(71), nullable=False),
    Column("definition", JSON(none_as_null=True), nullable=False),
    UniqueConstraint("name", "version"),
)
