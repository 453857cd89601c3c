"""The router of a device, which has the ports of its services: one process of HAProxy for all of them.

What it is to do is in one file, which is written before anything is done about it: after a crash the file counts. Where
a service is led changes while HAProxy runs. Another port needs another process, which takes the open ones over from it.
"""

from __future__ import annotations

import logging
import random
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

from edge_agent.runtimes.haproxy.process import CONFIGURATION, EMPTY, HaproxyProcess, program, user
from edge_agent.runtimes.haproxy.routes import (
    LOOPBACK,
    SERVER,
    Route,
    binds,
    configuration,
    read_routes,
    structure,
    write_routes,
)
from edgepack.errors import EdgepackError, MissingPartError, RuntimeFailedError
from edgepack.host.files import atomic_write, make_dirs
from edgepack.host.locks import locked_within

_log = logging.getLogger(__name__)
FOLDER = "router"
_ROUTES = "routes.json"
_LOCK = ".lock"
_PATIENCE_SECONDS = 60.0
# Below the ports that the kernel gives to connections by itself.
_PORTS = range(20000, 32768)
_TRIES = 50


class Front:
    """The router of the device whose folder is ``state``."""

    def __init__(self, state: Path) -> None:
        self._folder = state / FOLDER
        self._process = HaproxyProcess(self._folder, "router of the services")

    # What it is to do

    def routes(self) -> dict[str, Route]:
        """The services that are behind it."""
        try:
            return read_routes((self._folder / _ROUTES).read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:  # each service that is started again is put in again
            _log.warning("what the router of the services is to do cannot be read (%s)", error)
            return {}

    def route(self, service: str) -> Route | None:
        """Where ``service`` is led; ``None`` where it is not behind the router."""
        return self.routes().get(service)

    def has_port(self, service: str, address: str, port: int) -> bool:
        """Whether the router holds that port for ``service`` now."""
        running = self._process.running()
        wanted = Route(service, address, port, 0, "").bind
        return running is not None and binds(running.structure).get(service) == wanted

    @property
    def is_as_wanted(self) -> bool:
        """Whether its process runs with all services that are behind it; nothing is asked."""
        if not self._folder.is_dir():
            return True
        running, wanted = self._process.running(), self.routes()
        return structure(wanted.values()) == running.structure if running is not None else not wanted

    def free_port(self) -> int:
        """A port of loopback that nobody listens on, and that no service is led to: not even one that is down."""
        taken = {one.server for one in self.routes().values()}
        for _ in range(_TRIES):
            port = random.choice(_PORTS)  # noqa: S311 - anyone will do
            if port not in taken and is_free(LOOPBACK, port):
                return port
        raise RuntimeFailedError("no port of 127.0.0.1 is free", where="router of the services")

    # What is done

    def lead(self, route: Route) -> None:
        """Lead who comes to the port of ``route`` to its container from now on.

        Raises ``RuntimeFailedError`` where the port cannot be had, or HAProxy does not do it: all is as before then.
        """
        with self._locked():
            before = self.routes()
            wanted = {**before, route.service: route}
            self._write(wanted)
            try:
                left_out = self._arrange(wanted)
                if route.service in left_out:
                    raise RuntimeFailedError(
                        f"port {route.port} on {route.address} cannot be used (Address already in use)",
                        where=f"service {route.service}",
                        hint="stop what listens there, or give the service another port",
                    )
            except BaseException:
                self._write(before)
                with suppress(EdgepackError, OSError):
                    self._arrange(before)
                raise

    def park(self, service: str) -> None:
        """Keep waiting who comes to ``service``, until ``lead`` says where it is."""
        with self._locked():
            wanted = self.routes()
            if service in wanted and not wanted[service].parked:
                wanted[service] = replace(wanted[service], parked=True)
                self._write(wanted)
                self._arrange(wanted)

    def remove(self, service: str) -> None:
        """Give the port of ``service`` back; absent is fine."""
        if not self._folder.is_dir() or service not in self.routes():
            return
        with self._locked():
            wanted = self.routes()
            if wanted.pop(service, None) is not None:
                self._write(wanted)
                with suppress(MissingPartError):
                    self._arrange(wanted)

    def settle(self) -> None:
        """Let it be as its file says; a port that cannot be had is left out, and raised when the others are there."""
        if not self._folder.is_dir():
            return
        with self._locked():
            wanted = self.routes()
            left_out = self._arrange(wanted)
        if left_out:
            ports = ", ".join(f"{wanted[name].bind} of service {name}" for name in sorted(left_out))
            raise RuntimeFailedError(
                f"it cannot have {ports}", where="router of the services", hint="stop what listens there"
            )

    def _arrange(self, wanted: Mapping[str, Route]) -> frozenset[str]:
        """Bring the process to ``wanted``; the services whose ports cannot be had, and which are left out."""
        running = self._process.running()
        if not wanted:
            self._process.stop()
            return frozenset()
        held = {} if running is None else binds(running.structure)
        here = {
            name: one
            for name, one in wanted.items()
            if one.bind in held.values() or is_free(one.address, one.port)
        }  # fmt: skip
        self._configure(here)
        if running is None or structure(here.values()) != running.structure:
            if program() is None:  # it was taken away: its services get their ports from the engine again
                self._process.stop()
            self._start(here)
        else:
            self._lead_all(here)
        return frozenset(wanted.keys() - here.keys())

    def _lead_all(self, here: Mapping[str, Route]) -> None:
        try:
            for one in here.values():
                told = f"set server {one.service}/{SERVER} addr {LOOPBACK} port {one.leads_to}"
                self._process.control.tell(told, "port")
        except RuntimeFailedError as error:
            _log.warning("%s; the router of the services is started anew", error)
            self._process.kill()
            self._start(here)

    def _start(self, here: Mapping[str, Route]) -> None:
        self._process.start(structure(here.values()))
        _log.info("the router of the services runs (%s)", ", ".join(one.bind for one in here.values()))

    def _configure(self, here: Mapping[str, Route]) -> None:
        make_dirs(self._folder / EMPTY, 0o755)
        text = configuration(here.values(), user())
        atomic_write(self._folder / CONFIGURATION, text.encode(), 0o600)

    def _write(self, routes: Mapping[str, Route]) -> None:
        atomic_write(self._folder / _ROUTES, write_routes(routes.values()), 0o600)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        make_dirs(self._folder, 0o700)
        with locked_within(self._folder / _LOCK, _PATIENCE_SECONDS, lambda _: None):
            yield


def is_free(address: str, port: int) -> bool:
    """Whether nobody listens there."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind((address, port))
        except OSError:
            return False
    return True
