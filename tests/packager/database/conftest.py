"""A registry in each kind of database: SQLite beside the store, and PostgreSQL."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from packager.database.database import Database
from tests.support.postgres import Postgres, postgres

Open = Callable[[], Database]


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A PostgreSQL server."""
    with postgres() as running:
        yield running


@pytest.fixture
def team_address(server: Postgres, monkeypatch: pytest.MonkeyPatch) -> str:
    """The address of a new database there; the password is where psql looks for it."""
    monkeypatch.setenv("PGPASSFILE", str(server.passwords))
    return server.new_database()


@pytest.fixture(params=["sqlite", "postgresql"])
def open_database(request: pytest.FixtureRequest, tmp_path: Path) -> Open:
    """Opens one and the same database, each time anew."""
    if request.param == "sqlite":
        return lambda: Database.beside(tmp_path / "workspace" / "models.db")
    address = request.getfixturevalue("team_address")
    return lambda: Database.at(address)
