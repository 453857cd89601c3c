"""Take a service to its goal, as far as it goes now."""

from __future__ import annotations

import sys
from typing import Any

from edge_agent.device import Device
from edge_agent.jobs.task import Task
from edge_agent.reconcile.bring import Rules
from edge_agent.reconcile.progress import EVENT
from edge_agent.reconcile.runner import Runner
from edge_agent.sources.sources import Sources
from edgepack.state.reported import Stage


def run(task: Task) -> None:
    """Bring the service that is named."""
    (name,) = task.words
    bring(task, name)


def bring(task: Task, service: str, **more: Any) -> None:
    """Bring ``service``, telling each stage once it is on record, and how much of a download is done.

    ``more`` is told with the first of them.
    """
    device = task.device
    goal = device.state.goals().get(service)
    if goal is None:  # it was taken back meanwhile
        task.tell(**more)
        return
    number = goal.number
    task.stage(service, goal.stage, number, **more)
    told = [-1]

    def on_stage(event: str, arguments: tuple[Any, ...]) -> None:
        if event == EVENT:
            task.stage(arguments[0], Stage(arguments[1]), number)

    def on_bytes(name: str, done: int, total: int) -> None:
        percent = 100 * done // total if total else 100
        if percent != told[0]:
            told[0] = percent
            task.stage(name, Stage.DOWNLOADING, number, percent=percent)

    sys.addaudithook(on_stage)
    runner = make_runner(task)
    runner.bring(service, Sources.of(device, task.configuration), on_bytes)


def make_runner(task: Task, device: Device | None = None) -> Runner:
    """A runner by the rules of the configuration, for the task's device with the patience that it usually has."""
    one = task.configuration
    return Runner(device or task.device, allow_unsigned=one.allow_unsigned_images, rules=Rules.of(one))
