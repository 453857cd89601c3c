"""What a test does without a real part: it is skipped on a workstation, and fails where parts are required."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest

REQUIRED = os.environ.get("EDGEPACK_REQUIRE_REAL") == "1"


def skip_or_fail(reason: str) -> NoReturn:
    """Skip the test; with ``EDGEPACK_REQUIRE_REAL=1`` let it fail."""
    if REQUIRED:
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
