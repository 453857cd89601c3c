"""What stays out of an image: ``.edgepackignore`` in Docker's form, and what is left out without being listed."""

from __future__ import annotations

import http.server
import io
import os
import random
import socketserver
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from edgepack.errors import EdgepackError, InvalidDocumentError, UsageError
from edgepack.host.removal import remove_tree
from packager.inference.entry_script import read_entry_script
from packager.layers.folder import left_out_text, read_tree
from packager.layers.ignore import IGNORE_FILE, ignored, parse
from packager.workspaces.workspace import Workspace
from tests.support.sampling import times

LETTERS = "MC4CAQAwBQYDK2VwBCIEIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f"
KEY = f"-----BEGIN PRIVATE KEY-----\n{LETTERS}\n-----END PRIVATE KEY-----\n"


def grow(root: Path, *files: str) -> Path:
    for name in files:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    return root


def shipped(root: Path) -> list[str]:
    return [entry.path.partition("/")[2] for entry in read_tree(root).entries if entry.kind != "dir"]


# ---- The form -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "out", "stays"),
    [
        ("temp", ("temp", "temp/a", "temp/b/c"), ("a/temp", "temps")),
        ("/temp/", ("temp", "temp/a"), ("a/temp",)),
        ("*/temp*", ("a/temp", "a/tempo/x"), ("temp", "a/b/temp")),
        ("**/temp", ("temp", "a/temp", "a/b/temp/c"), ("a/xtemp",)),
        ("a/**", ("a/b", "a/b/c"), ("a", "b/a/c")),
        ("a/**/b", ("a/b", "a/x/b", "a/x/y/b/z"), ("a/xb", "b")),
        ("**.py", ("x.py", "a/b/x.py"), ("x.pyc",)),
        ("temp?", ("tempa", "tempb/c"), ("temp", "temp/")),
        ("[a-c].txt", ("b.txt",), ("d.txt", "a/b.txt")),
        ("[^a].txt", ("b.txt",), ("a.txt",)),
        ("\\!a\n\\#b\n\\*", ("!a", "#b", "*"), ("a", "b", "x")),
        ("./a/../b//c", ("b/c",), ("c", "a")),
        ("# a\n  \n#b\nc", ("c",), ("a", "b", "# a", "#b")),
        (" # a ", ("# a",), ("a",)),
        ("\ufeffa\r\nb \r\n\tc", ("a", "b", "c"), ("\ufeffa",)),
        ("*.md\n!README.md", ("a.md",), ("README.md",)),
        ("!README.md\n*.md", ("README.md",), ()),
        ("*.md\n!README*.md\nREADME-secret.md", ("README-secret.md", "a.md"), ("README.md",)),
        ("docs\n!docs/README.md", ("docs/a",), ("docs/README.md",)),
        ("**\n! a/b", ("a/c", "b"), ("a/b", "a/b/c")),
        ("a(b).+|{c}$", ("a(b).+|{c}$",), ("ab.c",)),
    ],
)  # fmt: skip
def test_patterns_mean_what_they_mean_to_docker(text: str, out: tuple[str, ...], stays: tuple[str, ...]) -> None:
    patterns = parse(text)
    assert [path for path in (*out, *stays) if ignored(patterns, path)] == list(out)


def test_every_line_that_is_not_a_pattern_is_named() -> None:
    with pytest.raises(InvalidDocumentError) as error:
        parse("a\n[\n!\nb\\\n[x-]\n[]a]\n", "the file")
    assert error.value.violations == (
        "line 2 is not a pattern: '[' has a [ without ], or ends with a backslash",
        "line 3 has ! and no pattern",
        "line 4 is not a pattern: 'b\\\\' has a [ without ], or ends with a backslash",
        "line 5 is not a pattern: '[x-]' has a [ without ], or ends with a backslash",
        "line 6 is not a pattern: '[]a]' has a [ without ], or ends with a backslash",
    )


class _Engine(http.server.BaseHTTPRequestHandler):
    """As much of Docker's API as ``docker build`` needs to send the folder's files."""

    protocol_version = "HTTP/1.1"
    sent: list[bytes]

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Api-Version", "1.41")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")

    def do_HEAD(self) -> None:
        self._answer(b"OK")

    do_GET = do_HEAD  # noqa: N815 - the name that the base class calls

    def do_POST(self) -> None:
        pieces = []
        while size := int(self.rfile.readline(), 16):
            pieces.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        self.sent.append(b"".join(pieces))
        self._answer(b"")


