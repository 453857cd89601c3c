"""Remove what no service runs or can return to, before the disk is full."""

from __future__ import annotations

import logging

from edge_agent.jobs.task import Task
from edge_agent.reconcile.space import collect
from edgepack.text import human

_log = logging.getLogger(__name__)


def run(task: Task) -> None:
    """Remove it."""
    device = task.device
    with device.changing():
        device.make_room()
        found = collect(device, dry_run=False)
    _log.info("%s were removed from the store, with %d images", human(found.freed_bytes), len(found.images))
