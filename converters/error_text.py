"""What other people's exceptions say, cut to what fits into a sentence of ours."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """What an exception says, short enough for a sentence."""
    text = str(error).strip() or type(error).__name__
    return " ".join(text.splitlines()[0].split())[:300]
