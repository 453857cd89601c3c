"""Containers with no engine: ``crun`` or ``runc`` on overlay mounts of unpacked layers. Needs root.

``<state>/run/<program>/<service>/`` is the bundle: ``l/`` holds short links to the layers, ``rootfs`` is the mount.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from edge_agent.runtimes import supervision
from edge_agent.runtimes.base import Instance, ServiceSpec
from edge_agent.runtimes.instances import (
    all_specs,
    check_port,
    open_log,
    read_spec,
    service_lock,
    tail,
    write_spec,
)
from edge_agent.runtimes.runtime_spec import bundle_config, numeric_user
from edge_agent.runtimes.unpacked.images import UnpackedImage, UnpackedImages, check_platform
from edgepack.documents import canonical_json
from edgepack.errors import MissingPartError, NotFoundError, RuntimeFailedError, disk_errors
from edgepack.host.files import atomic_write, make_dirs
from edgepack.names import check_service_name
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.oci.unpack import OverlayWhiteouts

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.02
_START_SECONDS = 30.0
_CREATE_SECONDS = 10.0
# Folders that the container's own mounts need and an image may lack; below all layers, so that the image's win.
_SKELETON = ("proc", "dev", "sys", "tmp")


# With both versions of control groups mounted, crun takes neither once version 2 has a controller of its own; without
# sight of version 2 it sets its limits by version 1.
_HYBRID = Path("/sys/fs/cgroup/unified")


def missing_for_overlay() -> str | None:
    """What this machine lacks for overlay mounts; ``None`` when nothing."""
    if os.geteuid() != 0:
        return "it needs root"
    if shutil.which("mount") is None or shutil.which("umount") is None:
        return "it needs mount and umount (Debian package: mount)"
    if "overlay" not in Path("/proc/filesystems").read_text("ascii"):
        # The module is loaded by the first mount, so its absence from the list proves nothing.
        loaded = shutil.which("modprobe") and subprocess.run(["modprobe", "overlay"], capture_output=True, check=False)
        if not loaded or loaded.returncode != 0:
            return "it needs overlay mounts, which this kernel does not have"
    return None


class CrunRuntime:
    """Runs services with ``program`` below the folder ``state``, from the device's ``store``."""

    def __init__(self, state: Path, store: Store, program: Literal["crun", "runc"] = "crun") -> None:
        found, lacking = shutil.which(program), missing_for_overlay()
        if found is None:
            raise MissingPartError(f"{program} is not installed", hint=f"install it (Debian package: {program})")
        if lacking is not None:
            raise MissingPartError(f"{program} cannot run services here: {lacking}", hint="use --runtime process")
        self.name: str = program
        self._program = found
        self._state = state.resolve()
        self._root = self._state / "run" / program
        self._images = UnpackedImages(self._state, store, program, OverlayWhiteouts())

    def prepare(self, image: Digest) -> None:
        """Unpack the image's layers; see the protocol."""
        self._images.prepare(image, self._check)

    def start(self, spec: ServiceSpec) -> Instance:
        """Mount the layers over one another and run the image's entrypoint; see the protocol."""
        image = self._images.get(spec.image)
        if image is None:
            raise NotFoundError(f"image {spec.image} is not prepared", where=f"service {spec.name}")
        bundle = self._bundle(spec.name)
        with service_lock(self._root, spec.name) as lock:
            now = self._inspect(spec.name)
            if now is not None and now.state == "running" and read_spec(bundle) == spec:
                return now
            self._clear(spec.name, timeout=10.0)
            check_port(spec)
            try:
                self._lay_out(bundle, image, spec)
                self._run(bundle, image, spec, lock)
            except BaseException:
                self._clear(spec.name, timeout=0.0)
                raise
            started = self._inspect(spec.name)
        if started is None:
            raise RuntimeFailedError("the container is gone again", where=f"service {spec.name}")
        return started

    def stop(self, service: str, timeout: float = 10.0) -> None:
        """See the protocol."""
        if self._root.is_dir():
            with service_lock(self._root, service):
                self._clear(service, timeout)

    def inspect(self, service: str) -> Instance | None:
        """See the protocol."""
        return self._inspect(service)

    def logs(self, service: str, lines: int = 100) -> str:
        """See the protocol."""
        return tail(self._log_path(service), lines)

    def forget_image(self, image: Digest) -> None:
        """See the protocol."""
        if all(spec.image != image for spec in all_specs(self._root)):
            self._images.forget(image)

    @staticmethod
    def _check(image: Digest, config: ImageConfig, layers: Sequence[Descriptor]) -> Sequence[bool]:
        check_platform(image, config)
        numeric_user(config)
        return [True] * len(layers)

    def _bundle(self, service: str) -> Path:
        return self._root / check_service_name(service)

    def _log_path(self, service: str) -> Path:
        return self._state / "logs" / f"{check_service_name(service)}.log"

    def _inspect(self, service: str) -> Instance | None:
        bundle = self._bundle(service)
        spec = read_spec(bundle)
        if spec is None:
            return None
        if self._status(service) in ("running", "created", "paused"):
            return Instance(service, spec.image, "running", spec.port)
        return Instance(service, spec.image, "exited", spec.port, supervision.exit_code(bundle))

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [self._program, "--root", str(self._state / self.name), *arguments]
        return subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)

    def _status(self, service: str) -> str | None:
        done = self._call("state", _container(service))
        try:
            return str(json.loads(done.stdout)["status"]) if done.returncode == 0 else None
        except (ValueError, KeyError, TypeError):
            return None

    @staticmethod
    def _wait(condition: Callable[[], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not condition() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _lay_out(self, bundle: Path, image: UnpackedImage, spec: ServiceSpec) -> None:
        with disk_errors(bundle):
            for folder in (bundle / "rootfs", bundle / "l", *(bundle / "skeleton" / name for name in _SKELETON)):
                folder.mkdir(parents=True)
            # All lower folders together have to fit into one page, so each has a short name in the folder of the mount.
            lowers = [bundle / "skeleton", *image.layers]
            for number, folder in enumerate(lowers):
                (bundle / "l" / str(number)).symlink_to(folder)
        names = ":".join(str(number) for number in reversed(range(len(lowers))))
        done = subprocess.run(
            ["mount", "-t", "overlay", "-o", f"ro,nodev,nosuid,lowerdir={names}", "overlay", str(bundle / "rootfs")],
            cwd=bundle / "l",
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeFailedError(
                f"its layers cannot be mounted ({_last_line(done.stderr)})", where=f"service {spec.name}"
            )

    def _run(self, bundle: Path, image: UnpackedImage, spec: ServiceSpec, lock: int) -> None:
        make_dirs(self._state / "logs")
        open_log(self._log_path(spec.name))
        cgroup = f"/edgepack/{Digest.of(str(bundle).encode()).hex[:12]}-{spec.name}"
        error = self._try_run(bundle, image, spec, cgroup, lock)
        if error is not None and "cgroup" in error:
            _log.warning("service %s runs without limits: its control group cannot be set (%s)", spec.name, error)
            self._call("delete", "--force", _container(spec.name))
            error = self._try_run(bundle, image, spec, None, lock)
        if error is not None:
            raise RuntimeFailedError(f"{self.name} cannot start it ({error})", where=f"service {spec.name}")

    def _try_run(
        self, bundle: Path, image: UnpackedImage, spec: ServiceSpec, cgroup: str | None, lock: int
    ) -> str | None:
        """Start the container; gives what went wrong, ``None`` once it has run."""
        config = bundle_config(image.config, spec, cgroup)
        atomic_write(bundle / "config.json", canonical_json(config), 0o600)
        messages = bundle / "messages.log"
        messages.unlink(missing_ok=True)
        no_cgroup = ["--cgroup-manager=disabled"] if cgroup is None and self.name == "crun" else []
        argv = [self._program, "--root", str(self._state / self.name), "--log", str(messages), *no_cgroup]
        argv += ["run", "--bundle", str(bundle), "--pid-file", str(bundle / "pid"), _container(spec.name)]
        # Remembered before anything runs, so that whoever comes after a crash knows what to stop.
        write_spec(bundle, spec)
        supervision.launch(
            bundle,
            argv,
            env={"PATH": os.defpath},
            cwd=bundle,
            lock=lock,
            log=self._log_path(spec.name),
            hide=_HYBRID if self.name == "crun" and _HYBRID.is_mount() else None,
        )
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._status(spec.name) == "running":
                return None
            found = supervision.find(bundle)
            if found is None or not found.running:
                said = _last_line(messages.read_bytes()) if messages.exists() else ""
                # A container that ended on its own has started; its exit code tells the rest.
                return said if said and found is not None and found.exit_code != 0 else None
            time.sleep(_POLL_SECONDS)
        return f"it does not start within {_START_SECONDS:.0f} seconds"

    def _clear(self, service: str, timeout: float) -> None:
        """End the container, take its mount away and remove its bundle, whatever of them is there."""
        bundle, container = self._bundle(service), _container(service)
        found = supervision.find(bundle)
        if found is not None:
            # A start whose agent was killed goes on by itself; ended in the middle it would leave its container behind.
            self._wait(lambda: self._status(service) in ("running", "stopped") or not found.running, _CREATE_SECONDS)
        if self._status(service) is not None:
            self._call("kill", container, "TERM")
            self._wait(lambda: self._status(service) != "running", timeout)
            self._call("delete", "--force", container)
        if found is not None:
            supervision.end(found, timeout=2.0)
            self._call("delete", "--force", container)
        rootfs = bundle / "rootfs"
        if rootfs.is_mount():
            done = subprocess.run(["umount", "--lazy", str(rootfs)], capture_output=True, check=False)
            if rootfs.is_mount():
                raise RuntimeFailedError(
                    f"its layers cannot be unmounted ({_last_line(done.stderr)})", where=f"service {service}"
                )
        if bundle.exists():
            shutil.rmtree(bundle)


def _container(service: str) -> str:
    return f"edgepack-{service}"


def _last_line(text: bytes) -> str:
    return text.decode("utf-8", "replace").strip().rpartition("\n")[2]
