"""Tests of others that ask for something that we do otherwise on purpose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatch

import pytest


def mark(items: Sequence[pytest.Item], differences: Mapping[str, str]) -> None:
    """Skip the tests whose names end like these patterns, each with its reason; UsageError for one of no test."""
    used = set()
    for item in items:
        for part, reason in differences.items():
            if fnmatch(item.nodeid.partition("::")[2], f"*{part}"):
                used.add(part)
                item.add_marker(pytest.mark.skip(reason=f"differs: {reason}"))
    if unused := differences.keys() - used:
        raise pytest.UsageError(f"no test is called {', '.join(sorted(unused))} any more")
