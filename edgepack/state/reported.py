"""Reported state: what a device runs, and the reason where it differs from the desired state."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from edgepack.oci.digest import Digest


class ServiceState(StrEnum):
    """The state of a service; the names are Azure's, and ``Stopped`` for one that was stopped on request."""

    TRANSITIONING = "Transitioning"
    HEALTHY = "Healthy"
    UNHEALTHY = "Unhealthy"
    UNSCHEDULABLE = "Unschedulable"
    FAILED = "Failed"
    STOPPED = "Stopped"


@dataclass(frozen=True)
class ReportedService:
    """A service. ``last_good`` is the image that ``rollback`` returns to: the last one that was healthy before this.

    ``tag`` and ``last_good_tag`` are what these images were called when they were imported, ``models`` what the image
    serves, such as ``churn:2``, as far as the device knows; ``url`` is where the service answers on this device,
    None for one that was stopped.
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
        }
