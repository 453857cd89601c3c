"""What an update of a service needs, by the contract's rules."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgepack.errors import UsageError
from edgepack.names import ModelRef
from edgepack.oci.digest import Digest
from packager.images.build import BuildOptions
from packager.services.configuration.rules import Configuration
from packager.services.configuration.values import Auth, ComputeType, DeviceDeployment, LocalDeployment
from packager.services.plan import Change, Rebuild, changed, plan_update
from packager.services.service import Service, Source

PLAIN = Service(
    "churn", ComputeType.LOCAL, ("churn:1",), "services/churn:a", Digest("0" * 64), {"computeType": "local"}, port=1,
    tags={"a": "1"}, properties={"b": "2"},
)  # fmt: skip
SCRIPTED = replace(PLAIN, source=Source("score.py"), models=("churn:1", "words:2"))
NEW = (ModelRef("churn", 2),)
OPTIONS = BuildOptions(offline=True)


def test_what_is_built() -> None:
    assert plan_update(PLAIN, Change(models=NEW)) == Rebuild(NEW, None, None)
    old = (ModelRef("churn", 1), ModelRef("words", 2))
    assert plan_update(SCRIPTED, Change(options=OPTIONS, source=Source("b.py"))) == Rebuild(
        old, Source("b.py"), OPTIONS
    )
    assert plan_update(PLAIN, Change(models=NEW, options=OPTIONS)) == Rebuild(NEW, None, OPTIONS)
    for change in (
        Change(description="d"), Change(tags={}), Change(configuration=Configuration(LocalDeployment(2), {})),
    ):  # fmt: skip
        assert plan_update(SCRIPTED, change) is None


@pytest.mark.parametrize(
    ("service", "change", "told"),
    [
        (PLAIN, Change(), "says nothing to change"),
        (SCRIPTED, Change(models=NEW), "has an entry script"),
        (PLAIN, Change(models=NEW * 2), "serves one model without code, and 2 are given"),
        (PLAIN, Change(configuration=Configuration(DeviceDeployment(), {})), "runs on Local"),
    ],
)
def test_what_is_refused(service: Service, change: Change, told: str) -> None:
    with pytest.raises(UsageError, match=told):
        plan_update(service, change)


def test_what_changes_beside_the_package() -> None:
    written = {"computeType": "local", "port": 2}
    change = Change(configuration=Configuration(LocalDeployment(2), written), tags={}, properties={"c": "3"})
    assert changed(PLAIN, change) == {
        "deployment": written, "auth": Auth.NONE, "port": 2, "tags": {}, "properties": {"b": "2", "c": "3"},
    }  # fmt: skip
    assert "port" not in changed(PLAIN, Change(configuration=Configuration(LocalDeployment(), {})))
    with pytest.raises(UsageError, match="'b' is '2' already"):
        changed(PLAIN, Change(properties={"b": "3"}))
