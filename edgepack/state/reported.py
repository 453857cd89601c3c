"""Reported state: what a device runs, and the reason where it differs from the desired state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from typing import Any

from edgepack.documents import Fields, canonical_json, parse_object, raise_all
from edgepack.errors import IncompatibleError, MissingPartError, NotFoundError, UsageError, VerificationError
from edgepack.oci.digest import Digest
from edgepack.state.reported_endpoints import EndpointState, ReportedEndpoint
from edgepack.state.times import format_time, parse_time

SCHEMA = "edgepack.reported/v1"


class ServiceState(StrEnum):
    """The state of a service; the names are Azure's, and ``Stopped`` and ``Removed`` for what was done on request."""

    TRANSITIONING = "Transitioning"
    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"
    UNSCHEDULABLE = "Unschedulable"
    FAILED = "Failed"
    STOPPED = "Stopped"
    REMOVED = "Removed"


class Stage(StrEnum):
    """How far a service is on the way to what is desired of it."""

    WANTED = "Wanted"
    DOWNLOADING = "Downloading"
    STAGED = "Staged"
    WAITING = "Waiting"
    SWITCHING = "Switching"
    PROBATION = "Probation"
    RETURNING = "Returning"
    DONE = "Done"
    FAILED = "Failed"


class Answer(IntEnum):
    """What became of a document or of a service in it, by the status numbers of IoT Edge.

    ``OK``: accepted, and reached or under way. ``INVALID``: not a desired state that can be read. ``CONFLICT``: against
    what the device has accepted, or against another service. ``PRECONDITION_FAILED``: it lacks what is required, such
    as a trusted signature, this device's name, or an image for its platform. ``NOTHING_DESIRED``: there is no document,
    or an empty one. ``FAILED``: it was tried, and did not work.
    """

    OK = 200
    INVALID = 400
    CONFLICT = 409
    PRECONDITION_FAILED = 412
    NOTHING_DESIRED = 417
    FAILED = 500

    @classmethod
    def of(cls, error: Exception) -> Answer:
        """The answer about a service that ended with ``error``."""
        if isinstance(error, UsageError):
            return cls.INVALID
        if isinstance(error, (VerificationError, IncompatibleError, MissingPartError, NotFoundError)):
            return cls.PRECONDITION_FAILED
        return cls.FAILED


@dataclass(frozen=True)
class ReportedService:
    """A service. ``last_good`` is the image that ``rollback`` returns to: the last one that was healthy before this.

    ``tag`` and ``last_good_tag`` are what these images were called when they were imported, ``models`` what the image
    serves, such as ``churn:2``, as far as the device knows; ``url`` is where the service answers on this device,
    None for one that was stopped. ``stage`` is how far it is on the way to what is desired, ``percent`` how much of a
    download is done, ``origin`` and ``serial`` whose wish that is: ``device``, ``group NAME`` or ``command``.
    ``restarts`` counts how often it was started again after it had ended, ``exit_code`` is how it ended last.
    ``memory_kills`` counts what was killed of it for lack of memory since it was started, while it ran on.
    """

    name: str
    state: ServiceState
    digest: Digest | None
    last_good: Digest | None
    port: int
    runtime: str
    reason: str | None = None
    tag: str | None = None
    last_good_tag: str | None = None
    models: tuple[str, ...] = ()
    url: str | None = None
    stage: Stage | None = None
    percent: int | None = None
    restarts: int = 0
    exit_code: int | None = None
    memory_kills: int = 0
    origin: str | None = None
    serial: int | None = None
    status: Answer = Answer.OK

    def to_json(self) -> dict[str, object]:
        """The service as the JSON interface shows it."""
        return {
            "name": self.name,
            "state": self.state.value,
            "digest": None if self.digest is None else str(self.digest),
            "last_good": None if self.last_good is None else str(self.last_good),
            "port": self.port,
            "runtime": self.runtime,
            "reason": self.reason,
            "tag": self.tag,
            "last_good_tag": self.last_good_tag,
            "models": list(self.models),
            "url": self.url,
            "stage": None if self.stage is None else self.stage.value,
            "percent": self.percent,
            "restarts": self.restarts,
            "exit_code": self.exit_code,
            "memory_kills": self.memory_kills,
            "origin": self.origin,
            "serial": self.serial,
            "status": int(self.status),
        }


@dataclass(frozen=True)
class ReportedDocument:
    """The documents of one ``scope``: ``serial`` and ``digest`` are of the accepted one, ``None`` without one.

    ``status`` and ``reason`` are about the newest that came, which is not the accepted one when it was refused:
    ``refused_serial`` and ``refused_digest`` are then its own, as far as they could be read.
    """

    scope: str
    serial: int | None
    digest: Digest | None
    status: Answer
    reason: str | None = None
    refused_serial: int | None = None
    refused_digest: Digest | None = None

    def to_json(self) -> dict[str, object]:
        """The answer as the reported state shows it."""
        return {
            "scope": self.scope,
            "serial": self.serial,
            "digest": None if self.digest is None else str(self.digest),
            "status": int(self.status),
            "reason": self.reason,
            "refused_serial": self.refused_serial,
            "refused_digest": None if self.refused_digest is None else str(self.refused_digest),
        }


@dataclass(frozen=True)
class ReportedProblem:
    """What came and could not be taken, or what else is wrong with the device: ``where`` names the file or topic."""

    where: str
    status: Answer
    reason: str

    def to_json(self) -> dict[str, object]:
        """The problem as the reported state shows it."""
        return {"where": self.where, "status": int(self.status), "reason": self.reason}


