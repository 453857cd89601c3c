"""Commands that came by the broker: judged one at a time, done side by side, each answered on the topic of events."""

from __future__ import annotations

import base64
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edge_agent.daemon.jobs import Job
from edge_agent.link.base import Message
from edge_agent.reconcile.commanding import claimed_id
from edge_agent.state.commands import Begun
from edgepack.limits import LIMITS
from edgepack.oci.digest import Digest
from edgepack.state.commands import CommandAnswer
from edgepack.state.reported import Answer

_log = logging.getLogger(__name__)
# A broker sends no more before some are acknowledged; what comes beyond this is left for the next connection.
_MOST_WAITING = 100
# Each is a Python with libraries.
_MOST_RUNNING = 4
# How often a command is judged again whose judge did not come to an end.
_TRIES = 3


@dataclass
class _Order:
    """A command that came, and the job that judges it or does it. ``done`` is called when it is on record."""

    data: bytes
    retained: bool
    done: Callable[[], None]
    tries: int = 0
    judged: bool = False
    taken: CommandAnswer | None = None
    answered: bool = False

    def given(self) -> dict[str, Any]:
        """What the job is told on its input."""
        data = base64.b64encode(self.data).decode()
        return {"data": data, "retained": self.retained, "again": self.tries > 1}


class Commands:
    """The commands that are under way: ``start`` starts a job for one, ``answer`` takes what it told.

    ``device`` gives the name of the device, which a configuration that is read again may change.
    """

    def __init__(
        self,
        device: Callable[[], str],
        start: Callable[[Mapping[str, Any]], Job | None],
        answer: Callable[[CommandAnswer], None],
    ) -> None:
        self._device = device
        self._start = start
        self._answer = answer
        self._waiting: OrderedDict[Digest, _Order] = OrderedDict()
        self._jobs: dict[int, tuple[Digest, _Order]] = {}
        self._refused_retained: Digest | None = None

    def came(self, message: Message) -> None:
        """Judge a command when those that came before are judged, and do it then."""
        # Of what is too long to be one the beginning is enough to refuse it.
        data = message.data[: LIMITS.command_bytes + 1]
        digest = Digest.of(data)
        known = self._waiting.get(digest) or next(
            (one for key, one in self._jobs.values() if key == digest and not one.answered), None
        )
        if message.retained and digest == self._refused_retained:
            message.acknowledge()  # a broker sends it again with every connection
        elif known is None and len(self._waiting) < _MOST_WAITING:
            self._waiting[digest] = _Order(data, message.retained, message.acknowledge)
        elif known is None:
            _log.warning("a command is left to the broker: %d others wait", _MOST_WAITING)
        elif known.judged:
            message.acknowledge()  # it was sent again, with another connection
        else:
            known.done = message.acknowledge
        self.go_on()

    def go_on(self) -> None:
        """Judge the next command, when none is being judged and not too many are being done."""
        judging = any(not order.judged for _, order in self._jobs.values())
        if judging or not self._waiting or len(self._jobs) >= _MOST_RUNNING:
            return
        digest, order = self._waiting.popitem(last=False)
        order.tries += 1
        job = self._start(order.given())
        if job is None:  # no memory, no processes: with the next turn
            self._waiting[digest] = order
            self._waiting.move_to_end(digest, last=False)
        else:
            self._jobs[job.fd] = (digest, order)

    def line(self, fd: int, line: Mapping[str, Any]) -> None:
        """Take what the job at ``fd`` tells: that it is judged, and the answer. A file's command has no order here."""
        digest, order = self._jobs.get(fd, (None, None))
        if order is not None and isinstance(line.get("status"), int) and not order.judged:
            order.judged = True
            if isinstance(line.get("command"), dict):
                order.taken = CommandAnswer.of_json(line["command"])
            elif order.retained:
                self._refused_retained = digest
            order.done()
        if isinstance(line.get("answer"), dict):
            if order is not None:
                order.answered = True
            self._answer(CommandAnswer.of_json(line["answer"]))
        self.go_on()

    def ended(self, fd: int, job: Job, code: int) -> None:
        """The job at ``fd`` has ended with ``code``, after all that it told."""
        digest, order = self._jobs.pop(fd, (None, None))
        if order is None or digest is None:
            return
        if not order.judged and order.tries < _TRIES and not job.cancelled:
            self._waiting[digest] = order
            self._waiting.move_to_end(digest, last=False)
        elif order.taken is not None and not order.answered:
            self._answer(_unfinished(order.taken, f"it was begun, and its job ended with {code}"))
        elif not order.judged and not job.cancelled:  # else it comes again, to the agent that comes after
            reason = f"it cannot be judged: {job.told.get('error') or f'its job ended with {code}'}"
            _log.error("command: %s", reason)
            order.done()
            self._answer(CommandAnswer(self._device(), claimed_id(order.data), Answer.FAILED, reason, exit_code=1))
        self.go_on()

    def tell_of_left(self, left: Sequence[Begun]) -> None:
        """Answer for the commands in the middle of which the agent ended, when it ran before."""
        for one in left:
            answer = CommandAnswer(self._device(), one.id, 0, verb=one.verb, service=one.service, serial=one.serial)
            self._answer(_unfinished(answer, "it was begun, and the agent ended before it was done"))


def _unfinished(answer: CommandAnswer, reason: str) -> CommandAnswer:
    value = answer.to_json() | {"status": int(Answer.FAILED), "exit_code": 1, "payload": {}}
    return CommandAnswer.of_json(value | {"reason": f"{reason}; the reported state says what runs now"})
