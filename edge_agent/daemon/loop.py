"""The resident agent: one loop that takes what happened, decides, and starts what is to be done.

Nothing in it waits for a disk, an engine, a service or the network: threads and jobs do, and hand over what came of it.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from edge_agent.config.configuration import Configuration
from edge_agent.daemon import boots
from edge_agent.daemon.decide import Action, Bring, Cancel, Memory, Probe, Restart, View, decide
from edge_agent.daemon.errands import Errands
from edge_agent.daemon.forks import ForkServer
from edge_agent.daemon.hours import seconds_to_change
from edge_agent.daemon.inbox import Find, Inbox, watch
from edge_agent.daemon.incoming import Came
from edge_agent.daemon.links import LinkCopy, problems_of
from edge_agent.daemon.notify import Notifier
from edge_agent.daemon.publish import Publisher
from edge_agent.daemon.records import Records
from edge_agent.daemon.report import Reporter, Sight
from edge_agent.daemon.routes import Routes
from edge_agent.daemon.signals import taken
from edge_agent.daemon.time_notes import TimeNotes
from edge_agent.daemon.upgrades import Upgrades
from edge_agent.daemon.watch import Watch
from edge_agent.device import Device
from edge_agent.link.base import Link, Message
from edge_agent.reconcile.lack import told
from edge_agent.reconcile.restarts import Kind
from edge_agent.reconcile.stages import after_start
from edge_agent.state.clock import WallTime
from edge_agent.state.commands import Begun
from edge_agent.state.goals import Goal
from edgepack.errors import EdgepackError
from edgepack.host.files import make_dirs
from edgepack.state.commands import CommandAnswer
from edgepack.state.reported import Answer, ReportedDevice, ServiceState, Stage
from edgepack.state.topics import DeviceTopics, group_of, scope_of

_log = logging.getLogger(__name__)
# The longest time between two turns: how soon is seen what another command has changed.
_TURN_SECONDS = 1.0
_ENDS = frozenset({signal.SIGTERM, signal.SIGINT})
_CLOSED = frozenset({Stage.DONE, Stage.FAILED})


class Agent:
    """The agent of ``device``. ``links`` makes the link of a configuration to its broker, if it has one.

    ``file`` is what SIGHUP reads the configuration from again. ``session`` counts the agent's starts; ``after_boot`` is
    whether the device was started since an agent last ran on it, ``left`` the commands that it was in the middle of.
    """

    def __init__(
        self,
        device: Device,
        configuration: Configuration,
        file: Path | None,
        *,
        session: int,
        after_boot: bool,
        wall: WallTime,
        left: Sequence[Begun] = (),
        links: Callable[[Configuration, int, WallTime], Link | None],
        notifier: Notifier,
        version: str,
        forks: ForkServer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._device = device
        self._configuration = configuration
        self._session = session
        self._wall = wall
        self._left = left
        self._links = links
        self._notifier = notifier
        self._version = version
        self._clock = clock
        self._records = Records(device)
        self._memory = Memory()
        self._events: deque[Callable[[], None]] = deque()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._poll = select.poll()
        self._poll.register(self._wake_read, select.POLLIN)
        self._signals: set[int] = set()
        self._watch = Watch(device, self._poll, self.post, clock, after_boot=after_boot)
        self._errands = Errands(
            configuration, file, self._poll, clock, self._configure, lambda code, told: self.upgrades.ended(code, told),
            self._answered, forks,
        )  # fmt: skip
        self.upgrades = Upgrades(device.root, self._errands.upgrade, clock, os.environ)
        self._reporter = Reporter(device, configuration.device, version)
        self._publisher = self._new_publisher()
        self._link: Link | None = None
        self._inbox, self._inbox_end = Inbox((), configuration.device, ()), threading.Event()
        self._trusted = self._trust()
        self._told: dict[str, str] = {}
        self._link_copy = LinkCopy(device.root / "state")
        self._boot_noted = False
        self._settled: object = None
        self._time = TimeNotes(device, clock)
        self._routes = Routes(device, self._errands, self.post, clock)

    def run(self) -> bool:
        """Keep the device as it is to be, until SIGTERM or SIGINT; services go on running then.

        True when it ended so that another version of the agent is tried.
        """
        with taken((*_ENDS, signal.SIGHUP), self._signals, self._wake_write):
            self._read_records()
            self._errands.recover(self._interrupted())
            if any(group_of(scope) is not None for scope in self._records.wanted.documents):
                self._errands.settle()  # the groups of the configuration may be others
            self._open_link()
            self._errands.commands.tell_of_left(self._left)
            self._open_inbox()
            self._notifier.ready()
            count = len(self._records.services)
            _log.info("watching %d service%s in %s", count, "" if count == 1 else "s", self._device.root)
            try:
                while not self._signals & _ENDS and not self.upgrades.due:
                    self._turn()
            finally:
                self._close()
            return self.upgrades.due and not self._signals & _ENDS

    def post(self, event: Callable[[], None]) -> None:
        """Let the loop call ``event``; from any thread."""
        self._events.append(event)
        with suppress(OSError):  # the pipe is full: the loop wakes anyway
            os.write(self._wake_write, b"!")

    # A turn

    def _turn(self) -> None:
        now = self._clock()
        if signal.SIGHUP in self._signals:
            self._signals.discard(signal.SIGHUP)
            self._notifier.reloading()
            self._errands.read_configuration()
        self._read_records()
        if self._trusted != (trusted := self._trust()):
            self._trusted = trusted
            self._inbox.retry()
            self._errands.judge_again()
        turn = decide(self._view(now), self._memory)
        self._memory = turn.memory
        self._tell()
        for action in turn.actions:
            self._carry_out(action)
        for name in sorted(self._watch.lacking - {*self._errands.running}):
            self._watch.lacking.discard(name)
            self._errands.mend(name)
        # After what was decided: a service whose engine is slow would else be looked at all the time, and only that.
        self._watch.look_around(self._records.services, self._errands.running)
        self._errands.keep_space()
        self._errands.keep_shared()
        self._routes.look(self._records)
        self._time.note()
        self.upgrades.go_on()
        if not self._boot_noted and self._watch.all_met:
            boots.note(self._device.root)
            self._boot_noted = True
        if turn.actions or self._watch.changed or self._errands.changed or self._routes.changed:
            self._watch.changed = self._errands.changed = self._routes.changed = False
            self._publisher.due = True
        if self._link_copy.changed(self._link):
            self._publisher.due = True
        self._publisher.go_on(self._link)
        self._notifier.status(self._summary())
        if self._notifier.watchdog_seconds is not None:
            self._notifier.alive()
        longest = min(_TURN_SECONDS, (self._notifier.watchdog_seconds or 60.0) / 2)
        self._take(min(turn.wake, self._publisher.wake, now + longest) - self._clock())

    def _read_records(self, *, force: bool = False) -> None:
        if self._records.refresh(force=force):
            self._watch.refresh(self._records.services)
            self._reporter.forget_names()
            self.upgrades.look(self._records.wanted.documents, self._configuration.groups)
            self._publisher.due = True
            self._wall.learn(self._records.wanted.time)
            self._settle()

    def _settle(self) -> None:
        """Give services that were left as they were for a port their goals, when an operator may have freed it."""
        wanted = self._records.wanted
        specs = {name: goal.spec for name, goal in wanted.goals.items()} if wanted.refused_services else None
        if specs is not None and specs != self._settled:
            self._errands.settle()
        self._settled = specs

    def _trust(self) -> int:
        """What changes when another key is trusted."""
        try:
            return (self._device.root / "trust").stat().st_mtime_ns
        except OSError:
            return 0

    def _tell(self) -> None:
        """Say once in the log what a service has met that is not started again now, or that runs on."""
        specs = {name: record.current.spec for name, record in self._records.services.items()}
        left = {
            name: reason
            for name, care in self._memory.cares.items()
            if (reason := care.left or told(care.kills, specs[name].memory_bytes)) is not None
        }
        for name, reason in left.items():
            if self._told.get(name) != reason:
                _log.warning("service %s: %s", name, reason)
        self._told = left

    def _take(self, seconds: float) -> None:
        """Wait until something happens, at most ``seconds``, and take it."""
        # In whole milliseconds, and not too early: an early turn would only wait again.
        for fd, _ in self._poll.poll(max(0, int(seconds * 1000) + 1)):
            if fd == self._wake_read:
                with suppress(BlockingIOError):
                    os.read(self._wake_read, 4096)
            elif not self._watch.ended(fd, self._records.services) and self._errands.told(fd):
                self._read_records(force=True)
        while self._events:
            self._events.popleft()()

    def _view(self, now: float) -> View:
        """What is decided by. Who else changes a service is looked up only where something is to be done for it."""
        services, goals, running = self._watch.seen(self._records.services), self._open_goals(), self._errands.running
        uneasy = {name for name, seen in services.items() if not seen.alive} | {*goals}
        held = {
            name for name in uneasy - self._watch.busy if name not in running and self._device.busy_with(name)
        }  # fmt: skip
        self._watch.disturbed({*held, *running})
        busy = frozenset(self._watch.busy | held | self._errands.held | self._watch.stale)
        change = seconds_to_change(self._configuration) if goals else None
        window_at = None if change is None else now + change
        return View(now, services, goals, running, busy, window_at, os.urandom(1)[0] / 255)

    def _open_goals(self) -> dict[str, Goal]:
        return {name: goal for name, goal in self._records.wanted.goals.items() if goal.stage not in _CLOSED}

    def _interrupted(self) -> frozenset[str]:
        """The services that a crash has left in the middle of a change."""
        records, goals = self._records.services, self._records.wanted.goals
        found = {name for name, record in records.items() if record.state is ServiceState.TRANSITIONING}
        return frozenset(found | {name for name, goal in goals.items() if after_start(goal, returnable=True)})

    def _carry_out(self, action: Action) -> None:
        records = self._records.services
        match action:
            case Probe(name):
                self._watch.look(records[name], check=True)
            case Restart(name, _, trouble):
                _log.warning("service %s: %s; starting it again", name, trouble.reason)
                if trouble.kind is Kind.CRASHED and self._memory.cares[name].history.begins_to_loop:
                    self._errands.mend(name)  # what it is started from may be damaged on the disk
                else:
                    self._watch.start_again(action, records[name])
            case Bring(name):
                self._errands.bring(name, self._records.wanted.goals[name])
            case Cancel(name):
                self._errands.cancel(name)

    # What comes

    def _open_link(self) -> None:
        self._link = self._links(self._configuration, self._session, self._wall)
        if self._link is not None:
            self._link.start(lambda message: self.post(lambda: self._came(message)))
        self._publisher.again()

    def _came(self, message: Message) -> None:
        if message.topic == DeviceTopics(self._configuration.device).command:
            self._errands.commands.came(message)
            return
        scope = scope_of(message.topic, self._configuration.device, self._configuration.groups)
        if scope is None:
            _log.debug("nothing is done about a message on %s", message.topic)
            message.acknowledge()
            return
        self._errands.judge(Came(message.topic, scope, data=message.data, done=message.acknowledge))

    def _open_inbox(self) -> None:
        """Look into the inbox folders."""
        one, end = self._configuration, threading.Event()
        own = self._device.root / "inbox"
        if own in one.inbox_folders:
            with suppress(EdgepackError, OSError):  # of a disk that is full or read-only: there is nothing in it then
                make_dirs(own, 0o755)
        inbox = Inbox.kept(self._device.root / "state", one, anew=self._records.lacks_images)
        self._inbox, self._inbox_end = inbox, end

        def take(find: Find) -> None:
            taken, failed = partial(inbox.took, find), partial(inbox.failed, find)
            came = Came(str(find.path), kind=find.kind, path=find.path, taken=taken, failed=failed)
            self.post(lambda: self._errands.judge(came))

        watch(inbox, end, take)

    def _configure(self, configuration: Configuration | None) -> None:
        """Go on with another configuration; ``None`` for one that is wrong, and changes nothing."""
        self._notifier.ready()
        if configuration is None:
            _log.error("the configuration is left as it was")
            return
        before = self._configuration
        fixed = replace(configuration, state_dir=before.state_dir, runtime=before.runtime)
        if fixed != configuration:
            _log.warning("the folder of the device and its runtime change only when the agent is started again")
        self._configuration = self._errands.configuration = fixed
        if fixed != before:
            self._reporter = Reporter(self._device, fixed.device, self._version)
            self._publisher = self._new_publisher()
            self._inbox_end.set()
            self._open_inbox()
        if (fixed.broker, fixed.device, fixed.groups) != (before.broker, before.device, before.groups):
            self._close_link()
            self._open_link()
            self._errands.settle()
        _log.info("the configuration was read again")

    # What is told

    def _new_publisher(self) -> Publisher:
        one = self._configuration
        folder, topic = self._device.root / "state", DeviceTopics(one.device).reported
        return Publisher(self._report, topic, folder, one.report_seconds, self._clock)

    def _report(self) -> ReportedDevice:
        running, known = self._errands.running, self._watch.known
        sights = {
            name: Sight(
                None if (one := known.get(name)) is None else one.look,
                self._memory.cares.get(name),
                running.get(name),
                self._errands.percent(name),
            )
            for name in {*known, *running}
        }
        return self._reporter.report(
            self._records,
            sights,
            (*self._errands.problems, *self.upgrades.problems, *problems_of(self._link)),
            self._routes.reports,
            session=self._session,
            time=self._wall.now(),
        )

    def _answered(self, answer: CommandAnswer) -> None:
        """Publish what became of a command, and the reported state where that was asked for."""
        if (answer.verb, answer.status) == ("report", Answer.OK):
            self._publisher.again()
        if self._link is not None:
            self._link.publish(DeviceTopics(self._configuration.device).events, answer.to_bytes())

    def _summary(self) -> str:
        fine = sum(1 for one in self._watch.known.values() if one.look is not None and one.look.alive)
        link = "" if self._link is None else f", broker {self._link.status.state.value}"
        return f"{fine} of {len(self._records.services)} services run{link}"

    # Beginning and end

    def _close_link(self) -> None:
        if self._link is not None:
            self._link.close()
        self._link = None

    def _close(self) -> None:
        if self.upgrades.due and not self._signals & _ENDS:
            self._notifier.reloading()
            _log.info("making way for another version; services go on running")
        else:
            self._notifier.stopping()
            _log.info("ending; services go on running")
        self._inbox_end.set()
        self._errands.close()
        self._close_link()
