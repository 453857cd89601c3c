"""The states of services by the contract's names, derived from what a target reports. Nothing here does I/O."""

from __future__ import annotations

from enum import StrEnum

from packager.services.configuration.values import ComputeType


class State(StrEnum):
    """What a service is in, wherever it runs. The last two are final."""

    TRANSITIONING = "Transitioning"
    UNHEALTHY = "Unhealthy"
    UNSCHEDULABLE = "Unschedulable"
    FAILED = "Failed"
    HEALTHY = "Healthy"
    UNKNOWN = "Unknown"
    DELETED = "Deleted"


# Azure's local services have words of their own.
_LOCAL = {
    State.TRANSITIONING: "deploying",
    State.UNHEALTHY: "running",
    State.UNSCHEDULABLE: "failed",
    State.FAILED: "failed",
    State.HEALTHY: "running",
    State.UNKNOWN: "unknown",
    State.DELETED: "deleted",
}
# What a device reports of a service.
_REPORTED = {
    "Downloading": State.TRANSITIONING,
    "Staged": State.TRANSITIONING,
    "Waiting": State.TRANSITIONING,
    "Shadowing": State.TRANSITIONING,
    "Probation": State.TRANSITIONING,
    "Transitioning": State.TRANSITIONING,
    "Healthy": State.HEALTHY,
    "Unhealthy": State.UNHEALTHY,
    "Unschedulable": State.UNSCHEDULABLE,
    "Failed": State.FAILED,
    "Stopped": State.UNHEALTHY,
    "Removed": State.DELETED,
}


def reported(state: str) -> State:
    """The state of a service of which a device reports ``state``."""
    return _REPORTED.get(state, State.UNKNOWN)


def spelled(state: State, compute_type: ComputeType) -> str:
    """How Azure's classes spell ``state`` for a service of that kind."""
    return _LOCAL[state] if compute_type is ComputeType.LOCAL else state.value
