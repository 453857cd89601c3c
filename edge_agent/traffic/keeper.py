"""The routers of a device are brought to what is desired of its endpoints, and looked at."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from edge_agent.device import Device
from edge_agent.runtimes.haproxy.process import CONFIGURATION, find_program, user
from edge_agent.state.goals import EndpointGoal, Wanted
from edge_agent.state.records import ServiceRecord
from edge_agent.traffic.control import Seen
from edge_agent.traffic.process import RouterProcess
from edge_agent.traffic.router import (
    BUCKETS,
    Router,
    buckets,
    configuration,
    read_buckets,
    router_of,
    write_buckets,
)
from edgepack.errors import EdgepackError, RuntimeFailedError
from edgepack.host.files import atomic_write, discard, make_dirs, temporary_beside
from edgepack.host.locks import locked_within
from edgepack.state.desired import DesiredService
from edgepack.state.endpoints import DesiredEndpoint
from edgepack.state.reported import ServiceState
from edgepack.state.reported_endpoints import EndpointState, ReportedEndpoint, ReportedVersion

_log = logging.getLogger(__name__)
FOLDER = "endpoints"
_LOCK = ".lock"
_REASON = "reason"
# What HAProxy reads before it counts.
_CHECK = "check"
_PATIENCE_SECONDS = 120.0
# Nothing of a service in these states runs.
_GONE = (ServiceState.STOPPED, ServiceState.REMOVED)


class Routers:
    """The routers of ``device``, one process an endpoint."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._root = device.root / FOLDER

    @property
    def exist(self) -> bool:
        """Whether there is anything to look at: a device without endpoints has not even their folder."""
        return self._root.is_dir()

    def check(self, endpoints: Iterable[DesiredEndpoint], specs: Iterable[DesiredService]) -> None:
        """Raise ``EdgepackError`` where HAProxy is missing or does not take an endpoint; nothing is changed."""
        wanted = [one for one in endpoints if one.status == "running"]
        if not wanted:
            return
        find_program()
        self._device.create()
        known = {spec.name: spec for spec in specs}
        for one in wanted:
            router = router_of(one, {}, known, user())
            self._check(router, write_buckets(buckets(router.shares)))

    def settle(self, names: Iterable[str] | None = None) -> dict[str, EdgepackError]:
        """Bring the endpoints ``names``, or all, to what is desired of them; returns what failed."""
        failed: dict[str, EdgepackError] = {}
        if not self._device.recorded()[1].endpoints:
            return failed
        with self._locked():
            services, wanted = self._device.recorded()
            for name, goal in wanted.endpoints.items():
                if names is not None and name not in names:
                    continue
                try:
                    self._settle(goal, services, wanted)
                except (EdgepackError, OSError) as error:
                    told = error if isinstance(error, EdgepackError) else RuntimeFailedError(
                        f"its router cannot be kept ({error})", where=f"endpoint {name}"
                    )  # fmt: skip
                    self._remember(name, told.what)
                    failed[name] = told
                else:
                    self._remember(name, None)
        return failed

    def _settle(self, goal: EndpointGoal, services: Mapping[str, ServiceRecord], wanted: Wanted) -> None:
        name, folder = goal.spec.name, self._root / goal.spec.name
        process = RouterProcess(folder, name)
        if goal.spec.status == "removed":
            if folder.is_dir():
                process.stop()
                discard(folder)
                _log.info("endpoint %s: removed", name)
            return
        find_program()
        router = _router(goal.spec, services, wanted)
        map_file = folder / BUCKETS
        before = read_buckets(map_file.read_text()) if map_file.exists() else {}
        after = buckets(router.shares, before)
        running = process.running()
        if not _is_file(folder / CONFIGURATION, configuration(router)) or running is None:
            self._check(router, write_buckets(after))
            process.write(router, write_buckets(after))
        elif before != after:
            atomic_write(map_file, write_buckets(after).encode(), 0o600)
        if running is not None and running.structure == router.structure:
            try:
                process.control.change(router, after)
            except RuntimeFailedError as error:
                _log.warning("endpoint %s: %s; its router is started anew", name, error)
            else:
                return
        process.start(router.structure)
        shares = ", ".join(f"{version} {share} %" for version, share in router.shares.items())
        _log.info("endpoint %s: its router runs (%s)", name, shares or "no version is there yet")

    def _check(self, router: Router, text: str) -> None:
        make_dirs(self._root, 0o700)
        with temporary_beside(self._root / _CHECK) as folder:
            process = RouterProcess(folder, router.endpoint.name)
            process.write(router, text)
            process.check()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        def tell(holder: str) -> None:
            _log.info("%s is changing endpoints; waiting until it is done", holder)

        self._device.create()
        make_dirs(self._root, 0o700)
        with locked_within(self._root / _LOCK, _PATIENCE_SECONDS, tell):
            yield

    def _remember(self, name: str, reason: str | None) -> None:
        """Keep why an endpoint is not as desired, for who asks how it is."""
        file = self._root / f".{name}.{_REASON}"
        with suppress(OSError):  # of a full disk
            if reason is None:
                file.unlink(missing_ok=True)
            else:
                atomic_write(file, reason.encode(), 0o600)

    def dead(self, wanted: Wanted) -> frozenset[str]:
        """The endpoints whose router is to run and does not, and those that are to be removed and are there."""
        running = {name: goal.spec.status == "running" for name, goal in wanted.endpoints.items()}
        return frozenset(
            name
            for name, is_wanted in running.items()
            if is_wanted != (RouterProcess(self._root / name, name).running() is not None)
        )

    def report(self, services: Mapping[str, ServiceRecord], wanted: Wanted) -> tuple[ReportedEndpoint, ...]:
        """How every endpoint is now; writes nothing."""
        return tuple(
            self._reported(goal, _router(goal.spec, services, wanted))
            for goal in wanted.endpoints.values()
            if goal.spec.status == "running"
        )

    def _reported(self, goal: EndpointGoal, router: Router) -> ReportedEndpoint:
        one = goal.spec
        scheme, host = "http" if one.tls is None else "https", f"[{one.host}]" if ":" in one.host else one.host
        process = RouterProcess(self._root / one.name, one.name)
        running, reason, seen = process.running(), self._reason(one.name), dict[str, Seen]()
        if running is not None:
            try:
                seen = process.control.seen()
            except RuntimeFailedError as error:
                running, reason = None, str(error)
        versions = tuple(_version(name, router.shares.get(name, 0), seen.get(name)) for name in one.weights)
        silent = [version.name for version in versions if version.weight and not version.is_up]
        if running is None:
            state, reason = EndpointState.FAILED, reason or "its router does not run"
        elif silent or reason is not None:
            state = EndpointState.UNHEALTHY
            reason = reason or f"{', '.join(silent)} does not answer, and the others get its requests"
        else:
            state = EndpointState.HEALTHY
        return ReportedEndpoint(
            one.name, state, f"{scheme}://{host}:{one.port}", one.default, one.control, versions, reason,
            None if running is None else running.since, goal.origin, goal.serial,
        )  # fmt: skip

    def _reason(self, name: str) -> str | None:
        try:
            return (self._root / f".{name}.{_REASON}").read_text("utf-8", "replace")
        except OSError:
            return None


def _router(one: DesiredEndpoint, services: Mapping[str, ServiceRecord], wanted: Wanted) -> Router:
    here = {name: record for name, record in services.items() if record.state not in _GONE}
    coming = {name: goal.spec for name, goal in wanted.goals.items() if goal.spec.status == "running"}
    return router_of(one, here, coming, user())


def _version(name: str, share: int, seen: Seen | None) -> ReportedVersion:
    if seen is None:
        return ReportedVersion(name, share, is_up=False)
    counts = seen.counts
    return ReportedVersion(
        name, share, seen.is_up, counts.requests, counts.errors, counts.latency_ms, counts.latency_most_ms
    )  # fmt: skip


def _is_file(path: Path, text: str) -> bool:
    try:
        return path.read_text() == text
    except OSError:
        return False
