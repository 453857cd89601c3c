"""``edge-agent init``: the identity, the configuration, the unit, done again, and what a user gets wrong."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from edge_agent.commands.main import cli
from edge_agent.config import unit
from edge_agent.config.configuration import Broker, Configuration, host_name
from edge_agent.config.read import read_configuration
from edgepack.errors import SignatureError
from edgepack.oci.descriptor import Platform
from edgepack.signing.keys import create_key
from edgepack.state.identity import Identity
from tests.support import forked
from tests.support.running import Done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a space, as users have."""
    found = tmp_path / "a device"
    found.mkdir()
    return found


def init(folder: Path, *words: object, umask: int = -1) -> Done:
    return forked.finish("edge-agent", "--state-dir", "dev", "init", *words, cwd=folder, umask=umask)


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_a_device_gets_an_identity_that_it_signs_itself_and_a_configuration(folder: Path, umask: int) -> None:
    (folder / "ca.pem").write_text("x")
    done = init(
        folder, "--broker", "mqtts://broker.example", "--device", "press-7", "--group", "line-2", "--group", "all",
        "--ca-file", "ca.pem", "--user", "on", "--output", "json", umask=umask,
    )  # fmt: skip
    assert done.code == 0, done.stderr
    said = json.loads(done.stdout)
    root = folder / "dev"

    identity = Identity.from_signed((root / "identity.json").read_bytes())
    assert (identity.name, identity.groups, identity.platform) == ("press-7", ("line-2", "all"), Platform.host())
    assert said["key_id"] == identity.key.id
    assert said["identity"] == str(root / "identity.json")
    assert stat.S_IMODE((root / "identity" / "device.key").stat().st_mode) == 0o600
    assert "PRIVATE" not in (root / "identity.json").read_text()
    assert read_configuration(root / "edge-agent.yml") == Configuration(
        "press-7", ("line-2", "all"), root,
        broker=Broker("broker.example", 8883, ca_file=folder / "ca.pem", user="on"),
    )  # fmt: skip
    assert "edgepack device add press-7 --identity identity.json" in done.stderr
    # As a shell takes them: the folder has a space, and is not the one that commands use by themselves.
    assert f"edge-agent --state-dir '{root}' trust KEY.pub" in done.stderr
    assert f"edge-agent run --config '{root}/edge-agent.yml'" in done.stderr


def test_done_again_it_changes_nothing_and_never_replaces_the_key(folder: Path) -> None:
    assert init(folder, "--device", "press-7", "--group", "line-2").code == 0
    names = ("identity.json", "edge-agent.yml", "identity/device.key")
    first = {name: (folder / "dev" / name).read_bytes() for name in names}
    assert init(folder, "--device", "press-7", "--group", "line-2").code == 0
    assert init(folder).code == 0  # as it is configured
    assert {name: (folder / "dev" / name).read_bytes() for name in names} == first

    refused = init(folder, "--device", "press-8")
    assert refused.code == 2
    assert "is there already, and says something else; change it there, or give --force" in refused.stderr
    assert {name: (folder / "dev" / name).read_bytes() for name in names} == first

    assert init(folder, "--device", "press-8", "--force").code == 0
    identity = Identity.from_signed((folder / "dev" / "identity.json").read_bytes())
    assert (identity.name, identity.groups) == ("press-8", ())
    assert (folder / "dev" / "identity/device.key").read_bytes() == first["identity/device.key"]


@pytest.mark.parametrize(
    ("url", "open_"), [("mqtt://10.0.0.1", True), ("mqtts://b", False), ("mqtt://127.0.0.1", False)]
)
def test_a_broker_without_tls_is_remarked_on(folder: Path, url: str, open_: bool) -> None:
    done = init(folder, "--broker", url)
    assert done.code == 0
    assert ("can be read on the way" in done.stderr) == open_


