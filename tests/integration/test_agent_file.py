"""The agent as one file: made, put into a bundle, started on a device with nothing but Python, and upgraded."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from edge_agent.upgrade.versions import Versions
from edgepack.oci.descriptor import Platform
from packager.agent_file.archive import write_zip
from packager.agent_file.build import LOCK, PYTHONS
from packager.wheels.lock_files import read_lock
from packager.wheels.tags import Target
from packager.workspaces.workspace import Workspace, default_cache
from tests.edge_agent.support.agent import Agent, make_images
from tests.support import forked
from tests.support.http_client import ask
from tests.support.ports import free_port
from tests.support.running import Done, finish, run
from tests.support.waiting import wait_until

# A device has no package index, no environment, and no more of Python than what is installed.
PYTHON = next((one for one in ("/usr/bin/python3", sys.executable) if Path(one).exists()), sys.executable)


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace with a key."""
    folder = tmp_path_factory.mktemp("workspace")
    Workspace(folder, default_cache()).keys.create("factory")
    return folder


def edgepack(workspace: Path, *words: object) -> Done:
    env = {**os.environ, "EDGEPACK_WORKSPACE": str(workspace)}
    return forked.finish("edgepack", *words, cwd=workspace, env=env)


@pytest.fixture(scope="module")
def bundle(workspace: Path) -> Path:
    """A bundle with the agent for this machine."""
    words = ("bundle", "create", "--with", "agent", "--platform", str(Platform.host()), "--key", "factory")
    done = edgepack(workspace, *words, "-o", "a.bundle", "--output", "json")
    assert done.code == 0, done.stderr
    (name,) = json.loads(done.stdout)["agent"].values()
    assert f"tar -xOf a.bundle {name} > edge-agent.pyz" in done.stderr
    (workspace / "name").write_text(name)
    first = (workspace / "a.bundle").read_bytes()
    assert edgepack(workspace, *words, "--offline", "-o", "b.bundle").code == 0
    assert (workspace / "b.bundle").read_bytes() == first
    return workspace / "a.bundle"


@pytest.fixture(scope="module")
def archive(bundle: Path) -> Path:
    """The zip application, as somebody takes it out of the bundle who has no agent."""
    name = (bundle.parent / "name").read_text()
    path = bundle.parent / "agent.pyz"
    with path.open("wb") as file:
        subprocess.run(["tar", "-xOf", bundle, name], check=True, stdout=file)
    return path


def on_device(*words: object, cwd: Path, umask: int = -1) -> Done:
    return finish(PYTHON, *words, cwd=cwd, env={"PATH": os.environ["PATH"], "HOME": str(cwd)}, umask=umask)


