"""``--part-size``: how large a file on a medium may be, as media are sold: a kilobyte is 1000 bytes."""

from __future__ import annotations

import re
from typing import Any

import click

from edgepack.host.console import UnknownWordError

_SIZE = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,6})?) ?([kKMGT]?)(i?)B?")
_UNITS = ("", "K", "M", "G", "T")
_LEAST = 64_000


class PartSize(click.ParamType):  # type: ignore[type-arg, unused-ignore]  # generic since click 8.2
    """A number of bytes, with kB, MB or GB for powers of 1000 of them, and KiB, MiB or GiB for powers of 1024."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """The number of bytes."""
        found = _SIZE.fullmatch(str(value))
        size = 0
        if found is not None:
            size = int(float(found[1]) * (1024 if found[3] else 1000) ** _UNITS.index(found[2].upper()))
        if size < _LEAST:
            what = f"--part-size must be a size of at least 64kB, such as 3900MB, not {value!r}"
            raise UnknownWordError(what, "", ctx)
        return size
