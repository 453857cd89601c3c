"""The jobs of the resident agent: which ones run, what they have told, and what came and is to be judged."""

from __future__ import annotations

import logging
import os
import select
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_agent.config.configuration import Configuration, Share
from edge_agent.config.document import from_json, to_json
from edge_agent.daemon import jobs
from edge_agent.daemon.commands import Commands
from edge_agent.daemon.decide import Running
from edge_agent.daemon.forks import ForkServer
from edge_agent.daemon.incoming import Came, Queue
from edge_agent.daemon.jobs import Job
from edge_agent.reconcile.acceptance import WantedAgent
from edge_agent.state.goals import Goal
from edgepack.limits import LIMITS
from edgepack.state.commands import CommandAnswer
from edgepack.state.reported import Answer, ReportedProblem, Stage

_log = logging.getLogger(__name__)
# How often a document is judged again whose judge did not come to an end.
_TRIES = 3
_DISK_SECONDS = 60.0
# A job that shares the store and ended, on a port that is taken for one, is started again no sooner.
_SHARE_SECONDS = 60.0
# A collection that made no room is not repeated at once.
_COLLECT_SECONDS = 900.0
# How long the end of the agent waits for jobs that exchange a service: ended now they would leave it stopped.
_SWITCH_SECONDS = 30.0
_EXCHANGING = frozenset({Stage.SWITCHING, Stage.RETURNING})
# The numbers for the exit codes of jobs: wrong input, not found, verification failed; anything else has failed.
_STATUS = {2: Answer.INVALID, 3: Answer.PRECONDITION_FAILED, 4: Answer.PRECONDITION_FAILED}
_MOST_PROBLEMS = 10


@dataclass
class _Judging:
    came: Came
    tries: int


