"""Which desired states the device takes, and what follows from all of them for each service; pure.

Rules:

- a document is whole and readable, at most ``LIMITS.desired_state_bytes`` long, and signed unless that is waived;
- one that names a device or a group is taken by that device, or for that group, only;
- the serials of a scope only grow; the same document again is taken again, and changes nothing;
- an absent or empty document, and one that does not name a service, removes nothing and stops nothing;
- the device's own document counts before those of its groups, and these in the order of the configuration;
- what an operator asked for on the device holds until a newer document that counts for the service names it;
- a service whose port another one has that counts before it stays as it is; the others go on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from edge_agent.reconcile.opening import opened as opened
from edge_agent.reconcile.opening import refusal_of
from edge_agent.state.goals import AcceptedDocument as AcceptedDocument
from edge_agent.state.goals import Decision, EndpointGoal, Goal, Refusal, ServiceRefusal, Wanted
from edgepack.documents import parse_object
from edgepack.errors import InvalidDocumentError, UsageError, VerificationError
from edgepack.limits import LIMITS
from edgepack.oci.digest import Digest
from edgepack.state.desired import SCHEMA, Desired, DesiredService
from edgepack.state.reported import Answer
from edgepack.state.topics import COMMAND, DEVICE, group_of, group_scope


@dataclass(frozen=True)
class Receiver:
    """The device that documents are for: its ``name``, and its ``groups``, the one that counts most first."""

    name: str
    groups: Sequence[str] = ()


def error_of(refusal: Refusal, where: object = "desired state") -> VerificationError | UsageError:
    """The refusal as the error of a command about ``where``."""
    kind = UsageError if refusal.status is Answer.INVALID else VerificationError
    return kind(refusal.reason, where=where, hint=refusal.hint)


def read(payload: bytes) -> Desired | Refusal:
    """The desired state in a document's bytes."""
    try:
        return Desired.from_bytes(payload)
    except InvalidDocumentError as error:
        # The number of a document in another version's form, as IoT Edge has it.
        status = Answer.INVALID if _has_our_schema(payload) else Answer.PRECONDITION_FAILED
        return refusal_of(status, error.what, error.hint, digest=Digest.of(payload))


def _has_our_schema(payload: bytes) -> bool:
    try:
        found = parse_object(payload, "desired state").get("schema")
    except InvalidDocumentError:
        return True
    return not isinstance(found, str) or found == SCHEMA


def addressed(desired: Desired, scope: str | None, receiver: Receiver) -> str | Refusal:
    """The scope of a document: ``scope``, by which it came, or what it says itself, and else the device's own.

    A document that names another device or group than that is refused: it may have been copied from there.
    """
    if scope is None:
        scope = DEVICE if desired.group is None else group_scope(desired.group)
    group = group_of(scope)
    to, sign = f"group {group}", f"sign one for it with: edgepack desired sign --group {group}"
    if group is None:
        to, sign = f"device {receiver.name}", f"sign one for it with: edgepack desired sign --device {receiver.name}"
    if desired.device is not None and (group is not None or desired.device != receiver.name):
        name = "" if group is not None else f", or name this device with: edge-agent init --device {desired.device}"
        return _foreign(scope, f"it is for device {desired.device}, and came to {to}", f"{sign}{name}", desired)
    if desired.group is not None and (scope == DEVICE or (group is not None and desired.group != group)):
        return _foreign(scope, f"it is for group {desired.group}, and came to {to}", sign, desired)
    wanted = group or desired.group
    if wanted is not None and wanted not in receiver.groups:
        what = f"it is for group {wanted}, in which device {receiver.name} is not"
        return _foreign(scope, what, "add the group to the groups in the device's configuration", desired)
    return scope


def _foreign(scope: str, what: str, hint: str, desired: Desired) -> Refusal:
    found = refusal_of(Answer.PRECONDITION_FAILED, what, hint, serial=desired.serial, digest=Digest.of(desired.content))
    return replace(found, scope=scope)


