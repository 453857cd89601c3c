"""The devices of a fleet and what was signed for them, in both databases; earlier databases get the tables."""

from __future__ import annotations

import multiprocessing
from pathlib import Path
from typing import Any

import pytest

from edgepack.errors import NotFoundError, UsageError
from edgepack.oci.descriptor import Platform
from edgepack.signing.keys import create_key
from edgepack.state.identity import Identity
from packager.database.database import Database
from packager.database.tables import SCHEMA_VERSION
from packager.fleet.registry import DeviceRegistry, Target
from packager.workspaces.migrate import move_fleet
from tests.packager.database.conftest import Open

PRESS = Target("device", "press-7")


def identity(name: str, *groups: str) -> Identity:
    return Identity(name, create_key().public, Platform.parse("linux/arm64"), groups)


@pytest.fixture
def devices(open_database: Open) -> DeviceRegistry:
    return DeviceRegistry(open_database())


def document(serial: int) -> dict[str, Any]:
    return {"serial": serial, "services": []}


def test_a_device_is_added_listed_changed_and_removed(devices: DeviceRegistry) -> None:
    press, mill = identity("press-7", "line-2"), identity("mill-1", "line-2")
    added = devices.add(press, ("presses", "line-2"))
    assert (added.name, added.key, added.groups) == ("press-7", press.key, ("line-2", "presses"))
    devices.add(mill)
    assert [one.name for one in devices.list()] == ["mill-1", "press-7"]
    assert [one.name for one in devices.of_group("presses")] == ["press-7"]
    assert devices.get("press-7") == added

    assert devices.add(press).groups == ("line-2",)  # as it is said now
    with pytest.raises(UsageError, match=r"is known with another key.*two devices must not have one name"):
        devices.add(identity("press-7"))
    other = identity("press-7")
    assert devices.add(other, replace=True).key == other.key

    assert devices.remove("press-7").key == other.key
    with pytest.raises(NotFoundError, match="device 'pres-1' not found"):
        devices.get("pres-1")
    with pytest.raises(NotFoundError, match="no device is in group 'line2'; did you mean 'line-2'"):
        devices.of_group("line2")


def test_serials_of_each_target_only_grow_also_after_a_removal(devices: DeviceRegistry) -> None:
    devices.add(identity("press-7"))
    assert devices.deployment(PRESS) is None
    assert [devices.deploy(PRESS, document).serial for _ in range(2)] == [1, 2]
    assert devices.deploy(Target("group", "press-7"), document).serial == 1
    assert devices.deploy(PRESS, document, 1 << 40).serial == 1 << 40
    with pytest.raises(UsageError, match="is not above 1099511627776, the last one"):
        devices.deploy(PRESS, document, 7)
    devices.remove("press-7")
    devices.add(identity("press-7"))
    assert devices.deploy(PRESS, document).serial == (1 << 40) + 1
    found = devices.deployment(PRESS)
    assert found is not None
    assert found.document == document((1 << 40) + 1)


def test_a_document_that_cannot_be_written_takes_no_serial(devices: DeviceRegistry) -> None:
    with pytest.raises(ZeroDivisionError):
        devices.deploy(PRESS, lambda serial: {"serial": serial // 0})
    assert devices.deploy(PRESS, document).serial == 1


def _deploy(open_database: Open, found: Any) -> None:
    devices = DeviceRegistry(open_database())
    found.put([devices.deploy(PRESS, document).serial for _ in range(5)])


def test_processes_that_deploy_at_once_get_each_serial_once(open_database: Open) -> None:
    context = multiprocessing.get_context("fork")
    found = context.Queue()
    workers = [context.Process(target=_deploy, args=(open_database, found)) for _ in range(4)]
    for worker in workers:
        worker.start()
    serials = [serial for _ in workers for serial in found.get(timeout=120)]
    for worker in workers:
        worker.join(60)
    assert sorted(serials) == list(range(1, 21))


def test_a_database_of_the_version_before_gets_the_tables(open_database: Open) -> None:
    database = open_database()
    with database.writing() as connection:
        connection.run("DROP TABLE devices")
        connection.run("DROP TABLE deployments")
        connection.run("DROP TABLE services")
        connection.run("UPDATE edgepack_schema SET version = 2")
    devices = DeviceRegistry(open_database())
    devices.add(identity("press-7"))
    assert devices.deploy(PRESS, document).serial == 1
    with database.reading() as connection:
        assert connection.column("SELECT version FROM edgepack_schema") == [SCHEMA_VERSION]


def test_a_workspace_with_nothing_but_a_device_is_one(tmp_path: Path) -> None:
    from packager.workspaces.workspace import Workspace

    workspace = Workspace(tmp_path / "ws", tmp_path / "cache")
    assert not workspace.exists
    workspace.devices.add(identity("press-7"))
    again = Workspace(tmp_path / "ws", tmp_path / "cache", create=False)
    assert again.exists
    assert again.holds_records()
    assert [one.name for one in again.devices.list()] == ["press-7"]


def test_devices_and_the_later_documents_move_with_the_workspace(tmp_path: Path, open_database: Open) -> None:
    here, there = Database.beside(tmp_path / "here.db"), open_database()
    ours, theirs = DeviceRegistry(here), DeviceRegistry(there)
    press, mill = ours.add(identity("press-7")), theirs.add(identity("mill-1"))
    assert theirs.add(identity("press-8")).name == "press-8"
    ours.add(identity("press-8"))  # known there already: as the team has it
    known = theirs.get("press-8")
    for target, serials in ((PRESS, (5, 3)), (Target("group", "a"), (2, 9))):
        for registry, serial in zip((ours, theirs), serials, strict=True):
            registry.deploy(target, document, serial)

    for _ in range(2):  # it may be killed, and is run again
        move_fleet(here, there)
    assert [one.name for one in theirs.list()] == ["mill-1", "press-7", "press-8"]
    assert (theirs.get("press-7"), theirs.get("mill-1"), theirs.get("press-8")) == (press, mill, known)
    assert theirs.deploy(PRESS, document).serial == 6
    assert theirs.deploy(Target("group", "a"), document).serial == 10
