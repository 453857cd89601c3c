"""A bar for what takes long, on a terminal only."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import click

from packager.models.progress import Advance, unseen

# Less than this is done before anybody looks.
_WORTH_IT = 64 << 20


@contextmanager
def bar(total: int) -> Iterator[Advance]:
    """Show how much of ``total`` bytes is done, on standard error, where that is a terminal."""
    if total < _WORTH_IT or not sys.stderr.isatty():
        with unseen(total) as advance:
            yield advance
        return
    with click.progressbar(length=total, label="registering", file=sys.stderr, show_eta=True) as shown:
        yield shown.update
