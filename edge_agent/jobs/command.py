"""Judge a command, and do what it says."""

from __future__ import annotations

import base64
import logging
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import replace
from typing import Any

from edge_agent.device import PATIENCE_SECONDS, Device
from edge_agent.jobs.bring import make_runner
from edge_agent.jobs.task import Task
from edge_agent.reconcile.acceptance import error_of
from edge_agent.reconcile.commanding import Arrival, claimed_id, judge, read_command
from edge_agent.reconcile.space import collect
from edge_agent.state.goals import Refusal
from edgepack import __version__
from edgepack.errors import EdgepackError, NotFoundError
from edgepack.host.locks import LockedError
from edgepack.limits import LIMITS
from edgepack.nearness import did_you_mean
from edgepack.state.commands import LINES, Command, CommandAnswer, tail_of
from edgepack.state.reported import Answer, Stage
from edgepack.text import printable

_log = logging.getLogger(__name__)
# What is done to a service here follows no goal that the agent has a job for.
_NO_GOAL = -1


def run(task: Task) -> None:
    """Judge the command that came by a broker, and do it."""
    obey(task, base64.b64decode(task.given["data"]))


def obey(task: Task, data: bytes) -> None:
    """Refuse the command in ``data``, or take it, do it and tell the answer.

    That it is taken is on record first; then its ``status`` is told, and then it is done.
    """
    state, device = task.device.state, task.configuration.device
    now = state.time_floor(time.time())
    command = read_command(data, task.device.trust.keys())
    found = command
    if isinstance(command, Command):
        arrival = Arrival(device, now, bool(task.given.get("retained")), bool(task.given.get("again")))
        found = state.take_command(lambda taken: judge(command, taken, arrival))
    if isinstance(found, Refusal):
        _refuse(task, CommandAnswer(device, claimed_id(data), 0, time=now), command, found)
        return
    answer = CommandAnswer(
        device, found.id, Answer.OK, verb=found.verb, service=found.service, serial=found.serial, time=now
    )
    task.tell(status=int(Answer.OK), command=answer.to_json())
    _log.info("command %s (serial %d, id %s) is taken", found, found.serial, found.id)
    answer = replace(_done(task, found, answer, max(now, found.issued_at)), time=state.time_floor(time.time()))
    with suppress(EdgepackError, OSError):  # of a full disk: then the next start tells that it was begun
        state.command_done(found.serial)
    reason = "" if answer.reason is None else f": {answer.reason}"
    level = logging.INFO if answer.status == Answer.OK else logging.WARNING
    _log.log(level, "command %s (id %s): %d%s", found, found.id, answer.status, reason)
    task.tell(answer=answer.to_json())


def _refuse(task: Task, answer: CommandAnswer, command: Command | Refusal, refusal: Refusal) -> None:
    """Tell a refusal; that of a good command in a file in the log only: a stick may have those of a whole fleet."""
    reason = refusal.reason if refusal.hint is None else f"{refusal.reason}; {refusal.hint}"
    if isinstance(command, Command):
        answer = replace(answer, verb=command.verb, service=command.service, serial=command.serial)
    _log.warning("command %s refused (%d): %s", answer.id or "without an id", refusal.status, reason)
    was_begun = refusal.status is Answer.FAILED
    code = EdgepackError.exit_code if was_begun else error_of(refusal).exit_code
    answer = replace(answer, status=refusal.status, reason=reason, exit_code=code)
    if was_begun and answer.serial is not None:
        task.device.state.command_done(answer.serial)
    if isinstance(command, Command) and task.given.get("path") is not None:
        task.tell(status=int(refusal.status))
    else:
        task.tell(status=int(refusal.status), answer=answer.to_json())


def _done(task: Task, command: Command, answer: CommandAnswer, now: float) -> CommandAnswer:
    """Do what a command says that was taken at ``now``; the answer with what came of it."""
    one = task.configuration
    # It is not begun after its end, however long another command holds the service.
    patience = min(PATIENCE_SECONDS, max(command.not_after - now, 1.0))
    device = Device(one.state_dir, one.runtime, patience)
    try:
        return replace(answer, payload=_carry_out(task, device, command))
    except LockedError as error:
        status, reason, code = Answer.CONFLICT, str(error), error.exit_code
    except EdgepackError as error:
        status, reason, code = Answer.of(error), str(error), error.exit_code
    except OSError as error:
        status, reason, code = Answer.FAILED, f"{error.filename or 'the system'}: {error.strerror or error}", 1
    return replace(answer, status=status, reason=_short(reason), exit_code=code)


def _carry_out(task: Task, device: Device, command: Command) -> Mapping[str, Any]:
    name = command.service
    if name is None:
        return _of_device(device, command)
    if command.verb == "logs":
        record = device.services().get(name)
        if record is None:
            services = device.services()
            hint = did_you_mean(name, services, f"services: {', '.join(services) or 'none'}")
            raise NotFoundError(f"service {name!r} not found", where=f"device {command.device}", hint=hint)
        lines = command.lines or LINES
        return tail_of(device.runtime_named(record.runtime).logs(name, lines), lines)
    runner = make_runner(task, device)
    if name in {*device.services(), *device.state.goals()}:
        # From here on it is not ended in the middle, and nothing else is begun with the service.
        task.stage(name, Stage.SWITCHING, _NO_GOAL)
    {"restart": runner.restart, "rollback": runner.rollback, "stop": runner.stop, "start": runner.start}[command.verb](
        name
    )
    now = device.services().get(name)
    return {} if now is None else {"state": now.state.value, "image": str(now.current.spec.image)}


def _of_device(device: Device, command: Command) -> Mapping[str, Any]:
    if command.verb != "gc":
        return {"agent": __version__}
    with device.changing():
        device.make_room()
        found = collect(device, dry_run=False)
    return {"images": [str(digest) for digest, _ in found.images], "freed_bytes": found.freed_bytes}


def _short(text: str) -> str:
    text = printable(" ".join(text.split()))
    return text if len(text) <= LIMITS.reason_chars else f"{text[: LIMITS.reason_chars]}…"
