"""The records of services as values: ``database`` stores them, the plan decides by them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edgepack.state.desired import DesiredService
from edgepack.state.reported import ServiceState


class Outcome(StrEnum):
    """How a deployment ended. ``TRYING`` and ``RETURNING``, a rollback in progress, have not ended."""

    TRYING = "trying"
    RETURNING = "returning"
    HEALTHY = "healthy"
    FAILED = "failed"
    ROLLED_BACK = "rolled back"


@dataclass(frozen=True)
class Deployment:
    """One try at running ``spec`` by ``runtime``; later ones have larger ids."""

    id: int
    spec: DesiredService
    outcome: Outcome
    runtime: str


@dataclass(frozen=True)
class ServiceRecord:
    """A service as it was last recorded.

    ``runtime`` is the one that may have an instance of it. ``healthy`` are the deployments, ``current`` perhaps among
    them, that became healthy and were not rolled back from, newest first.
    """

    name: str
    state: ServiceState
    runtime: str
    reason: str | None
    current: Deployment
    healthy: tuple[Deployment, ...]

    @property
    def last_good(self) -> Deployment | None:
        """What a rollback returns to: the newest healthy deployment of another image than the current one.

        An interrupted rollback stays the target: repeating the command does not go back one image more. A service that
        was removed returns to what it ran.
        """
        if self.current.outcome is Outcome.RETURNING:
            return self.current
        if self.state is ServiceState.REMOVED:
            return next(iter(self.healthy), None)
        return next((one for one in self.healthy if one.spec.image != self.current.spec.image), None)

    def fallback(self, spec: DesiredService) -> Deployment | None:
        """What to roll back to when ``spec`` fails: the newest healthy deployment of anything else."""
        return next((one for one in self.healthy if one.spec != spec), None)
