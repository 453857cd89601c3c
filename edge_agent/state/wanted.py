"""What is desired of the device, in its database: documents, goals, quarantine, the agent's starts, the time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

from edge_agent.state.clock import STEP_SECONDS, KnownTime, Uptime
from edge_agent.state.file import DatabaseFile
from edge_agent.state.goals import AcceptedDocument, Decision, EndpointGoal, Goal, Stage, Wanted
from edge_agent.state.rows import (
    count_up,
    read_documents,
    read_fact,
    read_goals,
    read_quarantine,
    read_wanted,
    write_document,
    write_endpoint_goal,
    write_fact,
    write_goal,
    write_refusal,
    write_service_refusals,
)
from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService
from edgepack.state.reported import Answer
from edgepack.state.topics import COMMAND


class WantedFile(DatabaseFile):
    """The part of ``StateFile`` about what is desired; every method is one transaction."""

    def wanted(self) -> Wanted:
        """All that is desired, as of one moment."""
        with self._reading() as db:
            return read_wanted(db)

    def goals(self) -> dict[str, Goal]:
        """The goal of every service that has one, by its name."""
        with self._reading() as db:
            return read_goals(db)

    def documents(self) -> dict[str, AcceptedDocument]:
        """The documents in force by their scopes."""
        with self._reading() as db:
            return read_documents(db)

    def set_goal(self, spec: DesiredService, origin: str, serial: int | None) -> Goal:
        """Make ``spec`` the service's goal, from the start; its image leaves the quarantine."""
        with self._transaction() as db:
            goal = Goal(spec, origin, serial, sequence=read_wanted(db).next_sequence, number=count_up(db, "goal"))
            write_goal(db, goal)
            db.execute("DELETE FROM refused_services WHERE service = ?", (spec.name,))
            _lift(db, [goal])
        return goal

    def set_stage(
        self,
        service: str,
        stage: Stage,
        reason: str | None = None,
        counted: bool = False,
        number: int | None = None,
        status: Answer | None = None,
    ) -> Goal | None:
        """Record how far ``service`` is, and with ``counted`` one more try that failed.

        ``status`` is the reason as a number: 500 for what failed, and else 200, unless it is given.

        ``None``, and nothing is recorded, when the service has no goal, or with ``number`` when its goal has another
        number by now: something else is desired of it meanwhile.
        """
        with self._transaction() as db:
            goal = read_goals(db).get(service)
            if goal is None or number not in (None, goal.number):
                return None
            usual = Answer.FAILED if stage is Stage.FAILED else Answer.OK
            goal = replace(goal, stage=stage, reason=reason, attempts=goal.attempts + counted, status=status or usual)
            write_goal(db, goal)
        return goal

    def accept(
        self,
        document: AcceptedDocument,
        goals: Iterable[Goal],
        *,
        signed_at: float | None = None,
        reset: bool = False,
        endpoints: Mapping[str, EndpointGoal] | None = None,
    ) -> None:
        """Put ``document`` in force, with the goals that follow from all documents.

        A service whose goal stays the same goes on where it is, except one that failed and that this document names
        again, and what an operator asks for again. The images that it names leave the quarantine. With ``reset`` the
        time that was seen is forgotten.
        """
        with self._transaction() as db:
            if reset:
                db.execute("DELETE FROM facts WHERE name = 'time'")
            before, found = read_wanted(db), {one.service: one for one in goals}
            refused = tuple(one for name, one in before.refused_services.items() if name not in found)
            _carry_out(db, before, Decision(document, found, refused, signed_at=signed_at, endpoints=endpoints or {}))

    def decide(self, decide: Callable[[Wanted], Decision]) -> Decision:
        """Let the pure ``decide`` see all that is desired, and record what it decides, with nothing in between.

        What changes nothing writes nothing: a broker sends retained documents again at every connection.
        """
        before = self.wanted()
        decision = decide(before)
        if _changes(before, decision):
            with self._transaction() as db:
                now = read_wanted(db)
                decision = decide(now)
                _carry_out(db, now, decision)
        return decision

    def quarantine(self, image: Digest, reason: str) -> None:
        """Record that ``image`` is not tried again until it is asked for anew."""
        with self._transaction() as db:
            db.execute("INSERT OR REPLACE INTO quarantine (image, reason) VALUES (?, ?)", (str(image), reason))

    def quarantined(self) -> dict[Digest, str]:
        """The images that are not tried again, each with the reason."""
        with self._reading() as db:
            return read_quarantine(db)

    def next_session(self) -> int:
        """The number of this start of the agent: one more than that of the last start."""
        with self._transaction() as db:
            return count_up(db, "session")

    def time_floor(self, now: float, uptime: Uptime | None = None) -> float:
        """The wall time in seconds since 1970: ``now``, or the greatest that was ever seen here or signed.

        ``now`` is what the clock shows, which is 1970 after a start without a battery: then the time goes on from what
        is known, and is recorded now and then, for the next start.
        """
        uptime = Uptime.now() if uptime is None else uptime
        with self._reading() as db:
            before = KnownTime.from_text(read_fact(db, "time"))
        known = before.with_clock(now, uptime)
        if known.seconds >= before.seconds + STEP_SECONDS:
            with self._transaction() as db:
                write_fact(db, "time", known.to_text())
        return known.seconds

    def serial(self) -> tuple[int, Digest] | None:
        """Serial and digest of the last desired state that an operator applied, if it had a serial."""
        found = self.documents().get(COMMAND)
        return None if found is None or found.serial is None else (found.serial, found.digest)

    def clear_serial(self) -> None:
        """Forget the serial that was accepted: documents without one, or with a lower one, are taken again."""
        with self._transaction() as db:
            db.execute("DELETE FROM documents WHERE scope = ?", (COMMAND,))

    def set_serial(self, serial: int, digest: Digest) -> None:
        """Record the serial of a desired state."""
        with self._transaction() as db:
            write_document(db, AcceptedDocument(COMMAND, serial, digest, None, read_wanted(db).next_sequence))


