"""A service is taken to its goal through its stages: what follows when a part goes wrong, or the agent dies."""

from __future__ import annotations

import pytest

from edge_agent.config.configuration import Updates
from edge_agent.config.windows import DAY_MINUTES, Window
from edge_agent.reconcile.probation import Proving
from edge_agent.reconcile.runner import Rules
from edge_agent.runtimes.base import Instance
from edge_agent.sources.base import PausedError
from edge_agent.state.database import StateFile
from edge_agent.state.goals import Stage
from edgepack.errors import (
    EdgepackError,
    IncompatibleError,
    MissingPartError,
    NoSpaceError,
    NotFoundError,
    RegistryError,
    RegistryUnavailableError,
    RuntimeFailedError,
    UsageError,
    VerificationError,
)
from edgepack.oci.digest import Digest
from edgepack.state.desired import Desired, DesiredService
from edgepack.state.reported import Answer
from tests.edge_agent.support.fake_runtime import (
    V1,
    V2,
    V3,
    FakeFetcher,
    FakeRuntime,
    Faults,
    Lab,
    PowerCutError,
    killed_in,
    lab,
    service,
    stages,
)

__all__ = ["lab"]
PROVEN = {"probation_seconds": 5.0, "health_interval_seconds": 1.0}


def test_a_new_service_goes_through_its_stages(lab: Lab) -> None:
    lab.world.absent.add(V1)
    lab.desire(service(V1, **PROVEN))

    assert lab.bring(fetcher=FakeFetcher(lab.world)) == (
        Stage.DONE, ["Downloading", "Staged", "Switching", "Probation", "Done"],
    )  # fmt: skip
    assert (lab.image_of(), lab.status()["state"]) == (V1, "Healthy")
    assert lab.bring() == (Stage.DONE, [])


def test_what_is_here_needs_no_network(lab: Lab) -> None:
    lab.desire(service(V1))
    fetcher = FakeFetcher(lab.world)

    assert lab.bring(fetcher=fetcher) == (Stage.DONE, ["Staged", "Switching", "Done"])
    assert fetcher.calls == 0


def test_what_runs_as_desired_is_left_alone(lab: Lab) -> None:
    lab.apply(service(V1))
    before = list(lab.world.log)
    lab.desire(service(V1))

    assert lab.bring() == (Stage.DONE, ["Done"])
    assert lab.world.log == before


def test_a_signature_that_is_not_here_is_fetched(lab: Lab) -> None:
    lab.world.unsigned.add(V1)
    lab.desire(service(V1))

    assert lab.bring(fetcher=FakeFetcher(lab.world)) == (Stage.DONE, ["Downloading", "Staged", "Switching", "Done"])


@pytest.mark.parametrize(
    ("error", "stage", "status"),
    [
        (RegistryUnavailableError("does not answer"), Stage.WAITING, Answer.OK),
        (PausedError("nothing may be downloaded now"), Stage.WAITING, Answer.OK),
        (NotFoundError("no source has it"), Stage.FAILED, Answer.PRECONDITION_FAILED),
        (RegistryError("answered 400"), Stage.FAILED, Answer.FAILED),
        (VerificationError("is not what was signed"), Stage.FAILED, Answer.PRECONDITION_FAILED),
        (IncompatibleError("is for another platform"), Stage.FAILED, Answer.PRECONDITION_FAILED),
    ],
)
def test_a_download_that_fails_touches_nothing(lab: Lab, error: EdgepackError, stage: Stage, status: Answer) -> None:
    lab.apply(service(V1))
    before = list(lab.world.log)
    lab.world.absent.add(V2)
    lab.desire(service(V2))

    assert lab.bring(fetcher=FakeFetcher(lab.world, error)) == (stage, ["Downloading", stage])
    found = lab.goal()
    assert (found.status, str(error) in str(found.reason)) == (status, True)
    assert (lab.world.log, lab.image_of(), lab.status()["state"]) == (before, V1, "Healthy")
    if stage is Stage.WAITING:
        assert lab.bring(fetcher=FakeFetcher(lab.world))[0] is Stage.DONE
        assert lab.image_of() == V2


