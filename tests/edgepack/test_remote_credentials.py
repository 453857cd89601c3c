"""Docker's configuration and credential helpers."""

from __future__ import annotations

import base64
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from edgepack.errors import AuthenticationError, EdgepackError, InvalidDocumentError, MissingPartError
from edgepack.host.logins import login_files
from edgepack.oci.docker_config import Logins
from edgepack.oci.remote import Credentials, DockerConfig

SECRET = "hunter2-very-secret"


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path / "config.json"


def write(config: Path, **value: Any) -> None:
    config.write_text(json.dumps(value))


def helper(config: Path, monkeypatch: pytest.MonkeyPatch, name: str, script: str) -> Path:
    """A real credential helper on PATH; what it was asked is in the file that is returned."""
    folder, asked = config.parent / "bin", config.parent / f"{name}.asked"
    folder.mkdir(exist_ok=True)
    program = folder / f"docker-credential-{name}"
    program.write_text(f'#!/bin/sh\n[ "$1" = get ] || exit 9\ncat > {asked}\n{script}\n')
    program.chmod(program.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return asked


def answer(username: str, secret: str) -> str:
    return f"echo '{json.dumps({'ServerURL': 'x', 'Username': username, 'Secret': secret})}'"


def encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_without_a_file_access_is_anonymous(config: Path) -> None:
    assert DockerConfig.default()("r.example") is None


@pytest.mark.parametrize(
    "key", ["r.example:5000", "https://r.example:5000", "https://r.example:5000/v1/", "http://r.example:5000/v2/"]
)
def test_a_registry_is_found_however_its_key_is_written(config: Path, key: str) -> None:
    write(config, auths={"other.example": {"auth": encoded("bob:no")}, key: {"auth": encoded(f"ann:{SECRET}:x")}})
    assert DockerConfig.default()("r.example:5000") == Credentials("ann", f"{SECRET}:x")
    assert DockerConfig.default()("r.example") is None


def test_docker_hub_has_its_own_key(config: Path) -> None:
    write(config, auths={"https://index.docker.io/v1/": {"auth": encoded("ann:x")}})
    assert DockerConfig.default()("docker.io") == Credentials("ann", "x")


def test_an_identity_token_comes_before_the_password(config: Path) -> None:
    write(config, auths={"r.example": {"auth": encoded("ann:"), "identitytoken": SECRET}})
    assert DockerConfig.default()("r.example") == Credentials(identity_token=SECRET)


def test_a_helper_of_the_registry_comes_before_the_common_one_and_the_file(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = helper(config, monkeypatch, "mine", answer("ann", SECRET))
    common = helper(config, monkeypatch, "common", answer("<token>", "identity"))
    write(config, credHelpers={"r.example": "mine"}, credsStore="common", auths={"r.example": {"auth": encoded("a:b")}})
    lookup = DockerConfig.default()
    assert lookup("r.example") == Credentials("ann", SECRET)
    assert lookup("docker.io") == Credentials(identity_token="identity")
    assert mine.read_text() == "r.example"
    assert common.read_text() == "https://index.docker.io/v1/"


def test_a_helper_that_knows_nothing_means_anonymous(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    helper(config, monkeypatch, "empty", "echo 'credentials not found in native keychain'; exit 1")
    write(config, credsStore="empty")
    assert DockerConfig.default()("r.example") is None


@pytest.mark.parametrize(
    "script", [f"echo {SECRET}; exit 1", f"echo {SECRET} >&2; exit 3", f"echo {SECRET}", "echo '{}'"]
)
def test_a_failing_helper_is_named_and_what_it_printed_is_not(
    config: Path, monkeypatch: pytest.MonkeyPatch, script: str
) -> None:
    helper(config, monkeypatch, "broken", script)
    write(config, credsStore="broken")
    with pytest.raises(AuthenticationError, match="docker-credential-broken failed") as failed:
        DockerConfig.default()("r.example")
    assert SECRET not in str(failed.value)
    assert failed.value.__cause__ is None


def test_a_helper_that_is_not_installed_is_named(config: Path) -> None:
    write(config, credsStore="nowhere-to-be-found")
    with pytest.raises(MissingPartError, match="docker-credential-nowhere-to-be-found is not installed"):
        DockerConfig.default()("r.example")


@pytest.mark.parametrize("name", ["../../bin/sh", "a b", "a;b", 7, ["x"]])
def test_a_helper_name_that_could_be_another_program_is_refused(config: Path, name: object) -> None:
    write(config, credsStore=name)
    with pytest.raises(InvalidDocumentError):
        DockerConfig.default()("r.example")


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '{"auths": []}', '{"auths": {"r.example": 7}}', '{"auths": {"r.example": {"auth": "%%%"}}}',
        '{"auths": {"r.example": {"auth": 7}}}', '{"credHelpers": 7}', "\xff",
        '{"auths": {"r.example": {"auth": "' + encoded(SECRET) + '"}}}',
    ],
)  # fmt: skip
def test_a_broken_file_is_named_and_not_repeated(config: Path, text: str) -> None:
    config.write_bytes(text.encode("latin-1"))
    with pytest.raises(EdgepackError, match=r"config\.json") as failed:
        DockerConfig.default()("r.example")
    assert encoded(SECRET) not in str(failed.value)


def test_secrets_do_not_show_in_repr() -> None:
    assert SECRET not in repr(Credentials("ann", SECRET, SECRET)) + str(Credentials("ann", SECRET, SECRET))


# ---- Podman's -----------------------------------------------------------------------------------------------------


def auths(path: Path, **hosts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    coded = {host: {"auth": base64.b64encode(text.encode()).decode()} for host, text in hosts.items()}
    path.write_text(json.dumps({"auths": coded}))


def test_what_docker_keeps_comes_before_what_podman_keeps(
    config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("REGISTRY_AUTH_FILE", raising=False)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    assert Logins.default()("a.lan") is None
    auths(tmp_path / "config/containers/auth.json", **{"a.lan": "u:3", "b.lan": "u:3", "c.lan/team": "u:3"})
    auths(tmp_path / "run/containers/auth.json", **{"a.lan": "u:2", "b.lan": "u:2"})
    auths(config, **{"a.lan": "u:1"})
    found = [Logins.default()(host) for host in ("a.lan", "b.lan", "c.lan", "d.lan")]
    assert found == [Credentials("u", "1"), Credentials("u", "2"), Credentials("u", "3"), None]
    auths(tmp_path / "named.json", **{"b.lan": "u:4"})
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "named.json"))
    assert [Logins.default()(host) for host in ("b.lan", "c.lan")] == [Credentials("u", "4"), None]


def test_the_files_of_logins_are_where_the_engines_have_them() -> None:
    def names(**environment: str) -> list[str]:
        return list(map(str, login_files(environment)))

    assert names(DOCKER_CONFIG="/d", XDG_RUNTIME_DIR="/r", XDG_CONFIG_HOME="/c") == [
        "/d/config.json", "/r/containers/auth.json", "/c/containers/auth.json",
    ]  # fmt: skip
    assert names(DOCKER_CONFIG="/d", REGISTRY_AUTH_FILE="/a.json") == ["/d/config.json", "/a.json"]
    assert all(name.endswith(".json") for name in names())
