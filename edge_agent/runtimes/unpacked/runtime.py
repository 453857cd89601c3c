"""What the runtimes without an engine have in common: folders, locks and logs of services, and the order of a start."""

from __future__ import annotations

import logging
import socket
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge_agent.runtimes import cgroups, sockets, supervision
from edge_agent.runtimes.access.auth import AuthFiles
from edge_agent.runtimes.access.secrets import Secrets
from edge_agent.runtimes.base import Alone, Instance, Watch
from edge_agent.runtimes.instances import (
    all_specs,
    check_address,
    check_port,
    follow,
    is_recorded,
    log_path,
    read_mark,
    read_spec,
    service_lock,
    tail,
)
from edge_agent.runtimes.processes import ProcessWatch
from edge_agent.runtimes.room import why_alone
from edge_agent.runtimes.sockets import Sockets
from edge_agent.runtimes.unpacked.images import UnpackedImage, UnpackedImages
from edge_agent.runtimes.unpacked.slots import Slots, service_of
from edgepack.errors import EdgepackError, NotFoundError, RuntimeFailedError
from edgepack.host.files import make_dirs
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.oci.whiteouts import Whiteouts
from edgepack.state.desired import DesiredService

_log = logging.getLogger(__name__)
_STOP_SECONDS = 10.0
# How long a version that was relieved may take to finish what it has begun: our server's grace, and a little more.
_LEAVE_SECONDS = 32.0
# How long connections that a forwarder has taken may need to reach the service that is to end.
_SETTLE_SECONDS = 0.2


