"""What every test may use: real parts that are found or required, and free ports."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

import pytest

from tests.support import ports
from tests.support.sampling import WHOLE


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what is marked ``whole`` unless everything is to be run."""
    left_out = [] if WHOLE else [item for item in items if item.get_closest_marker("whole")]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what needs a part that is not installed; with ``EDGEPACK_REQUIRE_REAL=1`` let it fail instead.

    Before any fixture, since one of a wider scope could skip the test first.
    """
    missing = [part for mark in item.iter_markers("real") for part in mark.args if shutil.which(part) is None]
    if not missing:
        return
    if os.environ.get("EDGEPACK_REQUIRE_REAL") == "1":
        pytest.fail(f"a real part is missing: {', '.join(missing)}", pytrace=False)
    pytest.skip(f"not installed: {', '.join(missing)}")


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives loopback ports that nobody listens on."""
    return ports.free_port
