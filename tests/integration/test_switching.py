"""Real images change their versions under load, as an operator types it: no request fails."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.support.images import Commands, Second, Site, assert_scores, rows
from tests.integration.test_device import ROOT, Device, assert_nothing_is_left
from tests.support.ports import free_port
from tests.support.steady_load import steady_load

RUNTIMES = ["process", pytest.param("crun", marks=[pytest.mark.real("crun"), ROOT])]
RATE = 50.0


@pytest.fixture
def device(request: pytest.FixtureRequest, place: Path, site: Site, second: Second) -> Iterator[Device]:
    """A device that has both versions."""
    folder = Path(tempfile.mkdtemp(prefix="as-", dir=place))
    folder.chmod(0o755)
    made = Device(Commands(folder, folder / "unused"), request.param, free_port())
    made.agent("trust", place / "test.pub")
    for version in (1, 2):
        bundle = folder / f"{version}.bundle"
        site.commands.edgepack("bundle", "create", f"mlp:{version}", "-o", bundle, "--key", "test")
        made.agent("import", bundle)
        bundle.unlink()
    yield made
    for one in made.agent("status")["services"]:
        made.apply(one["digest"], "stopped")
    assert_nothing_is_left(made)


@pytest.mark.parametrize("device", RUNTIMES, indirect=True)
def test_no_request_fails_while_versions_change(site: Site, second: Second, device: Device) -> None:
    device.apply(site.built["digest"])
    with steady_load(device.port, RATE, "/score", json.dumps({"data": rows()})) as load:
        assert device.apply(second.built["digest"])["services"][0]["reason"] is None
        assert_scores(device.port, site.models[2])
        device.agent("rollback", "churn")
        device.agent("restart", "churn")
        # One that never answers as it should is not asked by anybody but the agent, and the other goes on.
        never = {
            "name": "churn",
            "image": second.built["digest"],
            "port": device.port,
            "env": {"EDGEPACK_THREADS": "no"},
        }
        refused = _apply(device, never)
        assert "EDGEPACK_THREADS" in refused.stderr
        shown = device.agent("status")["services"][0]
        assert (shown["state"], shown["digest"]) == ("Healthy", site.built["digest"])
        assert_scores(device.port, site.models[1])
    assert load.failed == []
    assert len(load.rows) > RATE


def _apply(device: Device, service: dict[str, Any]) -> Any:
    file = device.commands.folder / "desired.json"
    file.write_text(json.dumps({"schema": "edgepack.desired/v1", "services": [service]}))
    return device.agent("apply", file, code=1)
