"""Services as containers of an engine that runs already: Docker, or Podman by its Docker-compatible socket."""

from __future__ import annotations

import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from edge_agent.runtimes import cgroups
from edge_agent.runtimes.access.auth import AuthFiles
from edge_agent.runtimes.access.given import NOTHING, Access, find_access, needs_access
from edge_agent.runtimes.access.secrets import Secrets
from edge_agent.runtimes.base import Instance, Watch
from edge_agent.runtimes.engine.api import Container
from edge_agent.runtimes.engine.connect import connect
from edge_agent.runtimes.engine.errors import CONFLICT, NOT_FOUND, CallError, engine_errors
from edge_agent.runtimes.engine.facts import Facts, check_facts
from edge_agent.runtimes.engine.follow import follow
from edge_agent.runtimes.engine.images import EngineImages, image_name
from edge_agent.runtimes.engine.look import look_into
from edge_agent.runtimes.engine.oom import ended_for_memory
from edge_agent.runtimes.engine.options import container_name, container_options, volume_prefix
from edge_agent.runtimes.engine.users import AS_NOBODY, is_root_in, replacing_user
from edge_agent.runtimes.engine.watch import ContainerWatch
from edge_agent.runtimes.instances import check_address, check_port, spec_hash
from edgepack.errors import RuntimeFailedError
from edgepack.oci.config import ImageConfig
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.state.desired import DesiredService

_log = logging.getLogger(__name__)
_IMAGE_LABEL, _SPEC_LABEL, _PORT_LABEL = "io.edgepack.image", "io.edgepack.spec", "io.edgepack.port"
# The folder of the device that a container is of: one engine may run services of several.
_DEVICE_LABEL = "io.edgepack.device"
_LATE_SECONDS = 20.0
_FIRST_OPEN_PORT = 1024