def accept(
    desired: Desired, scope: str, documents: Mapping[str, AcceptedDocument], *, sequence: int = 0, reset: bool = False
) -> AcceptedDocument | Refusal:
    """``desired`` as the document in force in ``scope``, or why it is not; the one in force when it is that one.

    With ``reset`` any serial is taken.
    """
    last, content = documents.get(scope), desired.content
    digest = Digest.of(content)
    new = AcceptedDocument(scope, desired.serial, digest, content, sequence)
    if reset:
        return new
    serial = None if last is None else last.serial
    if problem := _wrong_serial(desired.serial, serial, scope, same=last is not None and last.digest == digest):
        return Refusal(scope, Answer.CONFLICT, *problem, desired.serial, digest)
    return last if last is not None and (last.serial, last.digest) == (desired.serial, digest) else new


def _wrong_serial(serial: int | None, last: int | None, scope: str, *, same: bool) -> tuple[str, str] | None:
    """What is wrong with a serial after ``last``, and what to do about it."""
    if serial is None:
        if last is not None:
            return f"it has no serial, and this device has accepted serial {last}", f"give it a serial above {last}"
        # Nothing would keep an old document from being sent again.
        return None if scope == COMMAND else ("it has no serial", "sign it with: edgepack desired sign --serial NUMBER")
    if serial > (last or 0) + LIMITS.serial_step:
        return (
            f"serial {serial} is more than {LIMITS.serial_step} above {last or 0}, and would shut out all that come "
            "after it", "give it a lower serial, such as a number that counts up",
        )  # fmt: skip
    if last is None or serial > last or (serial == last and same):
        return None
    if serial < last:
        what = f"serial {serial} is older than serial {last}, which this device has accepted"
    else:
        what = f"this device has accepted serial {last} with other content"
    return what, f"give it a serial above {last}"


def goals_of(
    documents: Mapping[str, AcceptedDocument], groups: Sequence[str], goals: Mapping[str, Goal] | None = None
) -> dict[str, Goal]:
    """The goal of every service that a document names; ``goals`` are those that are set already.

    One that an operator set stays while it is newer than the document that counts for the service. A service that no
    document names is not in the answer: its goal stays what it is.
    """
    found: dict[str, Goal] = {}
    for scope in (DEVICE, *(group_scope(group) for group in groups)):
        document = documents.get(scope)
        if document is None or document.data is None:
            continue
        for spec in Desired.from_bytes(document.data).services:
            found.setdefault(spec.name, Goal(spec, scope, document.serial, sequence=document.sequence))
    for name, goal in (goals or {}).items():
        if name in found and goal.origin == COMMAND and goal.sequence > found[name].sequence:
            found[name] = goal
    return found


def endpoints_of(
    documents: Mapping[str, AcceptedDocument], groups: Sequence[str], known: Mapping[str, EndpointGoal]
) -> dict[str, EndpointGoal]:
    """What is desired of every endpoint that a document names, by the rules of ``goals_of``."""
    found: dict[str, EndpointGoal] = {}
    for scope in (DEVICE, *(group_scope(group) for group in groups)):
        document = documents.get(scope)
        if document is None or document.data is None or b'"endpoints"' not in document.data:
            continue
        for spec in Desired.from_bytes(document.data).endpoints:
            found.setdefault(spec.name, EndpointGoal(spec, scope, document.serial, document.sequence))
    for name, goal in known.items():
        if name in found and goal.origin == COMMAND and goal.sequence > found[name].sequence:
            found[name] = goal
    return found


@dataclass(frozen=True)
class WantedAgent:
    """The image of the agent that a document wants, and the number under which that document was accepted."""

    image: Digest
    document: int


def agent_of(documents: Mapping[str, AcceptedDocument], groups: Sequence[str]) -> WantedAgent | None:
    """The agent that the documents want; the device's own counts before those of its groups.

    What an operator asked for on the device holds until a newer document names an agent.
    """
    found = {scope: one for scope in documents if (one := _agent_in(documents[scope])) is not None}
    order = [scope for scope in (DEVICE, *(group_scope(group) for group in groups)) if scope in found]
    desired, asked = found[order[0]] if order else None, found.get(COMMAND)
    if asked is not None and (desired is None or asked.document > desired.document):
        return asked
    return desired


