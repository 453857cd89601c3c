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
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from edge_agent.runtimes import cgroups, supervision
from edge_agent.runtimes.access.given import Access, find_access
from edge_agent.runtimes.access.mounts import content_of
from edge_agent.runtimes.cgroups import ControlGroupError
from edge_agent.runtimes.container_record import UnknownRecordError, recorded_state
from edge_agent.runtimes.instances import write_spec
from edge_agent.runtimes.processes import boot_id
from edge_agent.runtimes.reach import can_arrange_mounts
from edge_agent.runtimes.runtime_spec import (
    NAMES_OF_HOSTS,
    Listening,
    inside_port,
    runtime_config,
    service_user,
)
from edge_agent.runtimes.sockets import Sockets, takes_sockets
from edge_agent.runtimes.supervision import NoOwnNetworkError, Surroundings, no_own_network
from edge_agent.runtimes.supervisor.job import Way
from edge_agent.runtimes.unpacked.images import UnpackedImage, check_platform
from edge_agent.runtimes.unpacked.overlay import mount_layers, unmount_layers
from edge_agent.runtimes.unpacked.runtime import UnpackedRuntime
from edge_agent.runtimes.unpacked.slots import service_of
from edgepack.documents import canonical_json
from edgepack.errors import IncompatibleError, MissingPartError, RuntimeFailedError
from edgepack.host.files import atomic_write
from edgepack.host.removal import remove_tree
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
# With both versions of control groups mounted, crun takes neither once version 2 has a controller of its own; without
# sight of version 2 it sets its limits by version 1.
_HYBRID = Path("/sys/fs/cgroup/unified")
_PAGE = os.sysconf("SC_PAGE_SIZE")
_MESSAGES = "messages.log"


