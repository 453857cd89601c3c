"""Containers with no engine: ``crun`` or ``runc`` on overlay mounts of unpacked layers. Needs root.

``<state>/run/<program>/<service>/`` is the OCI runtime's bundle (runtime-spec, bundle.md), not one of ours: ``l/``
holds short links to the layers, ``rootfs`` is the mount.
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
from edge_agent.runtimes.instances import open_log, write_spec
from edge_agent.runtimes.runtime_spec import numeric_user, runtime_config
from edge_agent.runtimes.unpacked.images import UnpackedImage, check_platform
from edge_agent.runtimes.unpacked.runtime import UnpackedRuntime
from edgepack.documents import canonical_json
from edgepack.errors import MissingPartError, RuntimeFailedError, disk_errors
from edgepack.host.files import atomic_write
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.oci.whiteouts import OverlayWhiteouts
from edgepack.state.desired import DesiredService

_log = logging.getLogger(__name__)
_POLL_SECONDS = 0.02
_START_SECONDS = 30.0
_CREATE_SECONDS = 10.0
# Folders that the container's own mounts need and an image may lack; below all layers, so that the image's win.
_SKELETON = ("proc", "dev", "sys", "tmp")
# With both versions of control groups mounted, crun takes neither once version 2 has a controller of its own; without
# sight of version 2 it sets its limits by version 1.
_HYBRID = Path("/sys/fs/cgroup/unified")


class ControlGroupError(RuntimeFailedError):
    """The container's control group cannot be set up: it can only run without limits."""


class CrunRuntime(UnpackedRuntime):
    """Runs services with ``program`` below the folder ``state``, from the device's ``store``."""

    def __init__(self, state: Path, store: Store, program: Literal["crun", "runc"] = "crun") -> None:
        found = shutil.which(program)
        if found is None:
            raise MissingPartError(f"{program} is not installed", hint=f"install it (Debian package: {program})")
        _require_overlay(program)
        super().__init__(program, state, store, OverlayWhiteouts())
        self._program = found

    def prepare(self, image: Digest) -> None:
        """Unpack the image's layers; see the protocol."""
        self._prepare(image, thorough=False)

    def _prepare(self, image: Digest, *, thorough: bool) -> None:
        self._images.prepare(image, self._check, thorough=thorough)

    @staticmethod
    def _check(image: Digest, config: ImageConfig, layers: Sequence[Descriptor]) -> Sequence[bool]:
        check_platform(image, config)
        numeric_user(config)
        return [True] * len(layers)

    def _running(self, service: str, folder: Path) -> bool:
        return self._status(service) in ("running", "created", "paused")

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

    def _lay_out(self, bundle: Path, image: UnpackedImage, spec: DesiredService) -> None:
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

    def _launch(self, folder: Path, image: UnpackedImage, spec: DesiredService, lock: int) -> None:
        self._lay_out(folder, image, spec)
        open_log(self._log_path(spec.name))
        cgroup = f"/edgepack/{Digest.of(str(folder).encode()).hex[:12]}-{spec.name}"
        try:
            self._run(folder, image, spec, cgroup, lock)
        except ControlGroupError as error:
            _log.warning("service %s runs without limits of memory and CPU: %s", spec.name, error.what)
            self._call("delete", "--force", _container(spec.name))
            self._run(folder, image, spec, None, lock)

    def _run(self, bundle: Path, image: UnpackedImage, spec: DesiredService, cgroup: str | None, lock: int) -> None:
        """Start the container and return once it has run; raises ``RuntimeFailedError``."""
        config = runtime_config(image.config, spec, cgroup)
        atomic_write(bundle / "config.json", canonical_json(config), 0o600)
        messages = bundle / "messages.log"
        messages.unlink(missing_ok=True)
        no_cgroup = ["--cgroup-manager=disabled"] if cgroup is None and self.name == "crun" else []
        argv = [self._program, "--root", str(self._state / self.name), "--log", str(messages), *no_cgroup]
        argv += ["run", "--bundle", str(bundle), "--pid-file", str(bundle / "pid"), _container(spec.name)]
        # Recorded before anything runs, so that whoever comes after a crash knows what to stop.
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
                return
            found = supervision.find(bundle)
            if found is None or not found.running:
                # A container that ended on its own has started; its exit code tells the rest.
                if found is not None and found.exit_code != 0:
                    self._raise_failure(messages, spec.name)
                return
            time.sleep(_POLL_SECONDS)
        raise RuntimeFailedError(
            f"{self.name} did not start the container within {_START_SECONDS:.0f} seconds", where=f"service {spec.name}"
        )

    def _raise_failure(self, messages: Path, service: str) -> None:
        """Raise the error for what the program logged; nothing when it logged nothing, for then the service ended."""
        try:
            said = _last_line(messages.read_bytes())
        except FileNotFoundError:
            return
        if said:
            # The program has no other way to say which step failed.
            kind = ControlGroupError if "cgroup" in said else RuntimeFailedError
            raise kind(f"{self.name} cannot start it ({said})", where=f"service {service}")

    def _clear(self, service: str, timeout: float) -> None:
        """End the container, take its mount away and remove its bundle, whatever of them is there."""
        bundle, container = self._folder(service), _container(service)
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


def _require_overlay(program: str) -> None:
    """Raise ``MissingPartError`` where this process cannot mount overlays."""
    if os.geteuid() != 0:
        lacking = "it needs root"
    elif shutil.which("mount") is None or shutil.which("umount") is None:
        lacking = "it needs mount and umount (Debian package: mount)"
    elif not _kernel_has_overlay():
        lacking = "it needs overlay mounts, which this kernel does not have"
    else:
        return
    raise MissingPartError(f"{program} cannot run services here: {lacking}", hint="use --runtime process")


def _kernel_has_overlay() -> bool:
    if "overlay" in Path("/proc/filesystems").read_text("ascii"):
        return True
    # The module is loaded by the first mount, so its absence from the list proves nothing.
    if shutil.which("modprobe") is None:
        return False
    return subprocess.run(["modprobe", "overlay"], capture_output=True, check=False).returncode == 0


def _container(service: str) -> str:
    return f"edgepack-{service}"


def _last_line(text: bytes) -> str:
    return text.decode("utf-8", "replace").strip().rpartition("\n")[2]