def _changes(before: Wanted, decision: Decision) -> bool:
    if decision.refusal is not None:
        return before.refused.get(decision.refusal.scope) != decision.refusal
    document = decision.document
    return (
        (document is not None and (not decision.repeated or document.scope in before.refused))
        or (decision.signed_at or 0) > before.time
        or any(not goal.asks_the_same(before.goals.get(name)) for name, goal in decision.goals.items())
        or {one.service: one for one in decision.refused_services} != dict(before.refused_services)
        or any(goal != before.endpoints.get(name) for name, goal in decision.endpoints.items())
    )


def _carry_out(db: sqlite3.Connection, before: Wanted, decision: Decision) -> None:
    if decision.refusal is not None:
        write_refusal(db, decision.refusal)
        return
    document = decision.document
    if document is not None:
        db.execute("DELETE FROM refused WHERE scope = ?", (document.scope,))
        if not decision.repeated:
            write_document(db, document)
    named = None if document is None or decision.repeated else document.scope
    for name, goal in decision.goals.items():
        write_goal(db, _continued(db, before.goals.get(name), goal, again=goal.origin == named))
    for endpoint in decision.endpoints.values():
        write_endpoint_goal(db, endpoint)
    write_service_refusals(db, {one.service: one for one in decision.refused_services})
    _lift(db, [goal for goal in decision.goals.values() if goal.origin == named])
    if decision.signed_at is not None:
        raise_time(db, decision.signed_at, Uptime.now())


def _continued(db: sqlite3.Connection, before: Goal | None, goal: Goal, *, again: bool) -> Goal:
    """``goal`` as far as it is already reached; from the start when it is another one, or to be tried ``again``."""
    if before is not None and before.spec == goal.spec:
        retried = again and (before.stage is Stage.FAILED or goal.origin == COMMAND)
        if not retried:
            return replace(before, origin=goal.origin, serial=goal.serial, sequence=goal.sequence)
    return replace(goal, stage=Stage.WANTED, attempts=0, reason=None, status=Answer.OK, number=count_up(db, "goal"))


def _lift(db: sqlite3.Connection, goals: Iterable[Goal]) -> None:
    db.executemany("DELETE FROM quarantine WHERE image = ?", [(str(goal.spec.image),) for goal in goals])


def raise_time(db: sqlite3.Connection, seconds: float, uptime: Uptime) -> None:
    """Record that it is at least ``seconds`` since 1970, where that is later than what is known."""
    if seconds > KnownTime.from_text(read_fact(db, "time")).at(uptime):
        write_fact(db, "time", KnownTime(seconds, uptime).to_text())
