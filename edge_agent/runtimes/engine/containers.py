"""The containers of a service: made, found again, ended. What is done with them is in ``runtime``."""

from __future__ import annotations

import logging
import math
import os
import time
from dataclasses import replace
from pathlib import Path

from edge_agent.runtimes import cgroups
from edge_agent.runtimes.access.auth import AuthFiles
from edge_agent.runtimes.access.given import NOTHING, Access, find_access, needs_access
from edge_agent.runtimes.access.secrets import Secrets
from edge_agent.runtimes.base import Instance
from edge_agent.runtimes.engine.api import Container
from edge_agent.runtimes.engine.connect import connect
from edge_agent.runtimes.engine.errors import CONFLICT, NOT_FOUND, CallError
from edge_agent.runtimes.engine.facts import Facts
from edge_agent.runtimes.engine.fronting import (
    INSTANCE_LABEL,
    ROUTED_LABEL,
    instance_of,
    instances_of,
    other_instance,
    routed_port,
)
from edge_agent.runtimes.engine.images import EngineImages, image_name
from edge_agent.runtimes.engine.look import look_into
from edge_agent.runtimes.engine.oom import ended_for_memory
from edge_agent.runtimes.engine.options import container_name, container_options, volume_prefix
from edge_agent.runtimes.engine.users import AS_NOBODY, is_root_in, replacing_user
from edge_agent.runtimes.haproxy.front import Front, is_free
from edge_agent.runtimes.haproxy.routes import LOOPBACK, Route
from edge_agent.runtimes.instances import check_port, spec_hash
from edgepack.errors import RuntimeFailedError
from edgepack.oci.config import ImageConfig
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.state.desired import DesiredService

_log = logging.getLogger(__name__)
IMAGE_LABEL, SPEC_LABEL, PORT_LABEL = "io.edgepack.image", "io.edgepack.spec", "io.edgepack.port"
# The folder of the device that a container is of: one engine may run services of several.
_DEVICE_LABEL = "io.edgepack.device"
ALIVE = ("running", "restarting", "paused", "removing")
_LATE_SECONDS = 20.0
_FIRST_OPEN_PORT = 1024


