"""What is told of each service: its stage, whose wish it follows, and number and reason of what cannot be done."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from edge_agent.reconcile.acceptance import Receiver, judge
from edgepack.errors import RuntimeFailedError
from edgepack.state.desired import Desired, DesiredService
from edgepack.state.reported import Answer, Stage
from edgepack.state.topics import COMMAND, DEVICE
from tests.edge_agent.support.fake_runtime import V1, V2, V3, Faults, Lab, lab, service

__all__ = ["lab"]
RECEIVER = Receiver("press-1", ("site",))


def accepted(lab: Lab, scope: str, serial: int, *specs: DesiredService) -> None:
    found = lab.device().state.decide(lambda wanted: judge(Desired(specs, serial), scope, RECEIVER, wanted))
    assert found.refusal is None


def told(lab: Lab, *names: str) -> tuple[object, ...]:
    return tuple(lab.status()[name] for name in names)


def unsigned(lab: Lab) -> None:
    lab.world.unsigned.add(V1)


def absent(lab: Lab) -> None:
    lab.world.absent.add(V1)


def unhealthy(lab: Lab) -> None:
    lab.world.faults[V1] = Faults(never_healthy=True)


def refused(lab: Lab) -> None:
    lab.world.faults[V1] = Faults(start_fails=True)


@pytest.mark.parametrize(
    ("make", "number", "reason"),
    [
        (unsigned, 412, "has no signature"), (absent, 412, "was not imported"), (unhealthy, 500, "answered 503"),
        (refused, 500, "cannot be started"),
    ],
)  # fmt: skip
def test_what_cannot_be_done_has_its_number_and_the_rest_runs(
    lab: Lab, make: Callable[[Lab], None], number: int, reason: str
) -> None:
    make(lab)
    accepted(lab, DEVICE, 4, service(V1), service(V2, "other", 7000))
    runner = lab.runner()
    assert (runner.bring("churn"), runner.bring("other")) == (Stage.FAILED, Stage.DONE)

    assert told(lab, "stage", "status", "origin", "serial") == ("Failed", number, DEVICE, 4)
    assert reason in str(lab.status()["reason"])
    other = lab.status("other")
    assert (other["state"], other["stage"], other["status"], other["reason"]) == ("Healthy", "Done", 200, None)


def test_a_service_whose_port_another_has_is_told_of_and_left_as_it_is(lab: Lab) -> None:
    lab.apply(service(V1, "one", 7000))
    accepted(lab, "group site", 3, service(V2, "two", 7000), service(V3, "three", 7003))
    two, one = lab.status("two"), lab.status("one")

    assert (two["state"], two["status"], two["reason"]) == ("Unschedulable", 409, "port 7000 is that of service one")
    assert (two["origin"], two["serial"], two["digest"], two["url"]) == ("group site", 3, None, None)
    assert (one["state"], one["origin"], one["stage"], one["status"]) == ("Healthy", COMMAND, "Done", 200)
    assert lab.status("three")["stage"] == "Wanted"
    assert lab.status("three")["state"] == "Transitioning"
    lab.runner().stop("one", remove=True)
    assert (lab.status("one")["state"], lab.status("one")["url"]) == ("Removed", None)
    accepted(lab, "group site", 4, service(V2, "two", 7000))
    assert lab.runner().bring("two") is Stage.DONE
    assert lab.status("two")["status"] == 200


def test_a_version_that_fails_is_told_of_beside_the_one_that_runs(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.world.faults[V2] = Faults(never_healthy=True)
    accepted(lab, DEVICE, 2, service(V2))
    assert lab.runner().bring("churn") is Stage.FAILED

    assert told(lab, "state", "digest", "stage", "status") == ("Healthy", str(V1), "Failed", int(Answer.FAILED))
    assert "answered 503" in str(lab.status()["reason"])
    with pytest.raises(RuntimeFailedError):
        lab.apply(service(V2))
    assert told(lab, "state", "digest", "status", "origin") == ("Healthy", str(V1), 500, COMMAND)
    lab.apply(service(V3))
    assert told(lab, "stage", "status", "reason") == ("Done", 200, None)


def test_a_removed_service_is_named_again_by_a_newer_document_only(lab: Lab) -> None:
    accepted(lab, DEVICE, 1, service(V1))
    lab.runner().bring("churn")
    lab.runner().stop("churn", remove=True)
    accepted(lab, "group site", 9, service(V1, "other", 7001))
    assert told(lab, "state", "origin") == ("Removed", COMMAND)
    assert lab.image_of() is None
    accepted(lab, DEVICE, 2, service(V1))
    assert lab.runner().bring("churn") is Stage.DONE
    assert lab.image_of() == V1
    # As a document has it, by the name alone; and back by the command.
    accepted(lab, DEVICE, 3, Desired.from_bytes(
        b'{"schema": "edgepack.desired/v1", "services": [{"name": "churn", "status": "removed"}]}'
    ).services[0])  # fmt: skip
    assert lab.runner().bring("churn") is Stage.DONE
    assert (lab.image_of(), told(lab, "state", "last_good")) == (None, ("Removed", str(V1)))
    lab.rollback()
    assert lab.image_of() == V1
