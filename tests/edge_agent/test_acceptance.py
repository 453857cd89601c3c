"""Which desired states are taken, and what follows from them: properties over any sequence of documents."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_agent.reconcile.acceptance import Receiver, accept, addressed, goals_of, judge, opened, read
from edge_agent.reconcile.receive import receive, settle
from edge_agent.state.database import StateFile
from edge_agent.state.goals import AcceptedDocument, Decision, Goal, Refusal, Stage, Wanted
from edgepack.limits import LIMITS
from edgepack.oci.digest import Digest
from edgepack.signing.envelope import sign
from edgepack.signing.keys import create_key
from edgepack.state.desired import PAYLOAD_TYPE, SCHEMA, Desired, DesiredService
from edgepack.state.reported import Answer
from edgepack.state.topics import COMMAND, DEVICE, DeviceTopics, group_desired, group_of, group_scope, scope_of
from tests.edge_agent.support.fake_runtime import V1, V2, V3, service
from tests.support.sampling import times

GROUPS = ("line-a", "site")
RECEIVER = Receiver("press-1", GROUPS)
SCOPES = (DEVICE, *(group_scope(group) for group in GROUPS))
KEY, OTHER_KEY = create_key(), create_key()


def _sound(found: list[DesiredService]) -> bool:
    running = [one for one in found if one.status == "running"]
    return not any(one.collides(other) for at, one in enumerate(running) for other in running[:at])


services = st.builds(
    DesiredService,
    name=st.sampled_from(["one", "two", "three"]),
    image=st.sampled_from([V1, V2]),
    port=st.sampled_from([7000, 7001, 7002, 7003]),
    status=st.sampled_from(["running", "running", "stopped"]),
)
desired_states = st.builds(
    Desired,
    st.lists(services, max_size=3, unique_by=lambda one: one.name).filter(_sound).map(tuple),
    st.none() | st.integers(0, 6),
)
steps = st.lists(st.tuples(st.sampled_from((*SCOPES, COMMAND)), desired_states), max_size=12)


few = settings(max_examples=times(500, 40))


def carry_out(wanted: Wanted, decision: Decision) -> Wanted:
    """As ``StateFile`` records a decision, in short."""
    if decision.document is None:
        return wanted
    documents = {**wanted.documents, decision.document.scope: decision.document}
    goals = {**wanted.goals, **decision.goals}
    return replace(wanted, documents=documents, goals=goals)


def run(moves: list[tuple[str, Desired]]) -> list[tuple[Wanted, str, Desired, Decision, Wanted]]:
    """What was wanted before and after each document, and what was decided."""
    wanted, found = Wanted(), []
    for scope, desired in moves:
        before = wanted
        if scope == COMMAND:
            document = accept(desired, COMMAND, wanted.documents, sequence=wanted.next_sequence)
            if isinstance(document, Refusal):
                decision = Decision(refusal=document)
            else:
                goals = {
                    one.name: Goal(one, COMMAND, desired.serial, sequence=document.sequence) for one in desired.services
                }
                decision = Decision(document, goals)
        else:
            decision = judge(desired, scope, RECEIVER, wanted)
        wanted = carry_out(wanted, decision)
        found.append((before, scope, desired, decision, wanted))
    return found


@few
@given(steps)
def test_the_serials_of_a_scope_only_grow(moves: list[tuple[str, Desired]]) -> None:
    for before, scope, _, _, after in run(moves):
        for one in (*SCOPES, COMMAND):
            old, new = before.documents.get(one), after.documents.get(one)
            assert old is None or new is not None
            if one != scope:
                assert old == new
            elif old is not None and new is not None and old.serial is not None:
                assert new.serial is not None
                assert new.serial > old.serial or new == old


@few
@given(steps)
def test_what_a_document_does_not_name_keeps_its_goal(moves: list[tuple[str, Desired]]) -> None:
    """Also the empty document: nothing is removed or stopped but by its name."""
    for before, _, _, decision, after in run(moves):
        assert before.goals.keys() <= after.goals.keys()
        if decision.refusal is not None:
            assert after == before
        for name, goal in before.goals.items():
            new = after.goals[name]
            if new.spec != goal.spec:
                document = after.documents[new.origin]
                assert document.data is not None
                assert new.spec in Desired.from_bytes(document.data).services


@few
@given(steps)
def test_the_device_counts_before_its_groups_in_their_order(moves: list[tuple[str, Desired]]) -> None:
    for _, scope, _, decision, after in run(moves):
        if decision.document is None or scope == COMMAND:
            continue
        for name, goal in decision.goals.items():
            if goal.origin == COMMAND:
                continue
            for higher in SCOPES[: SCOPES.index(goal.origin)]:
                document = after.documents.get(higher)
                named = [] if document is None or document.data is None else Desired.from_bytes(document.data).services
                assert name not in {one.name for one in named}


@few
@given(steps)
def test_what_an_operator_asked_for_holds_until_a_newer_document_names_it(moves: list[tuple[str, Desired]]) -> None:
    for before, scope, _, _, after in run(moves):
        for name, goal in before.goals.items():
            new = after.goals[name]
            if goal.origin != COMMAND or new.origin == COMMAND:
                continue
            document = after.documents[new.origin]
            assert scope != COMMAND
            assert new.sequence == document.sequence > goal.sequence
            assert document.data is not None
            assert name in {one.name for one in Desired.from_bytes(document.data).services}


@few
@given(steps)
def test_no_two_goals_want_one_port(moves: list[tuple[str, Desired]]) -> None:
    """By documents: what an operator applies is checked where it is applied."""
    for _, _, _, decision, after in run([one for one in moves if one[0] != COMMAND]):
        assert _sound([one.spec for one in after.goals.values()])
        for refused in decision.refused_services:
            assert refused.status is Answer.CONFLICT
            assert refused.service not in decision.goals


@few
@given(steps)
def test_the_same_document_again_changes_nothing(moves: list[tuple[str, Desired]]) -> None:
    for _, scope, desired, decision, after in run(moves):
        if decision.document is None or scope == COMMAND or desired.serial is None:
            continue
        again = judge(replace(desired, signed_at=5), scope, RECEIVER, after)
        assert again.repeated
        assert again.document == after.documents[scope]
        assert {name: goal.spec for name, goal in again.goals.items()} == {
            name: goal.spec for name, goal in decision.goals.items()
        }


def document(scope: str, sequence: int, *specs: DesiredService, serial: int = 1) -> AcceptedDocument:
    data = Desired(specs, serial).to_bytes()
    return AcceptedDocument(scope, serial, Digest.of(data), data, sequence)


def held(*found: AcceptedDocument) -> dict[str, AcceptedDocument]:
    return {one.scope: one for one in found}


def test_a_service_that_the_device_no_longer_names_follows_its_group() -> None:
    documents = held(
        document(DEVICE, 1, service(V2)), document("group line-a", 2, service(V1)), document("group site", 3)
    )
    assert goals_of(documents, GROUPS)["churn"].spec.image == V2
    documents[DEVICE] = document(DEVICE, 4, serial=2)
    assert (goals_of(documents, GROUPS)["churn"].spec.image, goals_of(documents, ())) == (V1, {})


def test_a_document_of_a_lower_place_does_not_end_what_an_operator_asked_for() -> None:
    command = Goal(service(V3), COMMAND, None, sequence=5)
    documents = held(document(DEVICE, 1, service(V1)), document("group site", 9, service(V2)))
    assert goals_of(documents, GROUPS, {"churn": command})["churn"] == command
    assert goals_of(documents, GROUPS)["churn"].spec.image == V1
    documents[DEVICE] = document(DEVICE, 10, service(V2), serial=2)
    assert goals_of(documents, GROUPS, {"churn": command})["churn"].origin == DEVICE


def test_of_two_services_that_change_ports_the_refused_one_keeps_its_own() -> None:
    """``two`` must not get the port of ``one``, which cannot move to a port that a third one has."""
    kept = {
        "one": Goal(service(V1, "one", 7000), DEVICE, 1),
        "two": Goal(service(V1, "two", 7001), DEVICE, 1),
        "three": Goal(service(V1, "three", 7002), COMMAND, None),
    }
    moved = Desired((service(V1, "one", 7002), service(V1, "two", 7000)), 2)
    decision = judge(moved, DEVICE, RECEIVER, Wanted(goals=kept))

    assert decision.goals == {}
    assert [(one.service, one.status, one.reason) for one in decision.refused_services] == [
        ("one", 409, "port 7002 is that of service three"), ("two", 409, "port 7000 is that of service one"),
    ]  # fmt: skip
    exchanged = Desired((service(V1, "one", 7001), service(V1, "two", 7000)), 2)
    assert judge(exchanged, DEVICE, RECEIVER, Wanted(goals=kept)).refused_services == ()


def test_a_service_gets_its_goal_when_an_operator_frees_its_port(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "agent.db")
    state.set_goal(service(V1, "one", 7000), COMMAND, None)
    data = sign(Desired((service(V2, "two", 7000),), 1).to_bytes(), PAYLOAD_TYPE, KEY)
    found = receive(state, data, DEVICE, RECEIVER, [KEY.public])
    assert [one.reason for one in found.refused_services] == ["port 7000 is that of service one"]
    assert (state.goals().keys(), state.wanted().refused_services.keys()) == ({"one"}, {"two"})
    # An operator's document about something else is no answer to that.
    other = accept(Desired((service(V3, "three", 7003),)), COMMAND, state.documents(), sequence=7)
    assert isinstance(other, AcceptedDocument)
    state.accept(other, [Goal(service(V3, "three", 7003), COMMAND, None, sequence=7)])
    assert state.wanted().refused_services.keys() == {"two"}
    assert not settle(state, RECEIVER)
    state.set_goal(service(V1, "one", 7000, status="stopped"), COMMAND, None)
    assert settle(state, RECEIVER)
    assert state.goals()["two"] == Goal(service(V2, "two", 7000), DEVICE, 1)
    assert state.goals()["one"].spec.status == "stopped"
    assert state.wanted().refused_services == {}
    assert not settle(state, RECEIVER)


def test_other_groups_in_the_configuration_count_from_the_next_start(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "agent.db")
    for group, image in (("line-a", V1), ("site", V2)):
        data = sign(Desired((service(image),), 1, group=group).to_bytes(), PAYLOAD_TYPE, KEY)
        receive(state, data, group_scope(group), RECEIVER, [KEY.public])
    assert state.goals()["churn"].spec.image == V1
    assert settle(state, Receiver("press-1", ("site", "line-a")))
    assert state.goals()["churn"].spec.image == V2
    # In no group any more: nothing of what it runs is ended.
    assert not settle(state, Receiver("press-1"))
    assert state.goals()["churn"].spec.image == V2


def test_a_time_that_nobody_signed_is_not_believed(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "agent.db")
    late = Desired((), 1, signed_at=4_000_000_000).to_bytes()
    receive(state, late, DEVICE, RECEIVER, [], signed=False)
    assert state.wanted().time == 0
    receive(state, sign(late, PAYLOAD_TYPE, KEY), DEVICE, RECEIVER, [KEY.public])
    assert state.wanted().time == 4_000_000_000


PLAIN = Desired((service(V1),), 7).to_bytes()
SIGNED = sign(PLAIN, PAYLOAD_TYPE, KEY)


def of(**fields: Any) -> bytes:
    return sign(Desired((service(V1),), 7, **fields).to_bytes(), PAYLOAD_TYPE, KEY)


def altered(**fields: Any) -> bytes:
    return json.dumps(json.loads(SIGNED) | fields).encode()


# By its scope: the number and a part of the reason.
BAD: Mapping[str, tuple[bytes, str | None, int, str]] = {
    "nothing": (b"", DEVICE, 417, "it is empty; everything stays as it is"),
    "white space": (b" \n", DEVICE, 417, "it is empty"),
    "garbage": (b"\x00\xff" * 50, DEVICE, 400, "not UTF-8"),
    "a text": (b'"desired"', DEVICE, 400, "must be a JSON object"),
    "no JSON": (b"{", DEVICE, 400, "not JSON"),
    "cut off": (SIGNED[:-20], DEVICE, 400, "not JSON"),
    "UTF-16": (PLAIN.decode().encode("utf-16"), DEVICE, 400, "not UTF-8"),
    "a byte order mark": (b"\xef\xbb\xbf" + SIGNED, DEVICE, 400, "byte order mark"),
    "half of a character": (b'{"a": "\\ud800"}', DEVICE, 400, "not Unicode"),
    "a field twice": (b'{"serial": 1, "serial": 2}', DEVICE, 400, "is there twice"),
    "deep": (b"[" * 100_000, DEVICE, 400, "not JSON"),
    "huge": (b" " * LIMITS.desired_state_bytes + SIGNED, DEVICE, 400, "it is longer than 4.2 MB"),
    "unsigned": (PLAIN, DEVICE, 412, "it is not signed"),
    "no signatures": (altered(signatures=[]), DEVICE, 412, "is not signed"),
    "an unknown key": (sign(PLAIN, PAYLOAD_TYPE, OTHER_KEY), DEVICE, 412, "no such key is trusted here"),
    "another payload": (altered(payload="e30="), DEVICE, 412, "is not valid for this content"),
    "another type": (sign(PLAIN, "text/plain", KEY), DEVICE, 412, "has the payload type 'text/plain'"),
    "an unknown field": (altered(more=1), DEVICE, 400, "more is not a known field"),
    "no base64": (altered(payload="%%"), DEVICE, 400, "is not standard base64"),
    "an empty object": (sign(b"{}", PAYLOAD_TYPE, KEY), DEVICE, 400, "schema is missing; services is missing"),
    "no document inside": (sign(b"\xff", PAYLOAD_TYPE, KEY), DEVICE, 400, "not UTF-8"),
    "a later form": (
        sign(json.dumps({"schema": "edgepack.desired/v9", "services": []}).encode(), PAYLOAD_TYPE, KEY), DEVICE, 412,
        "must be edgepack.desired/v1, is edgepack.desired/v9",
    ),
    "too many services": (
        sign(json.dumps({"schema": SCHEMA, "services": [{}] * 1001}).encode(), PAYLOAD_TYPE, KEY), DEVICE, 400,
        "services must be at most 1000, and are 1001",
    ),
    "two addresses": (
        sign(json.dumps({"schema": SCHEMA, "services": [], "device": "a", "group": "b"}).encode(), PAYLOAD_TYPE, KEY),
        DEVICE, 400, "a document is for a device or for a group",
    ),
    "no serial": (sign(Desired(()).to_bytes(), PAYLOAD_TYPE, KEY), DEVICE, 409, "it has no serial"),
    "a serial out of reach": (
        sign(Desired((), 1 << 60).to_bytes(), PAYLOAD_TYPE, KEY), DEVICE, 409, "would shut out all that come after it"
    ),
    "another device's": (of(device="press-2"), DEVICE, 412, "it is for device press-2, and came to device press-1"),
    "a device's in a group": (of(device="press-1"), "group site", 412, "is for device press-1, and came to group site"),
    "a group's for a device": (of(group="site"), DEVICE, 412, "for group site, and came to device press-1"),
    "another group's": (of(group="line-a"), "group site", 412, "it is for group line-a, and came to group site"),
    "of a group elsewhere": (of(group="other"), "group other", 412, "group other, in which device press-1 is not"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_taken_gets_its_number_and_a_reason_and_changes_nothing(name: str, tmp_path: Path) -> None:
    data, scope, status, reason = BAD[name]
    state = StateFile(tmp_path / "agent.db")
    receive(state, sign(Desired((service(V3),), 3).to_bytes(), PAYLOAD_TYPE, KEY), DEVICE, RECEIVER, [KEY.public])
    before = state.wanted()
    refusal = receive(state, data, scope, RECEIVER, [KEY.public]).refusal

    assert refusal is not None
    assert (refusal.status, refusal.scope) == (status, scope)
    assert reason in refusal.reason
    assert len(refusal.reason) <= LIMITS.reason_chars + 1
    assert refusal.hint is not None or status == 400
    after = state.wanted()
    assert (after.documents, after.goals, after.refused) == (before.documents, before.goals, {scope: refusal})
    # Sent again as it was, by a broker for one, it writes nothing.
    bytes_before = (tmp_path / "agent.db").read_bytes()
    receive(state, data, scope, RECEIVER, [KEY.public])
    assert (tmp_path / "agent.db").read_bytes() == bytes_before


@given(st.binary(max_size=60) | st.binary(max_size=60).map(lambda data: sign(data, PAYLOAD_TYPE, KEY)), st.booleans())
def test_whatever_is_sent_is_refused_by_a_number(data: bytes, signed: bool) -> None:
    payload = opened(data, [KEY.public], signed=signed)
    found = payload if isinstance(payload, Refusal) else read(payload)

    assert isinstance(found, Refusal)
    assert found.status in (400, 412, 417)


def test_the_reason_is_short_and_moves_no_cursor() -> None:
    value = {"schema": SCHEMA, "services": [{f"\x1b[2J{number}": 1} for number in range(900)]}
    found = read(json.dumps(value).encode())

    assert isinstance(found, Refusal)
    assert len(found.reason) <= LIMITS.reason_chars + 1
    assert found.reason.isprintable()


@pytest.mark.parametrize(
    ("fields", "scope", "found"),
    [
        ({}, None, DEVICE),
        ({}, "group site", "group site"),
        ({"device": "press-1"}, None, DEVICE),
        ({"device": "press-1"}, COMMAND, COMMAND),
        ({"group": "line-a"}, None, "group line-a"),
        ({"group": "line-a"}, "group line-a", "group line-a"),
        ({"group": "line-a"}, COMMAND, COMMAND),
    ],
)
def test_a_document_that_says_whom_it_is_for_is_taken_there(
    fields: dict[str, str], scope: str | None, found: str
) -> None:
    assert addressed(Desired((), 1, **fields), scope, RECEIVER) == found  # type: ignore[arg-type]


@pytest.mark.parametrize("fields", [{"device": "press-2"}, {"group": "other"}])
def test_what_is_for_others_is_refused_to_an_operator_too_and_on_a_stick_without_a_record(
    fields: dict[str, str], tmp_path: Path
) -> None:
    assert isinstance(addressed(Desired((), 1, **fields), COMMAND, RECEIVER), Refusal)  # type: ignore[arg-type]
    state = StateFile(tmp_path / "agent.db")
    found = receive(state, of(**fields), None, RECEIVER, [KEY.public]).refusal

    assert found is not None
    assert (found.status, state.wanted().refused) == (412, {})


def test_a_fleet_that_does_not_sign_is_served_when_the_device_says_so(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "agent.db")
    assert receive(state, PLAIN, DEVICE, RECEIVER, [], signed=False).document is not None
    assert state.goals()["churn"].stage is Stage.WANTED
    # A signature that is there must hold even then.
    refusal = receive(state, of(device="press-1"), DEVICE, RECEIVER, [], signed=False).refusal
    assert refusal is not None
    assert refusal.status == 412


def test_a_stale_document_is_told_of_until_the_good_one_comes_again(tmp_path: Path) -> None:
    state = StateFile(tmp_path / "agent.db")
    new = sign(Desired((service(V2),), 8).to_bytes(), PAYLOAD_TYPE, KEY)
    for data in (new, SIGNED):
        found = receive(state, data, DEVICE, RECEIVER, [KEY.public])
    assert found.refusal is not None
    assert (found.refusal.status, found.refusal.serial) == (409, 7)
    assert found.refusal.reason == "serial 7 is older than serial 8, which this device has accepted"
    assert state.goals()["churn"].spec.image == V2
    assert receive(state, new, DEVICE, RECEIVER, [KEY.public]).repeated
    assert state.wanted().refused == {}


@pytest.mark.parametrize("name", ["press-1", "a", "B.c_d", "x" * 128])
def test_topics_and_scopes_belong_together(name: str) -> None:
    topics = DeviceTopics(name)
    assert topics.desired == f"edgepack/v1/devices/{name}/desired"
    assert {topics.reported, topics.status, topics.events, topics.command} == {
        f"edgepack/v1/devices/{name}/{last}" for last in ("reported", "status", "events", "command")
    }
    assert scope_of(topics.desired, name, GROUPS) == DEVICE
    assert scope_of(group_desired("site"), name, GROUPS) == "group site"
    assert group_of("group site") == "site"
    assert group_of(DEVICE) is None
    assert scope_of(group_desired("other"), name, GROUPS) is None
    assert scope_of(topics.reported, name, GROUPS) is None
