"""What a command prints: its answer on stdout, its errors on stderr; and its exit code."""

from __future__ import annotations

import json
import logging
import os
import shutil
import sys
import textwrap
import traceback
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from edgepack.errors import EdgepackError, disk_errors, package_errors
from edgepack.host.destinations import is_standard_output
from edgepack.host.encoding import print_anything
from edgepack.host.scratch import sweep_scratch
from edgepack.nearness import did_you_mean
from edgepack.text import human as human
from edgepack.text import printable

# A cell that is cut further says nothing.
_LEAST_CUT = 12
# Text in narrower lines is no easier to read than a row that is written line by line.
_LEAST_WRAPPED = 24


class UnknownWordError(click.UsageError):
    """A word of a command line that is not among those expected: ``what`` is wrong, and which one ``meant``, or ""."""

    def __init__(self, what: str, meant: str, context: click.Context | None = None) -> None:
        super().__init__(what, context)
        self.meant = meant


def report_errors(cli: click.Command, name: str, prefix: str, extra: str = "all") -> int:
    """Run ``cli`` and return its exit code; an error is one sentence, a traceback only with ``--debug``.

    Every flag is an environment variable too: ``prefix``, the words of the command and the name of the flag. ``extra``
    of edgepack has the Python packages that the command needs.
    """
    print_anything()
    logging.basicConfig(format=f"{name}: %(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    sweep_scratch()
    try:
        with disk_errors("the system"), package_errors(extra):
            answer = cli.main(prog_name=name, standalone_mode=False, auto_envvar_prefix=prefix)
    except click.ClickException as error:
        return _usage(name, error)
    except click.Abort:
        _say(name, "stopped")
        return 130
    except EdgepackError as error:
        _debug()
        _say(name, str(error))
        return error.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        _debug()
        _say(name, f"{error.filename or 'the system'}: {error.strerror or error}; run it with --debug to see where")
        return 1
    except Exception as error:  # noqa: BLE001 - the outermost edge: report, never a bare traceback
        _debug()
        _say(name, f"unexpected {type(error).__name__}: {error}; run it again with --debug and report what it shows")
        return 1
    return answer if isinstance(answer, int) else 0


def _usage(name: str, error: click.ClickException) -> int:
    # A command group without a verb shows its help; click before 8.2 has no such error.
    if isinstance(error, getattr(click.exceptions, "NoArgsIsHelpError", ())):
        error.show()
        return error.exit_code
    context = getattr(error, "ctx", None)
    see = f"see: {context.command_path if context else name} --help"
    if isinstance(error, click.NoSuchOption):
        text, see = error.message.rstrip("."), _other_option(error.option_name, context, see)
    else:
        text = error.format_message().rstrip(".")
    if isinstance(error, UnknownWordError):
        see = f"{error.meant} {see}".lstrip()
    _say(name, f"{text[:1].lower()}{text[1:]}; {see}")
    return error.exit_code


def _other_option(typed: str, context: click.Context | None, see: str) -> str:
    """What to do about an option that the command does not have."""
    if context is None:
        return see
    names = {name for param in context.command.get_params(context) for name in (*param.opts, *param.secondary_opts)}
    if isinstance(context.command, click.Group):
        see = f"options of a command come after its name, {see}"
    return did_you_mean(typed, (name for name in names if name.startswith("--")), see)


def _debug() -> None:
    if "--debug" in sys.argv or os.environ.get("EDGEPACK_DEBUG", "").lower() in ("1", "true", "yes", "on"):
        traceback.print_exc()


def _say(name: str, text: str) -> None:
    click.echo(f"{name}: {printable(_one_line(text))}", err=True)


def _one_line(text: str) -> str:
    return " ".join(text.splitlines())


def note(text: str) -> None:
    """Print a message to stderr that is not part of the answer."""
    click.echo(text, err=True)


def answer(
    output: str,
    value: Any,
    table: Sequence[Mapping[str, Any]],
    *,
    written: Iterable[Path | None] = (),
    cut: str | None = None,
) -> None:
    """Print the answer: ``value`` as JSON, or ``table`` as a table.

    It goes to stderr when one of the files that the command has ``written`` was standard output, such as /dev/stdout.
    Where a terminal is too narrow for the table, the cells of the column
    ``cut`` lose their ends, or those of the last column go on in further lines; else each row is written line by line.
    """
    aside = any(is_standard_output(path) for path in written)
    if output == "json":
        click.echo(json.dumps(value, indent=2, ensure_ascii=False), err=aside)
        return
    if not table:
        return
    names = list(table[0])
    rows = [[_cell(row.get(name)) for name in names] for row in table]
    widths = [max(len(name), *(len(row[at]) for row in rows)) for at, name in enumerate(names)]
    stream = sys.stderr if aside else sys.stdout
    width = shutil.get_terminal_size().columns
    excess = sum(widths) + 2 * (len(names) - 1) - width if stream.isatty() else 0
    if excess > 0 and cut is not None and widths[at := names.index(cut)] - excess >= _LEAST_CUT:
        widths[at] -= excess
        rows = [[*row[:at], _cut(row[at], widths[at]), *row[at + 1 :]] for row in rows]
        excess = 0
    room = widths[-1] - excess
    if excess > 0 and not _wraps(names, rows, room):
        if names == ["field", "value"]:  # of one thing, and not of many
            click.echo("\n".join(_line(label, value, widths[0] + 2, width) for label, value in rows), err=aside)
        else:
            click.echo("\n\n".join(_record(names, row, width) for row in rows), err=aside)
        return
    for line in ([name.upper().replace("_", " ") for name in names], *rows):
        before = "".join(f"{cell.ljust(width)}  " for cell, width in zip(line[:-1], widths[:-1], strict=True))
        parts = _lines(line[-1], room) if excess > 0 else [line[-1]]
        for at, part in enumerate(parts):
            click.echo(f"{before if at == 0 else ' ' * len(before)}{part}".rstrip(), err=aside)


def _wraps(names: Sequence[str], rows: Sequence[Sequence[str]], room: int) -> bool:
    """Whether the cells of the last column are readable in lines of ``room`` characters."""
    longest = max((len(word) for row in rows for word in row[-1].split()), default=0)
    return len(names) > 1 and room >= max(longest, len(names[-1]), _LEAST_WRAPPED)


def _lines(text: str, room: int) -> list[str]:
    return textwrap.wrap(text, room, break_long_words=False, break_on_hyphens=False) or [""]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"


def _record(names: Sequence[str], row: Sequence[str], width: int) -> str:
    """A row that is too wide for the terminal: a line for each cell with a text, broken at spaces if too long."""
    label = max(map(len, names)) + 2
    cells = zip(names, row, strict=True)
    return "\n".join(_line(name.upper().replace("_", " "), cell, label, width) for name, cell in cells if cell)


def _line(title: str, cell: str, label: int, width: int) -> str:
    """A title of ``label`` characters and its text, broken at spaces."""
    before, start = "", title.ljust(label)
    if label + max(map(len, cell.split()), default=0) > width:  # a digest, which must stay whole to be copied
        before, start = f"{title}\n", "  "
    return before + textwrap.fill(
        cell, max(width, 20), initial_indent=start, subsequent_indent=" " * len(start), break_long_words=False,
        break_on_hyphens=False,
    )  # fmt: skip


def _cell(value: object) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return printable(_one_line(str(value)))
