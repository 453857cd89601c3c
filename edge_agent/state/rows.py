"""Rows of the device's database as values, and values as rows."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping

from edge_agent.state.clock import KnownTime
from edge_agent.state.goals import AcceptedDocument, EndpointGoal, Goal, Refusal, ServiceRefusal, Stage, Wanted
from edge_agent.state.records import Deployment, Outcome, ServiceRecord
from edgepack.documents import Fields, raise_all
from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService, read_service
from edgepack.state.endpoints import read_endpoint
from edgepack.state.reported import Answer, ServiceState

# A fact: earlier versions of the agent pass over it, and keep it.
_ENDPOINT = "endpoint "


def write_spec(spec: DesiredService) -> str:
    """A service's settings as a row has them."""
    return json.dumps(spec.to_json())


def read_spec(text: str) -> DesiredService:
    """The settings in a row; raises ``InvalidDocumentError`` or ``ValueError``."""
    violations: list[str] = []
    found = read_service(Fields(json.loads(text), "spec", violations))
    raise_all("the device's state", violations)
    return found


def read_deployments(db: sqlite3.Connection, where: str, *values: object) -> tuple[Deployment, ...]:
    """The deployments that fulfil ``where``, newest first."""
    rows = db.execute(
        f"SELECT id, spec, outcome, runtime FROM deployments WHERE {where} ORDER BY id DESC",  # noqa: S608 - ours
        values,
    )
    return tuple(Deployment(number, read_spec(spec), Outcome(outcome), by) for number, spec, outcome, by in rows)


def read_records(db: sqlite3.Connection) -> dict[str, ServiceRecord]:
    """Every service by its name."""
    rows = db.execute("SELECT name, state, runtime, reason, deployment FROM services ORDER BY name").fetchall()
    return {
        name: ServiceRecord(
            name, ServiceState(state), runtime, reason, read_deployments(db, "id = ?", current)[0],
            read_deployments(db, "service = ? AND outcome = ? AND id <= ?", name, Outcome.HEALTHY, current),
        )
        for name, state, runtime, reason, current in rows
    }  # fmt: skip


def read_goals(db: sqlite3.Connection) -> dict[str, Goal]:
    """The goal of every service that has one, by its name."""
    rows = db.execute(
        "SELECT service, spec, origin, serial, stage, attempts, reason, status, sequence, number FROM goals "
        "ORDER BY service"
    )
    return {
        name: Goal(read_spec(spec), origin, serial, Stage(stage), attempts, reason, Answer(status), sequence, number)
        for name, spec, origin, serial, stage, attempts, reason, status, sequence, number in rows
    }


def write_goal(db: sqlite3.Connection, goal: Goal) -> None:
    """Put ``goal`` in the place of the service's goal."""
    db.execute(
        "INSERT OR REPLACE INTO goals "
        "(service, spec, origin, serial, stage, attempts, reason, status, sequence, number) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            goal.service, write_spec(goal.spec), goal.origin, goal.serial, goal.stage, goal.attempts, goal.reason,
            goal.status, goal.sequence, goal.number,
        ),
    )  # fmt: skip


def read_endpoint_goals(db: sqlite3.Connection) -> dict[str, EndpointGoal]:
    """What is desired of every endpoint, by its name."""
    found, violations = {}, list[str]()
    for fact, text in db.execute("SELECT name, value FROM facts WHERE name LIKE ? ORDER BY name", (f"{_ENDPOINT}%",)):
        name, value = fact.removeprefix(_ENDPOINT), json.loads(text)
        spec = read_endpoint(name, Fields(value["spec"], fact, violations))
        found[name] = EndpointGoal(spec, value["origin"], value["serial"], value["sequence"])
    raise_all("the device's state", violations)
    return found


