"""Serve the device's own store to others, for as long as the agent runs."""

from __future__ import annotations

from edge_agent.jobs.task import Task
from edge_agent.sources.share import share


def run(task: Task) -> None:
    """Share as the configuration says."""
    given = task.configuration.share
    if given is not None:
        share(task.configuration.state_dir, given)
