"""Messages of other libraries' exceptions, shortened to fit into one of our sentences."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, shortened."""
    text = str(error).strip() or type(error).__name__
    return " ".join(text.splitlines()[0].split())[:300]