def write_endpoint_goal(db: sqlite3.Connection, goal: EndpointGoal) -> None:
    """Put ``goal`` in the place of what was desired of the endpoint."""
    value = {"spec": goal.spec.to_json(), "origin": goal.origin, "serial": goal.serial, "sequence": goal.sequence}
    write_fact(db, f"{_ENDPOINT}{goal.spec.name}", json.dumps(value))


def read_documents(db: sqlite3.Connection) -> dict[str, AcceptedDocument]:
    """The documents in force by their scopes; raises ``ValueError`` for one whose content is not what was accepted."""
    found = {}
    for scope, serial, digest, sequence, data in db.execute(
        "SELECT scope, serial, digest, sequence, data FROM documents ORDER BY scope"
    ):
        if data is not None and str(Digest.of(data)) != digest:
            raise ValueError(f"the document of scope {scope} is not the one that was accepted")
        found[scope] = AcceptedDocument(scope, serial, Digest.parse(digest), data, sequence)
    return found


def write_document(db: sqlite3.Connection, one: AcceptedDocument) -> None:
    """Put a document in the place of the one in force."""
    db.execute(
        "INSERT OR REPLACE INTO documents (scope, serial, digest, sequence, data) VALUES (?, ?, ?, ?, ?)",
        (one.scope, one.serial, str(one.digest), one.sequence, one.data),
    )


def write_refusal(db: sqlite3.Connection, one: Refusal) -> None:
    """Put a refusal in the place of the last one of its scope."""
    db.execute(
        "INSERT OR REPLACE INTO refused (scope, status, reason, hint, serial, digest) VALUES (?, ?, ?, ?, ?, ?)",
        (one.scope, one.status, one.reason, one.hint, one.serial, None if one.digest is None else str(one.digest)),
    )


def write_service_refusals(db: sqlite3.Connection, all_of_them: Mapping[str, ServiceRefusal]) -> None:
    """Put these in the place of all refusals of services."""
    db.execute("DELETE FROM refused_services")
    db.executemany(
        "INSERT INTO refused_services (service, origin, serial, status, reason) VALUES (?, ?, ?, ?, ?)",
        [(one.service, one.origin, one.serial, one.status, one.reason) for one in all_of_them.values()],
    )


def read_wanted(db: sqlite3.Connection) -> Wanted:
    """All that is desired."""
    refused = {
        scope: Refusal(scope, Answer(status), reason, hint, serial, None if digest is None else Digest.parse(digest))
        for scope, status, reason, hint, serial, digest in db.execute(
            "SELECT scope, status, reason, hint, serial, digest FROM refused ORDER BY scope"
        )
    }
    services = {
        service: ServiceRefusal(service, origin, serial, Answer(status), reason)
        for service, origin, serial, status, reason in db.execute(
            "SELECT service, origin, serial, status, reason FROM refused_services ORDER BY service"
        )
    }
    return Wanted(
        read_documents(db), read_goals(db), refused, services, read_quarantine(db),
        int(read_fact(db, "session") or 0), KnownTime.from_text(read_fact(db, "time")).seconds,
        read_endpoint_goals(db),
    )  # fmt: skip


def read_quarantine(db: sqlite3.Connection) -> dict[Digest, str]:
    """The images that are not tried again, each with the reason."""
    rows = db.execute("SELECT image, reason FROM quarantine ORDER BY image")
    return {Digest.parse(image): reason for image, reason in rows}


def read_fact(db: sqlite3.Connection, name: str) -> str | None:
    """What is recorded under ``name``."""
    row = db.execute("SELECT value FROM facts WHERE name = ?", (name,)).fetchone()
    return None if row is None else str(row[0])


def write_fact(db: sqlite3.Connection, name: str, value: object) -> None:
    """Record ``value`` under ``name``."""
    db.execute(
        "INSERT INTO facts (name, value) VALUES (?, ?) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        (name, str(value)),
    )


def count_up(db: sqlite3.Connection, name: str) -> int:
    """One more than the number that is recorded under ``name``, which is recorded then."""
    number = int(read_fact(db, name) or 0) + 1
    write_fact(db, name, number)
    return number
