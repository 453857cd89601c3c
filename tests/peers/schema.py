"""A plugin of pytest: our ``inference_schema`` under the tests of the package of that name."""

from __future__ import annotations

import pytest

from tests.peers.differences import mark
from tests.peers.stand_ins import ours_as_inference_schema

ours_as_inference_schema()

# Where we differ on purpose, by the end of the test's name.
DIFFERENCES = {
    "*spark*": "Spark's types are those of the package itself, which may be installed beside",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what we do not have, and say why."""
    mark(items, DIFFERENCES)
