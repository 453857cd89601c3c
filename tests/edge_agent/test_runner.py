"""The runner with an in-memory runtime: what it does when each part of an update goes wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from edge_agent.commands.options import answer_status
from edgepack.errors import (
    EdgepackError,
    MissingPartError,
    NoSpaceError,
    NotFoundError,
    RuntimeFailedError,
    SignatureError,
    UsageError,
    VerificationError,
)
from edgepack.oci.digest import Digest
from edgepack.state.desired import Desired
from edgepack.state.reported import ReportedService, ServiceState, Stage
from tests.edge_agent.support.fake_runtime import (
    V1,
    V2,
    V3,
    FakeDevice,
    Faults,
    Lab,
    PowerCutError,
    lab,
    power_cut,
    service,
)

__all__ = ["lab"]


def test_a_first_service_becomes_healthy(lab: Lab) -> None:
    lab.apply(service(V1))

    assert lab.image_of() == V1
    assert lab.status() == {
        "name": "churn", "state": "Healthy", "digest": str(V1), "last_good": None, "port": 6789, "runtime": "docker",
        "reason": None, "tag": None, "last_good_tag": None, "models": [], "url": "http://127.0.0.1:6789",
        "stage": "Done", "percent": None, "restarts": 0, "exit_code": None, "memory_kills": 0, "origin": "command",
        "serial": None, "status": 200,
    }  # fmt: skip


def test_an_update_remembers_what_was_good(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.apply(service(V2))

    assert (lab.image_of(), lab.status()["last_good"]) == (V2, str(V1))


def test_applying_the_same_again_touches_nothing(lab: Lab) -> None:
    lab.apply(service(V1))
    before = list(lab.world.log)
    lab.apply(service(V1))

    assert lab.world.log == before


@pytest.mark.parametrize(
    "fault",
    [
        Faults(start_fails=True),
        Faults(disk_full_at_start=True),
        Faults(never_healthy=True),
        Faults(never_healthy=True, exits_after=3),
        Faults(exits_after=1),
    ],
    ids=["does not start", "disk full", "never healthy", "exits while it is waited for", "answers once and exits"],
)
def test_an_update_that_fails_returns_to_what_was_healthy(lab: Lab, fault: Faults) -> None:
    lab.world.faults[V2] = fault
    lab.apply(service(V1))

    with pytest.raises(RuntimeFailedError, match="rolled back to"):
        lab.apply(service(V2))

    assert lab.image_of() == V1
    found = lab.status()
    assert (found["state"], found["digest"], found["last_good"]) == ("Healthy", str(V1), None)
    assert str(V2) in str(found["reason"])


def test_an_image_that_is_damaged_on_the_disk_is_mended_and_started_again(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.world.rotten |= {V2}
    lab.apply(service(V2))

    assert (lab.image_of(), lab.status()["last_good"]) == (V2, str(V1))
    lab.world.rotten |= {V1}
    lab.rollback()
    assert lab.image_of() == V1


def test_a_failed_update_keeps_what_was_good_before_that(lab: Lab) -> None:
    lab.world.faults[V3] = Faults(start_fails=True)
    lab.apply(service(V1))
    lab.apply(service(V2))

    with pytest.raises(RuntimeFailedError):
        lab.apply(service(V3))

    assert (lab.image_of(), lab.status()["last_good"]) == (V2, str(V1))


def test_a_first_service_that_fails_is_failed_and_stopped(lab: Lab) -> None:
    lab.world.faults[V1] = Faults(never_healthy=True)

    with pytest.raises(
        RuntimeFailedError, match=r"not healthy within 60 seconds.*last \\x1b\[31mwords.*no earlier image"
    ):
        lab.apply(service(V1))

    assert lab.image_of() is None
    assert lab.status()["state"] == "Failed"


def test_when_the_fallback_fails_too_both_reasons_are_told(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.world.faults |= {V1: Faults(start_fails=True), V2: Faults(never_healthy=True)}

    with pytest.raises(RuntimeFailedError, match=r"answered 503.*cannot be started"):
        lab.apply(service(V2))

    assert lab.image_of() is None
    assert lab.status()["state"] == "Failed"


def test_the_other_services_go_on_when_one_fails(lab: Lab) -> None:
    lab.world.faults[V1] = Faults(start_fails=True)

    with pytest.raises(RuntimeFailedError, match=r"^service bad:"):
        lab.apply(service(V1, "bad", 7000), service(V2, "good", 7001))

    assert lab.status("good")["state"] == "Healthy"


def test_all_failures_are_told(lab: Lab) -> None:
    lab.world.faults[V1] = Faults(start_fails=True)

    with pytest.raises(RuntimeFailedError, match=r"service one:.*service two:"):
        lab.apply(service(V1, "one", 7000), service(V1, "two", 7001))


def break_preparing(lab: Lab) -> None:
    lab.world.faults[V2] = Faults(prepare_fails=True)


def leave_out(lab: Lab) -> None:
    lab.world.absent.add(V2)


def leave_unsigned(lab: Lab) -> None:
    lab.world.unsigned.add(V2)


def lose_the_engine(lab: Lab) -> None:
    lab.world.missing_engines.add("docker")


@pytest.mark.parametrize(
    ("spoil", "error"),
    [
        (break_preparing, NoSpaceError),
        (leave_out, NotFoundError),
        (leave_unsigned, SignatureError),
        (lose_the_engine, MissingPartError),
    ],
)
def test_nothing_is_stopped_before_everything_is_prepared(lab: Lab, spoil: object, error: type[EdgepackError]) -> None:
    lab.apply(service(V1), service(V1, "other", 7000), serial=1)
    before = list(lab.world.log)
    spoil(lab)  # type: ignore[operator]

    with pytest.raises(error):
        lab.apply(service(V3, "other", 7000), service(V2), serial=2)

    assert lab.world.log == before
    assert lab.image_of("other") == V1
    lab.world.missing_engines.clear()
    lab.world.faults.clear()
    lab.apply(service(V1), service(V1, "other", 7000), serial=1)


def test_returning_asks_for_no_signature_that_was_waived_before(lab: Lab) -> None:
    lab.world.unsigned.add(V1)
    lab.world.faults[V2] = Faults(never_healthy=True)
    lab.runner(allow_unsigned=True).apply(desired(V1))

    with pytest.raises(RuntimeFailedError, match="rolled back to"):
        lab.apply(service(V2))

    assert lab.image_of() == V1


def test_a_rollback_to_an_unsigned_image_wants_it_said_again(lab: Lab) -> None:
    lab.world.unsigned.add(V1)
    lab.runner(allow_unsigned=True).apply(desired(V1))
    lab.apply(service(V2))

    with pytest.raises(SignatureError):
        lab.rollback()
    assert lab.image_of() == V2
    lab.runner(allow_unsigned=True).rollback("churn")
    assert lab.image_of() == V1


def desired(image: Digest):  # type: ignore[no-untyped-def]
    from edgepack.state.desired import Desired

    return Desired((service(image),))


def test_a_rollback_returns_once_and_then_there_is_nothing(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.apply(service(V2))
    lab.rollback()

    assert (lab.image_of(), lab.status()["last_good"]) == (V1, None)
    with pytest.raises(NotFoundError, match="no earlier image"):
        lab.rollback()
    assert lab.image_of() == V1


def meanwhile(lab: Lab, monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    """Let another command make its ``change`` while the next one waits for the lock."""
    real = FakeDevice.using

    @contextmanager
    def using(self: FakeDevice, *services: str) -> Iterator[None]:
        monkeypatch.setattr(FakeDevice, "using", real)
        change()
        with real(self, *services):
            yield

    monkeypatch.setattr(FakeDevice, "using", using)


def test_a_rollback_that_waited_for_the_same_finds_it_done(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (V1, V2, V3):
        lab.apply(service(one))
    meanwhile(lab, monkeypatch, lab.rollback)
    lab.rollback()
    assert (lab.image_of(), lab.status()["last_good"]) == (V2, str(V1))


def test_a_rollback_of_what_another_command_replaced_is_refused(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (V1, V2):
        lab.apply(service(one))
    meanwhile(lab, monkeypatch, lambda: lab.apply(service(V3)))
    with pytest.raises(RuntimeFailedError, match=r"another command has brought it to .* meanwhile; see: edge-agent"):
        lab.rollback()
    assert lab.image_of() == V3


def test_a_rollback_finishes_the_one_that_was_killed_while_it_waited(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    for one in (V1, V2, V3):
        lab.apply(service(one))

    def killed() -> None:
        with pytest.raises(PowerCutError), power_cut(2, after=True):
            lab.rollback()

    meanwhile(lab, monkeypatch, killed)
    lab.rollback()
    assert (lab.image_of(), lab.status()["state"]) == (V2, "Healthy")


def test_two_rollbacks_go_back_two_images(lab: Lab) -> None:
    for one in (V1, V2, V3):
        lab.apply(service(one))
    lab.rollback()
    assert (lab.image_of(), lab.status()["last_good"]) == (V2, str(V1))
    lab.rollback()
    assert (lab.image_of(), lab.status()["last_good"]) == (V1, None)


def test_no_rollback_leads_to_an_image_that_was_rolled_back_from_however_often_it_ran(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.apply(service(V2))
    lab.apply(service(V2, env={"LEVEL": "debug"}))
    lab.rollback()

    assert (lab.image_of(), lab.status()["last_good"]) == (V1, None)


def test_an_image_that_was_rolled_back_from_counts_again_once_it_was_healthy_again(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.apply(service(V2))
    lab.rollback()
    lab.apply(service(V2))
    lab.apply(service(V3))

    assert lab.status()["last_good"] == str(V2)


def test_a_rollback_that_fails_returns_to_what_ran(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.apply(service(V2))
    lab.world.faults[V1] = Faults(never_healthy=True)

    with pytest.raises(RuntimeFailedError, match=f"rolled back to {V2}"):
        lab.rollback()

    assert (lab.image_of(), lab.status()["state"]) == (V2, "Healthy")


def test_an_unknown_service_cannot_be_rolled_back(lab: Lab) -> None:
    with pytest.raises(NotFoundError, match="no services are recorded"):
        lab.rollback("churn")
    assert not lab.root.exists()
    lab.apply(service(V1))
    with pytest.raises(NotFoundError, match=r"service 'chrun' not found.*services: churn"):
        lab.rollback("chrun")


def test_a_stopped_service_stays_known_and_may_start_again(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.apply(service(V1, status="stopped"))
    assert (lab.image_of(), lab.status()["state"], lab.status()["digest"]) == (None, "Stopped", str(V1))
    lab.apply(service(V1, status="stopped"))
    lab.apply(service(V1))
    assert (lab.image_of(), lab.status()["state"]) == (V1, "Healthy")


def test_an_empty_document_and_one_about_others_leave_a_service_alone(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.apply()
    lab.apply(service(V2, "other", 7000))

    assert (lab.image_of(), lab.status()["state"]) == (V1, "Healthy")


def test_applying_again_mends_a_service_that_crashed(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.world.runs("churn")[0].exited = True
    assert (lab.status()["state"], lab.status()["reason"]) == ("Failed", "it exited with code 3")
    lab.apply(service(V1))

    assert (lab.image_of(), lab.status()["state"], lab.status()["last_good"]) == (V1, "Healthy", None)


def test_applying_again_starts_a_service_anew_that_does_not_answer(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.world.faults[V1] = Faults(never_healthy=True)
    assert (lab.status()["state"], lab.status()["reason"]) == ("Unhealthy", "answered 503")
    with pytest.raises(RuntimeFailedError):
        lab.apply(service(V1))
    assert lab.world.log == ["start churn", "stop churn", "start churn", "stop churn"]
    lab.world.faults.clear()
    lab.apply(service(V1))

    assert (lab.image_of(), lab.status()["state"]) == (V1, "Healthy")


def test_two_services_may_exchange_their_ports(lab: Lab) -> None:
    lab.apply(service(V1, "one", 7000), service(V1, "two", 7001))
    lab.apply(service(V1, "one", 7001), service(V1, "two", 7000))

    assert [(one.spec.name, one.spec.port) for one in lab.world.running.values()] == [("one", 7001), ("two", 7000)]


def test_the_port_of_a_service_that_is_not_named_is_not_taken(lab: Lab) -> None:
    lab.apply(service(V1, "one", 7000))
    before = list(lab.world.log)

    with pytest.raises(UsageError, match="'two' needs port 7000 of service 'one'"):
        lab.apply(service(V1, "two", 7000))

    assert lab.world.log == before
    lab.apply(service(V1, "one", 7000, status="stopped"))
    lab.apply(service(V1, "two", 7000))


def test_a_serial_only_grows(lab: Lab) -> None:
    lab.apply(service(V1), serial=5)
    lab.apply(service(V1), serial=5)
    with pytest.raises(VerificationError, match="this device has accepted serial 5 with other content"):
        lab.apply(service(V2), serial=5)
    with pytest.raises(VerificationError, match="serial 4 is older than serial 5"):
        lab.apply(service(V2), serial=4)
    with pytest.raises(VerificationError, match="it has no serial, and this device has accepted serial 5; give it a"):
        lab.apply(service(V2))
    assert lab.image_of() == V1
    lab.apply(service(V2), serial=6)


def test_no_serial_shuts_out_all_that_come_after_it(lab: Lab) -> None:
    top = (1 << 63) - 1
    with pytest.raises(VerificationError, match="would shut out all that come after it; give it a lower serial"):
        lab.apply(service(V1), serial=top)
    lab.apply(service(V1), serial=1 << 53)
    with pytest.raises(VerificationError, match="would shut out"):
        lab.apply(service(V2), serial=(1 << 54) + 1)
    lab.apply(service(V2), serial=1 << 54)

    lab.device().state.set_serial(top, V1)  # as an earlier version took it
    with pytest.raises(VerificationError, match="is older than"):
        lab.apply(service(V3), serial=7)
    lab.runner(reset_serial=True).apply(Desired((service(V3),), 7))
    lab.apply(service(V1), serial=8)
    lab.runner(reset_serial=True).apply(Desired((service(V2),)))
    lab.apply(service(V1))
    assert lab.image_of() == V1


def test_the_serial_of_an_update_that_failed_is_taken(lab: Lab) -> None:
    lab.world.faults[V2] = Faults(never_healthy=True)
    lab.apply(service(V1), serial=1)
    with pytest.raises(RuntimeFailedError):
        lab.apply(service(V2), serial=3)

    with pytest.raises(VerificationError, match="older than serial 3"):
        lab.apply(service(V3), serial=2)


def test_the_serial_of_a_document_that_could_not_be_prepared_is_not_taken(lab: Lab) -> None:
    lab.world.absent.add(V2)
    with pytest.raises(NotFoundError):
        lab.apply(service(V2), serial=3)

    lab.apply(service(V1), serial=2)


def test_a_service_moves_to_the_runtime_that_is_asked_for_and_stays_there(lab: Lab) -> None:
    lab.apply(service(V1), runtime="process")
    lab.apply(service(V1), runtime="crun")
    assert [one.by for one in lab.world.runs("churn")] == ["crun"]
    lab.apply(service(V2))
    assert ([one.by for one in lab.world.runs("churn")], lab.status()["runtime"]) == (["crun"], "crun")


def test_a_failed_move_returns_to_the_runtime_where_it_was_healthy(lab: Lab) -> None:
    lab.apply(service(V1), runtime="process")
    lab.world.faults[V2] = Faults(start_fails=True)
    with pytest.raises(RuntimeFailedError):
        lab.apply(service(V2), runtime="crun")

    assert [(one.by, one.spec.image) for one in lab.world.runs("churn")] == [("process", V1)]
    assert lab.status()["runtime"] == "process"


def test_status_says_when_the_engine_cannot_be_asked(lab: Lab) -> None:
    lab.apply(service(V1))
    lab.world.missing_engines.add("docker")

    found = lab.status()
    assert (found["state"], found["digest"]) == ("Unhealthy", str(V1))
    assert "docker does not answer" in str(found["reason"])


SCENARIOS = {
    "first": ([], lambda lab: lab.apply(service(V1), serial=9), (V1, None), {}),
    "update": ([V1], lambda lab: lab.apply(service(V2), serial=9), (V2, V1), {}),
    "failing update": ([V1, V2], lambda lab: lab.apply(service(V3)), (V2, V1), {V3: Faults(never_healthy=True)}),
    "rollback": ([V1, V2, V3], lambda lab: lab.rollback(), (V2, V1), {}),
    "failing rollback": ([V1, V2], lambda lab: lab.rollback(), (V2, V1), {V1: Faults(start_fails=True)}),
    "move": ([V1], lambda lab: lab.apply(service(V2), runtime="process"), (V2, V1), {}),
    "stop": ([V1], lambda lab: lab.apply(service(V1, status="stopped")), (None, None), {}),
    "exchange of ports": (
        [V1],
        lambda lab: lab.apply(service(V1, port=7000), service(V1, "other", 6789)),
        (V1, None),
        {},
    ),
}  # fmt: skip


def carried_out(name: str, lab: Lab, cut: int = 0, *, after: bool = False) -> list[str]:
    """Bring a device to where the scenario begins, cut it off, and run the same command again until it ends."""
    earlier, command, _, faults = SCENARIOS[name]
    for one in earlier:
        lab.apply(service(one))
    lab.world.faults |= faults
    with power_cut(cut, after=after) as calls:
        try:
            command(lab)  # type: ignore[no-untyped-call]
        except PowerCutError:
            check_between(lab)
        except RuntimeFailedError:
            assert faults
    if cut:
        try:
            command(lab)  # type: ignore[no-untyped-call]
        except RuntimeFailedError:
            assert faults
        except NotFoundError:
            # The cut came after the rollback's last write: it was done.
            assert (name, calls[-1]) == ("rollback", "finish")
    return calls


def check_between(lab: Lab) -> None:
    """What ``status`` says after a power cut is so."""
    if not lab.device().exists or not lab.device().state.services():
        return
    found = lab.status()
    if found["state"] == "Healthy":
        assert str(lab.image_of()) == found["digest"]
    elif found["state"] == "Stopped":
        assert lab.image_of() is None
    elif found["state"] == "Transitioning":
        assert "interrupted" in str(found["reason"])


@pytest.mark.parametrize("name", SCENARIOS)
def test_a_power_cut_anywhere_is_mended_by_the_same_command(
    name: str, tmp_path_factory: pytest.TempPathFactory, lab: Lab
) -> None:
    whole = carried_out(name, lab)
    assert len(whole) >= 2
    image, last_good = SCENARIOS[name][2]
    for at in range(1, len(whole) + 1):
        for after in (False, True):
            lab.root = tmp_path_factory.mktemp("device")
            lab.world.__init__()  # type: ignore[misc]
            calls = carried_out(name, lab, at, after=after)
            assert calls == whole[:at]
            point = f"{'after' if after else 'before'} {calls[-1]} ({at})"
            found = lab.status()
            want = image
            if name == "rollback" and (at, after) == (len(whole), True):
                want, last_good_now = V1, None  # it was done, and the second command went one image further
            else:
                last_good_now = last_good
            assert (lab.image_of(), found["state"]) == (want, "Healthy" if want else "Stopped"), point
            assert found["last_good"] == (None if last_good_now is None else str(last_good_now)), point
            assert [one.name for one in lab.device().state.services().values() if one.state == "Transitioning"] == []


def apply_again(lab: Lab) -> None:
    lab.apply(service(V1))


def deploy_again(lab: Lab) -> None:
    lab.runner().deploy(service(V1))


def desire_again(lab: Lab) -> None:
    lab.desire(service(V1), serial=7)
    assert lab.bring()[0] is Stage.DONE


@pytest.mark.parametrize("again", [apply_again, deploy_again, desire_again])
def test_what_went_wrong_is_told_until_what_runs_is_asked_for(lab: Lab, again: Callable[[Lab], None]) -> None:
    lab.apply(service(V1))
    lab.world.faults[V2] = Faults(never_healthy=True)
    with pytest.raises(RuntimeFailedError, match="rolled back to"):
        lab.apply(service(V2))
    assert "rolled back" in str(lab.status()["reason"])
    again(lab)
    assert (lab.status()["state"], lab.status()["reason"]) == ("Healthy", None)


def test_the_table_of_services_has_short_digests_and_json_whole_ones(capsys: pytest.CaptureFixture[str]) -> None:
    what = f"image {V1} failed; rolled back to {V2}"
    one = ReportedService("churn", ServiceState.HEALTHY, V2, V1, 6789, "crun", what)
    answer_status("table", (one,))
    shown = capsys.readouterr().out
    assert f"image sha256:{V1.short} failed; rolled back to sha256:{V2.short}" in shown
    assert V1.hex not in shown
    answer_status("json", (one,))
    assert what in capsys.readouterr().out
