"""What a device reports, as observations of its services. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Iterable

from edgepack.errors import RuntimeFailedError
from edgepack.state.reported import ReportedDevice, ReportedDocument, ReportedService, ServiceState, Stage
from packager.services.service import Service
from packager.services.states import State, reported
from packager.services.targets.base import Observation


def taken_serial(documents: Iterable[ReportedDocument], scope: str) -> int:
    """The serial of the last document of ``scope`` that the device has taken; 0 without one."""
    return max((one.serial or 0 for one in documents if one.scope == scope), default=0)


def has_taken(device: ReportedDevice, serial: int) -> bool:
    """Whether the device has taken its document ``serial``, or a later one; raises ``RuntimeFailedError`` where it
    refused that one."""
    refused = next((one for one in device.documents if one.refused_serial == serial), None)
    if refused is not None:
        what = f"refused the document ({int(refused.status)}): {refused.reason}"
        raise RuntimeFailedError(what, where=f"device {device.device}")
    return taken_serial(device.documents, "device") >= serial


def observed(service: Service, services: Iterable[ReportedService], note: str = "") -> Observation:
    """How ``service`` is, as a device reports all of its ``services``; ``note`` is said beside the reason."""
    found = next((one for one in services if one.name == service.name), None)
    if found is None:
        return Observation(State.DELETED, note or None)
    if found.stage not in (None, Stage.DONE, Stage.FAILED):
        percent = "" if found.percent is None else f", {found.percent} %"
        return Observation(State.TRANSITIONING, joined(f"{found.stage}{percent}", note), found.digest, found.port)
    return Observation(reported(found.state.value), joined(found.reason, note), found.digest, found.port)


def joined(*sentences: str | None) -> str | None:
    """What is said of them, in one; ``None`` where nothing is."""
    return "; ".join(filter(None, sentences)) or None


def has_ended(found: ReportedService, serial: int) -> bool:
    """Whether the device has done what document ``serial`` says of the service, or given up."""
    if found.stage not in (Stage.DONE, Stage.FAILED) or (found.serial or 0) < serial:
        return False
    # Else the agent has not looked yet how it is.
    return found.state is not ServiceState.TRANSITIONING
