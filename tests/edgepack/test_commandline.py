"""How commands end: the answer on stdout, one sentence on stderr, the exit code."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import click
import pytest

from edgepack import errors
from edgepack.host.console import answer, human, report_errors

TREE = {
    errors.EdgepackError: 1, errors.UsageError: 2, errors.NotFoundError: 3, errors.VerificationError: 4,
    errors.SignatureError: 4, errors.NoSpaceError: 1, errors.RuntimeFailedError: 1,
}  # fmt: skip


def run(monkeypatch: pytest.MonkeyPatch, error: BaseException | None, *words: str) -> int:
    """A command that fails like this."""

    @click.group(no_args_is_help=True)
    def cli() -> None:
        """Do it."""

    @cli.command()
    @click.option("--debug", is_flag=True, expose_value=False)
    @click.option("--size", type=int, default=0)
    def work(size: int) -> int:
        """Do the work."""
        if error is not None:
            raise error
        return size

    monkeypatch.setattr(sys, "argv", ["tool", *words])
    return report_errors(cli, "tool", "EDGEPACK")


@pytest.mark.parametrize("kind", TREE)
def test_an_error_is_one_sentence_with_the_code_of_its_kind(
    kind: type[errors.EdgepackError], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    code = run(monkeypatch, kind("is wrong\x1b[2J\r\n", where="file", hint="mend it"), "work")

    assert code == TREE[kind]
    assert capfd.readouterr() == ("", "tool: file: is wrong\\x1b[2J ; mend it\n")


@pytest.mark.parametrize(
    ("number", "code", "text"),
    [
        (errno.ENOSPC, 1, "no space left on the disk; free some space"),
        (errno.EACCES, 2, "(Permission denied); check its permissions"),
        (errno.EIO, 1, "x: Input/output error; run it with --debug to see where"),
    ],
)
def test_what_the_system_refuses_is_a_sentence_too(
    number: int, code: int, text: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, OSError(number, os.strerror(number), "x"), "work") == code
    assert text in capfd.readouterr().err


def test_what_nobody_thought_of_is_reported_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, KeyError("x"), "work") == 1
    assert capfd.readouterr().err == (
        "tool: unexpected KeyError: 'x'; run it again with --debug and report what it shows\n"
    )
    assert run(monkeypatch, KeyError("x"), "work", "--debug") == 1
    assert "Traceback" in capfd.readouterr().err


def test_stopping_it_is_no_error(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, KeyboardInterrupt(), "work") == 130
    assert capfd.readouterr().err.strip() == "tool: stopped"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["wrk"], "tool: no such command 'wrk'"),
        (["work", "--sise", "1"], "tool: no such option"),
        (["work", "--size", "big"], "tool: invalid value for '--size': 'big' is not a valid integer; see: tool work"),
        (["work", "more"], "tool: got unexpected extra argument (more); see: tool work --help"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_sentence_that_says_where_to_look(
    words: list[str], text: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, None, *words) == 2
    err = capfd.readouterr().err
    assert err.startswith(text)
    assert err.rstrip().endswith("--help")
    assert len(err.splitlines()) == 1


def test_help_is_help(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(monkeypatch, None, "--help") == 0
    assert capfd.readouterr().out.startswith("Usage: tool")
    run(monkeypatch, None)
    captured = capfd.readouterr()
    assert "Usage: tool" in captured.out + captured.err


def test_every_flag_is_a_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_WORK_SIZE", "7")

    assert run(monkeypatch, None, "work") == 7


def test_an_answer_that_nobody_reads_to_its_end_is_no_traceback(tmp_path: Path) -> None:
    code = (
        "import sys, click\n"
        "from edgepack.host.console import answer, report_errors\n"
        "cli = click.Command('tool', callback=lambda: answer('json', ['x' * 100] * 100_000, []))\n"
        "sys.exit(report_errors(cli, 'tool', 'EDGEPACK'))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=Path(__file__).parents[2]
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.read(10)
    process.stdout.close()

    assert process.stderr.read() == b""
    process.wait(60)
    process.stderr.close()


def test_an_answer_is_json_or_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    answer("json", {"name": "größe", "none": None}, [])
    assert json.loads(capsys.readouterr().out) == {"name": "größe", "none": None}
    answer("table", None, [{"name": "a", "last_good": None, "signed": True}, {"name": "longer", "signed": False}])
    assert capsys.readouterr().out == (
        "NAME    LAST GOOD  SIGNED\n"
        "a       -          yes\n"
        "longer  -          no\n"
    )  # fmt: skip
    answer("table", {}, [])
    assert capsys.readouterr().out == ""


def test_a_table_keeps_what_it_shows_from_moving_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    answer("table", None, [{"reason": "a\x1b[2J\nb\x9b"}])

    assert capsys.readouterr().out == "REASON\na\\x1b[2J b\\x9b\n"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"), (999_950, "1.0 MB"), (1_500_000, "1.5 MB"),
        (5 * 10**12, "5000.0 GB"),
    ],
)  # fmt: skip
def test_bytes_for_people(size: int, text: str) -> None:
    assert human(size) == text


ROWS = [
    {
        "name": "churn",
        "image_digest": f"sha256:{'a' * 64}",
        "reason": f"it exited with code 7{' and wrote this' * 4}",
        "note": "",
    },
    {"name": "fraud", "image_digest": "fraud:1", "reason": None, "note": ""},
]


def test_a_table_wider_than_the_terminal_is_written_line_by_line_and_breaks_no_word() -> None:
    """In a real pseudo-terminal of 80 columns: no line is longer, every word of a cell is whole, and no line empty."""
    code = f"from edgepack.host.console import answer; answer('table', None, {ROWS!r})"
    shown = in_terminal([sys.executable, "-c", code], columns=80)
    assert all(len(line) <= 80 for line in shown)
    assert shown[:3] == ["NAME          churn", "IMAGE DIGEST", f"  sha256:{'a' * 64}"]
    reason = " ".join(" ".join(shown[3:5]).split())
    assert reason == f"REASON {ROWS[0]['reason']}"
    assert shown[-3:] == ["NAME          fraud", "IMAGE DIGEST  fraud:1", "REASON        -"]
    narrow = f"from edgepack.host.console import answer; answer('table', None, {ROWS[1:]!r})"
    assert in_terminal([sys.executable, "-c", narrow], columns=80)[0].split() == [
        "NAME",
        "IMAGE",
        "DIGEST",
        "REASON",
        "NOTE",
    ]


def test_a_narrow_terminal_gets_a_last_column_of_several_lines_and_fields_below_each_other() -> None:
    digest, long = "a" * 64, "it exited with code 7, and wrote that it has no model"
    tables = [
        [{"image": "x" * 40, "digest": digest[:12], "reason": long}, {"image": "y", "digest": None, "reason": ""}],
        [{"field": "file Model.onnx", "value": f"9 B sha256:{digest}"}, {"field": "tags", "value": long}],
    ]
    code = f"from edgepack.host.console import answer; [answer('table', None, table) for table in {tables!r}]"
    assert in_terminal([sys.executable, "-c", code], columns=82) == [
        f"IMAGE{' ' * 37}DIGEST        REASON",
        f"{'x' * 40}  aaaaaaaaaaaa  it exited with code 7, and",
        f"{' ' * 56}wrote that it has no model",
        f"y{' ' * 41}-",
        "file Model.onnx",
        f"  9 B sha256:{digest}",
        f"tags             {long}",
    ]


def in_terminal(words: list[str], columns: int) -> list[str]:
    """The lines that a command writes to a terminal of that width."""
    leader, follower = pty.openpty()
    fcntl.ioctl(follower, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")}
    process = subprocess.Popen(words, stdout=follower, stderr=follower, cwd=Path(__file__).parents[2], env=environment)
    os.close(follower)
    shown = b""
    try:
        while piece := os.read(leader, 4096):
            shown += piece
    except OSError:  # how Linux says that the other side is closed
        pass
    finally:
        os.close(leader)
    assert process.wait(60) == 0, shown
    return shown.decode().splitlines()
