"""Signing keys under a passphrase, as a user makes and uses them."""

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest

from edgepack.signing.envelope import verify
from edgepack.signing.keys import PublicKey
from edgepack.state.desired import PAYLOAD_TYPE
from tests.support import forked
from tests.support.running import Done
from tests.support.terminal import Shown, on_terminal

WORD = "correct horse battery"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "word").write_text(f"{WORD}\n")
    (tmp_path / "other").write_text("another\n")
    (tmp_path / "wanted.json").write_text('{"schema": "edgepack.desired/v1", "services": []}')
    return tmp_path


def environment(folder: Path, **more: str) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("EDGEPACK_")}
    return {**clean, "EDGEPACK_WORKSPACE": str(folder / "ws"), **more}


def edgepack(folder: Path, *words: str, **more: str) -> Done:
    return forked.finish("edgepack", *words, cwd=folder, env=environment(folder, **more))


def signs(folder: Path, **more: str) -> Done:
    return edgepack(folder, "desired", "sign", "wanted.json", "--key", "release", "-o", "signed.json", **more)


def is_signed(folder: Path) -> bool:
    key = PublicKey.from_pem((folder / "ws/keys/release.pub").read_bytes())
    return verify((folder / "signed.json").read_bytes(), PAYLOAD_TYPE, [key]).key_ids == (key.id,)


def test_a_key_under_a_passphrase_signs_with_it_and_not_without(folder: Path) -> None:
    made = edgepack(folder, "key", "create", "release", "--passphrase-file", "word")
    assert made.code == 0, made.stderr
    secret = folder / "ws/keys/release.key"
    assert secret.read_text().startswith("-----BEGIN ENCRYPTED PRIVATE KEY-----")
    assert stat.S_IMODE(secret.stat().st_mode) == 0o600
    # Who only reads needs none.
    assert "release" in edgepack(folder, "key", "list").stdout
    assert edgepack(folder, "key", "export", "release").stdout == (folder / "ws/keys/release.pub").read_text()

    for more, told in (
        ({}, "set EDGEPACK_KEY_PASSPHRASE_FILE to a file that has it"),
        ({"EDGEPACK_KEY_PASSPHRASE_FILE": "other"}, "is not opened by that passphrase"),
        ({"EDGEPACK_KEY_PASSPHRASE_FILE": "nowhere"}, "cannot be read (No such file or directory)"),
        ({"EDGEPACK_KEY_PASSPHRASE_FILE": "wanted.json/x"}, "cannot be read"),
        ({"EDGEPACK_KEY_PASSPHRASE_FILE": "/dev/null"}, "has no passphrase"),
    ):
        refused = signs(folder, **more)
        assert refused.code == 2
        (line,) = refused.stderr.splitlines()
        assert told in line
        assert WORD not in line
    assert not (folder / "signed.json").exists()
    done = signs(folder, EDGEPACK_KEY_PASSPHRASE_FILE="word")
    assert done.code == 0, done.stderr
    assert is_signed(folder)


def test_a_passphrase_is_asked_for_on_a_terminal_and_not_shown(folder: Path) -> None:
    program = Path(sys.executable).with_name("edgepack")
    create = [program, "key", "create", "release", "--passphrase"]

    def twice(second: str) -> Shown:
        return on_terminal(
            create, 80, env=environment(folder), cwd=folder,
            type_when=lambda wrote: f"{second}\r" if "again" in wrote else f"{WORD}\n" if "New" in wrote else "",
        )  # fmt: skip

    wrong = twice("something else")
    assert wrong.code == 2
    assert "are not the same" in wrong.wrote
    assert not (folder / "ws/keys/release.key").exists()
    made = twice(WORD)
    assert made.code == 0, made.wrote
    assert WORD not in made.wrote
    shown = on_terminal(
        [program, "desired", "sign", "wanted.json", "--key", "release", "-o", "signed.json"], 80,
        env=environment(folder), cwd=folder, type_when=lambda wrote: f"{WORD}\n" if "Passphrase of" in wrote else "",
    )  # fmt: skip
    assert shown.code == 0, shown.wrote
    assert WORD not in shown.wrote
    assert is_signed(folder)


def test_how_a_key_is_named(folder: Path) -> None:
    assert edgepack(folder, "key", "create", "one").code == 0
    assert edgepack(folder, "key", "create", "-n", "two").code == 0
    assert edgepack(folder, "key", "create", "three", "-n", "three").code == 0
    for words, told in ((["a", "-n", "b"], "two names"), ([], "NAME"), (["x", "--passphrase"], "needs a terminal")):
        refused = edgepack(folder, "key", "create", *words)
        assert (refused.code, told in refused.stderr) == (2, True), refused.stderr
    assert sorted(path.name for path in (folder / "ws/keys").glob("*.key")) == ["one.key", "three.key", "two.key"]
