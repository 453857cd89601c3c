"""What the agent sees of each service, and the threads by which it looks and starts again."""

from __future__ import annotations

import logging
import select
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from edge_agent.daemon import observe
from edge_agent.daemon.decide import Restart, Seen
from edge_agent.daemon.observe import Look, Started
from edge_agent.device import Device
from edge_agent.reconcile.probe import Health
from edge_agent.runtimes import base
from edge_agent.state.records import ServiceRecord
from edgepack.state.reported import ServiceState

_log = logging.getLogger(__name__)
_T = TypeVar("_T")
# What cannot be watched is looked at this often: a service of an engine, one that does not run, an older kernel.
_POLL_SECONDS = 2.0
# How often a service is looked at that is watched and answers: what keeps it, such as its supervisor, may have ended.
_INSPECT_SECONDS = 60.0


@dataclass
class Known:
    """What is known of one service: the last look, the last health check, and why the last start failed.

    ``deployment`` numbers what was deployed. ``watch`` tells of the end of what runs. ``begun_at`` is when the last
    look began, ``held_at`` when the service was last seen in the hands of somebody else.
    """

    deployment: int
    look: Look | None = None
    check: tuple[float, Health] | None = None
    refused: str | None = None
    looked_at: float = float("-inf")
    inspected_at: float = float("-inf")
    begun_at: float = float("-inf")
    held_at: float = float("-inf")
    watch: base.Watch | None = None

    @property
    def is_stale(self) -> bool:
        """Whether what was seen not to run may have been started by somebody else since."""
        return self.look is not None and not self.look.alive and self.begun_at <= self.held_at


