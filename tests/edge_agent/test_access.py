"""What a service is given of the device: the rules, apart from the runtimes; and records of earlier versions."""

from __future__ import annotations

import json
import os
import stat
from dataclasses import replace
from pathlib import Path

import pytest

from edge_agent.runtimes.access.devices import Node, device_nodes, groups_for
from edge_agent.runtimes.access.mounts import check_mounts, content_of
from edge_agent.runtimes.access.secrets import Secrets
from edge_agent.runtimes.container_record import UnknownRecordError, recorded_state
from edge_agent.runtimes.instances import follow, is_recorded, read_spec, spec_hash, write_spec
from edge_agent.runtimes.supervisor import start_ticks
from edgepack.errors import RuntimeFailedError
from edgepack.oci.digest import Digest
from edgepack.state.desired import Desired, DesiredService
from edgepack.state.host_access import DeviceNode, Mount

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
PLAIN = DesiredService("churn", Digest.of(b"image"), 6789)
LIMITED = replace(PLAIN, env={"A": "b"}, memory_bytes=1 << 28, cpus=0.5)


# Records


def test_an_agent_that_was_updated_finds_its_services_as_they_were_started(tmp_path: Path) -> None:
    # As the version before these fields wrote them.
    assert spec_hash(PLAIN) == "6c3223d6b3352a2f67a6072357a418e3"
    assert spec_hash(LIMITED) == "9877ba44bf6f61c062553c69d6085ac0"
    digest = Digest.of(Desired((LIMITED,), 7).to_bytes())
    assert digest.hex == "0284401b75afe4a65ab6acea72ee00208ce7da5b0a7fd789becd9354fffe8f4f"
    record = {
        "address": "127.0.0.1", "cpus": 0.5, "env": {"A": "b"}, "image": str(LIMITED.image), "memory_bytes": 268435456,
        "name": "churn", "port": 6789, "sha256": "9877ba44bf6f61c062553c69d6085ac07c808f546f1f63c8fdcaeae2038112ae",
    }  # fmt: skip
    (tmp_path / "spec.json").write_text(json.dumps(record))
    assert read_spec(tmp_path) == LIMITED
    # What is not about how it runs does not start it anew.
    assert is_recorded(tmp_path, replace(LIMITED, restart="never", health_failures=9, probation_seconds=5))
    given = replace(
        LIMITED, mounts=(Mount("/a", "/b", read_only=False),), devices=(DeviceNode("/dev/a", access="r"),),
        secrets=("key",), network="own", log_bytes=1 << 20,
    )  # fmt: skip
    for changes in ({"mounts": ()}, {"devices": ()}, {"secrets": ()}, {"network": None}, {"log_bytes": None}):
        assert spec_hash(replace(given, **changes)) != spec_hash(given)  # type: ignore[arg-type]
    write_spec(tmp_path, given)
    assert read_spec(tmp_path) == given


# Secrets


@pytest.fixture
def secrets(tmp_path: Path) -> Secrets:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/key").touch(0o600)
    return Secrets(tmp_path, "crun")


WANTS = replace(PLAIN, secrets=("key",))
OWN = (os.geteuid(), os.getegid())


def test_copies_of_secrets_are_made_anew_and_leave_nothing(secrets: Secrets, tmp_path: Path) -> None:
    (tmp_path / "secrets/key").write_text("one")
    first = secrets.place(WANTS, None)
    assert first is not None
    assert (first / "key").read_text() == "one"
    assert stat.S_IMODE(first.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "secrets").stat().st_mode) == 0o700
    other = secrets.place(replace(WANTS, name="other"), None)
    assert other is not None
    (tmp_path / "secrets/key").write_text("two")
    again = secrets.place(WANTS, None)
    assert again == first
    assert (first / "key").read_text() == "two"
    assert secrets.place(PLAIN, None) is None
    assert not first.exists()
    secrets.remove("other")
    secrets.remove("other")
    assert not first.parent.exists()


@as_root
def test_copies_of_secrets_belong_to_the_service_s_user(secrets: Secrets) -> None:
    folder = secrets.place(WANTS, (1234, 5678))
    assert folder is not None
    found = [
        (path.stat().st_uid, path.stat().st_gid, stat.S_IMODE(path.stat().st_mode)) for path in (folder, folder / "key")
    ]
    assert found == [(1234, 5678, 0o500), (1234, 5678, 0o400)]
    secrets.remove("churn")


def test_a_secret_that_is_none_is_refused(secrets: Secrets, tmp_path: Path) -> None:
    path = tmp_path / "secrets/key"
    path.write_bytes(bytes((1 << 20) + 1))
    with pytest.raises(RuntimeFailedError, match="secret key has more than 1048576 bytes; give large files by mounts"):
        secrets.check(WANTS)
    path.unlink()
    os.mkfifo(path, 0o600)
    with pytest.raises(RuntimeFailedError, match="secret key is not a file"):
        secrets.check(WANTS)
    path.unlink()
    with pytest.raises(RuntimeFailedError, match=f"put it there: install -D -m 600 FILE {path}"):
        secrets.check(WANTS)


