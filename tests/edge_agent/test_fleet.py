"""The simulated fleet: every agent gets a new desired state, acts on it, reports it, and finds its broker again."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import pytest

from benchmarks import fleet
from tests.support.sampling import times


@pytest.mark.real("mosquitto", "mosquitto_pub")
def test_a_new_desired_state_reaches_every_agent_of_a_fleet() -> None:
    count = times(200, 5)
    with tempfile.TemporaryDirectory(prefix="edp-f-") as folder:
        costs = asyncio.run(fleet.measure(count, Path(folder)))

    assert costs.count == count
    assert 0 <= costs.delivered <= costs.reported