def test_a_full_disk_is_relieved_once_and_then_waited_for(lab: Lab) -> None:
    full = NoSpaceError("no space left on the disk")
    lab.world.absent.add(V1)
    lab.desire(service(V1))
    fetcher = FakeFetcher(lab.world, full)
    assert (lab.bring(fetcher=fetcher), fetcher.calls) == ((Stage.WAITING, ["Downloading", "Waiting"]), 1)

    lab.relief = 1
    fetcher = FakeFetcher(lab.world, full)
    assert (lab.bring(fetcher=fetcher)[0], fetcher.calls) == (Stage.DONE, 2)
    lab.world.absent.add(V2)
    lab.desire(service(V2))
    fetcher = FakeFetcher(lab.world, full, full, full)
    assert (lab.bring(fetcher=fetcher)[0], fetcher.calls) == (Stage.WAITING, 2)
    lab.world.faults[V3] = Faults(prepare_fails=True)
    lab.desire(service(V3))
    assert lab.bring() == (Stage.WAITING, ["Waiting"])
    lab.world.faults.clear()
    assert lab.bring() == (Stage.DONE, ["Staged", "Switching", "Done"])


def test_an_image_that_comes_later_is_tried_again(lab: Lab) -> None:
    lab.world.absent.add(V2)
    lab.desire(service(V2))
    assert lab.bring() == (Stage.FAILED, ["Failed"])
    assert lab.bring() == (Stage.FAILED, [])
    lab.world.absent.clear()
    assert lab.runner().look_again([V1]) == ()
    assert lab.runner().look_again([V2]) == ("churn",)
    assert lab.bring()[0] is Stage.DONE
    assert lab.runner().look_again([V2]) == ()


def test_an_engine_that_does_not_answer_is_waited_for(lab: Lab) -> None:
    lab.world.missing_engines.add("docker")
    lab.desire(service(V1))
    assert lab.bring() == (Stage.WAITING, ["Waiting"])
    lab.world.missing_engines.clear()
    assert lab.bring() == (Stage.DONE, ["Staged", "Switching", "Done"])


def test_an_update_waits_for_its_window_and_a_first_start_does_not(lab: Lab) -> None:
    closed = Rules(Updates(free_memory_bytes=1 << 60))
    lab.desire(service(V1))
    assert lab.bring(rules=closed)[0] is Stage.DONE
    lab.desire(service(V2))
    assert lab.bring(rules=closed) == (Stage.WAITING, ["Staged", "Waiting"])
    assert "of memory must be available" in str(lab.goal().reason)
    assert lab.bring(rules=closed) == (Stage.WAITING, [])
    assert lab.image_of() == V1
    always = Rules(Updates(windows=(Window(0, DAY_MINUTES),), free_memory_bytes=0))
    assert lab.bring(rules=always) == (Stage.DONE, ["Staged", "Switching", "Done"])


