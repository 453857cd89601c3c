"""Starts a version of a service: beside the one that runs, which it then relieves, or in its place."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from edge_agent.device import Device
from edge_agent.reconcile.looking import Looking
from edge_agent.reconcile.probe import Health
from edge_agent.runtimes.base import Fronted, Relieving, Runtime
from edgepack.errors import EdgepackError, MissingPartError, RuntimeFailedError
from edgepack.state.desired import DesiredService
from edgepack.text import printable

_log = logging.getLogger(__name__)
_LAST_LINE_CHARACTERS = 200


@dataclass(frozen=True)
class Started:
    """How a start went; ``others_run``: it failed, and what ran before was not touched and runs."""

    health: Health
    others_run: bool = False


class Starting:
    """Starts versions of the services of ``device``."""

    def __init__(self, device: Device, looking: Looking) -> None:
        self._device = device
        self._looking = looking

    def start(self, spec: DesiredService, runtime: Runtime, *, runs_on: bool = False) -> Started:
        """Start ``spec`` and wait until it is healthy; what does not become healthy is ended again.

        Where two versions can be at once, what runs answers until then. Once more when what is unpacked turns out to be
        damaged, after mending it. With ``runs_on`` what runs is ``spec`` but for its keys, and is not started anew.
        """
        started = self._attempt(spec, runtime, runs_on=runs_on)
        if started.health.healthy:
            return started
        try:
            damaged = runtime.mend(self._device.manifest_of(spec.image))
        except (EdgepackError, OSError) as error:
            reason = f"{started.health.reason}; its image is damaged on the disk and cannot be mended: {error}"
            return replace(started, health=Health(False, reason))
        if not damaged:
            return started
        _log.warning("service %s: its image was damaged on the disk and is mended; starting it again", spec.name)
        return self._attempt(spec, runtime)

    def again(self, spec: DesiredService, runtime: Runtime) -> Health:
        """Start ``spec``, which is what runs, anew; it is left to run though it does not become healthy: it was good.

        Raises what ``runtime.start`` raises.
        """
        found = replace(spec, image=self._device.manifest_of(spec.image))
        if isinstance(runtime, Relieving) and self._may_be_beside(found, runtime):
            return self._relieve(found, runtime).health
        runtime.stop(spec.name)
        runtime.start(found)
        health = self._looking.wait(spec, runtime, spec.health_timeout_seconds)
        return health if health.healthy else replace(health, reason=health.reason + last_words(runtime, spec.name))

    def _attempt(self, spec: DesiredService, runtime: Runtime, *, runs_on: bool = False) -> Started:
        try:
            found = replace(spec, image=self._device.manifest_of(spec.image))
            beside = self._beside_of(found, runtime) if not runs_on else None
            if beside is None:
                if not runs_on:
                    runtime.stop(spec.name)
                beside = runtime if isinstance(runtime, Fronted) and not runs_on and runtime.fronts(found) else None
            if beside is None:
                runtime.start(found)
                health = self._looking.wait(spec, runtime, spec.health_timeout_seconds)
                if health.healthy:
                    return Started(health)
                reason = health.reason + last_words(runtime, spec.name)
        except (EdgepackError, OSError) as error:
            beside, reason = None, without_service(error, spec.name)
        # Outside of the block above: if stopping fails, the record must not say that nothing runs.
        if beside is not None:
            return self._relieve(found, beside)
        runtime.stop(spec.name)
        return Started(Health(False, reason))

    def _beside_of(self, spec: DesiredService, runtime: Runtime) -> Relieving | None:
        """The runtime, where something of the service runs and ``spec`` can be started while it does."""
        return runtime if isinstance(runtime, Relieving) and self._may_be_beside(spec, runtime) else None

    def _may_be_beside(self, spec: DesiredService, runtime: Relieving) -> bool:
        """Whether something of the service runs, and ``spec`` can be started while it does; else it is told why."""
        instance = runtime.inspect(spec.name)
        if instance is None or instance.state != "running":
            return False
        alone = runtime.alone(spec)
        if alone is None:
            return True
        level = logging.WARNING if alone.short_of_memory else logging.INFO
        _log.log(level, "service %s: it is stopped before its new version starts: %s", spec.name, alone.reason)
        return False

    def _relieve(self, spec: DesiredService, runtime: Relieving) -> Started:
        """Start ``spec`` beside what runs, if anything does, and end that when ``spec`` is healthy."""
        try:
            beside = runtime.start_beside(spec)
        except MissingPartError:  # what starts it does not answer now, which says nothing about the version
            raise
        except (EdgepackError, OSError) as error:
            return self._failed(spec, runtime, without_service(error, spec.name))
        health = self._looking.wait(spec, runtime, spec.health_timeout_seconds, beside)
        if not health.healthy:
            reason = health.reason + _last_line(beside.last_words())
            beside.discard()
            return self._failed(spec, runtime, reason)
        try:
            beside.take_over()
        except EdgepackError as error:
            beside.discard()
            return self._failed(spec, runtime, without_service(error, spec.name))
        return Started(health)

    @staticmethod
    def _failed(spec: DesiredService, runtime: Relieving, reason: str) -> Started:
        try:
            now = runtime.inspect(spec.name)
        except EdgepackError:  # it does not answer: nothing is known to have ended
            return Started(Health(False, reason), others_run=True)
        return Started(Health(False, reason), others_run=now is not None and now.state == "running")


def last_words(runtime: Runtime, service: str) -> str:
    """The last line that the service's instance wrote, as the end of a sentence; a log may hold anything."""
    return _last_line(runtime.logs(service, 5, since_start=True))


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    if not lines:
        return ""
    return f"; it last wrote: {printable(lines[-1].strip())[:_LAST_LINE_CHARACTERS]}"


def without_service(error: Exception, name: str) -> str:
    """The error's text, without the service ``name`` where that is its place, for a message that names it itself."""
    if not isinstance(error, EdgepackError):
        return str(error)
    if not isinstance(error, RuntimeFailedError) and error.where not in (None, f"service {name}"):
        return str(error)
    return error.what if error.hint is None else f"{error.what}; {error.hint}"
