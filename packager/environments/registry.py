"""The registry of environments: names, integer versions, and the same version again for the same software."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, and_, delete, func, insert, select, update
from sqlalchemy.dialects import postgresql, sqlite

from edgepack.errors import NotFoundError, UsageError
from edgepack.names import EnvironmentRef
from edgepack.nearness import did_you_mean, listed
from packager.database.database import Database
from packager.database.tables import ENVIRONMENTS, LAST_VERSIONS
from packager.environments.curated import CURATED, all_curated, check_not_curated, curated
from packager.environments.document import digest_of, read_json, to_json
from packager.environments.environment import Environment, check_environment
from packager.environments.secrets import check_secrets
from packager.layers.secrets import known_secrets

_KIND = "environment"
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
            last = _lock(connection, environment.name)
            latest = _latest(connection, environment.name)
            if latest is not None and latest["digest"] == digest:
                return _environment(latest)
            if environment.version not in (None, last + 1):
                _log.warning("%s is registered as version %d of the name here", environment.id, last + 1)
            created = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
            made = replace(environment, version=last + 1, created=created)
            connection.execute(
                update(LAST_VERSIONS).where(_is_last(made.name)).values(version=LAST_VERSIONS.c.version + 1)
            )
            connection.execute(
                insert(ENVIRONMENTS).values(
                    name=made.name, version=made.version, created=created, digest=digest, definition=to_json(made)
                )
            )
            return made

    def get(self, ref: EnvironmentRef) -> Environment:
        """The environment of that name and version, the latest without a version; raises ``NotFoundError``."""
        if (found := curated(ref)) is not None:
            return found
        with self._database.reading() as connection:
            return self._read(connection, ref)

    def list(self) -> tuple[Environment, ...]:
        """The latest version of each name, those that edgepack brings included, by name."""
        newest = select(ENVIRONMENTS.c.name, func.max(ENVIRONMENTS.c.version).label("version"))
        newest_ones = newest.group_by(ENVIRONMENTS.c.name).subquery()
        wanted = select(ENVIRONMENTS).join(
            newest_ones,
            and_(ENVIRONMENTS.c.name == newest_ones.c.name, ENVIRONMENTS.c.version == newest_ones.c.version),
        )
        with self._database.reading() as connection:
            found = [_environment(dict(row)) for row in connection.execute(wanted).mappings()]
        return _by_name([*found, *all_curated()])

    def versions(self, name: str) -> tuple[Environment, ...]:
        """Every version of ``name``, the oldest first; raises ``NotFoundError`` for a name that there is not."""
        if name in CURATED:
            return (self.get(EnvironmentRef(name)),)
        wanted = select(ENVIRONMENTS).where(ENVIRONMENTS.c.name == name).order_by(ENVIRONMENTS.c.version)
        with self._database.reading() as connection:
            found = tuple(_environment(dict(row)) for row in connection.execute(wanted).mappings())
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
            connection.execute(delete(ENVIRONMENTS).where(_is(ref)))
        return found

    def _read(self, connection: Connection, ref: EnvironmentRef) -> Environment:
        if ref.version is None:
            row = _latest(connection, ref.name)
        else:
            row = _first(connection, select(ENVIRONMENTS).where(_is(ref)))
        if row is None:
            raise _not_found(connection, ref)
        return _environment(row)


def _lock(connection: Connection, name: str) -> int:
    """The last version that ``name`` was given, 0 for none; others that ask for it wait until this transaction ends."""
    kind = sqlite if connection.dialect.name == "sqlite" else postgresql
    row = kind.insert(LAST_VERSIONS).values(kind=_KIND, name=name, version=0)
    # An update that changes nothing locks the row all the same (PostgreSQL, "Explicit Locking").
    asked = row.on_conflict_do_update(
        index_elements=[LAST_VERSIONS.c.kind, LAST_VERSIONS.c.name], set_={"version": LAST_VERSIONS.c.version}
    ).returning(LAST_VERSIONS.c.version)
    return int(connection.execute(asked).scalar_one())


def _latest(connection: Connection, name: str) -> Mapping[str, Any] | None:
    wanted = select(ENVIRONMENTS).where(ENVIRONMENTS.c.name == name).order_by(ENVIRONMENTS.c.version.desc()).limit(1)
    return _first(connection, wanted)


def _first(connection: Connection, wanted: Select[Any]) -> Mapping[str, Any] | None:
    row = connection.execute(wanted).mappings().first()
    return None if row is None else dict(row)


def _is(ref: EnvironmentRef) -> ColumnElement[bool]:
    return and_(ENVIRONMENTS.c.name == ref.name, ENVIRONMENTS.c.version == ref.version)


def _is_last(name: str) -> ColumnElement[bool]:
    return and_(LAST_VERSIONS.c.kind == _KIND, LAST_VERSIONS.c.name == name)


def _environment(row: Mapping[str, Any]) -> Environment:
    where = f"environment {row['name']}:{row['version']} in the database"
    found = read_json(row["definition"], where)
    # What has the digest of its registration was checked then.
    return found if digest_of(found) == row["digest"] else check_environment(found, where)


def _by_name(environments: Iterable[Environment]) -> tuple[Environment, ...]:
    return tuple(sorted(environments, key=lambda one: one.name))


def _not_found(connection: Connection, ref: EnvironmentRef) -> NotFoundError:
    versions = connection.scalars(
        select(ENVIRONMENTS.c.version).where(ENVIRONMENTS.c.name == ref.name).order_by(ENVIRONMENTS.c.version)
    ).all()
    names = connection.scalars(select(ENVIRONMENTS.c.name).distinct().order_by(ENVIRONMENTS.c.name)).all()
    known = [*names, *sorted(CURATED)]
    hint = did_you_mean(ref.name, known, f"there are {listed(known)}")
    if versions:
        hint = f"its versions are {', '.join(map(str, versions))}"
    return NotFoundError(f"environment {ref} not found", where="environment registry", hint=hint)