class Watch:
    """Looks at the services of ``device``; ``post`` hands a call over to the loop's thread, all else happens there."""

    def __init__(
        self,
        device: Device,
        poll: select.poll,
        post: Callable[[Callable[[], None]], None],
        clock: Callable[[], float],
        *,
        after_boot: bool,
    ) -> None:
        self._device = device
        self._poll = poll
        self._post = post
        self._clock = clock
        # Services that ended with the device's last power, and not by themselves.
        self._after_boot = after_boot
        self._met: set[str] = set()
        self.known: dict[str, Known] = {}
        self._fds: dict[int, str] = {}
        self.busy: set[str] = set()
        self.lacking: set[str] = set()
        """Services whose image has to be mended before they can be started."""
        self.changed = False
        """Whether something was seen since this was last set to False."""

    @property
    def all_met(self) -> bool:
        """Whether every service was seen running, or started again, since the agent began."""
        return self.known.keys() <= self._met

    def refresh(self, records: Mapping[str, ServiceRecord]) -> None:
        """Forget services that are gone, and what was seen of another deployment."""
        for name, known in list(self.known.items()):
            record = records.get(name)
            if record is None or record.current.id != known.deployment or not should_run(record):
                self._unwatch(known)
                del self.known[name]
                self.lacking.discard(name)
        for name, record in records.items():
            if should_run(record):
                self.known.setdefault(name, Known(record.current.id))

    def seen(self, records: Mapping[str, ServiceRecord]) -> dict[str, Seen]:
        """What is decided by, of each service that was looked at."""
        found = {}
        for name, known in self.known.items():
            look, spec = known.look, records[name].current.spec
            if look is not None:
                ended = None if self._after_boot and name not in self._met else look.ended
                found[name] = Seen(
                    spec, known.deployment, look.alive, ended, look.fault, known.check, known.refused, look.kills
                )
        return found

    @property
    def stale(self) -> frozenset[str]:
        """The services that have to be looked at before anything is decided about them."""
        return frozenset(name for name, known in self.known.items() if known.is_stale)

    def disturbed(self, names: Collection[str]) -> None:
        """The services ``names`` are in the hands of a job or of another command now: they are looked at after that."""
        now = self._clock()
        for name in names:
            if name in self.known:
                self.known[name].held_at = now

    def look_around(self, records: Mapping[str, ServiceRecord], but: Collection[str]) -> None:
        """Look at what was not looked at yet, and at what cannot be watched, except for the services ``but``."""
        now = self._clock()
        for name, known in self.known.items():
            told = known.look is not None and known.look.alive and known.watch is not None
            due = known.is_stale or now - known.looked_at >= _POLL_SECONDS
            if not told and due and name not in but:
                self.look(records[name], check=known.look is None)

    def look(self, record: ServiceRecord, *, check: bool) -> None:
        """Look at a service on a thread; with ``check`` ask for its health too."""
        name = record.name
        if name in self.busy or name not in self.known:
            return
        known, now = self.known[name], self._clock()
        known.looked_at = known.begun_at = now
        before, watch = known.look, known.watch is None
        # To look at a container costs a process, or a request to its engine.
        if check and not watch and before is not None and now - known.inspected_at < _INSPECT_SECONDS:

            def look() -> Look:
                return observe.ask(self._device, record, before, clock=self._clock)
        else:
            known.inspected_at = now

            def look() -> Look:
                return observe.look(self._device, record, check=check, watch=watch, clock=self._clock)

        self._in_thread(name, look, lambda found: self._looked(name, record.current.id, found))

    def start_again(self, action: Restart, record: ServiceRecord) -> None:
        """Start a service again on a thread, and look at it then."""
        name = action.service
        self._met.add(name)
        self._unwatch(self.known[name])

        def started(done: Started) -> None:
            known = self.known.get(name)
            if known is not None:
                known.refused = done.refused
                if done.lacking:
                    self.lacking.add(name)
                self.look(record, check=False)

        self._in_thread(name, lambda: observe.start_again(self._device, action), started)

    def ended(self, fd: int, records: Mapping[str, ServiceRecord]) -> bool:
        """A service has ended that is watched by ``fd``: look at it; False for a descriptor of something else."""
        name = self._fds.get(fd)
        if name is None:
            return False
        known = self.known[name]
        if known.watch is not None and not known.watch.ended():
            return True
        self._unwatch(known)
        known.looked_at = float("-inf")
        if name in records:
            self.look(records[name], check=False)
        return True

    def _looked(self, name: str, deployment: int, look: Look) -> None:
        known = self.known.get(name)
        if known is None or known.deployment != deployment:
            if look.watch is not None:
                look.watch.close()
            return
        self.changed = self.changed or known.look is None or _differs(known, look)
        known.look, known.looked_at = replace(look, watch=None), self._clock()
        if look.health is not None:
            known.check = (look.at, look.health)
        if look.alive:
            known.refused = None
            self._met.add(name)
            self.lacking.discard(name)
        else:
            self._unwatch(known)
        if look.watch is not None:
            known.watch = look.watch
            self._fds[look.watch.fileno()] = name
            self._poll.register(look.watch.fileno(), select.POLLIN)

    def _unwatch(self, known: Known) -> None:
        if known.watch is not None:
            fd = known.watch.fileno()
            self._poll.unregister(fd)
            del self._fds[fd]
            known.watch.close()
            known.watch = None

    def _in_thread(self, name: str, work: Callable[[], _T], then: Callable[[_T], None]) -> None:
        self.busy.add(name)

        def run() -> None:
            try:
                done = work()
            except Exception:  # noqa: BLE001 - the outermost edge of a thread: it is looked at again
                _log.exception("service %s cannot be looked after", name)
                self._post(lambda: self.busy.discard(name))
                return
            self._post(lambda: self._done(name, done, then))

        try:
            threading.Thread(target=run, name=name, daemon=True).start()
        except RuntimeError as error:  # the device has no more threads, or no memory, to give
            _log.warning("service %s cannot be looked at: %s", name, error)
            self.busy.discard(name)

    def _done(self, name: str, done: _T, then: Callable[[_T], None]) -> None:
        self.busy.discard(name)
        then(done)


def should_run(record: ServiceRecord) -> bool:
    """Whether the service is on record as one that runs, and nothing is being changed about it."""
    return record.state is ServiceState.HEALTHY and record.current.spec.status == "running"


def _differs(known: Known, look: Look) -> bool:
    """Whether ``look`` shows something else than what was known."""
    before = known.look
    if before is None or (look.alive, look.reason, look.ended, look.fault, look.kills) != (
        before.alive, before.reason, before.ended, before.fault, before.kills
    ):  # fmt: skip
        return True
    return look.health is not None and (known.check is None or known.check[1] != look.health)
