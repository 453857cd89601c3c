"""What every test may use: real parts that are found or required, and free ports."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a part that is not installed; with ``EDGEPACK_REQUIRE_REAL=1`` let it fail instead."""
    if os.environ.get("EDGEPACK_REQUIRE_REAL") == "1":
        return
    for item in items:
        for mark in item.iter_markers("real"):
            missing = [part for part in mark.args if shutil.which(part) is None]
            if missing:
                item.add_marker(pytest.mark.skip(reason=f"not installed: {', '.join(missing)}"))


@pytest.fixture(autouse=True)
def _real_parts(request: pytest.FixtureRequest) -> None:
    missing = [part for mark in request.node.iter_markers("real") for part in mark.args if shutil.which(part) is None]
    if missing:
        pytest.fail(f"a real part is missing: {', '.join(missing)}")


@pytest.fixture
def free_port() -> Callable[[], int]:
    """Gives loopback ports that nobody listens on."""

    def give() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    return give
