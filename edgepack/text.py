"""Text made fit to be shown: file names and messages from elsewhere, numbers of bytes."""

from __future__ import annotations

import re

# RFC 3986, section 3.2.1: the user information of a URL; a password may hold an "@" that nobody escaped.
_USERINFO = re.compile(r"(?<=://)[^/\s]+@")


def printable(text: str) -> str:
    """``text`` with an escape such as ``\\x1b`` for every character that could move a terminal's cursor or hide."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def redacted(text: str) -> str:
    """``text`` without the credentials that URLs in it carry."""
    return _USERINFO.sub("****@", text)


def human(size: int) -> str:
    """A number of bytes with its unit, in powers of a thousand."""
    amount = float(size)
    for unit in ("B", "kB", "MB"):
        if round(amount, 0 if unit == "B" else 1) < 1000:
            return f"{amount:.0f} {unit}" if unit == "B" else f"{amount:.1f} {unit}"
        amount /= 1000
    return f"{amount:.1f} GB"


def human_memory(size: int) -> str:
    """An amount of memory with its unit, in powers of 1024: as engines take it and show it."""
    if size < 1024:
        return f"{size} B"
    amount = size / 1024
    for unit in ("KiB", "MiB"):
        if round(amount, 1) < 1024:
            return f"{amount:.1f}".removesuffix(".0") + f" {unit}"
        amount /= 1024
    return f"{amount:.1f}".removesuffix(".0") + " GiB"