def test_a_version_that_is_never_healthy_is_left_at_once_and_quarantined(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.world.faults[V2] = Faults(never_healthy=True)
    lab.desire(service(V2))

    assert lab.bring() == (Stage.FAILED, ["Staged", "Switching", "Returning", "Failed"])
    assert (lab.image_of(), lab.status()["state"], lab.status()["stage"]) == (V1, "Healthy", "Failed")
    assert set(lab.device().state.quarantined()) == {V2}
    assert lab.status()["status"] == 500


def test_a_quarantined_image_is_not_tried_for_another_service_until_it_is_named_again(lab: Lab) -> None:
    lab.world.faults[V2] = Faults(never_healthy=True)
    lab.desire(service(V2), service(V2, "other", 7000))
    assert lab.bring()[0] is Stage.FAILED
    before = list(lab.world.log)
    assert lab.bring("other") == (Stage.FAILED, ["Failed"])
    assert lab.world.log == before
    lab.world.faults.clear()
    lab.desire(service(V2, "other", 7000), serial=2)
    assert lab.bring("other")[0] is Stage.DONE


def test_settings_that_fail_are_not_the_images_fault(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.world.faults[V1] = Faults(never_healthy=True)
    lab.desire(service(V1, env={"A": "1"}))
    assert lab.bring()[0] is Stage.FAILED
    assert lab.device().state.quarantined() == {}


@pytest.mark.parametrize("fault", [Faults(exits_after=4), Faults(unhealthy_after=3)])
def test_a_version_that_does_not_stay_healthy_on_probation_is_left(lab: Lab, fault: Faults) -> None:
    lab.apply(service(V1))
    lab.world.faults[V2] = fault
    lab.desire(service(V2, **PROVEN))

    assert lab.bring() == (Stage.FAILED, ["Staged", "Switching", "Probation", "Returning", "Failed"])
    assert "not healthy on probation" in str(lab.goal().reason)
    assert (lab.image_of(), lab.status()["state"]) == (V1, "Healthy")
    assert V2 in lab.device().state.quarantined()


def test_a_moment_of_weakness_on_probation_is_forgiven(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.world.faults[V2] = Faults(unhealthy_after=3, healthy_after=4)
    lab.desire(service(V2, **PROVEN))
    assert lab.bring()[0] is Stage.DONE


def test_apply_waits_for_the_probation(lab: Lab) -> None:
    lab.apply(service(V1, **PROVEN))
    assert lab.now >= 5
    lab.world.faults[V2] = Faults(exits_after=4)
    with pytest.raises(EdgepackError, match=r"not healthy on probation: it exited with code 3.*rolled back to"):
        lab.apply(service(V2, **PROVEN))
    assert lab.image_of() == V1


@pytest.mark.parametrize("fault", [Faults(exits_after=3), Faults()], ids=["exits", "healthy"])
def test_apply_ends_as_the_probation_did_that_the_running_agent_watched_too(lab: Lab, fault: Faults) -> None:
    lab.apply(service(V1))
    lab.world.faults[V2] = fault
    sleep = lab.sleep

    def slow(seconds: float) -> None:
        if lab.goal().stage is Stage.PROBATION:
            lab.sleep = sleep  # type: ignore[method-assign]
            lab.bring()
        sleep(seconds)

    lab.sleep = slow  # type: ignore[method-assign]
    command = lab.runner()
    if fault.exits_after is None:
        command.apply(Desired((service(V2, **PROVEN),)))
        assert (lab.image_of(), lab.goal().stage) == (V2, Stage.DONE)
        return
    with pytest.raises(RuntimeFailedError, match=r"service churn: image .*: it exited with code 3.*rolled back to"):
        command.apply(Desired((service(V2, **PROVEN),)))
    assert (lab.image_of(), lab.goal().stage) == (V1, Stage.FAILED)


def test_what_is_desired_meanwhile_replaces_what_is_on_probation(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.desire(service(V2, probation_seconds=1000.0))
    real = lab.sleep

    def sleep(seconds: float) -> None:
        real(seconds)
        if lab.now > 100 and lab.goal().spec.image == V2:
            lab.desire(service(V3), serial=2)

    lab.sleep = sleep  # type: ignore[method-assign]
    assert lab.bring() == (
        Stage.DONE, ["Staged", "Switching", "Probation", "Staged", "Switching", "Done"],
    )  # fmt: skip
    assert (lab.image_of(), lab.status()["last_good"], lab.now < 1000) == (V3, str(V1), True)


@pytest.mark.parametrize("by", ["document", "command"])
@pytest.mark.parametrize("probation", [0.0, 1000.0])
def test_what_answers_and_was_not_yet_on_record_as_good_is_returned_to(lab: Lab, by: str, probation: float) -> None:
    """Its job was killed a moment before, and something newer came: else its image would be removed, too."""
    lab.desire(service(V1, probation_seconds=probation))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StateFile, "finish", _cut)
        patch.setattr(Proving, "prove", _cut)
        with pytest.raises(PowerCutError):
            lab.bring()
    assert (lab.image_of(), lab.status()["last_good"]) == (V1, None)

    lab.world.faults[V2] = Faults(never_healthy=True)
    if by == "document":
        lab.desire(service(V2), serial=2)
        assert lab.bring()[0] is Stage.FAILED
    else:
        with pytest.raises(RuntimeFailedError, match="rolled back to"):
            lab.apply(service(V2))
    assert (lab.image_of(), lab.status()["state"]) == (V1, "Healthy")


def test_what_was_interrupted_counts_only_where_it_runs_answers_and_nothing_speaks_against_it(lab: Lab) -> None:
    def interrupted(spec: DesiredService, serial: int) -> None:
        lab.desire(spec, serial=serial)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(StateFile, "finish", _cut)
            patch.setattr(Proving, "prove", _cut)
            with pytest.raises(PowerCutError):
                lab.bring()

    def good() -> set[Digest]:
        return {one.spec.image for one in lab.device().state.services()["churn"].healthy}

    lab.apply(service(V1))
    interrupted(service(V2, probation_seconds=1000.0), 1)  # it was to prove itself, and there is something proven
    lab.desire(service(V3), serial=2)
    assert (lab.bring()[0], good()) == (Stage.DONE, {V1, V3})
    interrupted(service(V2), 3)
    lab.world.faults[V2] = Faults(never_healthy=True)
    lab.desire(service(V1), serial=4)
    assert (lab.bring()[0], good()) == (Stage.DONE, {V1, V3})


def test_an_engine_that_does_not_answer_for_a_moment_condemns_no_version(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, left = FakeRuntime.inspect, [3]

    def inspect(this: FakeRuntime, service: str) -> Instance | None:
        if lab.goal().stage is Stage.SWITCHING and left[0]:
            left[0] -= 1
            raise RuntimeFailedError("the container engine refuses (it does not answer: Connection refused)")
        return real(this, service)

    monkeypatch.setattr(FakeRuntime, "inspect", inspect)
    lab.desire(service(V1))
    assert (lab.bring(), left) == ((Stage.DONE, ["Staged", "Switching", "Done"]), [0])

    left[0] = 1 << 30
    lab.desire(service(V2), serial=2)
    assert lab.bring()[0] is Stage.FAILED
    assert "its runtime does not answer" in str(lab.goal().reason)


@pytest.mark.parametrize("error", [MissingPartError("does not answer"), OSError(5, "Input/output error")])
@pytest.mark.parametrize("image", [V1, V2], ids=["same", "other"])
def test_what_cannot_be_looked_at_before_anything_is_touched_is_waited_for_with_the_reason(
    lab: Lab, image: Digest, error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    lab.apply(service(V1))
    lab.desire(service(image), serial=2)
    with monkeypatch.context() as patch:
        patch.setattr(FakeRuntime, "inspect", lambda *_: _throw(error))
        assert lab.bring() == (Stage.WAITING, ["Waiting"])
        assert str(error) in str(lab.goal().reason)
    assert (lab.bring()[0], lab.image_of()) == (Stage.DONE, image)


def _throw(error: Exception) -> None:
    raise error


def _cut(*_: object) -> None:
    raise PowerCutError


def test_stopping_removing_and_coming_back(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.desire(service(V1, status="stopped"))
    assert lab.bring() == (Stage.DONE, ["Switching", "Done"])
    assert (lab.image_of(), lab.status()["state"]) == (None, "Stopped")
    lab.desire(service(V1, status="removed"))
    assert lab.bring() == (Stage.DONE, ["Switching", "Done"])
    assert lab.status()["state"] == "Removed"
    lab.rollback()
    assert (lab.image_of(), lab.status()["state"]) == (V1, "Healthy")
    lab.desire(service(V1, "unknown", 7000, status="removed"))
    assert lab.bring("unknown") == (Stage.DONE, ["Done"])


def test_nothing_is_desired_of_a_service_that_is_not_known(lab: Lab) -> None:
    lab.apply(service(V1))
    with pytest.raises(NotFoundError, match="service other: nothing is desired of it"):
        lab.bring("other")


def test_services_exchange_their_ports_once_both_are_here(lab: Lab) -> None:
    lab.apply(service(V1, "one", 7000), service(V1, "two", 7001))
    lab.world.absent.add(V2)
    lab.desire(service(V3, "one", 7001), service(V2, "two", 7000))
    before = list(lab.world.log)

    assert lab.bring("one") == (Stage.WAITING, ["Staged", "Waiting"])
    assert (lab.goal("one").reason, lab.world.log) == ("port 7001 is still that of service two", before)
    assert lab.bring("two", FakeFetcher(lab.world))[0] is Stage.DONE
    assert lab.bring("one") == (Stage.DONE, [])
    assert {one.spec.name: one.spec.port for one in lab.world.running.values()} == {"one": 7001, "two": 7000}


def test_who_leaves_a_port_goes_first_and_can_return_to_it(lab: Lab) -> None:
    lab.apply(service(V1, "one", 7000), service(V1, "two", 7001))
    lab.world.faults[V2] = Faults(never_healthy=True)
    lab.desire(service(V3, "one", 7001), service(V2, "two", 7002))

    assert lab.bring("one")[0] is Stage.WAITING
    assert lab.bring("two")[0] is Stage.FAILED
    assert lab.bring("one")[0] is Stage.WAITING
    assert lab.goal("one").reason == "port 7001 is that of service two"
    assert (lab.image_of("one"), lab.image_of("two")) == (V1, V1)
    lab.desire(service(V3, "two", 7002), serial=2)
    assert lab.bring("two")[0] is Stage.DONE
    assert lab.bring("one")[0] is Stage.DONE
    assert (lab.image_of("one"), lab.image_of("two")) == (V3, V3)


# What a crash at each recorded stage leads to: the chain from there to the end, and what runs then.
INSTALL = ["Downloading", "Staged", "Switching", "Probation", "Done"]
AFTER = {
    "Downloading": ["Staged", "Switching", "Probation", "Done"],
    "Staged": ["Switching", "Probation", "Done"],
    "Switching": ["Returning", "Wanted", "Staged", "Switching", "Probation", "Done"],
    "Probation": ["Probation", "Done"],
    "Done": [],
}


@pytest.mark.parametrize("at", range(1, len(INSTALL) + 1), ids=INSTALL)
@pytest.mark.parametrize("device_too", [False, True], ids=["agent", "device"])
def test_after_a_crash_the_exact_chain_follows(lab: Lab, at: int, device_too: bool) -> None:
    lab.apply(service(V1))
    lab.world.absent.add(V2)
    lab.desire(service(V2, **PROVEN))
    fetcher = FakeFetcher(lab.world)
    with pytest.raises(PowerCutError), stages(at):
        lab.runner().bring("churn", fetcher)
    if device_too:
        lab.world.running.clear()

    with stages() as seen:
        lab.recover()
        lab.runner().bring("churn", fetcher)
    chain = [stage for _, stage in seen]
    assert chain == AFTER[INSTALL[at - 1]]
    if INSTALL[at - 1] != "Done" or not device_too:
        assert (lab.image_of(), lab.status()["last_good"]) == (V2, str(V1))


def test_a_first_service_that_is_interrupted_is_tried_again(lab: Lab) -> None:
    lab.desire(service(V1))
    with pytest.raises(PowerCutError), stages(2):
        lab.runner().bring("churn")
    assert (lab.recover(), lab.goal().attempts) == ({"churn": Stage.WANTED}, 1)
    assert lab.bring() == (Stage.DONE, ["Staged", "Switching", "Done"])


@pytest.mark.parametrize("earlier", [True, False])
def test_a_version_that_takes_the_device_down_is_given_up_after_three_times(lab: Lab, earlier: bool) -> None:
    if earlier:
        lab.apply(service(V1))
    lab.desire(service(V2))
    chains = []
    for _ in range(5):
        lab.world.running.clear()
        try:
            with stages() as seen:
                lab.recover()
            chain = list(seen)
            with stages() as seen, killed_in("Switching"):
                lab.runner().bring("churn")
        except PowerCutError:
            chains.append([*(stage for _, stage in [*chain, *seen])])
            continue
        break
    assert lab.goal().stage is Stage.FAILED
    assert "3 times" in str(lab.goal().reason)
    assert V2 in lab.device().state.quarantined()
    assert len(chains) == 3
    assert lab.image_of() == (V1 if earlier else None)


def test_a_probation_that_is_always_interrupted_ends_with_the_last_good_version(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.desire(service(V2, **PROVEN))
    with pytest.raises(PowerCutError), stages(3):
        lab.runner().bring("churn")
    assert lab.recover() == {"churn": Stage.PROBATION}
    assert lab.recover() == {"churn": Stage.PROBATION}
    assert lab.recover() == {"churn": Stage.RETURNING}
    assert lab.bring() == (Stage.FAILED, ["Failed"])
    assert lab.image_of() == V1


def test_a_rollback_that_is_interrupted_is_finished(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.apply(service(V2))
    for cut in (1, 2):
        with pytest.raises(PowerCutError), stages(cut):
            lab.runner().rollback("churn")
        lab.world.running.clear()
        lab.recover()
        assert lab.bring()[0] is Stage.DONE
        if cut == 1:
            assert (lab.image_of(), lab.status()["last_good"]) == (V1, None)
            lab.apply(service(V2))


def test_what_was_to_be_stopped_is_stopped(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.desire(service(V1, status="stopped"))
    with pytest.raises(PowerCutError), stages(1):
        lab.runner().bring("churn")
    assert lab.recover() == {"churn": Stage.WANTED}
    assert lab.bring() == (Stage.DONE, ["Switching", "Done"])
    assert (lab.image_of(), lab.status()["state"]) == (None, "Stopped")


def test_a_service_whose_change_was_interrupted_runs_a_good_version_while_another_one_is_fetched(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.desire(service(V2))
    with pytest.raises(PowerCutError), stages(2):
        lab.runner().bring("churn")
    with lab.device().using("churn"):
        lab.device().state.begin(service(V2), "docker")
    lab.world.running.clear()
    lab.world.absent.add(V3)
    lab.desire(service(V3), serial=2)
    lab.recover()
    assert lab.bring(fetcher=FakeFetcher(lab.world, RegistryUnavailableError("is away")))[0] is Stage.WAITING
    assert lab.image_of() == V1
    assert lab.bring(fetcher=FakeFetcher(lab.world))[0] is Stage.DONE
    assert (lab.image_of(), lab.status()["last_good"]) == (V3, str(V1))


# What an operator does.


def test_a_service_is_deployed_stopped_started_restarted_and_removed(lab: Lab) -> None:
    lab.runner().deploy(service(V1))
    lab.runner().stop("churn")
    assert (lab.image_of(), lab.status()["state"]) == (None, "Stopped")
    lab.runner().stop("churn")
    lab.runner().start("churn")
    lab.runner().start("churn")
    assert (lab.image_of(), lab.status()["state"]) == (V1, "Healthy")
    lab.world.log.clear()
    lab.runner().restart("churn")
    assert lab.world.log == ["stop churn", "start churn"]
    lab.runner().stop("churn", remove=True)
    assert (lab.image_of(), lab.status()["state"], lab.goal().spec.status) == (None, "Removed", "removed")
    with pytest.raises(UsageError, match="it is removed, so there is nothing to start anew; run: edge-agent start"):
        lab.runner().restart("churn")
    lab.runner().start("churn")
    assert lab.image_of() == V1
    for verb in ("stop", "start", "restart"):
        with pytest.raises(NotFoundError, match="service 'chrun' not found"):
            getattr(lab.runner(), verb)("chrun")


def test_why_a_service_cannot_be_started_names_the_service_once(lab: Lab) -> None:
    lab.world.faults[V1] = Faults(start_refused=True)
    with pytest.raises(RuntimeFailedError) as caught:
        lab.runner().deploy(service(V1))
    assert str(caught.value).startswith("service churn: its path has a colon; use another folder; there is no")
    assert lab.status()["reason"] == "its path has a colon; use another folder"


def test_a_service_that_was_removed_and_is_stopped_comes_back_by_a_rollback(lab: Lab) -> None:
    lab.runner().deploy(service(V1))
    lab.runner().stop("churn", remove=True)
    lab.runner().stop("churn")
    assert (lab.status()["state"], lab.goal().spec.status) == ("Removed", "removed")
    lab.rollback()
    assert (lab.image_of(), lab.status()["state"]) == (V1, "Healthy")


def test_a_service_that_never_came_to_be_may_be_stopped_and_started(lab: Lab) -> None:
    lab.world.absent.add(V1)
    lab.desire(service(V1))
    assert lab.bring()[0] is Stage.FAILED
    with pytest.raises(UsageError, match="it does not run, so there is nothing to start anew"):
        lab.runner().restart("churn")
    lab.runner().stop("churn", remove=True)
    assert (lab.goal().spec.status, lab.goal().stage) == ("removed", Stage.DONE)
    lab.world.absent.clear()
    lab.runner().start("churn")
    assert (lab.image_of(), lab.status()["state"]) == (V1, "Healthy")


def test_a_deployment_needs_no_serial_and_takes_no_port(lab: Lab) -> None:
    lab.apply(service(V1), serial=5)
    lab.runner().deploy(service(V2))
    assert lab.image_of() == V2
    with pytest.raises(UsageError, match=r"port 6789 is that of service churn; .*edge-agent stop churn"):
        lab.runner().deploy(service(V2, "other"))
    lab.world.absent.add(V3)
    with pytest.raises(NotFoundError, match="was not imported"):
        lab.runner().deploy(service(V3, "other", 7000))
    lab.runner().deploy(service(V3, "other", 7000), FakeFetcher(lab.world))
    assert lab.image_of("other") == V3


def test_what_was_started_again_and_fails_keeps_what_it_was(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.world.faults[V1] = Faults(never_healthy=True)
    with pytest.raises(EdgepackError, match="not healthy within 60 seconds"):
        lab.runner().restart("churn")
    assert lab.status()["state"] == "Unhealthy"
