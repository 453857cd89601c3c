"""Put right what a crash of the agent, or of the device, has interrupted."""

from __future__ import annotations

from edge_agent.jobs.bring import make_runner
from edge_agent.jobs.task import Task


def run(task: Task) -> None:
    """Let every goal go on where a start after a crash lets it; what is then to be done has jobs of its own."""
    make_runner(task).recover()