class DockerRuntime:
    """Runs services as containers of the engine at ``address`` (by default where engines usually listen)."""

    name = "docker"

    def __init__(self, store: Store, address: str | None = None) -> None:
        self._engine = connect(address)
        self._local = self._engine.transport.socket_path is not None  # by a socket of this machine
        self._facts, self._asked = Facts(), False
        self._images = EngineImages(store, self._engine)
        self._device = str(store.root.parent.resolve())
        self._secrets = Secrets(store.root.parent.resolve(), self.name)
        self._auth = AuthFiles(store.root.parent.resolve(), self.name)

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
                self._check_port(spec)

    def _ask(self) -> None:
        """Ask the engine once what it can do: when an image is prepared, while what is to be replaced still runs."""
        if not self._asked:
            self._facts = self._engine.facts()
            self._asked = True

    def _check_port(self, spec: DesiredService) -> None:
        # An engine may bind ports that its users may not: below 1024 it is asked itself.
        if self._local and (spec.port >= _FIRST_OPEN_PORT or os.geteuid() == 0):
            check_port(spec)

    def start(self, spec: DesiredService) -> Instance:
        """Create and start the service's container; see the protocol."""
        with engine_errors(f"service {spec.name}"):
            config = self._images.config(spec.image)
            found = self._refuse_another_s(spec.name)
            if found is not None:
                now = _instance(spec.name, found)
                if now.state == "running" and found.labels.get(_SPEC_LABEL) == spec_hash(spec):
                    self._auth.place(spec)
                    return now
            self._ask()
            check_facts(spec, self._facts)
            if found is not None:
                self.stop(spec.name)
            self._check_port(spec)
            made = self._create(spec, config, self._access(spec, config, place=True))
            try:
                self._engine.start(made)
            except BaseException:
                # A port that was taken since the check is in the engine's own words: asked again now, it may still be
                # held by what the engine has not yet let go of.
                self._engine.remove(made)
                self._remove_volumes(spec.name)
                self._secrets.remove(spec.name)
                self._auth.remove(spec.name)
                raise
            started = self._engine.container(made)
            if started is None:
                raise RuntimeFailedError("somebody has removed its container", where=f"service {spec.name}")
            return _instance(spec.name, started)

    def stop(self, service: str, timeout: float = 10.0) -> None:
        """See the protocol."""
        with engine_errors(f"service {service}"):
            container = self._container(service)
            self._engine.remove(self._look_name(service))  # of a process of the agent that was killed
            if container is not None:
                try:
                    self._engine.stop(container.id, math.ceil(timeout))
                except CallError as error:  # removing by force ends it too
                    if error.status != NOT_FOUND:
                        _log.warning("service %s does not stop on request (%s)", service, error.what)
                self._engine.remove(container.id)
            self._remove_volumes(service)
            self._secrets.remove(service)
            self._auth.remove(service)

    def inspect(self, service: str) -> Instance | None:
        """See the protocol."""
        with engine_errors(f"service {service}"):
            found = self._container(service)
            return None if found is None else _instance(service, found)

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
            if found is None or _instance(service, found).state != "running":
                return None
            return ContainerWatch.of(self._engine, found.id)

    def _access(self, spec: DesiredService, config: ImageConfig, *, place: bool = False) -> Access:
        """What the service is given of the device; with ``place`` its secrets are copied for it."""
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
        if not place:
            return found
        return replace(found, secrets=self._secrets.place(spec, user), auth=self._auth.place(spec))

    def _look_name(self, service: str) -> str:
        return f"{container_name(service)}.look.{Digest.of(os.fsencode(self._device)).hex[:8]}"

    def forget_image(self, image: Digest) -> None:
        """See the protocol."""
        with engine_errors(f"image {image}"):
            if not self._engine.containers(f"{_IMAGE_LABEL}={image}"):
                self._images.remove(image)

    def _create(self, spec: DesiredService, config: ImageConfig, access: Access) -> str:
        """A new container. One that appears late, at the request of a killed process of the agent, is removed first."""
        engine = self._engine
        options = container_options(
            spec, config, podman=engine.podman, log_driver=self._facts.log_driver, user=replacing_user(config),
            access=access,
        )  # fmt: skip
        options |= {"Image": image_name(spec.image), "Labels": {**_labels(spec), _DEVICE_LABEL: self._device}}
        deadline = time.monotonic() + _LATE_SECONDS
        while True:
            try:
                made = engine.create(container_name(spec.name), options)
                if "User" in options or not is_root_in(engine, made, config):
                    return made
                options["User"] = AS_NOBODY
            except CallError as error:
                in_use = error.status == CONFLICT or self._container(spec.name) is not None
                if not in_use or time.monotonic() > deadline:
                    raise
            self.stop(spec.name)
            time.sleep(0.1)

    def _remove_volumes(self, service: str) -> None:
        for volume in self._engine.volumes(volume_prefix(service)):
            try:
                self._engine.remove_volume(volume)
            except CallError as error:  # in use by a container of somebody else, or gone
                _log.debug("volume %s stays: %s", volume, error.what)

    def _container(self, service: str) -> Container | None:
        """The service's container; ``None`` where there is none, or another device's."""
        found = self._engine.container(container_name(service))
        return None if found is None or self._other_device(found) else found

    def _other_device(self, container: Container) -> str | None:
        """The folder of the device whose container it is, if that is another one and still there."""
        folder = container.labels.get(_DEVICE_LABEL) or self._device
        return None if folder == self._device or not Path(folder).is_dir() else str(folder)

    def _refuse_another_s(self, service: str) -> Container | None:
        """The service's container; raises ``RuntimeFailedError`` where the one of that name is another device's."""
        found = self._engine.container(container_name(service))
        if found is not None and (folder := self._other_device(found)) is not None:
            raise RuntimeFailedError(
                f"the container {container_name(service)} belongs to the device in {folder}",
                where=f"service {service}", hint="give the service another name, or the agent another --runtime",
            )  # fmt: skip
        return found


def _labels(spec: DesiredService) -> dict[str, str]:
    return {_IMAGE_LABEL: str(spec.image), _SPEC_LABEL: spec_hash(spec), _PORT_LABEL: str(spec.port)}


def _instance(service: str, container: Container) -> Instance:
    state = container.state
    labels = container.labels
    image, port = Digest.parse(labels.get(_IMAGE_LABEL)), int(labels.get(_PORT_LABEL, "0"))
    told = bool(state.get("OOMKilled"))
    if state.get("Status") in ("running", "restarting", "paused", "removing"):
        # Of a process on this machine the kernel tells how often, whatever the engine does.
        counters = cgroups.counters_of(int(state.get("Pid") or 0), str(container.id))
        return Instance(service, image, "running", port, out_of_memory=told, counters=counters)
    code = state.get("ExitCode")
    limited = bool((container.attrs.get("HostConfig") or {}).get("Memory"))
    finished = str(state.get("FinishedAt") or "")
    out_of_memory = ended_for_memory(container.id, code=code, told=told, limited=limited, finished=finished)
    return Instance(service, image, "exited", port, code, out_of_memory)