@contextmanager
def _docker(folder: Path) -> Iterator[tuple[str, list[bytes]]]:
    sent: list[bytes] = []

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

    handler = type("Handler", (_Engine,), {"sent": sent, "address_string": lambda _: "docker"})
    with Server(f"{folder}/d", handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"unix://{folder}/d", sent
        server.shutdown()


@pytest.mark.real("docker")
def test_docker_itself_sends_the_same_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of random ignore files. Lines with ! are fixed names here: this builder does not look into ignored folders."""
    monkeypatch.chdir(tmp_path)  # the address of a socket is short
    context = grow(
        tmp_path / "c", "a/a.txt", "a/b.py", "a/b/a.txt", "a/b/ab/b.py", "b/a.txt", "b/ab/x y", "ab/a/b.py", "a.txt",
        "b.py", ".env", "x y/a.txt", "a/.env", "b.txt", "xa.txt", "a-b", "a+b.txt", "c/d/e/f", "ü.txt", "Dockerfile",
    )  # fmt: skip
    (context / "Dockerfile").write_text("FROM scratch\n")
    files = sorted(str(path.relative_to(context)) for path in context.rglob("*") if path.is_file())
    fixed = ["a", "b", "ab", "a.txt", ".env", "x y", "..", "b.py", "c/d", "ü.txt"]
    wild = ["*", "**", "*.txt", "?", "[ab]", "[^a]*", "*.py", "a*", "b?py", "c**f", "[a-b]*", "ü*", "a[^x-z]*", "a+*"]
    chance = random.Random(os.environ.get("EDGEPACK_SEED", "20"))  # noqa: S311 - the same cases again
    with _docker(Path()) as (address, sent):
        environment = {**os.environ, "DOCKER_BUILDKIT": "0", "DOCKER_HOST": address.replace("//", f"//{tmp_path}/")}
        for _ in range(times(300, 25)):
            lines = []
            for _ in range(chance.randint(1, 5)):
                start = chance.choice(["", "", "", "!", " ", "# ", " #", "! ", "\t", "**/"])
                names = fixed if "!" in start else [*fixed, *wild]
                name = "/".join(chance.choice(names) for _ in range(chance.randint(1, 3)))
                end = chance.choice(["", "/", " ", "\r"])
                lines.append(f"{start}{chance.choice(['', '', '/', './', '//'])}{name}{end}")
            text = chance.choice(["", "\ufeff"]) + "\n".join(lines)
            (context / ".dockerignore").write_text(text)
            sent.clear()
            done = subprocess.run(
                ["docker", "build", "-q", str(context)], env=environment, capture_output=True, text=True, timeout=60,
                check=False,
            )  # fmt: skip
            if not sent:
                assert 'illegal exclusion pattern: "!"' in done.stderr
                continue
            with tarfile.open(fileobj=io.BytesIO(sent[0])) as tar:
                theirs = {member.name for member in tar if member.isfile()} - {".dockerignore", "Dockerfile"}
            patterns = parse(text)
            ours = {name for name in files if not ignored(patterns, name)} - {"Dockerfile"}
            assert ours == theirs, repr(text)


# ---- What is left out without being listed -----------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = grow(
        tmp_path / "code", "score.py", "lib/a.py", ".git/config", "lib/__pycache__/a.pyc", ".env", "lib/.env.local",
        ".ssh/id_rsa", ".ssh/known_hosts", ".netrc", ".pypirc", ".docker/config.json", ".docker/other",
        "keys/id_ed25519", "keys/id_ed25519.pub", "env3/pyvenv.cfg", "env3/lib/b.py", ".env.example", "data.p12",
    )  # fmt: skip
    (root / "public.pem").write_text("-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n")
    return root


def test_secrets_caches_and_histories_stay_out_and_it_is_said(folder: Path) -> None:
    tree = read_tree(folder)
    assert shipped(folder) == [
        ".docker/other", ".env.example", "keys/id_ed25519.pub", "lib/a.py", "public.pem", "score.py",
    ]  # fmt: skip
    assert {one.path: one.rule for one in tree.left_out} == {
        ".docker/config.json": "secrets", ".env": "secrets", ".git": "version-control", ".netrc": "secrets",
        ".pypirc": "secrets", ".ssh": "secrets", "data.p12": "secrets", "env3": "environments",
        "keys/id_ed25519": "secrets", "lib/.env.local": "secrets", "lib/__pycache__": "caches",
    }  # fmt: skip
    assert left_out_text(tree.left_out) == (
        "left out: .docker/config.json (secrets), .env (secrets), .git (version-control), .netrc (secrets), "
        ".pypirc (secrets), .ssh (secrets), data.p12 (secrets), env3 (environments), 3 more; "
        "a line with ! and its path in .edgepackignore brings one back"
    )


@pytest.mark.parametrize(
    ("lines", "more"),
    [
        ("!.env", {".env"}),
        ("!**/.env*", {".env", "lib/.env.local"}),
        ("!.ssh/known_hosts", {".ssh/known_hosts"}),
        ("!.ssh", {".ssh/known_hosts"}),  # id_rsa has a rule of its own
        ("!.ssh\n!.ssh/id_rsa", {".ssh/known_hosts", ".ssh/id_rsa"}),
        ("!**/*.py", set()),  # not what is in an environment
        ("!env3", {"env3/pyvenv.cfg", "env3/lib/b.py"}),
    ],
)  # fmt: skip
def test_a_line_brings_back_what_it_names(folder: Path, lines: str, more: set[str]) -> None:
    before = set(shipped(folder))
    (folder / IGNORE_FILE).write_text(lines)
    assert set(shipped(folder)) == before | more


def test_a_line_leaves_out_more_and_what_is_in_there_is_not_read(folder: Path) -> None:
    (folder / IGNORE_FILE).write_text("*\n!score.py\n!lib\nlib/big")
    grow(folder, "lib/big/x", "lib/keep/y")
    os.mkfifo(folder / "pipe")
    (folder / "out").symlink_to("/etc/passwd")
    (folder / "lib/link").symlink_to("big/x")
    assert shipped(folder) == ["lib/a.py", "lib/keep/y", "score.py"]
    left_out = {one.path: one.rule for one in read_tree(folder).left_out}
    assert left_out["pipe"] == left_out["out"] == left_out["lib/big"] == IGNORE_FILE
    assert left_out["lib/link"] == "a link to what is left out"


def test_the_same_holds_for_a_model(folder: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        model = Workspace(tmp_path / "ws", tmp_path / "cache").models.register("m", folder)
    assert {file.path.partition("/")[2] for file in model.files} == set(shipped(folder))
    assert "left out: .docker/config.json (secrets)" in caplog.text


def test_a_folder_of_which_nothing_is_left_is_refused(tmp_path: Path) -> None:
    root = grow(tmp_path / "m", "a", IGNORE_FILE)
    (root / IGNORE_FILE).write_text("*")
    with pytest.raises(UsageError, match="holds no file that is not left out"):
        read_tree(root)


def test_a_script_that_is_left_out_is_refused(folder: Path) -> None:
    (folder / IGNORE_FILE).write_text("*.py")
    with pytest.raises(UsageError, match="is left out of the image"):
        read_entry_script("score.py", folder)


def test_an_ignore_file_that_cannot_be_read_stops_the_build(folder: Path) -> None:
    (folder / IGNORE_FILE).write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not UTF-8"):
        read_tree(folder)


def test_a_single_file_is_taken_whatever_it_is_called(tmp_path: Path) -> None:
    assert [entry.path for entry in read_tree(grow(tmp_path, ".env") / ".env").entries] == [".env"]


@pytest.mark.parametrize("levels", [257, 1200])
def test_a_folder_that_is_too_deep_is_refused_before_anything_fails(tmp_path: Path, levels: int) -> None:
    root = grow(tmp_path / "code", "score.py")
    here = root / "d"
    here.mkdir()
    fd = os.open(here, os.O_RDONLY)
    for _ in range(levels):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    try:
        with pytest.raises(UsageError, match="code/d: holds a folder that is more than 256 folders deep"):
            read_tree(root)
        (root / IGNORE_FILE).write_text("d/d/d")
        assert shipped(root) == ["score.py"]
    finally:
        remove_tree(root)  # which pytest could not


# ---- Private keys -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        KEY,
        KEY.replace("PRIVATE", "RSA PRIVATE"),
        KEY.replace("PRIVATE", "OPENSSH PRIVATE"),
        KEY.replace("\n", "\r\n"),
        KEY.replace("-----\n", "-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\n", 1),
        '{"private_key": "' + KEY.replace("\n", "\\n") + '"}',
        "    " + KEY.replace("\n", "\n    "),
        "PuTTY-User-Key-File-3: ssh-ed25519\n",
        "x" * (1 << 20) + KEY,
    ],
    ids=range(9),
)
def test_a_private_key_under_any_name_stops_the_build(tmp_path: Path, text: str) -> None:
    root = grow(tmp_path / "code", "score.py", "conf/server.txt")
    (root / "conf/server.txt").write_text(text)
    with pytest.raises(EdgepackError, match=r"conf/server.txt: holds a private key, which must not get into an image"):
        read_entry_script("score.py", root)
    workspace = Workspace(tmp_path / "ws", tmp_path / "cache")
    with pytest.raises(EdgepackError, match=r"conf/server.txt: holds a private key"):
        workspace.models.register("m", root)
    (root / IGNORE_FILE).write_text("!conf/server.txt")
    assert len(workspace.models.register("m", root).files) == 2
    read_entry_script("score.py", root)
    (root / IGNORE_FILE).write_text("conf")
    assert len(workspace.models.register("m", root).files) == 1


def test_a_source_that_only_names_the_mark_is_no_key(tmp_path: Path) -> None:
    root = grow(tmp_path / "code", "score.py")
    (root / "score.py").write_text('if text.startswith("-----BEGIN PRIVATE KEY-----"):\n    raise ValueError(text)\n')
    read_entry_script("score.py", root)
