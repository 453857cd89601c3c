"""The services of a workspace, in its database; those on this machine in the workspace's own, which no team shares."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from edgepack.errors import NotFoundError
from edgepack.nearness import did_you_mean, listed
from packager.database.connection import Connection
from packager.database.database import Database
from packager.database.tables import SERVICES
from packager.services.configuration.values import ComputeType
from packager.services.service import Service

if TYPE_CHECKING:
    from packager.workspaces.workspace import Workspace


class ServiceRegistry:
    """The services in ``own``, which is this workstation's, and in ``shared``, which may be a team's.

    What runs on this machine is in ``own``: two people of a team may call theirs the same. Where both have a name, it
    is the one on this machine. ``elsewhere`` says what else is called by a name that no service has, if anything.
    """

    def __init__(
        self, own: Database, shared: Database | None = None, elsewhere: Callable[[str], str | None] = lambda _: None
    ) -> None:
        self._own = own
        self._elsewhere = elsewhere
        self._shared = shared if shared is not None else own

    @classmethod
    def of(cls, workspace: Workspace, elsewhere: Callable[[str], str | None] = lambda _: None) -> ServiceRegistry:
        """Those of ``workspace``."""
        return cls(workspace.own_database, workspace.database, elsewhere)

    def list(self) -> tuple[Service, ...]:
        """The services by name."""
        found: dict[str, Service] = {}
        for database in self._databases():
            with database.reading() as connection:
                for row in connection.select(SERVICES):
                    found.setdefault(row["name"], Service.of_row(row))
        return tuple(found[name] for name in sorted(found))

    def find(self, name: str) -> Service | None:
        """The service called ``name``; ``None`` without one."""
        for database in self._databases():
            with database.reading() as connection:
                if (found := _find(connection, name)) is not None:
                    return found
        return None

    def get(self, name: str) -> Service:
        """The service called ``name``; raises ``NotFoundError``."""
        found = self.find(name)
        if found is None:
            raise self._missing(name)
        return found

    def put(self, service: Service) -> None:
        """Record ``service``, in place of what was known of it."""
        database = self._own if service.compute_type is ComputeType.LOCAL else self._shared
        with database.writing() as connection:
            if _find(connection, service.name) is None:
                connection.insert(SERVICES, [service.to_row()])
            else:
                connection.update(SERVICES, service.to_row(), {"name": service.name})

    def remove(self, name: str) -> Service:
        """Forget a service and return what was known of it; raises ``NotFoundError``."""
        for database in self._databases():
            with database.reading() as connection:
                found = _find(connection, name)
            if found is not None:
                with database.writing() as connection:
                    connection.delete(SERVICES, {"name": name})
                return found
        raise self._missing(name)

    def _databases(self) -> Iterator[Database]:
        yield self._own
        if self._shared is not self._own:
            yield self._shared

    def _missing(self, name: str) -> NotFoundError:
        if (hint := self._elsewhere(name)) is not None:
            return NotFoundError(f"service {name!r} not found", where="service registry", hint=hint)
        names = [one.name for one in self.list()]
        there = f"there are {listed(names)}" if names else "make it with: edgepack service deploy"
        return NotFoundError(
            f"service {name!r} not found", where="service registry", hint=did_you_mean(name, names, there)
        )


def now() -> str:
    """This moment, as records have it."""
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _find(connection: Connection, name: str) -> Service | None:
    rows = connection.select(SERVICES, "WHERE name = ?", name)
    return Service.of_row(rows[0]) if rows else None
