"""Bars for what takes long, on standard error, where that is a terminal; elsewhere nothing is shown.

Short work shows nothing either, and does not import what draws the bars. A bar goes away when its work ends: what
remains is what the command answers.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from edgepack.host.progress import Advance, Progress, Unit, unseen

if TYPE_CHECKING:
    from rich import progress as drawing

# Seconds: what ends earlier needs no bar, and a bar that moves more often is not read better.
_DELAY = 0.5
_BETWEEN = 0.1
# Columns.
_ROOM = 3


@contextmanager
def bars() -> Iterator[Progress]:
    """What shows pieces of work as bars while the block lasts; however it ends, no part of a bar remains."""
    if not sys.stderr.isatty():
        yield unseen
        return
    shown = _Bars()
    timer = threading.Timer(_DELAY, shown.show)
    timer.daemon = True
    timer.start()
    try:
        yield shown.piece
    finally:
        timer.cancel()
        shown.close()


@dataclass(eq=False)
class _Piece:
    title: str
    total: int
    unit: Unit
    done: int = 0
    drawn: float = 0.0
    task: drawing.TaskID | None = None


class _Bars:
    """The pieces that are being worked on and, once ``show`` was called, the bars that show them."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._pieces: list[_Piece] = []
        self._display: drawing.Progress | None = None
        self._stack = ExitStack()
        self._is_closed = False

    @contextmanager
    def piece(self, title: str, total: int, unit: Unit = "bytes") -> Iterator[Advance]:
        """As ``Progress`` says."""
        piece = _Piece(title, total, unit)
        with self._lock:
            self._pieces.append(piece)
            self._draw(piece)
        try:
            yield lambda count: self._advance(piece, count)
        finally:
            with self._lock:
                self._pieces.remove(piece)
                if self._display is not None and piece.task is not None:
                    self._display.remove_task(piece.task)

    def show(self) -> None:
        """Begin to draw."""
        try:
            display = _display()  # an import of a tenth of a second, beside the work
        except ImportError:  # where edgepack was installed without its extra, work is done without bars
            return
        with self._lock:
            if self._is_closed:
                return
            self._display = self._stack.enter_context(display)
            self._stack.enter_context(_logs_above_bars())
            for piece in self._pieces:
                self._draw(piece)

    def close(self) -> None:
        """Take the bars away; none is drawn any more."""
        with self._lock:
            self._is_closed = True
            self._display = None
            self._stack.close()

    def _advance(self, piece: _Piece, count: int) -> None:
        with self._lock:
            piece.done += count
            if time.monotonic() - piece.drawn > _BETWEEN:
                self._draw(piece)

    def _draw(self, piece: _Piece) -> None:
        if self._display is None:
            return
        piece.drawn = time.monotonic()
        if piece.task is None:
            total = None if piece.unit == "none" else piece.total
            piece.task = self._display.add_task(piece.title, total=total, unit=piece.unit)
        self._display.update(piece.task, completed=max(0, min(piece.done, piece.total)))


def _display() -> drawing.Progress:
    """A line for each bar: its title, cut where the terminal is narrow, the bar, how much, and how long it takes."""
    from rich.console import Console, ConsoleDimensions
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        MofNCompleteColumn,
        ProgressColumn,
        Task,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as Display
    from rich.table import Column
    from rich.text import Text

    class Amount(ProgressColumn):
        """How much of how much."""

        size, count = DownloadColumn(), MofNCompleteColumn()

        def render(self, task: Task) -> Text:
            match task.fields["unit"]:
                case "bytes":
                    return self.size.render(task)
                case "files":
                    return self.count.render(task)
                case _:
                    return Text()

    class Left(ProgressColumn):
        """How long it will still take, or has taken where that cannot be known."""

        left, elapsed = TimeRemainingColumn(compact=True), TimeElapsedColumn()

        def render(self, task: Task) -> Text:
            return (self.elapsed if task.total is None else self.left).render(task)

    class Narrower(Console):
        """Leaves room at the right for what the terminal writes when ^C is typed, which would begin a new line."""

        @property
        def size(self) -> ConsoleDimensions:
            width, height = super().size
            return ConsoleDimensions(max(width - _ROOM, 1), height)

        @size.setter
        def size(self, new_size: tuple[int, int]) -> None:
            raise AttributeError("the size is the terminal's")

    whole = Column(no_wrap=True, overflow="ellipsis")
    return Display(
        TextColumn("{task.description}", markup=False, table_column=Column(ratio=2, no_wrap=True, overflow="ellipsis")),
        BarColumn(None, table_column=Column(ratio=1)),
        Amount(table_column=whole),
        Left(table_column=whole.copy()),
        console=Narrower(file=sys.stderr, highlight=False),
        expand=True,
        transient=True,
        redirect_stdout=False,
    )


@contextmanager
def _logs_above_bars() -> Iterator[None]:
    """Let loggers write to today's standard error, which puts lines above the bars, and not into them."""
    changed = [
        (handler, handler.setStream(sys.stderr))
        for handler in logging.getLogger().handlers
        if isinstance(handler, logging.StreamHandler) and handler.stream is sys.__stderr__
    ]
    try:
        yield
    finally:
        for handler, stream in changed:
            if stream is not None:
                handler.setStream(stream)
