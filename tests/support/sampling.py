"""How much is run of what takes long: a sample in every run, the whole with ``EDGEPACK_WHOLE=1``."""

from __future__ import annotations

import os

WHOLE = os.environ.get("EDGEPACK_WHOLE") == "1"


def times(whole: int, sample: int) -> int:
    """How often a test repeats what it does."""
    return whole if WHOLE else sample
