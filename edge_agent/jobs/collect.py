"""Make room before the disk is full."""

from __future__ import annotations

import logging

from edge_agent.jobs.task import Task
from edge_agent.reconcile.space import relieve
from edgepack.text import human

_log = logging.getLogger(__name__)


def run(task: Task) -> None:
    """Remove what ran before and belongs to nothing; what somebody imported to run it later stays."""
    freed = relieve(task.device, task.configuration.floor_bytes)
    _log.info("the disk is getting full; %s were given back", human(freed))