class UnpackedRuntime(ABC):
    """Runs services from images that are unpacked below the folder ``state``.

    ``<state>/run/<name>/<service>/`` holds what belongs to one instance (see ``Slots`` for two of a service),
    ``<state>/logs/<service>.log`` its output.
    """

    def __init__(self, name: str, state: Path, store: Store, whiteouts: Whiteouts) -> None:
        self.name = name
        self._state = state.resolve()
        self._root = self._state / "run" / name
        self._slots = Slots(self._root)
        # The services whose listening sockets are held here, and those sockets.
        self._holding: set[str] = set()
        self._held: dict[str, socket.socket] = {}
        self._images = UnpackedImages(self._state, store, name, whiteouts)
        self._secrets = Secrets(self._state, name)
        self._auth = AuthFiles(self._state, name)

    @abstractmethod
    def prepare(self, image: Digest) -> None:
        """See the protocol."""

    @abstractmethod
    def _prepare(self, image: Digest, *, thorough: bool) -> None:
        """As ``prepare``; ``thorough`` reads everything that is unpacked to find what is damaged, and mends it."""

    @abstractmethod
    def _launch(
        self, folder: Path, image: UnpackedImage, spec: DesiredService, lock: int, given: Sockets | None, *, told: bool
    ) -> None:
        """Start the service, its record written first; ``lock`` is the descriptor of the service's lock.

        ``given`` is where it is asked. Its address is led to it, where it has a network of its own, once it listens;
        with ``told`` once its supervisor is told so.
        """

    @abstractmethod
    def _takes_sockets(self, image: UnpackedImage, spec: DesiredService) -> bool:
        """Whether the service can be given its listening socket."""

    @abstractmethod
    def _clear(self, folder: Path, timeout: float) -> None:
        """End the instance in ``folder`` within ``timeout`` seconds or by force, and remove it; absent is fine."""

    @abstractmethod
    def _running(self, folder: Path) -> bool:
        """Whether the instance that is recorded in ``folder`` runs."""

    def check(self, spec: DesiredService, *, held: bool) -> None:
        """See ``Foreseeing``."""
        check_address(spec)
        if not held:
            check_port(spec)
        self._secrets.check(spec)
        image = self._prepared(spec.image)
        if image is not None:
            self._foresee(image, spec)

    @abstractmethod
    def _foresee(self, image: UnpackedImage, spec: DesiredService) -> None:
        """Raise what would keep the service from being started, beside its port; changes nothing that lasts."""

    def start(self, spec: DesiredService) -> Instance:
        """See the protocol."""
        image = self._prepared(spec.image)
        if image is None:
            raise NotFoundError(f"image {spec.image} is not prepared", where=f"service {spec.name}")
        make_dirs(self._root.parent, 0o700)
        with service_lock(self._root, spec.name) as lock:
            folder = self._folder(spec.name)
            now = self._inspect(folder)
            if now is not None and now.state == "running" and is_recorded(folder, spec):
                self._auth.place(spec, folder.name)
                if (left := self._slots.other(spec.name)).exists():  # by a switch that was interrupted
                    self._clear(left, _STOP_SECONDS)
                return now
            self._end(spec.name, _STOP_SECONDS)
            folder = self._slots.first(spec.name)
            self._start(folder, image, spec, lock, told=False)
            started = self._inspect(folder)
        if started is None:
            raise RuntimeFailedError("its instance was removed during the start", where=f"service {spec.name}")
        return started

    def _start(self, folder: Path, image: UnpackedImage, spec: DesiredService, lock: int, *, told: bool) -> None:
        make_dirs(self._state / "logs", 0o700)
        given: Sockets | None = None
        try:
            if self._takes_sockets(image, spec):
                given = self._sockets(folder, spec)
            else:
                self._let_go(spec.name)  # it opens the port by itself
                check_port(spec)
            self._launch(folder, image, spec, lock, given, told=told)
        except BaseException:
            self._clear(folder, timeout=0.0)
            raise
        finally:
            if given is not None:
                given.close()

    def _sockets(self, folder: Path, spec: DesiredService) -> Sockets:
        """The held listening socket of the service, or a new one, and another to ask the instance in ``folder``."""
        held = self._held.get(spec.name)
        if held is not None and sockets.has_address(held, spec):
            listener = held.dup()
        else:
            if held is not None and sockets.has_port(held, spec):  # it would be in the way of the same port elsewhere
                self._let_go(spec.name)
                held = None
            check_port(spec)
            listener = sockets.open_listener(spec)
            if spec.name in self._holding and held is None:
                self._held[spec.name] = listener.dup()
        try:
            make_dirs(folder, 0o700)
            return Sockets(listener, sockets.open_probe(folder))
        except BaseException:
            listener.close()
            raise

    def stop(self, service: str, timeout: float = _STOP_SECONDS) -> None:
        """See the protocol."""
        if self._root.is_dir():
            with service_lock(self._root, service):
                self._end(service, timeout)

    def _end(self, service: str, timeout: float) -> None:
        """End all instances of the service."""
        current = self._slots.current(service)
        for folder in (self._slots.other(service), current):
            if folder == current or folder.exists():
                self._leave(folder, timeout)

    def _leave(self, folder: Path, timeout: float) -> None:
        """End the instance in ``folder``; its port is free at once, unless its socket is held here."""
        if service_of(folder) in self._holding:
            if sockets.tell(folder, "retire"):
                time.sleep(_SETTLE_SECONDS)
        else:
            sockets.tell(folder, "release")
        self._clear(folder, timeout)

    # Switches that drop no request

    @contextmanager
    def holding(self, service: str) -> Iterator[None]:
        """See ``Relieving``."""
        if service in self._holding:
            yield
            return
        found = sockets.listener_of(self._folder(service))
        self._holding.add(service)
        if found is not None:
            self._held[service] = found
        try:
            yield
        finally:
            self._holding.discard(service)
            self._let_go(service)

    def _let_go(self, service: str) -> None:
        held = self._held.pop(service, None)
        if held is not None:
            held.close()

    def alone(self, spec: DesiredService) -> Alone | None:
        """See ``Relieving``."""
        image, folder = self._prepared(spec.image), self._folder(spec.name)
        now = read_spec(folder)
        if image is None or now is None:
            return Alone("the record of what runs is lost" if now is None else "its image is not prepared")
        if not self._takes_sockets(image, spec):
            return Alone("its image's server takes no listening socket from another version")
        with self.holding(spec.name):
            held = self._held.get(spec.name)
            if held is None or (now.collides(spec) and not sockets.has_address(held, spec)):
                return Alone("what runs has no listening socket that it could take over")
        return why_alone(spec, now, supervision.used_bytes(folder))

    def start_beside(self, spec: DesiredService) -> BesideInstance:
        """See ``Relieving``."""
        image = self._prepared(spec.image)
        if image is None:
            raise NotFoundError(f"image {spec.image} is not prepared", where=f"service {spec.name}")
        with self.holding(spec.name), service_lock(self._root, spec.name) as lock:
            folder = self._slots.other(spec.name)
            if folder.exists():
                self._clear(folder, _STOP_SECONDS)
            self._start(folder, image, spec, lock, told=True)
        return BesideInstance(self, folder)

    def inspect(self, service: str) -> Instance | None:
        """See the protocol. The exit code is unknown when the device lost its power."""
        return self._inspect(self._folder(service))

    def _inspect(self, folder: Path) -> Instance | None:
        service, spec = service_of(folder), read_spec(folder)
        if self._running(folder):
            if spec is None:
                return Instance(service, None, "running", None, fault="the record of what it runs is lost")
            counters = cgroups.kill_counters(cgroups.group_name(folder, service))
            return Instance(service, spec.image, "running", spec.port, fault=self._fault(folder), counters=counters)
        if spec is None:
            return None
        ended = supervision.ended(folder)
        if ended is None:
            return Instance(service, spec.image, "exited", spec.port)
        return Instance(service, spec.image, "exited", spec.port, ended.exit_code, ended.out_of_memory)

    def _take_over(self, folder: Path) -> None:
        service = service_of(folder)
        with self.holding(service), service_lock(self._root, service):
            sockets.tell(folder, "serve")
            before = self._slots.current(service)
            self._slots.choose(folder)
            try:
                self._leave(before, _LEAVE_SECONDS)
            except (EdgepackError, OSError) as error:  # it is tried again with the next change
                _log.warning("service %s: its version before cannot be removed: %s", service, error)

    def _discard(self, folder: Path) -> None:
        with service_lock(self._root, service_of(folder)):
            self._clear(folder, _STOP_SECONDS)

    @staticmethod
    def _fault(folder: Path) -> str | None:
        """What is wrong with how the service is kept, which runs and has a record."""
        found = supervision.find(folder)
        if found is None or found.supervisor.alive:
            return None
        return "the process that keeps its log was ended"

    def mend(self, image: Digest) -> bool:
        """See the protocol."""
        if self._images.is_intact(image):
            return False
        self._prepare(image, thorough=True)
        return True

    def logs(self, service: str, lines: int = 100, *, since_start: bool = False) -> str:
        """See the protocol."""
        path = self._log_path(service)
        return tail(path, lines, read_mark(self._folder(service)) if since_start else None)

    def follow(self, service: str, lines: int = 0) -> Iterator[str]:
        """See the protocol."""
        return follow(self._log_path(service), lines)

    def watch(self, service: str) -> Watch | None:
        """See the protocol; a kernel before 5.3 cannot tell."""
        found = supervision.find(self._folder(service))
        return None if found is None or not found.running else ProcessWatch.of(found.service)

    def forget_image(self, image: Digest) -> None:
        """See the protocol."""
        if all(spec.image != image for spec in all_specs(self._root)):
            self._forget(image)

    def _prepared(self, image: Digest) -> UnpackedImage | None:
        """The image when it is prepared."""
        return self._images.get(image)

    def _forget(self, image: Digest) -> None:
        """Remove what ``prepare`` made of the image."""
        self._images.forget(image)

    def _folder(self, service: str) -> Path:
        """Where the instance of the service is that counts."""
        return self._slots.current(service)

    def _log_path(self, service: str) -> Path:
        return log_path(self._state, service)


class BesideInstance:
    """The instance in ``folder`` of ``runtime``, beside the one that counts; see ``Beside``."""

    def __init__(self, runtime: UnpackedRuntime, folder: Path) -> None:
        self._runtime = runtime
        self._folder = folder

    def connect(self, timeout: float) -> socket.socket:
        """See ``Beside``."""
        return sockets.connect_probe(self._folder, timeout)

    def inspect(self) -> Instance | None:
        """See ``Beside``."""
        return self._runtime._inspect(self._folder)

    def last_words(self) -> str:
        """See ``Beside``."""
        found = supervision.find(self._folder)
        if found is None:
            return ""
        return found.said or sockets.last_words(self._folder)

    def take_over(self) -> None:
        """See ``Beside``."""
        self._runtime._take_over(self._folder)

    def discard(self) -> None:
        """See ``Beside``."""
        self._runtime._discard(self._folder)
