"""Bars of long work, on real terminals and without one."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest

from packager.wheels.pip_download import follow
from tests.support.running import finish
from tests.support.terminal import Shown, on_terminal

# Two pieces side by side for about a second, with a line of a logger in their midst.
WORK = """
import logging, sys, time
from packager.bars import bars
logging.basicConfig(format="edgepack: %(message)s")
with bars() as progress:
    with progress("compress a wheel with a rather long name 1.2.3", 100_000_000) as advance:
        with progress("download packages", 7, "files") as one_more, progress("lock", 0, "none"):
            for number in range(20):
                advance(5_000_000)
                one_more(number % 3 == 0)
                time.sleep(float(sys.argv[1]))
                if number == 15:
                    logging.getLogger("packager").warning("a mirror cannot be read")
print("done", "rich" in sys.modules)
"""
ROOT = Path(__file__).parents[2]


def work(columns: int, seconds: float = 0.07, **options: object) -> Shown:
    return on_terminal([sys.executable, "-c", WORK, seconds], columns, cwd=ROOT, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("columns", [80, 24])
def test_bars_fit_the_terminal_and_nothing_of_them_remains(columns: int) -> None:
    shown = work(columns)
    assert shown.code == 0
    seen = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.wrote)
    assert "/100.0 MB" in seen
    assert "/7" in seen
    assert "compress a wh" in seen if columns == 80 else "…" in seen
    assert shown.screen.text == "edgepack: a mirror cannot be read\ndone True".replace(
        "edgepack: a mirror cannot be read", "\n".join(_wrapped("edgepack: a mirror cannot be read", columns))
    )
    assert shown.screen.shows_cursor


def _wrapped(text: str, columns: int) -> list[str]:
    """As the terminal breaks a line, or as what draws the bars does, at a space."""
    return [text] if len(text) <= columns else ["edgepack: a mirror", "cannot be read"]


def test_an_interrupt_leaves_a_clean_line_and_the_cursor() -> None:
    shown = work(80, 1.0, type_when=lambda wrote: "\x03" if "MB" in wrote else "")
    assert shown.code != 0
    assert shown.screen.shows_cursor
    assert "━" not in shown.screen.text
    assert shown.screen.text.splitlines()[0].lstrip("^C") == "Traceback (most recent call last):"


def test_short_work_shows_nothing_and_imports_nothing() -> None:
    shown = work(80, 0.0)
    assert shown.screen.text == "edgepack: a mirror cannot be read\ndone False"


def test_without_a_terminal_there_are_plain_lines_only() -> None:
    done = finish(sys.executable, "-c", WORK, "0.0", cwd=ROOT)
    assert (done.stdout, done.stderr) == ("done False\n", "edgepack: a mirror cannot be read\n")


@pytest.mark.parametrize("kind", ["dumb", "xterm"])
def test_a_terminal_that_moves_no_cursor_gets_no_bars(kind: str) -> None:
    shown = work(80, env={"TERM": kind})
    assert ("━" in shown.wrote) is (kind == "xterm")


def test_what_pip_prints_becomes_files_and_bytes() -> None:
    seen: list[tuple[str, int, str, list[int]]] = []

    from collections.abc import Callable, Iterator
    from contextlib import contextmanager

    @contextmanager
    def watch(title: str, total: int, unit: str = "bytes") -> Iterator[Callable[[int], None]]:
        counts: list[int] = []
        seen.append((title, total, unit, counts))
        yield counts.append

    lines = """Looking in indexes: https://x
Collecting numpy==2.4.6 (from -r requirements.txt (line 1))
  Downloading numpy-2.4.6-cp311-cp311-manylinux_2_27_x86_64.whl (16.6 MB)
Progress 0 of 100
Progress 60 of 100
Progress 100 of 100
Collecting orjson==3.13.0
  Using cached orjson-3.13.0-cp311-cp311-manylinux_2_17_x86_64.whl (130 kB)
Processing /wheels/torch-2.13.0.whl
Saved ./numpy-2.4.6.whl
Successfully downloaded numpy orjson torch
"""
    follow(lines.splitlines(keepends=True), 3, watch)
    assert seen == [
        ("download packages", 3, "files", [1, 1, 1]),
        ("download numpy-2.4.6", 100, "bytes", [0, 60, 40]),
    ]
