"""The database of a device as version 1 of the agent would have left it."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path

from edge_agent.state import schema

ADDED = ("goals", "documents", "refused", "refused_services", "quarantine")


def as_version_1(path: Path) -> None:
    """Take out of the database at ``path`` what version 1 does not have."""
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute("BEGIN IMMEDIATE")
        row = db.execute("SELECT serial, digest FROM documents WHERE scope = 'command' AND serial > 0").fetchone()
        db.execute("DELETE FROM facts")
        if row is not None:
            db.execute("INSERT INTO facts VALUES ('serial', ?)", (json.dumps(row),))
        for table in ADDED:
            db.execute(f"DROP TABLE {table}")
        db.execute("PRAGMA user_version = 1")
        schema.write_hash(db)
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        db.close()
