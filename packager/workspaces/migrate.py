"""A workspace moved between one person's folder and a team's database and registry, with all versions as they are.

It may be killed at any moment and is run again then: what is there already is passed over, and the workspace belongs to
the new place only when everything is there.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgepack.errors import UsageError
from edgepack.nearness import listed
from packager.database.database import Database
from packager.database.tables import (
    DEPLOYMENTS,
    DEVICES,
    ENVIRONMENTS,
    HERE,
    LAST_VERSIONS,
    MODELS,
    SERVICES,
    SHARED_BLOBS,
)
from packager.models.model import Model
from packager.models.rows import model_of
from packager.models.sharing import Shared
from packager.workspaces.config import Team, WorkspaceConfig
from packager.workspaces.workspace import Workspace

_log = logging.getLogger(__name__)
_RECORDS = (MODELS, ENVIRONMENTS)
# What changes of a version after it was registered.
_CHANGING = ("tags", "properties", "description", "resources", "sample", "sample_output", "conversion")
_RAISE_COUNTER = "UPDATE last_versions SET version = ? WHERE kind = ? AND name = ? AND version < ?"
_SERIAL = "SELECT serial FROM deployments WHERE kind = ? AND name = ?"
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Migration:
    """What a migration did: records that moved or were brought up to date, and those that were there already."""

    moved: int
    present: int


def migrate(workspace: Workspace, team: Team | None) -> Migration:
    """Move ``workspace`` to ``team``, or to its own folder without one.

    Raises ``UsageError``, before anything moves, where it is already, and for a name and version that the new place has
    with another content; further what the database and the registry raise.
    """
    config = replace(workspace.config, team=team).check()
    if config == workspace.config:
        where = "the team's already" if team is not None else "in its own folder already"
        raise UsageError(f"is {where}", where=workspace.root, hint="see: edgepack workspace show")
    if team is not None and workspace.config.team is not None:
        hint = "move it to its folder first: edgepack workspace migrate --local"
        raise UsageError("is another team's", where=workspace.root, hint=hint)
    source, target = workspace.database, workspace.database_of(config)
    pending = _pending(source, target)
    count = sum(len(rows) for rows in pending.values())
    present = _count(source) - count
    changed = _changed(source, target)
    for row in changed:
        if team is None:
            _take_changes(workspace, target, row)
        else:
            _log.warning("%s:%s: the tags and all else that changes of it stay as the team has them", *_key(row))
    for row in pending[MODELS.name]:
        _move_model(workspace, config, target, row)
    with target.writing() as connection:
        for row in pending[ENVIRONMENTS.name]:
            connection.insert(ENVIRONMENTS, [_without_id(row)])
    move_fleet(source, target)
    _copy_services(source, target)
    _raise_counters(source, target)
    config.write(workspace.root)
    if team is not None:
        _forget_services(source, target)
    taken = len(changed) if team is None else 0
    return Migration(count + taken, present - taken)


def _count(database: Database) -> int:
    with database.reading() as connection:
        return sum(len(connection.column(f"SELECT id FROM {table.name}")) for table in _RECORDS)  # noqa: S608


def _rows(database: Database) -> dict[str, dict[tuple[str, int], Row]]:
    found: dict[str, dict[tuple[str, int], Row]] = {}
    with database.reading() as connection:
        for table in _RECORDS:
            rows = connection.select(table, "ORDER BY name, version")
            found[table.name] = {(row["name"], row["version"]): row for row in rows}
    return found


def _pending(source: Database, target: Database) -> dict[str, Sequence[Row]]:
    """The rows of ``source`` that ``target`` lacks."""
    here, there = _rows(source), _rows(target)
    clashes = [
        f"{name}:{version}"
        for table in _RECORDS
        for (name, version), row in here[table.name].items()
        if (other := there[table.name].get((name, version))) is not None and _content(row) != _content(other)
    ]
    if clashes:
        raise UsageError(
            f"has something else as {listed(clashes)}", where=target.where,
            hint="register these under other names, and delete them here",
        )  # fmt: skip
    return {
        table.name: [row for key, row in here[table.name].items() if key not in there[table.name]] for table in _RECORDS
    }


def _changed(source: Database, target: Database) -> Sequence[Row]:
    """The models of ``source`` that ``target`` has too, with another value of what may change of them."""
    here, there = _rows(source)[MODELS.name], _rows(target)[MODELS.name]
    return [row for key, row in here.items() if key in there and _changing(row) != _changing(there[key])]


def _changing(row: Row) -> dict[str, Any]:
    return {key: row[key] for key in _CHANGING}


def _key(row: Row) -> tuple[str, int]:
    return row["name"], row["version"]


def _take_changes(workspace: Workspace, target: Database, row: Row) -> None:
    """Let the folder's record of a model say what the team's does, which others may have changed since it moved."""
    _fetch(workspace, model_of(row))
    with target.writing() as connection:
        connection.update(MODELS, _changing(row), {"name": row["name"], "version": row["version"]})


def _content(row: Row) -> object:
    """What two records of one version have in common."""
    return row.get("files", row.get("digest"))


def _without_id(row: Row) -> dict[str, Any]:
    return {key: value for key, value in row.items() if key != "id"}


def _move_model(workspace: Workspace, config: WorkspaceConfig, target: Database, row: Row) -> None:
    model = model_of(row)
    _log.info("moving %s", model.id)
    sent: list[Shared] = []
    if config.team is None:
        _fetch(workspace, model)
    else:
        blobs = workspace.blobs_of(config.team, target)
        sent.append(blobs.share(model))
        if model.conversion is not None:
            sent.append(blobs.share_conversion(model, model.conversion))
    with target.writing() as connection:
        for shared in sent:
            connection.insert(SHARED_BLOBS, shared.rows(), is_missing=True)
        connection.insert(MODELS, [_without_id(row)])


def _fetch(workspace: Workspace, model: Model) -> None:
    """Bring all blobs of ``model`` into the store."""
    layers = (*model.layers, *(() if model.conversion is None else model.conversion.layers))
    samples = (model.sample, model.sample_output, None if model.conversion is None else model.conversion.sample)
    reports = () if model.conversion is None else (model.conversion.report,)
    blobs = (*(layer.descriptor for layer in layers), *(sample.blob for sample in samples if sample), *reports)
    for blob in blobs:
        with workspace.store.open(blob):  # which fetches it
            pass


def move_fleet(source: Database, target: Database) -> None:
    """Bring the devices that the new place lacks, and of each target's documents the later one."""
    with source.reading() as connection:
        devices, deployments = connection.select(DEVICES), connection.select(DEPLOYMENTS)
    with target.writing() as connection:
        connection.insert(DEVICES, devices, is_missing=True)
        connection.insert(DEPLOYMENTS, deployments, is_missing=True)
        for row in deployments:
            there = connection.column(_SERIAL, row["kind"], row["name"])
            if int(there[0]) < int(row["serial"]):
                connection.update(DEPLOYMENTS, row, {"kind": row["kind"], "name": row["name"]})


def _services(database: Database) -> list[Row]:
    """Those that run elsewhere: what runs on this machine is on record in the folder, wherever the models are."""
    with database.reading() as connection:
        return [row for row in connection.select(SERVICES) if row["compute_type"] != HERE]


def _copy_services(source: Database, target: Database) -> None:
    found = _services(source)
    with target.writing() as connection:
        connection.insert(SERVICES, found, is_missing=True)


def _forget_services(source: Database, target: Database) -> None:
    """Leave in the folder none of those that the team has now as they are."""
    there = _services(target)
    for row in _services(source):
        if row in there:
            with source.writing() as connection:
                connection.delete(SERVICES, {"name": row["name"]})


def _raise_counters(source: Database, target: Database) -> None:
    """A number that was given here is not given again there."""
    with source.reading() as connection:
        counted = connection.select(LAST_VERSIONS)
    with target.writing() as connection:
        connection.insert(LAST_VERSIONS, counted, is_missing=True)
        for row in counted:
            connection.run(_RAISE_COUNTER, row["version"], row["kind"], row["name"], row["version"])
