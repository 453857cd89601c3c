"""How much is run of what takes long: a sample in every run, the whole with ``EDGEPACK_WHOLE=1``.

With ``EDGEPACK_QUICK=1``, only what needs no real part and is done at once.
"""

from __future__ import annotations

import os

QUICK = os.environ.get("EDGEPACK_QUICK") == "1"
WHOLE = os.environ.get("EDGEPACK_WHOLE") == "1"


def times(whole: int, sample: int) -> int:
    """How often a test repeats what it does."""
    return whole if WHOLE else sample
