"""Judge a document, and go on with a service that it has a new goal for; a command in a file is one, too."""

from __future__ import annotations

import base64
import logging
from pathlib import Path

from edge_agent.jobs.bring import bring
from edge_agent.jobs.command import obey
from edge_agent.jobs.task import Task
from edge_agent.reconcile.acceptance import Receiver
from edge_agent.reconcile.commanding import is_command
from edge_agent.reconcile.receive import receive
from edge_agent.state.goals import Decision
from edgepack.errors import NotFoundError
from edgepack.limits import LIMITS
from edgepack.state.reported import Answer, Stage

_log = logging.getLogger(__name__)


def run(task: Task) -> None:
    """Accept the document or refuse it, tell that, and bring one of its services: that saves the start of a job."""
    data = _data(task)
    if task.given.get("path") is not None and is_command(data):
        obey(task, data)
        return
    found = _judged(task, data)
    status = int(Answer.OK if found.refusal is None else found.refusal.status)
    if found.foreign and found.refusal is not None:
        _log.info("%s is passed over: %s", task.given["where"], found.refusal.reason)
        status = int(Answer.OK)
    name = None if found.refusal is not None or found.repeated else _next(task, found)
    if name is None:
        task.tell(status=status)
    else:
        # In one line, so that the agent does not start a job of its own for the service meanwhile.
        bring(task, name, status=status)


def _next(task: Task, found: Decision) -> str | None:
    """The service of the document to go on with."""
    busy = task.given.get("busy") or ()
    goals = task.device.state.goals()
    waiting = (one for one in found.goals if one not in busy and one in goals)
    return next((one for one in waiting if goals[one].stage is Stage.WANTED), None)


def _judged(task: Task, data: bytes) -> Decision:
    one, device = task.configuration, task.device
    return receive(
        device.state, data, task.given["scope"], Receiver(one.device, one.groups), device.trust.keys(),
        signed=not one.allow_unsigned_documents,
    )  # fmt: skip


def _data(task: Task) -> bytes:
    if task.given.get("data") is not None:
        return base64.b64decode(task.given["data"])
    path = Path(task.given["path"])
    try:
        with path.open("rb") as file:
            return file.read(LIMITS.desired_state_bytes + 1)
    except FileNotFoundError:
        raise NotFoundError("was taken away", where=path, hint="put it there again") from None
