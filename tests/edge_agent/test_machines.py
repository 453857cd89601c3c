"""Devices that are set up in other ways: folders, users and programs of other systems."""

from __future__ import annotations

import json
import sys
import zipfile
from pathlib import Path

import pytest
from click.testing import CliRunner

from edge_agent.commands.main import cli
from edge_agent.config.place import default_file, remember_file
from edge_agent.config.read import find_configuration
from edge_agent.device import Device
from edge_agent.reconcile.runner import Runner
from edge_agent.runtimes import reach
from edge_agent.runtimes.crun import _last_error
from edge_agent.sources.base import OnProgress, unseen
from edge_agent.state.goals import Stage
from edge_agent.upgrade import bootstrap
from edgepack.errors import IncompatibleError, NotFoundError, VerificationError
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService
from edgepack.state.topics import COMMAND
from tests.support.ports import free_port
from tests.support.running import finish


class NoSource:
    """A source that nothing may be fetched from."""

    def fetch(self, image: Digest, on_progress: OnProgress = unseen, *, names: object = ()) -> None:
        raise AssertionError("it was fetched for nothing")


@pytest.mark.parametrize(
    "words",
    [
        ("init", "--device", "press-7"),
        ("pull", "127.0.0.1:1/churn:1"),  # where nothing listens: nobody is to ask there
        ("deploy", "127.0.0.1:1/churn:1", "--port", "5001"),
    ],
)
def test_a_folder_that_no_service_can_run_from_is_refused_before_anything_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.setattr(reach, "can_arrange_mounts", lambda: False)  # as without root
    argv = ["--state-dir", str(tmp_path / "a:b"), "--runtime", "process", *words]
    with pytest.raises(IncompatibleError, match=r"a:b: its path has a colon.*--state-dir"):
        CliRunner().invoke(cli, argv, catch_exceptions=False, standalone_mode=False)
    assert list(tmp_path.iterdir()) == []


def test_a_service_that_cannot_run_from_the_folder_fails_before_its_image_is_fetched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reach, "can_arrange_mounts", lambda: False)
    device = Device(tmp_path / "a:b", "process")
    device.create()
    device.state.set_goal(DesiredService("churn", Digest.of(b"absent"), free_port()), COMMAND, None)
    assert Runner(device).bring("churn", NoSource()) is Stage.FAILED
    assert "has a colon" in str(device.state.goals()["churn"].reason)


def test_with_another_runtime_the_folder_is_good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reach, "can_arrange_mounts", lambda: False)
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/none.sock")  # which may be installed later
    argv = ["--state-dir", str(tmp_path / "a:b"), "--runtime", "docker", "init", "--device", "press-7"]
    assert CliRunner().invoke(cli, argv, catch_exceptions=False, standalone_mode=False).exit_code == 0
    assert (tmp_path / "a:b/edge-agent.yml").exists()


@pytest.mark.parametrize("indent", [None, 2])
def test_the_last_error_of_the_containers_program_is_read_on_one_line_or_several(indent: int | None) -> None:
    said = [
        {"msg": "first", "level": "error", "time": "t"},
        {"msg": "statfs `/sys/fs/cgroup` {x}", "level": "error", "time": "t"},
        {"msg": "it goes on", "level": "warning", "time": "t"},
    ]
    log = "".join(f"{json.dumps(one, indent=indent)}\n" for one in said).encode()
    assert _last_error(log) == "statfs `/sys/fs/cgroup` {x}"
    assert _last_error(log + b"no JSON at all\n") == "no JSON at all"
    assert _last_error(b"") == ""
    assert _last_error(log + b"{\n") == "statfs `/sys/fs/cgroup` {x}"


def test_commands_find_the_configuration_that_init_or_the_agent_was_given(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "dev", tmp_path / "else where" / "agent.yml"

    def run(*words: str) -> None:
        argv = ["--state-dir", str(root), "--runtime", "process", *words]
        CliRunner().invoke(cli, argv, catch_exceptions=False, standalone_mode=False)

    for name in ("press-7", "press-8"):
        Path(tmp_path / name).write_text(json.dumps({"schema": "edgepack.desired/v1", "device": name, "services": []}))
    run("init", "--device", "press-7", "--config", str(elsewhere))
    run("apply", str(tmp_path / "press-7"))
    with pytest.raises(VerificationError, match="press-8"):
        run("apply", str(tmp_path / "press-8"))
    run("init")  # as it is configured
    assert not (root / "edge-agent.yml").exists()

    # What the agent is started with goes before it, and the usual place is as before.
    other, usual = tmp_path / "other.json", root / "edge-agent.yml"
    other.write_text(json.dumps({"schema": "edgepack.agent/v1", "device": "press-8", "state_dir": str(root)}))
    usual.write_text("schema: edgepack.agent/v1\ndevice: press-9\n")
    for file, name in ((other, "press-8"), (elsewhere, "press-7"), (usual, "press-9")):
        remember_file(root, file)
        assert (default_file(root), find_configuration(None, root).device) == (file, name)
    assert sorted(path.name for path in root.glob("*configuration*")) == []

    remember_file(root, other)
    other.unlink()
    with pytest.raises(NotFoundError, match=r"other\.json: there is no such configuration"):
        find_configuration(None, root)


def test_the_agent_as_one_file_says_in_one_sentence_when_it_cannot_unpack_itself(tmp_path: Path) -> None:
    archive = tmp_path / "edge-agent.pyz"
    minor = f"{sys.version_info[0]}.{sys.version_info[1]}"
    about = {"pythons": [minor], "platform": str(Platform.host())}
    with zipfile.ZipFile(archive, "w") as made:
        made.write(bootstrap.__file__, "__main__.py")
        made.writestr("agent.json", json.dumps(about))
        made.writestr("any/edge_agent/__main__.py", "import sys; print('here', *sys.argv[1:])")
        made.writestr("any/edge_agent/__init__.py", "")
        made.writestr("any/edge_agent/upgrade/launch.py", "")
    done = finish(sys.executable, archive, "--state-dir", "/proc/no", "status", cwd=tmp_path)
    assert (done.code, done.stderr.count("\n")) == (2, 1)
    assert done.stderr.startswith("edge-agent: /proc/no: ")
    # What is unpacked runs where not even the lock can be taken, as on a disk that can only be read.
    argv = (sys.executable, archive, "--state-dir", tmp_path / "dev", "status")
    assert finish(*argv, cwd=tmp_path).code == 0
    (home,) = (tmp_path / "dev/agent").glob("?" * 64)
    (home / ".lock").unlink()
    (home / ".lock").mkdir()
    done = finish(sys.executable, home / "edge-agent.pyz", "status", cwd=tmp_path)
    assert (done.code, done.stdout) == (0, "here status\n")
