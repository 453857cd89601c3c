"""The planner, alone: carried out on a model of a device, a plan leads to what is desired, and then to nothing more."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from edge_agent.reconcile.plan import Prepare, Step, Stop, Switch, conflicts, plan, plan_rollback
from edge_agent.state.records import Deployment, Outcome, ServiceRecord
from edgepack.state.desired import Desired, DesiredService
from edgepack.state.reported import ServiceState
from tests.edge_agent.support.fake_runtime import V1, V2, V3, service

NAMES = ["one", "two", "three"]
services = st.builds(
    DesiredService,
    name=st.sampled_from(NAMES),
    image=st.sampled_from([V1, V2, V3]),
    port=st.sampled_from([7000, 7001, 7002]),
    status=st.sampled_from(["running", "stopped"]),
    address=st.sampled_from(["127.0.0.1", "0.0.0.0"]),  # noqa: S104
)


def _sound(found: list[DesiredService]) -> bool:
    running = [one for one in found if one.status == "running"]
    return not any(one.collides(other) for at, one in enumerate(running) for other in running[:at])


documents = (
    st.lists(services, max_size=3, unique_by=lambda one: one.name)
    .filter(_sound)
    .map(lambda found: Desired(tuple(found)))
)


@st.composite
def records(draw: st.DrawFn, name: str) -> ServiceRecord:
    def deployment(number: int, outcome: Outcome) -> Deployment:
        spec = replace(draw(services), name=name, status="running")
        return Deployment(number, spec, outcome, "process")

    count = draw(st.integers(0, 3))
    earlier = tuple(deployment(number, Outcome.HEALTHY) for number in range(count, 0, -1))
    state = draw(st.sampled_from(list(ServiceState)))
    outcome = Outcome.HEALTHY if state is ServiceState.HEALTHY else draw(st.sampled_from(list(Outcome)))
    current = deployment(count + 1, outcome)
    known = (current, *earlier) if outcome is Outcome.HEALTHY else earlier
    return ServiceRecord(name, state, "process", None, current, known)


@st.composite
def devices(draw: st.DrawFn) -> dict[str, ServiceRecord]:
    names = draw(st.lists(st.sampled_from(NAMES), unique=True))
    found: dict[str, ServiceRecord] = {}
    for name in names:
        record = draw(records(name))
        if record.state is ServiceState.HEALTHY and any(
            other.state is ServiceState.HEALTHY and other.current.spec.collides(record.current.spec)
            for other in found.values()
        ):
            record = replace(record, state=ServiceState.STOPPED)
        found[name] = record
    return found


def carry_out(steps: tuple[Step, ...], device: dict[str, ServiceRecord]) -> dict[str, ServiceRecord]:
    """A device on which everything becomes healthy, and no two services ever have one port."""
    device, prepared = dict(device), set()
    for step in steps:
        match step:
            case Prepare(name, image):
                prepared.add((name, image))
            case Stop(name):
                device[name] = replace(device[name], state=ServiceState.STOPPED)
            case Switch(spec):
                assert (spec.name, spec.image) in prepared
                for other in device.values():
                    if other.name != spec.name and other.state is ServiceState.HEALTHY:
                        assert not other.current.spec.collides(spec)
                past = device[spec.name].healthy if spec.name in device else ()
                now = Deployment(1000 + len(past), spec, Outcome.HEALTHY, "process")
                device[spec.name] = ServiceRecord(
                    spec.name, ServiceState.HEALTHY, "process", None, now, (now, *past)
                )  # fmt: skip
    return device


def healthy(device: dict[str, ServiceRecord]) -> set[str]:
    return {name for name, record in device.items() if record.state is ServiceState.HEALTHY}


@given(documents, devices())
def test_a_plan_leads_to_what_is_desired_and_the_next_is_empty(
    desired: Desired, device: dict[str, ServiceRecord]
) -> None:
    if conflicts(desired, device):
        return
    after = carry_out(plan(desired, device, healthy(device)), device)

    for spec in desired.services:
        if spec.status == "running":
            assert (after[spec.name].state, after[spec.name].current.spec) == (ServiceState.HEALTHY, spec)
        elif spec.name in device:
            assert after[spec.name].state is ServiceState.STOPPED
    assert plan(desired, after, healthy(after)) == ()


@given(documents, devices())
def test_what_is_not_named_is_not_touched(desired: Desired, device: dict[str, ServiceRecord]) -> None:
    named = {one.name for one in desired.services}
    for step in plan(desired, device, healthy(device)):
        assert (step.spec.name if isinstance(step, Switch) else step.service) in named


@given(documents, devices())
def test_everything_is_prepared_before_anything_is_stopped(desired: Desired, device: dict[str, ServiceRecord]) -> None:
    kinds = [type(step) for step in plan(desired, device, healthy(device))]

    assert kinds == sorted(kinds, key=[Prepare, Stop, Switch].index)


@given(documents, devices())
def test_a_fallback_was_healthy_and_is_something_else(desired: Desired, device: dict[str, ServiceRecord]) -> None:
    for step in plan(desired, device, healthy(device)):
        if isinstance(step, Switch) and step.fallback is not None:
            assert step.fallback.outcome is Outcome.HEALTHY
            assert step.fallback.spec != step.spec
            assert step.fallback.spec.name == step.spec.name


@given(records("one"))
def test_a_rollback_leads_to_the_last_good_image(record: ServiceRecord) -> None:
    steps = plan_rollback(record)
    if record.state is ServiceState.REMOVED:
        assert [step.spec for step in steps if isinstance(step, Switch)] == [one.spec for one in record.healthy[:1]]
        return
    if record.last_good is None:
        assert steps == ()
        return
    prepare, switch = steps
    assert isinstance(switch, Switch)
    assert prepare == Prepare("one", record.last_good.spec.image)
    assert (switch.spec, switch.returning) == (record.last_good.spec, True)
    if record.current.outcome is not Outcome.RETURNING:
        assert switch.spec.image != record.current.spec.image


def test_a_service_that_runs_as_desired_is_left_alone_and_one_that_does_not_answer_is_not() -> None:
    record = carry_out((Prepare("one", V1), Switch(service(V1, "one"), None)), {})["one"]

    assert plan(Desired((service(V1, "one"),)), {"one": record}, {"one"}) == ()
    assert plan(Desired((service(V1, "one"),)), {"one": record}, set()) == (
        Prepare("one", V1), Switch(service(V1, "one"), None),
    )  # fmt: skip


def test_nothing_desired_is_nothing_to_do() -> None:
    record = carry_out((Prepare("one", V1), Switch(service(V1, "one"), None)), {})["one"]

    assert plan(Desired(()), {"one": record}, set()) == ()


def test_a_port_of_a_service_that_is_not_named_is_a_conflict_unless_it_is_stopped() -> None:
    record = carry_out((Prepare("one", V1), Switch(service(V1, "one"), None)), {})["one"]
    wanted = Desired((service(V2, "two", address="0.0.0.0"),))  # noqa: S104

    assert len(conflicts(wanted, {"one": record})) == 1
    assert conflicts(wanted, {"one": replace(record, state=ServiceState.STOPPED)}) == ()
    assert conflicts(Desired((service(V2, "two"), service(V1, "one", 7000))), {"one": record}) == ()
