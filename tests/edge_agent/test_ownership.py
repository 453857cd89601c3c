"""What other users could change is refused with the command that mends it; and nobody else can stop the agent."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from edge_agent.device import Device
from edgepack.bundle.receipt import Receipt
from edgepack.errors import EdgepackError, UnsafePermissionsError
from edgepack.host.locks import holders
from edgepack.host.ownership import check_way, open_to_others
from edgepack.oci.descriptor import Platform
from edgepack.signing.keys import create_key
from tests.support.running import run

FOREIGN = 12345
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give files to another user")


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """A device with a trusted key and a state."""
    made = Device(tmp_path / "a place" / "device", "process", 0.2)
    made.trust.add(create_key().public.to_pem())
    assert made.state.services() == {}
    return made


def again(device: Device) -> Device:
    return Device(device.root, "process", 0.2)


def read_all(device: Device) -> None:
    """As the next command does."""
    now = again(device)
    assert now.exists
    assert len(now.trust.keys()) == 1
    assert now.state.services() == {}


def give_away(path: Path) -> None:
    os.chown(path, FOREIGN, FOREIGN, follow_symlinks=False)


def open_up(path: Path) -> None:
    path.chmod(path.stat().st_mode | 0o022)


def open_to_group(path: Path) -> None:
    os.chown(path, -1, 1)  # a group that is nobody's own
    path.chmod(path.stat().st_mode | 0o020)


PARTS = ["", "..", "trust", "trust/*.pub", "state", "state/agent.db"]


@root_only
@pytest.mark.parametrize("spoil", [give_away, open_up, open_to_group])
@pytest.mark.parametrize("part", PARTS)
def test_what_another_user_could_change_is_refused_until_the_command_is_run(
    device: Device, part: str, spoil: Callable[[Path], None]
) -> None:
    read_all(device)
    path = next(device.root.glob(part)) if "*" in part else device.root / part
    spoil(path.resolve())
    if spoil is open_to_group and _daemon_group_is_empty():
        return
    with pytest.raises(UnsafePermissionsError) as caught:
        read_all(device)
    assert caught.value.where == str(path.resolve())
    assert caught.value.exit_code == 4
    command = re.search(r"run: (ch(?:own|mod) [^;]*?)(?:;|,|$)", str(caught.value))
    assert command is not None, str(caught.value)
    run(*shlex.split(command[1]))
    read_all(device)


def _daemon_group_is_empty() -> bool:
    import pwd

    return not any(entry.pw_gid == 1 and entry.pw_uid for entry in pwd.getpwall())


@root_only
def test_a_key_that_another_user_added_is_not_trusted(device: Device) -> None:
    planted = device.root / "trust" / "planted.pub"
    planted.write_bytes(create_key().public.to_pem())
    os.chown(planted, FOREIGN, FOREIGN)

    with pytest.raises(UnsafePermissionsError, match=r"planted\.pub: belongs to the user 12345.*otherwise remove it"):
        again(device).trust.keys()


@root_only
def test_a_link_of_another_user_is_not_followed(device: Device, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(device.root)
    assert Device(tmp_path / "link").exists
    os.chown(tmp_path / "link", FOREIGN, FOREIGN, follow_symlinks=False)

    with pytest.raises(UnsafePermissionsError, match="belongs to the user"):
        assert Device(tmp_path / "link").exists


def test_a_folder_like_tmp_may_be_above_it_and_not_be_it(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    (shared / "device").mkdir(mode=0o755)
    check_way(shared / "device")
    assert open_to_others(shared)


@root_only
def test_a_group_of_the_owner_alone_may_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o775)
    assert not open_to_others(tmp_path)


def test_an_older_lock_becomes_private(device: Device) -> None:
    lock = device.root / ".lock"
    lock.touch()
    lock.chmod(0o644)
    with device.changing():
        assert lock.stat().st_mode & 0o777 == 0o600


def test_a_held_lock_is_told_of_and_does_not_stop_the_agent_for_ever(
    device: Device, caplog: pytest.LogCaptureFixture
) -> None:
    lock = device.root / ".lock"
    with device.changing():
        pass
    with subprocess.Popen(["flock", "--no-fork", "-x", str(lock), "sleep", "600"]) as other:
        try:
            while not holders(lock):
                pass
            assert again(device).busy
            caplog.set_level("INFO")
            text = rf"{lock}: has been locked by process {other.pid} \("
            with pytest.raises(EdgepackError, match=text) as caught, again(device).changing():
                raise AssertionError
            assert f"kill {other.pid}" in str(caught.value)
            assert f"process {other.pid} (" in caplog.text
            assert "waiting until it is done" in caplog.text
        finally:
            other.kill()
    with again(device).changing():
        assert device.busy


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("(none)", "(none)"),
        ("ger\u00e4t", "ger\u00e4t"),
        ("-x", "-x"),
        ("a b", "a_b"),
        ("", "unnamed"),
        ("\udcff", "\\xff"),
    ],
)
def test_any_host_name_makes_a_receipt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, host: str, name: str) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: host)
    device = Device(tmp_path / "device")
    assert device.name == name
    data = Receipt.of_store(device.store, device.name, Platform.host()).to_bytes()
    assert Receipt.from_bytes(data).device == name
