"""What is desired of the device, as values: documents that were accepted, refusals, and the goal of each service."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService
from edgepack.state.endpoints import DesiredEndpoint
from edgepack.state.reported import Answer
from edgepack.state.reported import Stage as Stage


@dataclass(frozen=True)
class Goal:
    """What service ``spec.name`` is to become, and how far it is.

    ``origin`` is the scope that asked for it: ``device``, ``group NAME`` or ``command``; ``serial`` that of the
    document. ``attempts`` counts the tries that failed; ``reason`` says why it is where it is, ``status`` the same as a
    number. ``sequence`` orders what was accepted on this device, and
    ``number`` is another one whenever the service starts again from ``WANTED``.
    """

    spec: DesiredService
    origin: str
    serial: int | None
    stage: Stage = Stage.WANTED
    attempts: int = 0
    reason: str | None = None
    status: Answer = Answer.OK
    sequence: int = field(default=0, compare=False)
    number: int = field(default=0, compare=False)

    @property
    def service(self) -> str:
        """The service's name."""
        return self.spec.name

    def asks_the_same(self, other: Goal | None) -> bool:
        """Whether ``other`` asks for the same by the same document, however far either is."""
        return other is not None and (self.spec, self.origin, self.serial, self.sequence) == (
            other.spec, other.origin, other.serial, other.sequence,
        )  # fmt: skip


@dataclass(frozen=True)
class EndpointGoal:
    """What is desired of the endpoint ``spec.name``, by whom and in which document; as of ``Goal``."""

    spec: DesiredEndpoint
    origin: str
    serial: int | None
    sequence: int = 0


@dataclass(frozen=True)
class AcceptedDocument:
    """The document in force in ``scope``; ``digest`` is of ``data``, its content.

    ``data`` is ``None`` for what an earlier version of the agent accepted: then only serial and digest are known.
    ``sequence`` orders the documents of all scopes by when this device accepted them.
    """

    scope: str
    serial: int | None
    digest: Digest
    data: bytes | None
    sequence: int = field(default=0, compare=False)


@dataclass(frozen=True)
class Refusal:
    """Why the newest document of ``scope`` was refused; ``hint`` is what to do about it."""

    scope: str
    status: Answer
    reason: str
    hint: str | None = None
    serial: int | None = None
    digest: Digest | None = None


@dataclass(frozen=True)
class ServiceRefusal:
    """Why one service of an accepted document is left as it is; the other services are brought to their goals."""

    service: str
    origin: str
    serial: int | None
    status: Answer
    reason: str


@dataclass(frozen=True)
class Wanted:
    """All that is desired of the device, as of one moment; ``time`` is the greatest that was seen or signed."""

    documents: Mapping[str, AcceptedDocument] = field(default_factory=dict)
    goals: Mapping[str, Goal] = field(default_factory=dict)
    refused: Mapping[str, Refusal] = field(default_factory=dict)
    refused_services: Mapping[str, ServiceRefusal] = field(default_factory=dict)
    quarantined: Mapping[Digest, str] = field(default_factory=dict)
    session: int = 0
    time: float = 0.0
    endpoints: Mapping[str, EndpointGoal] = field(default_factory=dict)

    @property
    def next_sequence(self) -> int:
        """The place in the order of what was accepted that the next one gets."""
        held = {one.sequence for one in self.documents.values()} | {one.sequence for one in self.goals.values()}
        return max(held | {one.sequence for one in self.endpoints.values()}, default=0) + 1


@dataclass(frozen=True)
class Decision:
    """What comes of a document: it is accepted, or was before (``repeated``), with its goals; or it is refused.

    One that is refused and ``foreign`` is a file for another device, and nothing is wrong.
    """

    document: AcceptedDocument | None = None
    goals: Mapping[str, Goal] = field(default_factory=dict)
    refused_services: tuple[ServiceRefusal, ...] = ()
    refusal: Refusal | None = None
    repeated: bool = False
    signed_at: float | None = None
    foreign: bool = False
    endpoints: Mapping[str, EndpointGoal] = field(default_factory=dict)
