"""Read the file of the configuration again."""

from __future__ import annotations

from pathlib import Path

from edge_agent.config.document import to_json
from edge_agent.config.read import read_configuration
from edge_agent.jobs.task import Task


def run(task: Task) -> None:
    """Tell the configuration; raises for a wrong one, with everything that is wrong."""
    found = read_configuration(Path(task.words[0]))
    task.tell(configuration=to_json(found))
