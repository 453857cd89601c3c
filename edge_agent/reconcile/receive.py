"""A desired state that came by a broker, a folder or a file: verified, judged, and recorded with what came of it."""

from __future__ import annotations

import logging
from collections.abc import Collection
from dataclasses import replace

from edge_agent.reconcile.acceptance import Receiver, addressed, judge, opened, read, reconsider
from edge_agent.state.database import StateFile
from edge_agent.state.goals import Decision, Refusal
from edgepack.signing.keys import PublicKey
from edgepack.state.topics import DEVICE

_log = logging.getLogger(__name__)


def receive(
    state: StateFile,
    data: bytes,
    scope: str | None,
    receiver: Receiver,
    trusted: Collection[PublicKey],
    *,
    signed: bool = True,
) -> Decision:
    """Accept the document ``data``, or refuse it; either way that is recorded, and what ran before runs on.

    ``scope`` is that of the topic by which it came; ``None`` for a file, which says itself whom it is for: one for
    another device is passed over without a word, since a stick may have those of a whole fleet.
    """
    payload = opened(data, trusted, signed=signed)
    desired = payload if isinstance(payload, Refusal) else read(payload)
    if isinstance(desired, Refusal):
        return _refused(state, replace(desired, scope=scope or DEVICE))
    if payload is data:  # nobody has signed the time that it says
        desired = replace(desired, signed_at=None)
    where = addressed(desired, scope, receiver)
    if isinstance(where, Refusal) and scope is None:
        return Decision(refusal=where, foreign=True)
    if isinstance(where, Refusal):
        return _refused(state, where)
    found = state.decide(lambda wanted: judge(desired, where, receiver, wanted))
    if found.refusal is not None:
        _tell(found.refusal)
    elif not found.repeated:
        _log.info("desired state of %s accepted with serial %s", where, desired.serial)
    for one in found.refused_services:
        _log.warning("service %s stays as it is (%d): %s", one.service, one.status, one.reason)
    return found


def settle(state: StateFile, receiver: Receiver) -> bool:
    """Bring goals in line with the documents in force; whether anything changed.

    To be called at a start, when the configuration's groups may be others, and when an operator may have freed a port
    for which a service was left as it was.
    """
    before = state.wanted()
    state.decide(lambda wanted: reconsider(receiver, wanted))
    return state.wanted() != before


def _refused(state: StateFile, refusal: Refusal) -> Decision:
    _tell(refusal)
    return state.decide(lambda _: Decision(refusal=refusal))


def _tell(refusal: Refusal) -> None:
    hint = "" if refusal.hint is None else f"; {refusal.hint}"
    _log.warning("desired state of %s refused (%d): %s%s", refusal.scope, refusal.status, refusal.reason, hint)
