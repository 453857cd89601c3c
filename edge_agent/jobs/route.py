"""Bring the router of services, and those of endpoints, to what is desired of them."""

from __future__ import annotations

import logging

from edge_agent.jobs.task import Task
from edge_agent.runtimes.haproxy.front import Front
from edge_agent.traffic.keeper import Routers
from edgepack.errors import EdgepackError

_log = logging.getLogger(__name__)


def run(task: Task) -> None:
    """Settle all of them; why one is not as desired is on record, and the others are."""
    try:
        Front(task.device.root).settle()
    except EdgepackError as error:
        _log.warning("%s", error)
    for failed in Routers(task.device).settle().values():
        _log.warning("%s", failed)