@dataclass(frozen=True)
class _Start:
    """What is started, by the arguments of ``UnpackedRuntime._launch``, and what it is given of the device."""

    bundle: Path
    image: UnpackedImage
    spec: DesiredService
    lock: int
    access: Access
    given: Sockets | None
    told: bool


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
        self.check_place()
        ready = self._images.prepare(image, self._check, thorough=thorough)
        service_user(ready.config)

    def check_place(self) -> None:
        """See ``Placed``: the path has to be in the program's own documents."""
        try:
            str(self._state).encode()
        except UnicodeEncodeError:
            raise IncompatibleError(
                f"its path is not UTF-8, and {self.name} takes no other", where=self._state,
                hint="give another --state-dir, or use --runtime process",
            ) from None  # fmt: skip

    @staticmethod
    def _check(image: Digest, config: ImageConfig, layers: Sequence[Descriptor]) -> Sequence[bool]:
        check_platform(image, config)
        return [True] * len(layers)

    def _running(self, folder: Path) -> bool:
        # The program stays as long as the container, whatever becomes of its own record; asking it costs a process.
        found = supervision.find(folder)
        if found is not None and found.running:
            return True
        return self._status(folder) in ("running", "created", "paused")

    def _call(self, *arguments: str) -> subprocess.CompletedProcess[bytes]:
        command = [self._program, "--root", str(self._state / self.name), *arguments]
        return subprocess.run(command, capture_output=True, check=False, stdin=subprocess.DEVNULL)

    @staticmethod
    def _of_another_boot(bundle: Path) -> bool:
        """Whether the container was started before the device was: its processes are gone, their numbers others'."""
        found = supervision.find(bundle)
        return found is not None and found.service.boot != boot_id()

    def _status(self, bundle: Path) -> str | None:
        container = _container(bundle)
        if self._of_another_boot(bundle):
            return "stopped" if (self._state / self.name / container).exists() else None
        with suppress(UnknownRecordError):
            return recorded_state(self._state / self.name / container)
        done = self._call("state", container)
        try:
            return str(json.loads(done.stdout)["status"]) if done.returncode == 0 else None
        except (ValueError, KeyError, TypeError):
            return None

    @staticmethod
    def _wait(condition: Callable[[], bool], timeout: float) -> None:
        deadline = time.monotonic() + timeout
        while not condition() and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)

    def _access(self, image: UnpackedImage, spec: DesiredService) -> Access:
        return find_access(spec, self._state, content_of(image.layers), service_user(image.config))

    def _lay_out(self, bundle: Path, image: UnpackedImage, spec: DesiredService, access: Access) -> None:
        places = {one.target: one.is_folder for one in access.mounts}
        if spec.network == "device":
            places |= dict.fromkeys(NAMES_OF_HOSTS, False)
        mount_layers(bundle, image.layers, spec.name, image.config.working_dir, places)

    def _foresee(self, image: UnpackedImage, spec: DesiredService) -> None:
        self._access(image, spec)
        limits = cgroups.Limits(spec.memory_bytes, spec.cpus)
        name = cgroups.trial_name()
        try:
            cgroups.create(name, limits)
        except ControlGroupError as error:
            raise _no_limits(spec, error) from error
        cgroups.remove(name)

    def _takes_sockets(self, image: UnpackedImage, spec: DesiredService) -> bool:
        return spec.network != "device" or takes_sockets(image.config, image.layers)

    def _launch(
        self, folder: Path, image: UnpackedImage, spec: DesiredService, lock: int, given: Sockets | None, *, told: bool
    ) -> None:
        access = self._access(image, spec)
        secrets = self._secrets.place(spec, service_user(image.config), folder.name)
        access = replace(access, secrets=secrets, auth=self._auth.place(spec, folder.name))
        start = _Start(folder, image, spec, lock, access, given, told)
        self._lay_out(folder, image, spec, access)
        # A group of ours around the container's own, which is gone with the container: it tells of a lack of memory.
        cgroup = f"/edgepack/{cgroups.group_name(folder, spec.name)}/container"
        try:
            self._run(start, cgroup)
        except ControlGroupError as error:
            if spec.memory_bytes is not None or spec.cpus is not None:
                raise _no_limits(spec, error) from error
            _log.warning("service %s runs without a control group: %s", spec.name, error.what)
            self._call("delete", "--force", _container(folder))
            self._run(start, None)

    def _run(self, start: _Start, cgroup: str | None) -> None:
        """Start the container and return once it has run; raises ``RuntimeFailedError``."""
        spec, bundle = start.spec, start.bundle
        oom = None
        if cgroup is not None and spec.memory_bytes is not None:
            # One page less than the container's own limit, so that the kernel comes to this group's limit first.
            name = cgroup.split("/")[2]
            oom = cgroups.create(name, cgroups.Limits(spec.memory_bytes - _PAGE)).memory_events
        # Recorded before anything runs, so that whoever comes after a crash knows what to stop.
        write_spec(bundle, spec)
        within = Surroundings(oom=oom, hide=_HYBRID if self.name == "crun" and _HYBRID.is_mount() else None)
        inside = inside_port(start.image.config)
        if spec.network == "device":
            self._supervise_on_the_device_s_network(start, cgroup, within)
        else:
            descriptors = () if start.given is None else start.given.descriptors
            own = replace(within, way=Way(inside=inside, told=start.told), sockets=descriptors)
            try:
                self._supervise(start, cgroup, Listening("127.0.0.1", inside), own)
            except NoOwnNetworkError as error:
                if spec.network == "own":
                    raise no_own_network(spec, error) from error
                _log.warning("service %s runs on the network of the device: %s", spec.name, error.what)
                self._supervise_on_the_device_s_network(start, cgroup, within)
        self._wait_started(bundle, spec.name)

    def _supervise_on_the_device_s_network(self, start: _Start, cgroup: str | None, within: Surroundings) -> None:
        given: Sequence[int] = ()
        if start.given is not None and takes_sockets(start.image.config, start.image.layers):
            given = start.given.descriptors
        elif start.given is not None:  # it opens the port by itself
            start.given.close()
            self._let_go(start.spec.name)
        listening = Listening(start.spec.address, start.spec.port)
        self._supervise(start, cgroup, listening, replace(within, sockets=given))

    def _supervise(self, start: _Start, cgroup: str | None, listening: Listening, within: Surroundings) -> None:
        bundle, spec = start.bundle, start.spec
        # With the device's network the service asks whom the device asks for names.
        names = [name for name in NAMES_OF_HOSTS if spec.network == "device" and Path(name).exists()]
        config = runtime_config(start.image.config, spec, cgroup, listening, start.access, names)
        if within.sockets and within.way is None:
            # crun passes on the descriptors, and not how many; inside, the service is the first process.
            config["process"]["env"] += [f"LISTEN_FDS={len(within.sockets)}", "LISTEN_PID=1"]
        atomic_write(bundle / "config.json", canonical_json(config), 0o600)
        (bundle / _MESSAGES).unlink(missing_ok=True)
        no_cgroup = ["--cgroup-manager=disabled"] if cgroup is None and self.name == "crun" else []
        # The path of the log is relative: crun takes what is before a colon for a kind of log.
        argv = [self._program, "--root", str(self._state / self.name), "--log", _MESSAGES, "--log-format", "json"]
        argv += [*no_cgroup, "run", "--bundle", str(bundle), "--pid-file", str(bundle / "pid"), _container(bundle)]
        supervision.launch(
            bundle, argv, env={"PATH": os.defpath}, cwd=bundle, lock=start.lock, log=self._log_path(spec.name),
            within=within, log_bytes=spec.log_bytes,
        )  # fmt: skip

    def _wait_started(self, bundle: Path, service: str) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self._status(bundle) == "running":
                return
            found = supervision.find(bundle)
            if found is None or not found.running:
                # A container that ended on its own has started; its exit code tells the rest.
                if found is not None and found.exit_code != 0:
                    self._raise_failure(bundle / _MESSAGES, service)
                return
            time.sleep(_POLL_SECONDS)
        raise RuntimeFailedError(
            f"{self.name} did not start the container within {_START_SECONDS:.0f} seconds", where=f"service {service}"
        )

    def _raise_failure(self, messages: Path, service: str) -> None:
        """Raise the error for what the program logged; nothing when it logged nothing, for then the service ended."""
        try:
            said = _last_error(messages.read_bytes())
        except FileNotFoundError:
            return
        if said:
            # The program has no other way to say which step failed.
            kind = ControlGroupError if "cgroup" in said else RuntimeFailedError
            raise kind(f"{self.name} cannot start it ({said})", where=f"service {service}")

    def _clear(self, folder: Path, timeout: float) -> None:
        """End the container, take its mount away and remove its bundle, whatever of them is there."""
        bundle, container, service = folder, _container(folder), service_of(folder)
        found = supervision.find(bundle)
        if self._of_another_boot(bundle):
            # Without the program, which would look for a process by the number that it has on record.
            record = self._state / self.name / container
            if record.exists():
                remove_tree(record)
            found = None
        if found is not None:
            # A start whose agent was killed goes on by itself; ended in the middle it would leave its container behind.
            self._wait(lambda: self._status(bundle) in ("running", "stopped") or not found.running, _CREATE_SECONDS)
        if self._status(bundle) is not None:
            self._call("kill", container, "TERM")
            self._wait(lambda: self._status(bundle) != "running", timeout)
            self._call("delete", "--force", container)
        supervision.end(bundle, timeout=2.0)
        if found is not None:
            self._call("delete", "--force", container)
        cgroups.remove(cgroups.group_name(bundle, service))
        unmount_layers(bundle, service)
        self._secrets.remove(folder.name)
        self._auth.remove(folder.name)
        if bundle.exists():
            remove_tree(bundle)