class Errands:
    """The jobs for the device's services, and of the device."""

    def __init__(
        self,
        configuration: Configuration,
        file: Path | None,
        poll: select.poll,
        clock: Callable[[], float],
        on_configuration: Callable[[Configuration | None], None],
        on_upgrade: Callable[[int, Mapping[str, Any]], None],
        on_answer: Callable[[CommandAnswer], None],
        forks: ForkServer | None = None,
    ) -> None:
        self.configuration = configuration
        self.commands = Commands(
            lambda: self.configuration.device, lambda given: self._start("command", (), given), on_answer
        )
        self._file = file
        self._poll = poll
        self._clock = clock
        self._forks = forks
        self._on_configuration = on_configuration
        self._on_upgrade = on_upgrade
        self._jobs: dict[int, Job] = {}
        self._services: dict[str, tuple[Job, Running]] = {}
        self._percent: dict[str, int] = {}
        self._queue = Queue()
        self._judging: tuple[Job, _Judging] | None = None
        self._disk_at = 0.0
        self._collect_at = 0.0
        self._sharing: tuple[Job, Share] | None = None
        self._share_at = 0.0
        self._recovering: frozenset[str] = frozenset()
        self._routing: Job | None = None
        self._problems: OrderedDict[str, ReportedProblem] = OrderedDict()
        self.changed = False
        """Whether a job has told something since this was last set to False."""

    @property
    def running(self) -> dict[str, Running]:
        """The services that have a job, and how far it is."""
        return {name: running for name, (_, running) in self._services.items()}

    @property
    def held(self) -> frozenset[str]:
        """The services that nothing else is done to until what a crash has interrupted is put right."""
        return self._recovering

    def percent(self, service: str) -> int | None:
        """How much of a service's download is done."""
        return self._percent.get(service)

    @property
    def problems(self) -> tuple[ReportedProblem, ...]:
        """What came last and could not be taken, by where it came from."""
        return tuple(self._problems.values())

    # Starting

    def settle(self) -> None:
        """Bring goals in line with the documents in force."""
        self._start("settle", ())

    def recover(self, services: frozenset[str]) -> None:
        """Put right what a crash of the agent, or of the device, has interrupted of ``services``."""
        if services and self._start("recover", ()) is not None:
            self._recovering = services

    def bring(self, service: str, goal: Goal) -> None:
        """Take a service to its goal."""
        self._of_service("bring", service, Running(goal.number, goal.stage))

    def mend(self, service: str) -> None:
        """Put what a service is started from in order, and start it."""
        self._of_service("mend", service, Running(-1, Stage.STAGED))

    def cancel(self, service: str) -> None:
        """End the job of a service that has not changed anything yet."""
        job, _ = self._services[service]
        if not job.cancelled:
            jobs.cancel(job)

    def judge(self, came: Came) -> None:
        """Judge a document, or import a bundle, when those that came before are done."""
        self._queue.put(came)
        self._judge_next()

    def judge_again(self) -> None:
        """Judge again what came by a broker and was refused."""
        self._queue.retry()
        self._judge_next()

    def read_configuration(self) -> None:
        """Read the file of the configuration again; a wrong one changes nothing."""
        if self._file is None:
            _log.warning("the agent was started without a file of a configuration, which it could read again")
            self._on_configuration(None)
        elif self._start("configuration", (str(self._file),)) is None:
            self._on_configuration(None)

    def upgrade(self, wanted: WantedAgent) -> bool:
        """Bring another version of the agent, and let it be tried; whether a job does so."""
        return self._start("upgrade", (str(wanted.image), str(wanted.document))) is not None

    def route(self) -> None:
        """Bring the routers of endpoints to what is desired, unless a job does so."""
        if self._routing is None:
            self._routing = self._start("route", ())

    @property
    def is_routing(self) -> bool:
        """Whether a job does so."""
        return self._routing is not None

    def keep_space(self) -> None:
        """Collect garbage before the disk is full."""
        now = self._clock()
        if now < self._disk_at:
            return
        self._disk_at = now + _DISK_SECONDS
        try:
            disk = os.statvfs(self.configuration.state_dir)
        except OSError:
            return
        if disk.f_bavail * disk.f_frsize < self.configuration.floor_bytes and now >= self._collect_at:
            self._collect_at = now + _COLLECT_SECONDS
            _log.info("less than %d bytes are free: removing what nothing needs", self.configuration.floor_bytes)
            self._start("collect", ())

    def keep_shared(self) -> None:
        """Serve the device's store to others where the configuration says so, and as it says now."""
        wanted, now = self.configuration.share, self._clock()
        if self._sharing is not None:
            job, given = self._sharing
            if given != wanted and not job.cancelled:
                self._share_at = now
                jobs.cancel(job)
        elif wanted is not None and now >= self._share_at:
            self._share_at = now + _SHARE_SECONDS
            job_or_none = self._start("share", ())
            self._sharing = None if job_or_none is None else (job_or_none, wanted)

    def _start(self, verb: str, words: tuple[str, ...], given: Mapping[str, Any] | None = None) -> Job | None:
        try:
            given = {"configuration": to_json(self.configuration), **(given or {})}
            job = jobs.start(verb, words, given, self._forks)
        except OSError as error:  # no memory, no processes
            _log.error("the job %s cannot be started: %s", verb, error)
            return None
        self._jobs[job.fd] = job
        self._poll.register(job.fd, select.POLLIN)
        return job

    def _of_service(self, verb: str, service: str, running: Running) -> None:
        job = self._start(verb, (service,))
        if job is not None:
            self._services[service] = (job, running)

    def _judge_next(self) -> None:
        if self._judging is not None:
            return
        came = self._queue.next()
        if came is not None:
            self._try_to_judge(_Judging(came, 0))

    def _try_to_judge(self, judging: _Judging) -> None:
        job = self._start(judging.came.verb, (), {**judging.came.given(), "busy": [*self._services]})
        judging.tries += 1
        if job is not None:
            self._judging = (job, judging)
        else:
            self._queue.put(judging.came)

    # What they tell

    def told(self, fd: int) -> bool:
        """Take what a job tells on ``fd``; False for a descriptor of something else."""
        job = self._jobs.get(fd)
        if job is None:
            return False
        if not jobs.take(job, lambda line: self._line(job, line)):
            self._poll.unregister(fd)
            del self._jobs[fd]
            code = jobs.finish(job)
            self._ended(job, code)
            self.commands.ended(fd, job, code)
        return True

    def _line(self, job: Job, line: Mapping[str, Any]) -> None:
        self.changed = True
        self.commands.line(job.fd, line)
        service, stage = line.get("service"), line.get("stage")
        if isinstance(service, str) and stage in list(Stage):
            number = line.get("number")
            known = self._services.get(service)
            if known is None and isinstance(number, int):
                # Who judged a document goes on with a service of it.
                self._services[service] = (job, Running(number, Stage(str(stage))))
            elif known is not None and known[0] is job:
                self._services[service] = (job, Running(known[1].number, Stage(str(stage))))
            percent = line.get("percent")
            if isinstance(percent, int):
                self._percent[service] = percent
        if self._judging is not None and self._judging[0] is job and isinstance(line.get("status"), int):
            came = self._judging[1].came
            self._judging = None
            self._problems.pop(came.where, None)
            self._queue.judged(came, taken=line["status"] == 200)
            self._judge_next()

    def _ended(self, job: Job, code: int) -> None:
        self.changed = True
        for service in [name for name, (one, _) in self._services.items() if one is job]:
            del self._services[service]
            self._percent.pop(service, None)
        if code != 0 and not job.cancelled:
            _log.warning("the job %s ended with %d", job, code)
        if self._sharing is not None and self._sharing[0] is job:
            self._sharing = None
        if self._routing is job:
            self._routing = None
        if job.verb == "recover":
            self._recovering = frozenset()
        if job.verb == "upgrade":
            self._on_upgrade(code, job.told)
        if job.verb == "configuration":
            value = job.told.get("configuration")
            self._on_configuration(from_json(value) if code == 0 and isinstance(value, dict) else None)
        if self._judging is not None and self._judging[0] is job:
            judging, self._judging = self._judging[1], None
            if judging.tries < _TRIES and job.verb == "accept":
                self._try_to_judge(judging)
            else:
                self._note(judging.came, job, code)
                self._queue.judged(judging.came, taken=code == 0)
        self._judge_next()

    def _note(self, came: Came, job: Job, code: int) -> None:
        """Remember why ``came`` could not be taken, or that it was."""
        self._problems.pop(came.where, None)
        if code != 0:
            reason = str(job.told.get("error") or f"the job {job} ended with {code}")[: LIMITS.reason_chars]
            self._problems[came.where] = ReportedProblem(came.where, _STATUS.get(code, Answer.FAILED), reason)
            if len(self._problems) > _MOST_PROBLEMS:
                self._problems.popitem(last=False)

    # The end

    def close(self) -> None:
        """End the jobs: those that only prepare at once, those that exchange a service when they have."""
        for job in self._jobs.values():
            if not self._exchanges(job):
                jobs.cancel(job)
        end = time.monotonic() + _SWITCH_SECONDS
        while self._jobs and (left := end - time.monotonic()) > 0:
            told = select.poll()  # of jobs alone: nothing else is taken any more
            for fd in self._jobs:
                told.register(fd, select.POLLIN)
            for fd, _ in told.poll(left * 1000):
                self.told(fd)
            for job in self._jobs.values():
                if not self._exchanges(job) and not job.cancelled:
                    jobs.cancel(job)

    def _exchanges(self, job: Job) -> bool:
        return any(one is job and running.stage in _EXCHANGING for one, running in self._services.values())