def test_a_folder_of_somebody_else_in_the_place_of_ours_is_refused(secrets: Secrets) -> None:
    folder = secrets.place(WANTS, None)
    assert folder is not None
    secrets.remove("churn")
    folder.parent.mkdir(mode=0o755)
    folder.parent.chmod(0o755)
    (folder.parent / "of-somebody").touch()
    try:
        with pytest.raises(RuntimeFailedError, match="not a folder of this user alone; remove it: rm -r"):
            secrets.place(WANTS, None)
    finally:
        (folder.parent / "of-somebody").unlink()
        folder.parent.rmdir()


def test_without_a_file_system_in_memory_the_copies_are_on_the_disk_and_that_is_said(
    secrets: Secrets, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("edge_agent.runtimes.access.secrets._file_system", lambda path: "ext4")
    folder = secrets.place(WANTS, None)
    assert folder is not None
    assert folder.is_relative_to(tmp_path / "run")
    assert "secrets are copied to the disk" in caplog.text
    secrets.remove("churn")
    assert not folder.exists()


# Devices


def node(mode: int, gid: int = 44, uid: int = 0, access: str = "rw") -> Node:
    return Node("/dev/x", "/dev/x", access, 1, 5, mode, uid, gid)


def test_a_device_is_opened_by_its_group_or_by_nobody() -> None:
    user = (1000, 1000)
    for one, groups in (
        (node(0o660), (44,)), (node(0o666), ()), (node(0o640, access="r"), (44,)), (node(0o600, uid=1000), ()),
        (node(0o660, gid=1000), ()), (node(0o664, access="r"), ()),
    ):  # fmt: skip
        assert groups_for(PLAIN, (one,), user) == groups
    assert groups_for(PLAIN, (node(0o660), node(0o660)), user) == (44,)
    for one in (node(0o600), node(0o660, gid=0), node(0o640)):
        with pytest.raises(RuntimeFailedError, match=r"user 1000 may not open /dev/x for rw .*rule of udev"):
            groups_for(PLAIN, (one,), user)


def test_a_device_is_a_character_device_or_a_folder_of_them() -> None:
    (found,) = device_nodes(replace(PLAIN, devices=(DeviceNode("/dev/null", "/dev/nothing"),)))
    assert (found.inside, found.major, found.minor) == ("/dev/nothing", 1, 3)
    with pytest.raises(RuntimeFailedError, match="the folder /dev/shm holds no devices"):
        device_nodes(replace(PLAIN, devices=(DeviceNode("/dev/shm"),)))
    with pytest.raises(RuntimeFailedError, match=r"/dev/fd leads to /proc/.*, which is not below /dev"):
        device_nodes(replace(PLAIN, devices=(DeviceNode("/dev/fd"),)))


# Mounts


def test_an_image_s_files_are_seen_in_whatever_layer_they_are(tmp_path: Path) -> None:
    for name in ("a/opt/app", "b/opt", "b/srv/empty"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "a/opt/app/file").touch()
    (tmp_path / "b/data").symlink_to("opt")
    content = content_of([tmp_path / "a", tmp_path / "b"])
    assert content("/opt") == "files in /opt"
    assert content("/opt/app/file") == "a file at /opt/app/file"
    assert content("/opt/app/file/below") == "a file at /opt/app/file"
    assert content("/data/x") == "a link at /data"
    assert [content(path) for path in ("/srv/empty", "/opt/new", "/new")] == [None, None, None]


def test_a_source_is_followed_to_what_it_is(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    (tmp_path / "circle").symlink_to("circle")

    def mounted(source: str) -> str:
        spec = replace(PLAIN, mounts=(Mount(source, "/x"),))
        return str(check_mounts(spec, tmp_path / "state", lambda path: None)[0].source)

    assert mounted(f"{tmp_path}/link") == f"{tmp_path}/real"
    with pytest.raises(RuntimeFailedError, match="circle, which its mounts name, cannot be used"):
        mounted(f"{tmp_path}/circle")
    with pytest.raises(RuntimeFailedError, match="holds what the agent keeps"):
        mounted(str(tmp_path))


# Containers without an engine


def test_a_container_s_state_is_read_from_what_its_program_records(tmp_path: Path) -> None:
    ticks = start_ticks(os.getpid())
    assert recorded_state(tmp_path) is None
    for name, pid, start in (
        ("status", "pid", "process-start-time"),
        ("state.json", "init_process_pid", "init_process_start"),
    ):
        (tmp_path / name).write_text(json.dumps({pid: os.getpid(), start: ticks}))
        assert recorded_state(tmp_path) == "running"
        (tmp_path / "exec.fifo").touch()
        assert recorded_state(tmp_path) == "created"
        (tmp_path / "exec.fifo").unlink()
        (tmp_path / name).write_text(json.dumps({pid: os.getpid(), start: 1}))  # another process has its number
        assert recorded_state(tmp_path) == "stopped"
        for text in ("", "{}", "[]"):
            (tmp_path / name).write_text(text)
            with pytest.raises(UnknownRecordError):
                recorded_state(tmp_path)
        (tmp_path / name).unlink()


# Logs


def test_a_log_is_followed_over_every_file_that_takes_its_place(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_text("one\ntwo\n")
    pieces = follow(path, 1)
    assert next(pieces) == "two\n"
    with path.open("a") as file:
        file.write("thr€e\n")
    assert next(pieces) == "thr€e\n"
    with path.open("a") as file:
        file.write("four\n")
    path.rename(tmp_path / "log.1")
    path.write_text("five\n")
    rest = ""
    while "five" not in rest:
        rest += next(pieces)
    assert rest == "four\nfive\n"
