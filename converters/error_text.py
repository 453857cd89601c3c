"""Messages of other libraries' exceptions, shortened to fit into one of our sentences."""

from __future__ import annotations

import re

# XGBoost begins with the time of day and the place in its source, so that no two messages would be equal.
_CLOCK = re.compile(r"^\[\d\d:\d\d:\d\d\] (\S+:\d+: )?")


def first_line(error: BaseException) -> str:
    """The first line of an exception's message, shortened; the same for the same fault."""
    text = _CLOCK.sub("", str(error).strip()) or type(error).__name__
    return " ".join(text.splitlines()[0].split())[:300]