class Containers:
    """The containers of services, by the engine at ``address`` (by default where engines usually listen)."""

    name = "docker"

    def __init__(self, store: Store, address: str | None = None) -> None:
        self._engine = connect(address)
        self._local = self._engine.transport.socket_path is not None  # by a socket of this machine
        self._facts, self._asked = Facts(), False
        self._images = EngineImages(store, self._engine)
        self._device = str(store.root.parent.resolve())
        self._secrets = Secrets(store.root.parent.resolve(), self.name)
        self._auth = AuthFiles(store.root.parent.resolve(), self.name)
        self._front = Front(store.root.parent.resolve())
        self._holding: set[str] = set()

    def _ask(self) -> None:
        """Ask the engine once what it can do: when an image is prepared, while what is to be replaced still runs."""
        if not self._asked:
            self._facts = self._engine.facts()
            self._asked = True

    def _check_port(self, spec: DesiredService) -> None:
        # An engine may bind ports that its users may not: below 1024 it is asked itself.
        if self._local and (spec.port >= _FIRST_OPEN_PORT or os.geteuid() == 0):
            check_port(spec)

    def _keep(self, spec: DesiredService, found: Container) -> None:
        """Leave the container ``found`` of ``spec`` alone, and all around it as it is to be."""
        port = routed_port(found)
        if port is None:
            self._front.remove(spec.name)
        else:
            self._front.lead(Route(spec.name, spec.address, spec.port, port, found.id))
        self._auth.place(spec, instance_of(spec.name, found))
        self._alone_again(spec.name, found)

    def _alone_again(self, service: str, current: Container) -> None:
        """Remove what a switch that was interrupted has left, and let the container have its name."""
        left = [one for one in self._all(service) if one.id != current.id]
        for one in left:
            self._remove(service, one)
        if str(current.attrs.get("Name") or "").lstrip("/") != container_name(service):
            self._engine.rename(current.id, container_name(service))
        if left:
            self._remove_volumes(service)

    def _port_behind(self, spec: DesiredService) -> int:
        """The port of loopback for the container: the one that the service was led to, where nobody has taken it."""
        route = self._front.route(spec.name)
        now = None if route is None else self._engine.container(route.container)
        is_left = route is not None and (now is None or now.state.get("Status") not in ALIVE)
        if route is not None and is_left and is_free(LOOPBACK, route.server):
            return route.server
        return self._front.free_port()

    def _check_port_of(self, spec: DesiredService) -> None:
        if not self._front.has_port(spec.name, spec.address, spec.port):
            self._check_port(spec)

    def _run(
        self, name: str, spec: DesiredService, config: ImageConfig, port: int | None, beside: Container | None = None
    ) -> str:
        """Create and start the container ``name``; its ID.

        It is behind the router where it has a ``port`` for that, and may be ``beside`` the one that counts.
        """
        instance = other_instance(spec.name, beside)
        access = self._access(spec, config, place=instance)
        labels = {**_labels(spec), _DEVICE_LABEL: self._device, INSTANCE_LABEL: instance}
        labels |= {} if port is None else {ROUTED_LABEL: str(port)}
        made = self._create(name, spec, config, access, port, labels)
        try:
            self._engine.start(made)
        except BaseException:
            # A port that was taken since the check is in the engine's own words: asked again now, it may still be
            # held by what the engine has not yet let go of.
            self._engine.remove(made)
            self._remove_volumes(spec.name)
            self._forget(instance)
            raise
        return made

    def _end(self, service: str, timeout: float = 10.0) -> None:
        """End and remove all containers of the service; whoever is led to them waits."""
        found = self._all(service)
        self._engine.remove(self._look_name(service))  # of a process of the agent that was killed
        for one in found:
            self._remove(service, one, timeout)
        self._remove_volumes(service)
        for instance in instances_of(service):
            self._forget(instance)

    def _remove(self, service: str, container: Container, timeout: float = 10.0) -> None:
        try:
            self._engine.stop(container.id, math.ceil(timeout))
        except CallError as error:  # removing by force ends it too
            if error.status != NOT_FOUND:
                _log.warning("service %s does not stop on request (%s)", service, error.what)
        self._engine.remove(container.id)
        self._forget(instance_of(service, container))

    def _forget(self, instance: str) -> None:
        """Remove what an instance that has ended was given of the device."""
        self._secrets.remove(instance)
        self._auth.remove(instance)

    def _access(self, spec: DesiredService, config: ImageConfig, *, place: str | None = None) -> Access:
        """What the service is given of the device; its secrets are copied for the instance that ``place`` names."""
        if not needs_access(spec):
            return NOTHING
        where = f"service {spec.name}"
        if not self._local:
            raise RuntimeFailedError(
                "its mounts, devices, secrets and auth are of this machine, and the engine is on another", where=where,
                hint="run the agent where the engine is, or leave them out of the desired state",
            )  # fmt: skip
        name, labels = image_name(spec.image), {_DEVICE_LABEL: self._device}
        with look_into(self._engine, name, config, self._look_name(spec.name), labels) as look:
            user = look.user
            found = find_access(spec, Path(self._device), look.content, user)
        if place is None:
            return found
        return replace(found, secrets=self._secrets.place(spec, user, place), auth=self._auth.place(spec, place))

    def _look_name(self, service: str) -> str:
        return f"{container_name(service)}.look.{Digest.of(os.fsencode(self._device)).hex[:8]}"

    def _create(
        self, name: str, spec: DesiredService, config: ImageConfig, access: Access, port: int | None,
        labels: dict[str, str],
    ) -> str:  # fmt: skip
        """A new container. One that appears late, at the request of a killed process of the agent, is removed first."""
        engine = self._engine
        options = container_options(
            spec, config, podman=engine.podman, log_driver=self._facts.log_driver, user=replacing_user(config),
            access=access, listens=None if port is None else (LOOPBACK, port),
        )  # fmt: skip
        options |= {"Image": image_name(spec.image), "Labels": labels}
        deadline = time.monotonic() + _LATE_SECONDS
        while True:
            try:
                made = engine.create(name, options)
                if "User" in options or not is_root_in(engine, made, config):
                    return made
                options["User"] = AS_NOBODY
            except CallError as error:
                in_use = error.status == CONFLICT or engine.container(name) is not None
                if not in_use or time.monotonic() > deadline:
                    raise
            late = engine.container(name)
            if late is not None:
                engine.remove(late.id)
            time.sleep(0.1)

    def _remove_volumes(self, service: str) -> None:
        for volume in self._engine.volumes(volume_prefix(service)):
            try:
                self._engine.remove_volume(volume)
            except CallError as error:  # in use by a container of somebody else, or gone
                _log.debug("volume %s stays: %s", volume, error.what)

    def _container(self, service: str) -> Container | None:
        """The service's container; ``None`` where there is none, or another device's."""
        found = self._current(service)
        return None if found is None or self._other_device(found) else found

    def _current(self, service: str) -> Container | None:
        """The container that the service is led to, else the one with its name, whosever it is."""
        route = self._front.route(service)
        found = None if route is None else self._engine.container(route.container)
        return found or self._engine.container(container_name(service))

    def _all(self, service: str) -> list[Container]:
        """The containers of the service on this device: the one that counts, and what else there may be."""
        names = (container_name(service), beside_name(service))
        found = [self._current(service), *(self._engine.container(name) for name in names)]
        return list({one.id: one for one in found if one is not None and not self._other_device(one)}.values())

    def _other_device(self, container: Container) -> str | None:
        """The folder of the device whose container it is, if that is another one and still there."""
        folder = container.labels.get(_DEVICE_LABEL) or self._device
        return None if folder == self._device or not Path(folder).is_dir() else str(folder)

    def _refuse_another_s(self, service: str) -> Container | None:
        """The service's container; raises ``RuntimeFailedError`` where the one of that name is another device's."""
        found = self._current(service)
        if found is not None and (folder := self._other_device(found)) is not None:
            raise RuntimeFailedError(
                f"the container {container_name(service)} belongs to the device in {folder}",
                where=f"service {service}", hint="give the service another name, or the agent another --runtime",
            )  # fmt: skip
        return found


def beside_name(service: str) -> str:
    """The name of a container of the service until it has taken over."""
    return f"{container_name(service)}.next"


def _labels(spec: DesiredService) -> dict[str, str]:
    return {IMAGE_LABEL: str(spec.image), SPEC_LABEL: spec_hash(spec), PORT_LABEL: str(spec.port)}


def instance(service: str, container: Container) -> Instance:
    state = container.state
    labels = container.labels
    image, port = Digest.parse(labels.get(IMAGE_LABEL)), int(labels.get(PORT_LABEL, "0"))
    told = bool(state.get("OOMKilled"))
    if state.get("Status") in ALIVE:
        # Of a process on this machine the kernel tells how often, whatever the engine does.
        counters = cgroups.counters_of(int(state.get("Pid") or 0), str(container.id))
        return Instance(service, image, "running", port, out_of_memory=told, counters=counters)
    code = state.get("ExitCode")
    limited = bool((container.attrs.get("HostConfig") or {}).get("Memory"))
    finished = str(state.get("FinishedAt") or "")
    out_of_memory = ended_for_memory(container.id, code=code, told=told, limited=limited, finished=finished)
    return Instance(service, image, "exited", port, code, out_of_memory)
