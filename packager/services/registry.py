"""The services of a workspace, in its database."""

from __future__ import annotations

from datetime import UTC, datetime

from edgepack.errors import NotFoundError
from edgepack.nearness import did_you_mean, listed
from packager.database.connection import Connection
from packager.database.database import Database
from packager.database.tables import SERVICES
from packager.services.service import Service


class ServiceRegistry:
    """The services in ``database``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def list(self) -> tuple[Service, ...]:
        """The services by name."""
        with self._database.reading() as connection:
            return tuple(Service.of_row(row) for row in connection.select(SERVICES, "ORDER BY name"))

    def find(self, name: str) -> Service | None:
        """The service called ``name``; ``None`` without one."""
        with self._database.reading() as connection:
            return _find(connection, name)

    def get(self, name: str) -> Service:
        """The service called ``name``; raises ``NotFoundError``."""
        with self._database.reading() as connection:
            found = _find(connection, name)
            if found is None:
                raise _missing(connection, name)
        return found

    def put(self, service: Service) -> None:
        """Record ``service``, in place of what was known of it."""
        with self._database.writing() as connection:
            if _find(connection, service.name) is None:
                connection.insert(SERVICES, [service.to_row()])
            else:
                connection.update(SERVICES, service.to_row(), {"name": service.name})

    def remove(self, name: str) -> Service:
        """Forget a service and return what was known of it; raises ``NotFoundError``."""
        with self._database.writing() as connection:
            found = _find(connection, name)
            if found is None:
                raise _missing(connection, name)
            connection.delete(SERVICES, {"name": name})
        return found


def now() -> str:
    """This moment, as records have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _find(connection: Connection, name: str) -> Service | None:
    rows = connection.select(SERVICES, "WHERE name = ?", name)
    return Service.of_row(rows[0]) if rows else None


def _missing(connection: Connection, name: str) -> NotFoundError:
    names = [str(one) for one in connection.column("SELECT name FROM services ORDER BY name")]
    there = f"there are {listed(names)}" if names else "make it with: edgepack service deploy"
    return NotFoundError(f"service {name!r} not found", where="service registry", hint=did_you_mean(name, names, there))
