"""The log of a package: what was done, and what loggers said meanwhile; and bars, where there is a terminal."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar

from edgepack.host.progress import Advance, Progress, Unit


class PackageLog(logging.Handler):
    """Collects lines. As a logging handler it takes what our loggers say."""

    _OURS: ClassVar[tuple[str, ...]] = ("packager", "edgepack", "converters")

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take what a logger said."""
        self.line(record.getMessage())

    def line(self, text: str) -> None:
        """Add a line."""
        self._lines.append(text)

    @property
    def text(self) -> str:
        """All of it."""
        return "".join(f"{line}\n" for line in self._lines)

    @contextmanager
    def listening(self) -> Iterator[None]:
        """A block in which it hears our loggers."""
        loggers = [logging.getLogger(name) for name in self._OURS]
        for logger in loggers:
            logger.addHandler(self)
        try:
            yield
        finally:
            for logger in loggers:
                logger.removeHandler(self)

    def beside(self, progress: Progress) -> Progress:
        """``progress``, of whose pieces each is a line of the log too."""

        @contextmanager
        def piece(title: str, total: int, unit: Unit = "bytes") -> Iterator[Advance]:
            self.line(title)
            with progress(title, total, unit) as advance:
                yield advance

        return piece
