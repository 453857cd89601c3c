"""Services as containers of an engine that runs already: Docker, or Podman by its Docker-compatible socket."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from edge_agent.runtimes.access.given import needs_access
from edge_agent.runtimes.base import Alone, Instance, Watch
from edge_agent.runtimes.engine.api import Container
from edge_agent.runtimes.engine.containers import (
    ALIVE,
    IMAGE_LABEL,
    PORT_LABEL,
    SPEC_LABEL,
    Containers,
    beside_name,
    instance,
)
from edge_agent.runtimes.engine.errors import engine_errors
from edge_agent.runtimes.engine.facts import check_facts
from edge_agent.runtimes.engine.follow import follow
from edge_agent.runtimes.engine.fronting import (
    LEAVE_SECONDS,
    holds,
    let_finish,
    routed_port,
    why_not_routed,
)
from edge_agent.runtimes.engine.options import container_name
from edge_agent.runtimes.engine.watch import ContainerWatch
from edge_agent.runtimes.haproxy.routes import LOOPBACK, Route
from edge_agent.runtimes.instances import check_address, spec_hash
from edge_agent.runtimes.processes import below, living, resident_bytes
from edge_agent.runtimes.room import why_alone
from edgepack.errors import EdgepackError, RuntimeFailedError
from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService

_log = logging.getLogger(__name__)


class DockerRuntime(Containers):
    """Runs services as containers of the engine at ``address`` (by default where engines usually listen)."""

    def prepare(self, image: Digest) -> None:
        """Send the engine the layers that it lacks, and wait until they are on the disk; see the protocol."""
        with engine_errors(f"image {image}"):
            self._images.send(image)
            self._ask()

    def mend(self, image: Digest) -> bool:
        """See the protocol. A layer that other images or containers of the engine have too stays as it is."""
        with engine_errors(f"image {image}"):
            if self._images.has(image):
                if self._images.is_intact(image):
                    return False
                self._images.remove(image)
            self._images.send(image)
            if not self._images.is_intact(image):
                raise RuntimeFailedError(
                    "its layers are damaged where the container engine keeps them, and other images or containers have"
                    " them too", where=f"image {image}",
                    hint="remove those from the engine (docker system prune --all), or use another --runtime",
                )  # fmt: skip
        return True

    def check(self, spec: DesiredService, *, held: bool) -> None:
        """See ``Foreseeing``. An engine on another machine has other ports."""
        with engine_errors(f"service {spec.name}"):
            self._refuse_another_s(spec.name)
            self._ask()
            check_facts(spec, self._facts)
            if needs_access(spec) and self._images.has(spec.image):
                self._secrets.check(spec)
                self._access(spec, self._images.config(spec.image))
        if self._local:
            check_address(spec)
            if not held:
                self._check_port_of(spec)

    def start(self, spec: DesiredService) -> Instance:
        """Create and start the service's container; see the protocol. Its port is led to it at once."""
        with engine_errors(f"service {spec.name}"):
            config = self._images.config(spec.image)
            found = self._refuse_another_s(spec.name)
            routed = why_not_routed(spec, config, local=self._local) is None
            if found is not None:
                now = instance(spec.name, found)
                is_reached = routed or routed_port(found) is None
                if now.state == "running" and found.labels.get(SPEC_LABEL) == spec_hash(spec) and is_reached:
                    self._keep(spec, found)
                    return now
            self._ask()
            check_facts(spec, self._facts)
            port = self._port_behind(spec) if routed else None
            self._end(spec.name)
            if port is None:
                self._front.remove(spec.name)
            self._check_port_of(spec)
            made = self._run(container_name(spec.name), spec, config, port)
            started = self._engine.container(made)
            if started is None:
                raise RuntimeFailedError("somebody has removed its container", where=f"service {spec.name}")
            if port is not None:
                try:
                    self._front.lead(Route(spec.name, spec.address, spec.port, port, made))
                except BaseException:
                    self._remove(spec.name, started)
                    raise
            return instance(spec.name, started)

    def stop(self, service: str, timeout: float = 10.0) -> None:
        """See the protocol."""
        with engine_errors(f"service {service}"):
            if service in self._holding:
                self._front.park(service)
            self._end(service, timeout)
            if service not in self._holding:
                self._front.remove(service)

    # Switches that drop no request

    @contextmanager
    def holding(self, service: str) -> Iterator[None]:
        """See ``Relieving``: who comes while nothing runs is tried again and again by the router."""
        if service in self._holding:
            yield
            return
        self._holding.add(service)
        try:
            yield
        finally:
            self._holding.discard(service)
            self._let_go(service)

    def _let_go(self, service: str) -> None:
        """Give the port of a service back of which nothing runs; else let nobody wait."""
        route = self._front.route(service)
        if route is None:
            return
        try:
            found = self._container(service)
            if found is None or found.state.get("Status") not in ALIVE:
                self._front.remove(service)
            elif route.parked and found.id == route.container:
                self._front.lead(replace(route, parked=False))
        except EdgepackError as error:
            _log.warning("service %s: %s", service, error)

    def fronts(self, spec: DesiredService) -> bool:
        """See ``Fronted``."""
        with engine_errors(f"service {spec.name}"):
            return why_not_routed(spec, self._images.config(spec.image), local=self._local) is None

    def alone(self, spec: DesiredService) -> Alone | None:
        """See ``Relieving``."""
        with engine_errors(f"service {spec.name}"):
            reason = why_not_routed(spec, self._images.config(spec.image), local=self._local)
            if reason is not None:
                return Alone(reason)
            found = self._container(spec.name)
            if found is None:
                return Alone("its container is gone")
        pid = int(found.state.get("Pid") or 0)
        used = resident_bytes({pid, *below({pid}, living())})
        return why_alone(spec, holds(spec.name, spec.image, found), used)

    def start_beside(self, spec: DesiredService) -> BesideContainer:
        """See ``Relieving``."""
        with engine_errors(f"service {spec.name}"):
            config = self._images.config(spec.image)
            self._refuse_another_s(spec.name)
            self._ask()
            check_facts(spec, self._facts)
            current = self._container(spec.name)
            if current is not None:
                if routed_port(current) is not None:  # of a switch that was interrupted, it may not be led to yet
                    self._settle_front()
                self._alone_again(spec.name, current)
            if current is None or routed_port(current) is not None or not self._has_port(current, spec):
                self._check_port_of(spec)
            port = self._front.free_port()
            made = self._run(beside_name(spec.name), spec, config, port, current)
            return BesideContainer(self, spec, Route(spec.name, spec.address, spec.port, port, made))

    def _settle_front(self) -> None:
        try:
            self._front.settle()
        except EdgepackError as error:  # of another service, or told when this one is to be led to
            _log.info("%s", error)

    @staticmethod
    def _has_port(container: Container, spec: DesiredService) -> bool:
        return container.labels.get(PORT_LABEL) == str(spec.port)

    def _take_over(self, spec: DesiredService, route: Route) -> None:
        service = spec.name
        with engine_errors(f"service {service}"):
            old = next((one for one in self._all(service) if one.id != route.container), None)
            if old is not None and routed_port(old) is None:
                _log.info("service %s: its port goes from the engine to the router, and is closed meanwhile", service)
                self._remove(service, old, LEAVE_SECONDS)
            self._front.lead(route)
        try:
            with engine_errors(f"service {service}"):
                if old is not None and routed_port(old) is not None:
                    self._remove(service, old, let_finish(old))
                self._remove_volumes(service)
                self._engine.rename(route.container, container_name(service))
        except EdgepackError as error:  # it is tried again with the next change
            _log.warning("service %s: its version before cannot be removed: %s", service, error)

    def _discard(self, service: str, container: str) -> None:
        with engine_errors(f"service {service}"):
            found = self._engine.container(container)
            if found is not None:
                self._remove(service, found)
            self._remove_volumes(service)

    def inspect(self, service: str) -> Instance | None:
        """See the protocol."""
        with engine_errors(f"service {service}"):
            found = self._container(service)
            return None if found is None else instance(service, found)

    def logs(self, service: str, lines: int = 100, *, since_start: bool = False) -> str:
        """See the protocol; the engine forgets a service's log with its container, which is never started twice."""
        with engine_errors(f"service {service}"):
            found = self._container(service)
            pieces = () if found is None else self._engine.logs(found.id, tail=max(0, lines))
            return b"".join(pieces).decode("utf-8", "replace")

    def follow(self, service: str, lines: int = 0) -> Iterator[str]:
        """See the protocol."""
        yield from follow(self._engine, container_name(service), lines)

    def watch(self, service: str) -> Watch | None:
        """See the protocol."""
        with engine_errors(f"service {service}"):
            found = self._container(service)
            if found is None or instance(service, found).state != "running":
                return None
            return ContainerWatch.of(self._engine, found.id)

    def forget_image(self, image: Digest) -> None:
        """See the protocol."""
        with engine_errors(f"image {image}"):
            if not self._engine.containers(f"{IMAGE_LABEL}={image}"):
                self._images.remove(image)


class BesideContainer:
    """A container that nobody is led to yet, beside the one that counts; see ``Beside``."""

    def __init__(self, runtime: DockerRuntime, spec: DesiredService, route: Route) -> None:
        self._runtime = runtime
        self._spec = spec
        self._route = route

    def connect(self, timeout: float) -> socket.socket:
        """See ``Beside``."""
        return socket.create_connection((LOOPBACK, self._route.server), timeout)

    def inspect(self) -> Instance | None:
        """See ``Beside``."""
        with engine_errors(f"service {self._spec.name}"):
            found = self._runtime._engine.container(self._route.container)
            return None if found is None else instance(self._spec.name, found)

    def last_words(self) -> str:
        """See ``Beside``."""
        with engine_errors(f"service {self._spec.name}"):
            pieces = self._runtime._engine.logs(self._route.container, tail=5)
            return b"".join(pieces).decode("utf-8", "replace")

    def take_over(self) -> None:
        """See ``Beside``."""
        self._runtime._take_over(self._spec, self._route)

    def discard(self) -> None:
        """See ``Beside``."""
        self._runtime._discard(self._spec.name, self._route.container)
