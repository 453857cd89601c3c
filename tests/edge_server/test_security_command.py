"""``python -m edge_server.security``: what it makes is what the guard takes."""

from __future__ import annotations

import json
import stat
import sys
import time
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from edge_server.config.values import Auth
from edge_server.errors import BadRequest
from edge_server.http.messages import Request
from edge_server.security.command import main
from edge_server.security.guard import Guard
from tests.support.running import finish


def asking(credential: str) -> Request:
    return Request("POST", "/score", "/score", "", [(b"authorization", b"Bearer " + credential.encode())], b"")


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def make_keys(path: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    assert main(["keys", "new", str(path)]) == 0
    made = json.loads(capsys.readouterr().out)
    assert isinstance(made, dict)
    return made


def test_new_keys_are_shown_once_and_only_digests_are_written(
    keys_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_keys(keys_file, capsys)
    assert set(made) == {"primary", "secondary"}
    assert mode(keys_file) == 0o600
    assert not any(key in keys_file.read_text() for key in made.values())
    guard = Guard(Auth("key", keys_file))
    for key in made.values():
        guard.check(asking(key))
    assert list(keys_file.parent.iterdir()) == [keys_file]


def test_keys_that_are_there_are_not_overwritten(keys_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_keys(keys_file, capsys)
    before = keys_file.read_bytes()
    assert main(["keys", "new", str(keys_file)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert keys_file.read_bytes() == before


def test_one_key_is_made_anew_and_a_running_service_takes_it(
    keys_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = make_keys(keys_file, capsys)
    now = [time.time()]
    guard = Guard(Auth("key", keys_file), lambda: now[0])
    keys_file.chmod(0o640)  # as somebody has opened it to the group of the server
    assert main(["keys", "regenerate", str(keys_file), "secondary"]) == 0
    fresh = json.loads(capsys.readouterr().out)
    assert set(fresh) == {"secondary"}
    assert mode(keys_file) == 0o640
    now[0] += 1
    guard.check(asking(made["primary"]))
    guard.check(asking(fresh["secondary"]))
    with pytest.raises(BadRequest):
        guard.check(asking(made["secondary"]))


def test_a_key_of_ones_own_comes_by_standard_input(keys_file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_keys(keys_file, capsys)
    command = [sys.executable, "-m", "edge_server.security", "keys", "regenerate", str(keys_file), "primary", "--stdin"]
    own = "own-" * 10
    done = finish(*command, given=own + "\n")
    assert (done.code, done.stderr) == (0, "")
    Guard(Auth("key", keys_file)).check(asking(own))
    short = finish(*command, given="hunter2\n")
    assert short.code == 2
    assert "32 to 512 characters" in short.stderr
    assert "hunter2" not in short.stderr
    Guard(Auth("key", keys_file)).check(asking(own))


def test_a_secret_is_its_owners_alone_and_makes_tokens(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    secret, rules = tmp_path / "token.secret", tmp_path / "tokens.json"
    assert main(["token", "secret", str(secret)]) == 0
    assert mode(secret) == 0o600
    assert capsys.readouterr().out == ""
    assert main(["token", "secret", str(secret)]) == 2
    rules.write_text(
        json.dumps(
            {
                "schema": "edgepack.tokens/v1",
                "algorithm": "HS256",
                "secret_file": secret.name,
                "audience": "churn",
                "issuer": "me",
            }
        )
    )
    capsys.readouterr()
    assert main(["token", "new", str(rules), "--seconds", "5"]) == 0
    token = capsys.readouterr().out.strip()
    Guard(Auth("token", rules)).check(asking(token))
    with pytest.raises(BadRequest, match="expired"):
        Guard(Auth("token", rules), lambda: time.time() + 70).check(asking(token))


def test_tokens_are_made_with_a_private_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    rules, key = tmp_path / "tokens.json", tmp_path / "key.pem"
    rules.write_text(
        json.dumps({"schema": "edgepack.tokens/v1", "algorithm": "EdDSA", "public_key": public, "audience": "churn"})
    )
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    assert main(["token", "new", str(rules), "--private-key", str(key)]) == 0
    Guard(Auth("token", rules)).check(asking(capsys.readouterr().out.strip()))

    assert main(["token", "new", str(rules)]) == 2
    assert "--private-key" in capsys.readouterr().err
    assert main(["token", "new", str(rules), "--private-key", str(tmp_path / "none.pem")]) == 3
    assert "there is no private key" in capsys.readouterr().err
    other = Ed25519PrivateKey.generate()
    for wrong, words in (
        (other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()), "signature is wrong"),
        (private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")), "without passphrase"),
        (
            generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "must be an Ed25519 private key",
        ),
        (b"noise", "must be an Ed25519 private key"),
    ):
        key.write_bytes(wrong)
        assert main(["token", "new", str(rules), "--private-key", str(key)]) == 2
        said = capsys.readouterr()
        assert said.out == ""
        assert words in said.err


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["keys", "regenerate", "none.json", "primary"], 3),
        (["token", "new", "none.json"], 3),
        (["keys", "new", "none/keys.json"], 1),
    ],
)
def test_exit_codes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], arguments: list[str], code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == code
    assert capsys.readouterr().err.startswith("edge_server.security: ")


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["keys"],
        ["keys", "regenerate", "x", "third"],
        ["token", "new", "x", "--seconds", "0"],
        ["token", "new", "x", "--seconds", "9" * 30],
    ],
)
def test_wrong_usage_is_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("python -m edge_server.security")
    assert "; see: python -m edge_server.security" in line


def test_a_link_stays_and_its_target_is_replaced(
    keys_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_keys(keys_file, capsys)
    before = keys_file.read_bytes()
    (tmp_path / "link").symlink_to("keys.json")
    assert main(["keys", "regenerate", str(tmp_path / "link"), "primary"]) == 0
    assert (tmp_path / "link").is_symlink()
    assert keys_file.read_bytes() != before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["keys.json", "link"]
