"""When the agent sees to routers, of endpoints and of services: they are looked at here, and changed by a job."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING

from edge_agent.daemon.errands import Errands
from edge_agent.daemon.records import Records
from edge_agent.device import Device
from edge_agent.runtimes.haproxy.front import Front
from edge_agent.state.goals import Wanted
from edge_agent.state.records import ServiceRecord
from edgepack.errors import EdgepackError
from edgepack.state.reported_endpoints import ReportedEndpoint

if TYPE_CHECKING:
    from edge_agent.traffic.keeper import Routers

_log = logging.getLogger(__name__)
# How often routers are asked what their versions have answered.
_ASK_SECONDS = 10.0
_RETRY_SECONDS, _MOST_RETRY_SECONDS = 1.0, 60.0


class Routes:
    """Lets a job of ``errands`` bring routers to what is desired whenever they are not.

    ``post`` lets the loop call something.
    """

    def __init__(
        self,
        device: Device,
        errands: Errands,
        post: Callable[[Callable[[], None]], None],
        clock: Callable[[], float],
    ) -> None:
        self._device = device
        self._errands = errands
        self._post = post
        self._clock = clock
        self._settled: object = None
        self._due_at = self._ask_at = 0.0
        self._tries = 0
        self._is_asking = False
        self._routers: Routers | None = None
        self._front = Front(device.root)
        self._front_due_at = 0.0
        self._front_tries = 0
        self.reports: tuple[ReportedEndpoint, ...] = ()
        """How endpoints were when they were last looked at."""
        self.changed = False
        """Whether that has changed, but for the counts, since this was last set to False."""

    def look(self, records: Records) -> None:
        """Begin what is to be done now."""
        wanted, now = records.wanted, self._clock()
        self._look_at_front(now)
        if not wanted.endpoints:
            return
        if self._routers is None:  # nothing of it is in memory on a device without endpoints
            from edge_agent.traffic.keeper import Routers

            self._routers = Routers(self._device)
        if self._errands.is_routing:  # what is seen now is neither the one nor the other
            return
        mark = _mark(records.services, wanted)
        if now >= self._due_at and (mark != self._settled or self._routers.dead(wanted)):
            self._tries = 1 if mark != self._settled else self._tries + 1
            self._settled = mark
            # One that dies again and again, or cannot be started, is not started all the time.
            self._due_at = now + min(_RETRY_SECONDS * 2.0 ** (self._tries - 1), _MOST_RETRY_SECONDS)
            self._ask_at = now
            self._errands.route()
            return
        if now >= self._due_at + _MOST_RETRY_SECONDS:
            self._tries = 0
        if now >= self._ask_at and not self._is_asking:
            self._ask_at, self._is_asking = now + _ASK_SECONDS, True
            threading.Thread(
                target=self._ask, args=(self._routers, records.services, wanted), name="routers", daemon=True
            ).start()

    def _look_at_front(self, now: float) -> None:
        """Start the router that services of an engine are behind, where it has ended."""
        if self._errands.is_routing or now < self._front_due_at:
            return
        if not self._front.is_as_wanted:
            self._front_tries += 1
            self._front_due_at = now + min(_RETRY_SECONDS * 2.0 ** (self._front_tries - 1), _MOST_RETRY_SECONDS)
            self._errands.route()
        elif now >= self._front_due_at + _MOST_RETRY_SECONDS:
            self._front_tries = 0

    def _ask(self, routers: Routers, services: Mapping[str, ServiceRecord], wanted: Wanted) -> None:
        found: tuple[ReportedEndpoint, ...] | None = None
        with suppress(EdgepackError, OSError):
            found = routers.report(services, wanted)
        self._post(lambda: self._asked(found))

    def _asked(self, found: tuple[ReportedEndpoint, ...] | None) -> None:
        self._is_asking = False
        if found is not None:
            self.changed = self.changed or [one.uncounted for one in found] != [one.uncounted for one in self.reports]
            self.reports = found


def _mark(services: Mapping[str, ServiceRecord], wanted: Wanted) -> object:
    """What routers depend on."""
    names = {name for goal in wanted.endpoints.values() for name in goal.spec.weights}
    known = {name: (services[name].state, services[name].current.spec) for name in names if name in services}
    return dict(wanted.endpoints), known, {name: goal.spec for name, goal in wanted.goals.items() if name in names}
