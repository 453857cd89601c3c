"""What the runtimes without an engine have in common: folders, locks and logs of services, and the order of a start."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

from edge_agent.runtimes import cgroups, supervision
from edge_agent.runtimes.access.auth import AuthFiles
from edge_agent.runtimes.access.secrets import Secrets
from edge_agent.runtimes.base import Instance, Watch
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
from edge_agent.runtimes.unpacked.images import UnpackedImage, UnpackedImages
from edgepack.errors import NotFoundError, RuntimeFailedError
from edgepack.host.files import make_dirs
from edgepack.names import check_service_name
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.oci.whiteouts import Whiteouts
from edgepack.state.desired import DesiredService

_STOP_SECONDS = 10.0


class UnpackedRuntime(ABC):
    """Runs services from images that are unpacked below the folder ``state``.

    ``<state>/run/<name>/<service>/`` holds what belongs to one instance, ``<state>/logs/<service>.log`` its output.
    """

    def __init__(self, name: str, state: Path, store: Store, whiteouts: Whiteouts) -> None:
        self.name = name
        self._state = state.resolve()
        self._root = self._state / "run" / name
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
    def _launch(self, folder: Path, image: UnpackedImage, spec: DesiredService, lock: int) -> None:
        """Start the service, its record written first; ``lock`` is the descriptor of the service's lock."""

    @abstractmethod
    def _clear(self, service: str, timeout: float) -> None:
        """End the instance within ``timeout`` seconds or by force, and remove its folder; absent is fine."""

    @abstractmethod
    def _running(self, service: str, folder: Path) -> bool:
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
        folder = self._folder(spec.name)
        make_dirs(self._root.parent, 0o700)
        with service_lock(self._root, spec.name) as lock:
            now = self.inspect(spec.name)
            if now is not None and now.state == "running" and is_recorded(folder, spec):
                self._auth.place(spec)
                return now
            self._clear(spec.name, _STOP_SECONDS)
            check_port(spec)
            make_dirs(self._state / "logs", 0o700)
            try:
                self._launch(folder, image, spec, lock)
            except BaseException:
                self._clear(spec.name, timeout=0.0)
                raise
            started = self.inspect(spec.name)
        if started is None:
            raise RuntimeFailedError("its instance was removed during the start", where=f"service {spec.name}")
        return started

    def stop(self, service: str, timeout: float = _STOP_SECONDS) -> None:
        """See the protocol."""
        if self._root.is_dir():
            with service_lock(self._root, service):
                self._clear(service, timeout)

    def inspect(self, service: str) -> Instance | None:
        """See the protocol. The exit code is unknown when the device lost its power."""
        folder = self._folder(service)
        spec = read_spec(folder)
        if self._running(service, folder):
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
        return self._root / check_service_name(service)

    def _log_path(self, service: str) -> Path:
        return log_path(self._state, service)