@pytest.mark.parametrize("umask", [pytest.param(0o022, marks=pytest.mark.whole), 0o077])
def test_a_device_with_nothing_but_python_runs_it(archive: Path, tmp_path: Path, umask: int) -> None:
    place = tmp_path / "a device"
    place.mkdir()
    done = on_device(archive, "--state-dir", "dev", "init", "--device", "press-7", cwd=place, umask=umask)
    assert done.code == 0, done.stderr
    launcher = place / "dev" / "agent" / "edge-agent"
    assert f"{shlex.quote(str(launcher))} run --config" in done.stderr
    again = on_device(launcher, "--state-dir", "dev", "status", "--output", "json", cwd=place)
    assert (again.code, json.loads(again.stdout)) == (0, {"services": [], "documents": []})
    # What compiled wheels have is used, and what the launcher starts has the same environment.
    (home,) = [path for path in (place / "dev" / "agent").glob("?" * 64) if not path.is_symlink()]
    minor = run(PYTHON, "-c", "import sys; print(f'cp{sys.version_info[0]}{sys.version_info[1]}')").strip()
    program = home / minor / "bin" / "python3"
    code = "import sys, paho.mqtt, yaml._yaml, _cffi_backend, cryptography.hazmat.bindings._rust as one"
    said = run(program, "-c", f"{code}; print(one.__file__)", cwd=place, env={}).strip()
    assert said.startswith(str(home))
    assert not list(home.glob(".made-*")), "nothing half made is left"

    shutil.rmtree(home / minor)  # of a Python that was exchanged, or a disk that lost it
    (home / ".made-x" / "lib").mkdir(parents=True)  # of a start that was killed
    words = [PYTHON, str(launcher), "--state-dir", "dev", "status"]
    both = [subprocess.Popen(words, cwd=place, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [one.wait(120) for one in both] == [0, 0]
    assert not list(home.glob(".made-*"))


def test_it_is_upgraded_from_a_bundle(bundle: Path, archive: Path, workspace: Path, tmp_path: Path) -> None:
    older = tmp_path / "older.pyz"
    with zipfile.ZipFile(archive) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    older.write_bytes(write_zip({**files, "any/edge_agent/older.py": b""}))
    words = ("--state-dir", "dev")
    key = edgepack(workspace, "key", "export", "factory", "-o", str(tmp_path / "factory.pub"))
    assert key.code == 0
    assert on_device(older, *words, "trust", "factory.pub", cwd=tmp_path).code == 0
    launcher = tmp_path / "dev" / "agent" / "edge-agent"
    refused = on_device(launcher, *words, "upgrade", "edge-agent:0.1.0", cwd=tmp_path)
    assert refused.code == 3
    assert "import a bundle that has it with: edge-agent import" in refused.stderr
    assert on_device(launcher, *words, "import", bundle, cwd=tmp_path).code == 0
    done = on_device(launcher, *words, "upgrade", "edge-agent:0.1.0", "--output", "json", cwd=tmp_path)
    assert done.code == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["trial"] == said["version"] != said["current"]
    assert (tmp_path / "dev" / "agent" / said["version"] / "edge-agent.pyz").read_bytes() == archive.read_bytes()


def pid_of(device: Agent) -> int:
    """The process of the service, as it tells it itself."""
    return int(ask(device.port, "GET", "/").body.decode().split()[1])


@pytest.mark.whole
def test_a_running_agent_makes_way_and_takes_its_place_back_while_a_service_runs_on(
    bundle: Path, archive: Path, tmp_path: Path
) -> None:
    images = make_images(tmp_path / "images")
    device = Agent(tmp_path / "dev", images, free_port())
    older = tmp_path / "older.pyz"
    with zipfile.ZipFile(archive) as opened:
        files = {name: opened.read(name) for name in opened.namelist()}
    older.write_bytes(write_zip({**files, "any/edge_agent/older.py": b""}))
    words = ("--state-dir", "dev", "--runtime", "process")
    try:
        device.take_in("v1")
        assert device.apply("v1").code == 0
        service = pid_of(device)
        assert on_device(older, *words, "trust", bundle.parent / "keys" / "factory.pub", cwd=tmp_path).code == 0
        assert on_device(older, *words, "import", bundle, cwd=tmp_path).code == 0
        versions = Versions.of(tmp_path / "dev")
        first, launcher = versions.current, versions.folder / "edge-agent"
        with (tmp_path / "log").open("wb") as log:
            agent = subprocess.Popen(
                [PYTHON, launcher, *words, "run"], cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                env={"PATH": os.environ["PATH"], "HOME": str(tmp_path)},
            )  # fmt: skip
        try:
            wait_until(lambda: "watching 1 services" in (tmp_path / "log").read_text())
            upgrade = (launcher, *words, "upgrade", "edge-agent:0.1.0", "--probation", "1")
            assert on_device(*upgrade, cwd=tmp_path).code == 0
            wait_until(lambda: versions.current != first and versions.trial is None, seconds=60)
            assert pid_of(device) == service

            # A version whose agent does not even start.
            bad = versions.folder / ("f" * 64)
            bad.mkdir()
            broken = write_zip({**files, "any/edge_agent/daemon/__main__.py": b"raise SystemExit(9)"})
            (bad / "edge-agent.pyz").write_bytes(broken)
            second = versions.current
            wait_until(lambda: (tmp_path / "log").read_text().count("watching 1 services") == 3, seconds=60)
            versions.propose("f" * 64, alive_seconds=1)
            wait_until(lambda: versions.refused("f" * 64) is not None, seconds=60)
            assert versions.current == second
            wait_until(lambda: (tmp_path / "log").read_text().count("watching 1 services") == 4, seconds=60)
            assert pid_of(device) == service
            assert device.answer() == "v1"
        finally:
            agent.terminate()
            assert agent.wait(60) == 0
        assert pid_of(device) == service
    finally:
        device.close()


def test_an_agent_that_was_installed_otherwise_is_not_replaced(bundle: Path, tmp_path: Path) -> None:
    words = ("edge-agent", "--state-dir", tmp_path / "dev")
    assert forked.finish(*words, "import", "--allow-unsigned", bundle).code == 4, "another key has signed it"
    run("cp", bundle.parent / "keys" / "factory.pub", tmp_path)
    assert forked.finish(*words, "trust", tmp_path / "factory.pub").code == 0
    assert forked.finish(*words, "import", bundle).code == 0
    done = forked.finish(*words, "upgrade", "edge-agent:0.1.0")
    assert done.code == 2
    assert "this agent was not installed as one file" in done.stderr


def test_the_file_is_refused_where_it_does_not_fit(archive: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(archive) as opened:
        files = {name: opened.read(name) for name in opened.namelist() if "/" not in name}
    about = json.loads(files["agent.json"])
    for changed, says in (
        ({"platform": "linux/s390x"}, "this file is for linux/s390x, and this device is "),
        ({"pythons": ["3.9"]}, "this file has its parts for Python 3.9, and this is 3."),
    ):
        (tmp_path / "a.pyz").write_bytes(write_zip({**files, "agent.json": json.dumps(about | changed).encode()}))
        done = on_device("a.pyz", "--state-dir", "dev", "status", cwd=tmp_path)
        assert done.code == 1
        assert says in done.stderr
    (tmp_path / "shared" / "agent").mkdir(parents=True)
    (tmp_path / "shared" / "agent").chmod(0o777)
    done = on_device(archive, "--state-dir", "shared", "status", cwd=tmp_path)
    assert done.code == 4
    assert "other users may change it" in done.stderr


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("platform", ["linux/amd64", "linux/arm64"])
def test_the_lock_has_what_each_python_needs(platform: str, python: str) -> None:
    names = {pin.name for pin in read_lock(LOCK, Target(Platform.parse(platform), python, "2.28"))}
    assert {"click", "cryptography", "cffi", "paho-mqtt", "pyyaml", "securesystemslib", "urllib3"} <= names
    assert ("backports-zstd" in names) == (python != "3.14")
    assert "pywin32" not in names


def test_an_archive_is_what_others_read(tmp_path: Path) -> None:
    files = {"a/b.txt": b"x" * 100_000, "ü": b"", "c": os.urandom(1000)}
    (tmp_path / "a.zip").write_bytes(write_zip(files))
    with zipfile.ZipFile(tmp_path / "a.zip") as archive:
        assert archive.testzip() is None
        assert {name: archive.read(name) for name in archive.namelist()} == files
    assert write_zip(dict(reversed(files.items()))) == write_zip(files)