def test_without_a_name_it_is_called_as_its_host(folder: Path) -> None:
    assert init(folder).code == 0
    assert read_configuration(folder / "dev" / "edge-agent.yml").device == host_name()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--device", "press 7"], "device must be a name of letters"),
        (["--device", "-7"], "device must be a name of letters"),
        (["--device", "a", "--group", "a/b"], "groups[0] must be a name of letters"),
        (["--broker", "broker.example"], "broker.url must be an address such as mqtts://broker.example:8883"),
        (["--broker", "mqtts://u:hunter2@b"], "broker.url holds a user name or a password"),
        (["--broker", "mqtt://b", "--ca-file", "ca.pem"], "broker.ca_file is for TLS"),
        (["--broker", "mqtts://b", "--ca-file", "none.pem"], "none.pem is not a file"),
        (["--ca-file", "ca.pem"], "--ca-file: is given without --broker"),
    ],
)
def test_a_mistake_makes_nothing(folder: Path, words: list[str], says: str) -> None:
    (folder / "ca.pem").write_text("x")
    done = init(folder, *words)
    assert done.code == 2
    assert says in done.stderr
    assert "hunter2" not in done.stderr
    assert "line " not in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == ["ca.pem"]


def test_an_identity_that_another_key_signed_is_refused() -> None:
    key, other = create_key(), create_key()
    identity = Identity("press-7", key.public, Platform.parse("linux/arm64"), ("a",))
    assert Identity.from_signed(identity.signed(key)) == identity
    with pytest.raises(SignatureError):
        Identity.from_signed(identity.signed(other))
    changed = json.loads(identity.signed(key))
    changed["payload"] = json.loads(Identity("x", key.public, identity.platform).signed(other))["payload"]
    with pytest.raises(SignatureError):
        Identity.from_signed(json.dumps(changed).encode())
    changed["signatures"] = []
    with pytest.raises(SignatureError, match="is not signed"):
        Identity.from_signed(json.dumps(changed).encode())


# ---- systemd --------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not here")
@pytest.mark.parametrize("for_user", [False, True])
def test_systemd_takes_the_unit(folder: Path, for_user: bool) -> None:
    program = folder / "100% $HOME 'x'"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    text = unit.unit_text([str(program), "run", "--config", "a b.yml"], [folder, program], for_user=for_user)
    assert unit.check_unit(text, for_user=for_user)
    (folder / "edge-agent.service").write_text(text.replace("Restart=always", "Restart=sometimes\nBogus"))
    argv = ["systemd-analyze", "verify", str(folder / "edge-agent.service")]
    assert b"edge-agent.service" in subprocess.run(argv, capture_output=True, check=False).stderr


def test_the_unit_is_written_and_never_over_another(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:  # fmt: skip
    from click.testing import CliRunner

    monkeypatch.setattr(unit, "SYSTEM_FOLDER", folder / "system")
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.chdir(folder)
    place = folder / ("system" if os.geteuid() == 0 else ".config/systemd/user") / "edge-agent.service"
    words = ["--state-dir", "dev", "init", "--device", "press-7", "--systemd"]
    assert CliRunner().invoke(cli, words, catch_exceptions=False).exit_code == 0
    text = place.read_text()
    assert f'run --config "{folder}/dev/edge-agent.yml"' in text
    assert {"KillMode=process", "Restart=always", "Type=notify", "OOMPolicy=continue"} <= set(text.splitlines())
    assert f'"{folder}/dev/edge-agent.yml" "{folder}/dev"' in text.partition("RequiresMountsFor=")[2].partition("\n")[0]
    assert "WatchdogSec=" in text

    place.write_text("mine")
    assert CliRunner().invoke(cli, words).exit_code == 1  # the type is told where the program is, not here
    assert place.read_text() == "mine"
    assert CliRunner().invoke(cli, [*words, "--force"], catch_exceptions=False).exit_code == 0
    assert place.read_text() == text