@dataclass(frozen=True)
class ReportedDevice:
    """A device: ``session`` counts the starts of its agent, ``time`` is in seconds since 1970."""

    device: str
    agent: str
    session: int
    time: float
    free_bytes: int | None
    documents: tuple[ReportedDocument, ...] = ()
    services: tuple[ReportedService, ...] = ()
    problems: tuple[ReportedProblem, ...] = ()
    endpoints: tuple[ReportedEndpoint, ...] = ()

    @property
    def status(self) -> Answer:
        """The answer in one number: about the first document that was refused, else a service, else a problem."""
        if not self.documents and not self.services and not self.problems:
            return Answer.NOTHING_DESIRED
        found = [one.status for several in (self.documents, self.services, self.problems) for one in several]
        failed = any(one.state is EndpointState.FAILED for one in self.endpoints)
        return next((one for one in found if one is not Answer.OK), Answer.FAILED if failed else Answer.OK)

    def to_json(self) -> dict[str, object]:
        """The reported state as a document shows it."""
        return {
            "schema": SCHEMA,
            "device": self.device,
            "agent": self.agent,
            "session": self.session,
            "time": format_time(self.time),
            "free_bytes": self.free_bytes,
            "status": int(self.status),
            "documents": [one.to_json() for one in self.documents],
            "services": [one.to_json() for one in self.services],
            "problems": [one.to_json() for one in self.problems],
            **({"endpoints": [one.to_json() for one in self.endpoints]} if self.endpoints else {}),
        }

    def to_bytes(self) -> bytes:
        """The canonical document."""
        return canonical_json(self.to_json())

    @classmethod
    def from_bytes(cls, data: bytes, where: object = "reported state") -> ReportedDevice:
        """Read a reported state; fields that later versions add are passed over. Raises ``InvalidDocumentError``."""
        violations: list[str] = []
        fields = Fields(parse_object(data, where), "", violations)
        fields.schema(SCHEMA)
        device, agent = fields.take("device", str, required=True), fields.take("agent", str, required=True)
        session, time = fields.take("session", int, required=True), fields.parsed("time", parse_time)
        found = cls(
            device or "", agent or "", session or 0, time or 0, fields.take("free_bytes", int),
            tuple(_document(one) for one in fields.each("documents")),
            tuple(_service(one) for one in fields.each("services")),
            tuple(_problem(one) for one in fields.each("problems", required=False)),
            tuple(ReportedEndpoint.from_fields(one) for one in fields.each("endpoints", required=False)),
        )  # fmt: skip
        raise_all(where, violations)
        return found


def read_services(value: Mapping[str, Any], where: object) -> tuple[ReportedService, ...]:
    """The ``services`` of what ``edge-agent status`` answers in JSON; raises ``InvalidDocumentError``."""
    violations: list[str] = []
    found = tuple(_service(one) for one in Fields(dict(value), "", violations).each("services"))
    raise_all(where, violations)
    return found


def _document(fields: Fields) -> ReportedDocument:
    return ReportedDocument(
        fields.take("scope", str, "", required=True) or "", fields.take("serial", int), _digest(fields, "digest"),
        _answer(fields), fields.take("reason", str), fields.take("refused_serial", int),
        _digest(fields, "refused_digest"),
    )  # fmt: skip


def _service(fields: Fields) -> ReportedService:
    return ReportedService(
        name=fields.take("name", str, required=True) or "",
        state=fields.parsed("state", _state) or ServiceState.FAILED,
        digest=_digest(fields, "digest"),
        last_good=_digest(fields, "last_good"),
        port=fields.take("port", int) or 0,
        runtime=fields.take("runtime", str) or "",
        reason=fields.take("reason", str),
        tag=fields.take("tag", str),
        last_good_tag=fields.take("last_good_tag", str),
        models=tuple(one for one in fields.take("models", list) or [] if isinstance(one, str)),
        url=fields.take("url", str),
        stage=fields.parsed("stage", _stage, required=False),
        percent=fields.take("percent", int),
        restarts=fields.take("restarts", int) or 0,
        exit_code=fields.take("exit_code", int),
        memory_kills=fields.take("memory_kills", int) or 0,
        origin=fields.take("origin", str),
        serial=fields.take("serial", int),
        status=_answer(fields),
    )


def _problem(fields: Fields) -> ReportedProblem:
    where, reason = fields.take("where", str, required=True), fields.take("reason", str, required=True)
    return ReportedProblem(where or "", _answer(fields), reason or "")


def _digest(fields: Fields, key: str) -> Digest | None:
    return fields.parsed(key, Digest.parse, required=False)


def _answer(fields: Fields) -> Answer:
    number, known = fields.take("status", int, required=True), {int(one): one for one in Answer}
    if number is not None and number not in known:
        fields.wrong("status", f"must be one of {', '.join(str(one) for one in known)}")
    return known.get(number or 0, Answer.FAILED)


def _state(text: str) -> ServiceState:
    return ServiceState(_one_of(text, [one.value for one in ServiceState]))


def _stage(text: str) -> Stage:
    return Stage(_one_of(text, [one.value for one in Stage]))


def _one_of(text: str, known: list[str]) -> str:
    if text not in known:
        raise UsageError(f"{text[:40]!r} is not one of {', '.join(known)}")
    return text