def _agent_in(document: AcceptedDocument) -> WantedAgent | None:
    if document.data is None or b'"agent"' not in document.data:
        return None
    agent = Desired.from_bytes(document.data).agent
    return None if agent is None else WantedAgent(agent, document.sequence)


def commanded(desired: Desired, document: AcceptedDocument) -> dict[str, Goal]:
    """The goals of a document that an operator applied."""
    return {
        spec.name: Goal(spec, COMMAND, document.serial, sequence=document.sequence) for spec in desired.services
    }  # fmt: skip


def commanded_endpoints(desired: Desired, document: AcceptedDocument) -> dict[str, EndpointGoal]:
    """What a document that an operator applied desires of endpoints."""
    return {
        spec.name: EndpointGoal(spec, COMMAND, document.serial, document.sequence) for spec in desired.endpoints
    }  # fmt: skip


def without_collisions(
    found: Mapping[str, Goal], kept: Mapping[str, Goal], groups: Sequence[str]
) -> tuple[dict[str, Goal], tuple[ServiceRefusal, ...]]:
    """The goals of ``found`` without those whose port a service has that counts before them, and why.

    ``kept`` are the goals of services that ``found`` does not name. Who counts first: those, since nothing asked to
    stop them; what an operator set; the device's document; the groups in their order. What is left out keeps its port.
    """
    order = [COMMAND, DEVICE, *(group_scope(group) for group in groups)]
    ordered = sorted(found.items(), key=lambda item: (order.index(item[1].origin), item[0]))
    refused: dict[str, ServiceRefusal] = {}
    while True:
        taken = [one.spec for name, one in kept.items() if (name not in found or name in refused) and _runs(one.spec)]
        good = {}
        before = len(refused)
        for name, goal in ordered:
            if name in refused:
                continue
            other = next((one for one in taken if _runs(goal.spec) and one.collides(goal.spec)), None)
            if other is None:
                good[name] = goal
                taken += [goal.spec] if _runs(goal.spec) else []
            else:
                what = f"port {goal.spec.port} is that of service {other.name}"
                refused[name] = ServiceRefusal(name, goal.origin, goal.serial, Answer.CONFLICT, what)
        if len(refused) == before:
            return good, tuple(refused.values())
        # What is left out keeps its port, which another one may have been given.


def _runs(spec: DesiredService) -> bool:
    return spec.status == "running"


def judge(desired: Desired, scope: str, receiver: Receiver, wanted: Wanted) -> Decision:
    """What comes of ``desired`` in ``scope``, given all that is ``wanted``: accepted with its goals, or refused."""
    document = accept(desired, scope, wanted.documents, sequence=wanted.next_sequence)
    if isinstance(document, Refusal):
        return Decision(refusal=document)
    documents = {**wanted.documents, scope: document}
    goals, refused = _followed(documents, receiver, wanted)
    endpoints = endpoints_of(documents, receiver.groups, wanted.endpoints)
    repeated = document is wanted.documents.get(scope)
    return Decision(
        document, goals, refused, repeated=repeated, signed_at=desired.signed_at, endpoints=endpoints
    )  # fmt: skip


def reconsider(receiver: Receiver, wanted: Wanted) -> Decision:
    """What follows from the documents in force, now that an operator changed goals, or the device's groups changed.

    A service that was left as it was for a port that is free now gets its goal.
    """
    goals, refused = _followed(wanted.documents, receiver, wanted)
    endpoints = endpoints_of(wanted.documents, receiver.groups, wanted.endpoints)
    return Decision(None, goals, refused, endpoints=endpoints)


def _followed(
    documents: Mapping[str, AcceptedDocument], receiver: Receiver, wanted: Wanted
) -> tuple[dict[str, Goal], tuple[ServiceRefusal, ...]]:
    found = goals_of(documents, receiver.groups, wanted.goals)
    return without_collisions(found, wanted.goals, receiver.groups)
