"""The state of every service: what was recorded, corrected by what its runtime and a health check show now."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace

from edge_agent.device import STORE, Device
from edge_agent.reconcile.lack import with_kills
from edge_agent.reconcile.probe import alive, probe
from edge_agent.runtimes.haproxy.front import Front
from edge_agent.runtimes.kills import NONE, Kills, kills_of
from edge_agent.state.goals import Goal, Wanted
from edge_agent.state.records import ServiceRecord
from edgepack.errors import EdgepackError
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.mediatypes import MODELS
from edgepack.oci.platforms import platform_manifest
from edgepack.oci.store import Store
from edgepack.state.reported import Answer, ReportedDocument, ReportedService, ServiceState, Stage

_ATTEMPTS = 5


def status(device: Device) -> tuple[ReportedService, ...]:
    """Every service as it is now; writes nothing: it is asked for on full and on read-only disks too."""
    services, wanted = device.recorded()
    settled = {name: _settled(device, record) for name, record in services.items()}
    found = {name: one for name, (one, _) in settled.items()}
    found |= {name: unknown(name, wanted) for name in coming(wanted) - found.keys()}
    found = {name: answered(found[name], wanted) for name in sorted(found)}
    for name, (_, kills) in settled.items():
        found[name] = with_kills(found[name], kills, services[name].current.spec.memory_bytes)
    return tuple(found.values())


def coming(wanted: Wanted) -> frozenset[str]:
    """The services that are to be, whether or not anything was done about them yet."""
    running = {name for name, goal in wanted.goals.items() if goal.spec.status == "running"}
    return frozenset(running | {*wanted.refused_services})


def unknown(name: str, wanted: Wanted) -> ReportedService:
    """The report on a service that is desired and that nothing was done about yet."""
    goal = wanted.goals.get(name)
    if goal is None:
        return ReportedService(name, ServiceState.UNSCHEDULABLE, None, None, 0, "")
    state = ServiceState.FAILED if goal.stage is Stage.FAILED else ServiceState.TRANSITIONING
    return ReportedService(name, state, goal.spec.image, None, goal.spec.port, "")


def answered(found: ReportedService, wanted: Wanted) -> ReportedService:
    """The report with how far the service is on its way, who asked for it, and the answer in a number."""
    goal, refused = wanted.goals.get(found.name), wanted.refused_services.get(found.name)
    if goal is not None:
        found = replace(
            found, stage=goal.stage, origin=goal.origin, serial=goal.serial, reason=_reason(found, goal),
            status=goal.status,
        )  # fmt: skip
    if refused is not None:
        found = replace(
            found, origin=refused.origin, serial=refused.serial, reason=refused.reason, status=refused.status
        )
    return found


def _reason(found: ReportedService, goal: Goal) -> str | None:
    """The reason that is shown: how far the goal is, and why; what was interrupted says first how to go on."""
    if found.state is not ServiceState.TRANSITIONING:
        return goal.reason or found.reason
    if goal.stage is Stage.PROBATION:
        return "it is healthy, and on probation"
    return found.reason if goal.reason is None else f"{found.reason or goal.stage} ({goal.reason})"


def documents(wanted: Wanted) -> tuple[ReportedDocument, ...]:
    """What became of the documents of each scope."""
    found = []
    for scope in sorted({*wanted.documents, *wanted.refused}):
        document, refusal = wanted.documents.get(scope), wanted.refused.get(scope)
        serial, digest = (None, None) if document is None else (document.serial, document.digest)
        if refusal is None:
            found.append(ReportedDocument(scope, serial, digest, Answer.OK))
            continue
        reason = refusal.reason if refusal.hint is None else f"{refusal.reason}; {refusal.hint}"
        found.append(ReportedDocument(scope, serial, digest, refusal.status, reason, refusal.serial, refusal.digest))
    return tuple(found)


def _settled(device: Device, record: ServiceRecord) -> tuple[ReportedService, Kills]:
    """The report on a record that did not change meanwhile, for an update may be in progress; what of it was killed."""
    for _ in range(_ATTEMPTS):
        found = _reported(device, record)
        now = device.services().get(record.name, record)
        if now == record:
            break
        record = now
    return found


def _reported(device: Device, record: ServiceRecord) -> tuple[ReportedService, Kills]:
    spec, kills = record.current.spec, NONE
    state, reason = record.state, record.reason
    if state is ServiceState.HEALTHY:
        state, reason, kills = _observed(device, record)
    elif state is ServiceState.TRANSITIONING:
        reason = (
            "a change is in progress"
            if device.busy_with(record.name)
            else "the change was interrupted; run the same command again to finish it"
        )
    last_good = None if record.last_good is None else record.last_good.spec.image
    tags, models = named(device, [spec.image, *([] if last_good is None else [last_good])])
    at = None if state in (ServiceState.STOPPED, ServiceState.REMOVED) else url(spec.address, spec.port)
    found = ReportedService(
        record.name, state, spec.image, last_good, spec.port, record.runtime, reason, tags.get(spec.image),
        None if last_good is None else tags.get(last_good), models, at,
    )  # fmt: skip
    return found, kills


def named(device: Device, images: Sequence[Digest]) -> tuple[dict[Digest, str], tuple[str, ...]]:
    """The tags of ``images`` and the models of the first; nothing where the store cannot be read.

    Of several tags the last in their order counts: ``churn:10`` is after ``churn:9``.
    """
    try:
        store = Store.open_existing(device.root / STORE)
        tags = {one.digest: tag for tag, one in sorted(store.tags().items(), key=lambda item: _order(item[0]))}
        manifest = store.manifest(platform_manifest(store, store.describe(images[0]), Platform.host()))
        labels = ImageConfig.from_bytes(store.read(manifest.config)).labels
    except (EdgepackError, OSError):
        return {}, ()
    models = labels.get(MODELS, "")
    return {image: tags[image] for image in images if image in tags}, tuple(filter(None, models.split(",")))


def _order(tag: str) -> list[tuple[int, str]]:
    """A key by which the numbers in tags are in the order of numbers."""
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", tag)]


def url(address: str, port: int) -> str:
    """Where a service that listens on ``address`` is reached from this device."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(address, address)  # noqa: S104 - compared with, not bound to
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _observed(device: Device, record: ServiceRecord) -> tuple[ServiceState, str | None, Kills]:
    spec = record.current.spec
    try:
        instance = device.runtime_named(record.runtime).inspect(record.name)
    except EdgepackError as error:
        return ServiceState.UNHEALTHY, f"{record.runtime} does not answer ({error})", NONE
    living = alive(instance, spec.memory_bytes)
    if instance is None or not living.healthy:
        return ServiceState.FAILED, living.reason, NONE
    kills = kills_of(instance)
    if instance.fault is not None or instance.image is None:
        return ServiceState.UNHEALTHY, f"it runs, but {instance.fault}; apply the desired state again", kills
    if not device.is_image(spec.image, instance.image):
        return ServiceState.UNHEALTHY, f"it runs another image, {instance.image}; apply the desired state again", kills
    health = probe(spec.address, spec.port, spec.health_path)
    if health.healthy:
        return ServiceState.HEALTHY, record.reason, kills
    front = Front(device.root)
    if front.route(record.name) is not None and not front.is_as_wanted:
        return ServiceState.UNHEALTHY, f"the router that has its port does not run ({health.reason})", kills
    return ServiceState.UNHEALTHY, health.reason, kills
