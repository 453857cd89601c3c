"""The registry of environments: names, integer versions, and the same version again for the same software."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime

from edgepack.errors import NotFoundError, UsageError
from edgepack.names import EnvironmentRef
from edgepack.nearness import did_you_mean, listed
from packager.database.connection import Connection, Row
from packager.database.database import Database
from packager.database.tables import ENVIRONMENTS, LAST_VERSIONS
from packager.environments.curated import CURATED, all_curated, check_not_curated, curated
from packager.environments.document import digest_of, read_json, to_json
from packager.environments.environment import Environment, check_environment
from packager.environments.secrets import check_secrets
from packager.layers.secrets import known_secrets

_KIND = "environment"
# An update that changes nothing locks the row all the same (PostgreSQL, "Explicit Locking").
_LOCK = """INSERT INTO last_versions (kind, name, version) VALUES (?, ?, 0)
    ON CONFLICT (kind, name) DO UPDATE SET version = last_versions.version RETURNING version"""
_NEWEST = """JOIN (SELECT name AS known, max(version) AS newest FROM environments GROUP BY name) AS latest
    ON name = known AND version = newest"""
_log = logging.getLogger(__name__)


class EnvironmentRegistry:
    """The registry in ``database``, and the environments that edgepack brings, which nobody can change."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def register(self, environment: Environment) -> Environment:
        """Give ``environment`` the next version of its name; the latest one again when that asks for the same.

        The numbers are given one after the other and never again, by any number of processes at once. A version that
        ``environment`` has already is not kept. Raises ``InvalidDocumentError`` and ``UsageError`` for one that cannot
        be kept, ``EdgepackError`` where it holds a credential of this machine; nothing is registered then.
        """
        check_environment(environment)
        check_not_curated(environment.name)
        check_secrets(environment, known_secrets())
        digest = digest_of(environment)
        with self._database.writing() as connection:
            last = int(connection.column(_LOCK, _KIND, environment.name)[0])
            latest = _latest(connection, environment.name)
            if latest is not None and latest["digest"] == digest:
                return _environment(latest)
            if environment.version not in (None, last + 1):
                _log.warning("%s is registered as version %d of the name here", environment.id, last + 1)
            created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            made = replace(environment, version=last + 1, created=created)
            connection.update(LAST_VERSIONS, {"version": made.version}, {"kind": _KIND, "name": made.name})
            row = {"name": made.name, "version": made.version, "created": created, "digest": digest}
            connection.insert(ENVIRONMENTS, [{**row, "definition": to_json(made)}])
            return made

    def get(self, ref: EnvironmentRef) -> Environment:
        """The environment of that name and version, the latest without a version; raises ``NotFoundError``."""
        if (found := curated(ref)) is not None:
            return found
        with self._database.reading() as connection:
            return self._read(connection, ref)

    def list(self) -> tuple[Environment, ...]:
        """The latest version of each name, those that edgepack brings included, by name."""
        with self._database.reading() as connection:
            found = [_environment(row) for row in connection.select(ENVIRONMENTS, _NEWEST)]
        return _by_name([*found, *all_curated()])

    def versions(self, name: str) -> tuple[Environment, ...]:
        """Every version of ``name``, the oldest first; raises ``NotFoundError`` for a name that there is not."""
        if name in CURATED:
            return (self.get(EnvironmentRef(name)),)
        with self._database.reading() as connection:
            rows = connection.select(ENVIRONMENTS, "WHERE name = ? ORDER BY version", name)
            found = tuple(_environment(row) for row in rows)
            if not found:
                raise _not_found(connection, EnvironmentRef(name))
        return found

    def delete(self, ref: EnvironmentRef) -> Environment:
        """Remove one version and return what it was; its number is never given again.

        Raises ``NotFoundError``, and ``UsageError`` without a version or for an environment that edgepack brings.
        """
        if ref.name in CURATED:
            raise UsageError(
                "edgepack brings it, so it stays", where=f"environment {ref}", hint="nothing uses it unasked"
            )
        if ref.version is None:
            raise UsageError("say which version", where=f"environment {ref}", hint=f"such as {self.get(ref).id}")
        with self._database.writing() as connection:
            found = self._read(connection, ref)
            connection.delete(ENVIRONMENTS, {"name": ref.name, "version": ref.version})
        return found

    def _read(self, connection: Connection, ref: EnvironmentRef) -> Environment:
        if ref.version is None:
            row = _latest(connection, ref.name)
        else:
            row = _first(connection, "WHERE name = ? AND version = ?", ref.name, ref.version)
        if row is None:
            raise _not_found(connection, ref)
        return _environment(row)


def _latest(connection: Connection, name: str) -> Row | None:
    return _first(connection, "WHERE name = ? ORDER BY version DESC LIMIT 1", name)


def _first(connection: Connection, rest: str, *values: object) -> Row | None:
    found = connection.select(ENVIRONMENTS, rest, *values)
    return found[0] if found else None


def _environment(row: Row) -> Environment:
    where = f"environment {row['name']}:{row['version']} in the database"
    found = read_json(row["definition"], where)
    # What has the digest of its registration was checked then.
    return found if digest_of(found) == row["digest"] else check_environment(found, where)


def _by_name(environments: Iterable[Environment]) -> tuple[Environment, ...]:
    return tuple(sorted(environments, key=lambda one: one.name))


def _not_found(connection: Connection, ref: EnvironmentRef) -> NotFoundError:
    versions = connection.column("SELECT version FROM environments WHERE name = ? ORDER BY version", ref.name)
    names = connection.column("SELECT DISTINCT name FROM environments ORDER BY name")
    known = [*names, *sorted(CURATED)]
    hint = did_you_mean(ref.name, known, f"there are {listed(known)}")
    if versions:
        hint = f"its versions are {', '.join(map(str, versions))}"
    return NotFoundError(f"environment {ref} not found", where="environment registry", hint=hint)
