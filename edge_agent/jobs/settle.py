"""Bring goals in line with the documents in force, when groups have changed or a port has become free."""

from __future__ import annotations

from edge_agent.jobs.task import Task
from edge_agent.reconcile.acceptance import Receiver
from edge_agent.reconcile.receive import settle


def run(task: Task) -> None:
    """Record what follows now; what is then to be done has jobs of its own."""
    settle(task.device.state, Receiver(task.configuration.device, task.configuration.groups))
