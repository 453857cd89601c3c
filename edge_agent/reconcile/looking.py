"""What is seen of the services of a device: whether they run, answer, and are what they are to be."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from edge_agent.device import Device
from edge_agent.reconcile.lack import told
from edge_agent.reconcile.probe import Health, alive, probe, wait_healthy
from edge_agent.runtimes.base import Beside, Instance, Runtime
from edge_agent.runtimes.kills import kills_of
from edge_agent.state.records import ServiceRecord
from edgepack.errors import EdgepackError
from edgepack.state.desired import DesiredService
from edgepack.state.reported import ServiceState

_log = logging.getLogger(__name__)
# A running service has this long to answer before it is started again.
_PATIENCE_SECONDS = 5.0


@dataclass(frozen=True)
class Clock:
    """A clock that tests can replace."""

    now: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Looking:
    """What is seen of the services of ``device``."""

    def __init__(self, device: Device, clock: Clock) -> None:
        self._device = device
        self._clock = clock

    def healthy(self, specs: Sequence[DesiredService], services: Mapping[str, ServiceRecord]) -> frozenset[str]:
        """The services that run as ``specs`` say, by the right runtime, and are healthy."""
        return frozenset(spec.name for spec in specs if self._is_healthy(spec, services.get(spec.name)))

    def _is_healthy(self, spec: DesiredService, record: ServiceRecord | None) -> bool:
        if record is None or record.state is not ServiceState.HEALTHY or record.current.spec != spec:
            return False
        runtime = self._device.runtime_for(record)
        patience = min(_PATIENCE_SECONDS, spec.health_timeout_seconds)
        if runtime.name != record.runtime or not self.wait(spec, runtime, patience).healthy:
            return False
        instance = runtime.inspect(spec.name)
        if instance is None or instance.image is None or instance.fault is not None:
            return False
        return self._device.is_image(spec.image, instance.image)

    def runs(self, record: ServiceRecord) -> bool:
        """Whether the service has an instance that runs."""
        instance = self._device.runtime_named(record.runtime).inspect(record.name)
        return instance is not None and instance.state == "running"

    def once(self, spec: DesiredService, runtime: Runtime) -> Health:
        """The health of a service that ``runtime`` runs, now."""
        living = alive(runtime.inspect(spec.name), spec.memory_bytes)
        return probe(spec.address, spec.port, spec.health_path) if living.healthy else living

    def wait(self, spec: DesiredService, runtime: Runtime, timeout: float, beside: Beside | None = None) -> Health:
        """Wait until the service is healthy, or has ended, or for ``timeout`` seconds.

        It is the version ``beside`` the one that runs, where there is one.
        """
        last: list[Instance | None] = [None]
        connect = None if beside is None else beside.connect

        def look() -> Health | None:
            try:
                last[0] = runtime.inspect(spec.name) if beside is None else beside.inspect()
            except EdgepackError as error:  # an engine that does not answer now says nothing about the service
                _log.info("service %s cannot be looked at now: %s", spec.name, error)
                return None
            return alive(last[0], spec.memory_bytes)

        health = wait_healthy(
            lambda: probe(spec.address, spec.port, spec.health_path, connect=connect),
            look,
            timeout,
            clock=self._clock.now,
            sleep=self._clock.sleep,
        )
        if health.healthy or last[0] is None or last[0].state != "running":
            return health
        # Its server may run on and have no worker that lives: what there was no memory for is why.
        lacks = told(kills_of(last[0]), spec.memory_bytes)
        return health if lacks is None else replace(health, reason=f"{health.reason}; {lacks}")