def _no_limits(spec: DesiredService, error: ControlGroupError) -> RuntimeFailedError:
    return RuntimeFailedError(
        f"its memory_bytes and cpus cannot be kept here ({error.what})", where=f"service {spec.name}",
        hint="leave them out of the desired state, or let the agent change control groups",
    )  # fmt: skip


def _require_overlay(program: str) -> None:
    """Raise ``MissingPartError`` where this process cannot mount overlays."""
    if os.geteuid() != 0:
        lacking = "it needs root"
    elif shutil.which("mount") is None or shutil.which("umount") is None:
        lacking = "it needs mount and umount (Debian package: mount)"
    elif not can_arrange_mounts():
        lacking = "it may not mount anything (root without CAP_SYS_ADMIN, as in a container)"
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


def _container(bundle: Path) -> str:
    return f"edgepack-{bundle.name}"


def _last_error(log: bytes) -> str:
    """The last error in the log of ``crun`` or ``runc``; warnings say nothing.

    It is JSON, an object a line, or over several lines as crun with JSON-C writes it.
    """
    said, text, decoder = "", log.decode("utf-8", "replace").lstrip(), json.JSONDecoder()
    while text:
        try:
            entry, end = decoder.raw_decode(text)
        except ValueError:
            line, _, text = text.partition("\n")
            said = line.strip() if any(map(str.isalpha, line)) else said
        else:
            text = text[end:]
            if isinstance(entry, dict) and entry.get("level") in ("error", "fatal", "panic"):
                said = str(entry.get("msg", "")).strip() or said
        text = text.lstrip()
    return said
