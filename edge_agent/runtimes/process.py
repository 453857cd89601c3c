"""Services as plain processes of the image's own Python, for devices that have no container engine and no root.

The image's base is merged in a folder apart from the rest: paths are translated to the rest only, so that a service
sees the device's ``/tmp`` and ``/etc``. A process is not a container: it sees the device's files and network as its
user does. Where the agent is root, the service runs as the image's user, and never as root: what that user may not
reach is shown to it by mounts of its own (``reach``), or the service is refused.
"""

from __future__ import annotations

import logging
import os
import resource
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from edge_agent.runtimes import cgroups, reach, seccomp_program, supervision
from edge_agent.runtimes.access.devices import device_nodes
from edge_agent.runtimes.access.given import SECRETS_VARIABLE, Access, auth_env, find_access
from edge_agent.runtimes.access.mounts import content_of
from edge_agent.runtimes.cgroups import ControlGroupError, Limits
from edge_agent.runtimes.instances import write_spec
from edge_agent.runtimes.interpreter import Interpreter, find_interpreter, install_own_interpreter
from edge_agent.runtimes.runtime_spec import FILTERS, Listening, inside_port, service_env, service_user
from edge_agent.runtimes.sockets import Sockets, takes_sockets
from edge_agent.runtimes.supervision import NoOwnNetworkError, Surroundings, no_own_network
from edge_agent.runtimes.supervisor.job import Given, Way
from edge_agent.runtimes.translate import command, environment, python_minor
from edge_agent.runtimes.unpacked.images import UnpackedImage, read_image
from edge_agent.runtimes.unpacked.inventory import discard_tree, forget_records, is_intact
from edge_agent.runtimes.unpacked.runtime import UnpackedRuntime
from edge_agent.runtimes.unpacked.slots import service_of
from edge_agent.runtimes.unpacked.trees import merge_trees
from edgepack.errors import IncompatibleError, disk_errors
from edgepack.host.files import locked, make_dirs
from edgepack.host.ownership import open_to_others
from edgepack.host.removal import remove_tree
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.oci.whiteouts import KeptWhiteouts, OverlayWhiteouts
from edgepack.state.desired import DesiredService

_log = logging.getLogger(__name__)
# Where a tree appears to its service when the name of its own folder would part lists of paths.
_ALIASES = Path("/run/edgepack-trees")


class ProcessRuntime(UnpackedRuntime):
    """Runs services as processes below the folder ``state``, from the device's ``store``."""

    def __init__(self, state: Path, store: Store) -> None:
        # Only who may mount overlays can make them as overlays read them.
        super().__init__("process", state, store, OverlayWhiteouts() if reach.can_arrange_mounts() else KeptWhiteouts())
        self._store = store
        self._trees = self._state / "rootfs"
        self._bases = self._state / "bases"

    def check_place(self) -> None:
        """See ``Placed``: a path with a colon would part PYTHONPATH, unless a mount gives it another name."""
        if ":" in str(self._trees) and not reach.can_arrange_mounts():
            raise IncompatibleError(
                "its path has a colon, which parts the list PYTHONPATH", where=self._state,
                hint="give another --state-dir without one, run the agent as root, or use --runtime docker",
            )  # fmt: skip

    def prepare(self, image: Digest) -> None:
        """Unpack the image's layers and merge them, its base apart from the others; see the protocol.

        ``IncompatibleError`` says which platform or which Python is needed.
        """
        self._prepare(image, thorough=False)

    def _prepare(self, image: Digest, *, thorough: bool) -> None:
        self.check_place()
        ready = self._images.prepare(image, _check, thorough=thorough)
        for folder in (self._trees, self._bases):
            if open_to_others(folder):
                forget_records(folder)
            make_dirs(folder, 0o711)  # the services' users reach their own tree, and cannot list the others
        with locked(self._trees / f".{image.hex}.lock"):
            if thorough or not all(is_intact(folder / image.hex) for folder in (self._trees, self._bases)):
                manifest, config = read_image(self._store, image)
                layers = list(zip(ready.layers, map(_is_base, manifest.layers), strict=True))
                base = self._bases / image.hex
                merge_trees(
                    [path for path, below in layers if below],
                    base,
                    finish=lambda tree: install_own_interpreter(config, tree, base),
                    fifos=True,
                )
                merge_trees([path for path, below in layers if not below], self._trees / image.hex, fifos=True)
            python = find_interpreter(ready.config, self._bases / image.hex)
        check_executable(Path(python.program))

    def _prepared(self, image: Digest) -> UnpackedImage | None:
        return super()._prepared(image) if self._merged(image) else None

    def _merged(self, image: Digest) -> bool:
        return all((folder / image.hex).is_dir() for folder in (self._trees, self._bases))

    def _forget(self, image: Digest) -> None:
        if self._trees.is_dir():
            with locked(self._trees / f".{image.hex}.lock"), disk_errors(self._trees):
                for folder in (self._trees, self._bases):
                    discard_tree(folder / image.hex)
        super()._forget(image)

    def _running(self, folder: Path) -> bool:
        found = supervision.find(folder)
        return found is not None and found.running

    def _foresee(self, image: UnpackedImage, spec: DesiredService) -> None:
        self._access(image, spec)
        self._view(spec, image, self._python(image))
        name = cgroups.trial_name()
        self._limits(spec, name)
        cgroups.remove(name)

    def _takes_sockets(self, image: UnpackedImage, spec: DesiredService) -> bool:
        return spec.network == "own" or takes_sockets(image.config, image.layers)

    def _launch(
        self, folder: Path, image: UnpackedImage, spec: DesiredService, lock: int, given: Sockets | None, *, told: bool
    ) -> None:
        make_dirs(folder, 0o700)
        config, tree = image.config, self._trees / image.digest.hex
        python = self._python(image)
        access = self._access(image, spec)
        view = self._view(spec, image, python)
        access = replace(
            access, secrets=self._secrets.place(spec, view.user, folder.name), auth=self._auth.place(spec, folder.name)
        )
        seen = str(view.aliases.get(tree, tree))
        cwd = tree / config.working_dir.lstrip("/")
        # Recorded before anything runs, so that whoever comes after a crash knows what to stop.
        write_spec(folder, spec)
        listening, way = Listening(spec.address, spec.port), None
        if spec.network == "own":
            listening = Listening("127.0.0.1", inside_port(config))
            way = Way(inside=listening.port, told=told)
        view = replace(view, way=way, sockets=() if given is None else given.descriptors)
        env = environment(service_env(config, spec, *listening), tree)
        if access.secrets is not None and not reach.can_arrange_mounts():
            env[SECRETS_VARIABLE] = str(access.secrets)
        if access.auth is not None and not reach.can_arrange_mounts():
            env |= auth_env(spec, str(access.auth))
        try:
            supervision.launch(
                folder,
                [word.replace(str(tree), seen) for word in command(config, python.program, tree, python.flags)],
                env={**python.env, **{name: text.replace(str(tree), seen) for name, text in env.items()}},
                cwd=cwd if cwd.is_dir() else tree,
                lock=lock,
                log=self._log_path(spec.name),
                within=self._limits(spec, cgroups.group_name(folder, spec.name)).beside(_confined(view, access)),
                log_bytes=spec.log_bytes,
            )
        except NoOwnNetworkError as error:
            raise no_own_network(spec, error) from error

    def _access(self, image: UnpackedImage, spec: DesiredService) -> Access:
        """What the service is given of the device; raises ``IncompatibleError`` where the agent may not arrange it."""
        if spec.mounts and not reach.can_arrange_mounts():
            raise IncompatibleError(
                "its mounts need an agent that may make mounts", where=f"service {spec.name}",
                hint="run the agent as root, or leave mounts out: a process sees the device's files where they are",
            )  # fmt: skip
        if (spec.secrets or spec.auth) and os.geteuid() == 0 and not reach.can_arrange_mounts():
            raise IncompatibleError(
                f"its {'secrets need' if spec.secrets else 'auth needs'} an agent that may make mounts",
                where=f"service {spec.name}",
                hint="give the agent CAP_SYS_ADMIN, or run it as the user that the service is to be",
            )  # fmt: skip
        if (moved := next((one for one in spec.devices if one.inside != one.path), None)) is not None:
            raise IncompatibleError(
                f"device {moved.path} cannot have another name without a container", where=f"service {spec.name}",
                hint="leave its target out, or use --runtime docker or crun",
            )  # fmt: skip
        if os.geteuid() == 0:
            return find_access(spec, self._state, content_of(image.layers), service_user(image.config))
        for node in device_nodes(spec):
            modes = (os.R_OK if "r" in node.access else 0) | (os.W_OK if "w" in node.access else 0)
            if not os.access(node.path, modes):
                raise IncompatibleError(
                    f"this user may not open device {node.path} for {node.access}", where=f"service {spec.name}",
                    hint=f"put the user into the group of the device, which is: stat -c %G {node.path}",
                )  # fmt: skip
        return Access()

    def _python(self, image: UnpackedImage) -> Interpreter:
        return find_interpreter(image.config, self._bases / image.digest.hex)

    def _view(self, spec: DesiredService, image: UnpackedImage, python: Interpreter) -> Surroundings:
        """The service's user, and what it is shown; raises ``IncompatibleError``."""
        tree, base = self._trees / image.digest.hex, self._bases / image.digest.hex
        needed = [tree, *(base if path.is_relative_to(base) else _installed_in(path) for path in python.needs)]
        user = _user(image.config, spec.name, needed)
        aliases: dict[Path, Path] = {}
        if ":" in str(tree):
            self.check_place()
            aliases[tree] = _ALIASES / Digest.of(os.fsencode(tree)).hex[:16]
        return Surroundings(user=user, views=() if user is None else reach.views(needed, user), aliases=aliases)

    @staticmethod
    def _limits(spec: DesiredService, name: str) -> Surroundings:
        """The service's limits, by the control group ``name`` where it can be made; raises ``IncompatibleError``."""
        limits = Limits(spec.memory_bytes, spec.cpus)
        if not limits.controllers:
            return Surroundings()
        try:
            group = cgroups.create(name, limits)
        except ControlGroupError as error:
            if spec.cpus is not None:
                raise IncompatibleError(
                    f"its cpus cannot be limited here without control groups ({error.what})",
                    where=f"service {spec.name}",
                    hint="leave cpus out of the desired state, run the agent as root, or use --runtime docker",
                ) from error
            _log.warning(
                "service %s: memory_bytes limits each of its processes, not all together, because there is no control "
                "group for it (%s)", spec.name, error.what,
            )  # fmt: skip
            # Not RLIMIT_AS: that counts addresses, of which onnxruntime maps far more than it uses.
            return Surroundings(limits={resource.RLIMIT_DATA: spec.memory_bytes or 0})
        return Surroundings(groups=group.joined, oom=group.memory_events)

    def _clear(self, folder: Path, timeout: float) -> None:
        supervision.end(folder, timeout)
        cgroups.remove(cgroups.group_name(folder, service_of(folder)))
        self._secrets.remove(folder.name)
        self._auth.remove(folder.name)
        if folder.exists():
            remove_tree(folder)


def _check(image: Digest, config: ImageConfig, layers: Sequence[Descriptor]) -> Sequence[bool]:
    """All layers; raises ``IncompatibleError`` for an image that cannot run as a process."""
    host = Platform.host()
    if config.platform != host:
        raise IncompatibleError(
            f"is for {config.platform} and this machine is {host}", where=f"image {image}", hint=f"build it for {host}"
        )
    python_minor(config)
    if any(mediatypes.LAYER_KIND not in layer.annotations for layer in layers):
        raise IncompatibleError(
            "does not say which of its layers are the base",
            where=f"image {image}",
            hint="without containers only images that edgepack built can run; use --runtime docker or crun",
        )
    return [True] * len(layers)


def _confined(view: Surroundings, access: Access) -> Surroundings:
    """The view of a service that gains no privileges, makes few system calls, and changes no files but its own."""
    own_view = reach.can_arrange_mounts()
    given: list[Given] = [
        {"source": str(one.source), "target": one.target, "read_only": one.read_only}
        for one in access.mounts
        if own_view
    ]
    calls = seccomp_program.program() if FILTERS.exists() else None
    return replace(
        view, given=given, further=access.groups, confined=True, calls=calls or b"",
        sealed=own_view and reach.can_seal(),
    )  # fmt: skip


def check_executable(program: Path) -> None:
    """Raise ``IncompatibleError`` where no program of its file system can be run, as on hardened devices."""
    if os.statvfs(program).f_flag & os.ST_NOEXEC:
        raise IncompatibleError(
            f"its file system is mounted with noexec, so that {program.name} cannot be run from there", where=program,
            hint="give another --state-dir, mount that file system with exec, or use --runtime docker or crun",
        )  # fmt: skip


def _is_base(layer: Descriptor) -> bool:
    return layer.annotations.get(mediatypes.LAYER_KIND) == "base"


def _user(config: ImageConfig, service: str, needed: Sequence[Path]) -> tuple[int, int] | None:
    """The user that the service becomes; ``None`` for the agent's own, when that is not root.

    Raises ``IncompatibleError`` when it cannot be given a way to what it needs.
    """
    if os.geteuid() != 0:
        return None
    user = service_user(config)
    if reach.views(needed, user) and not reach.can_arrange_mounts():
        closed = next(folder for path in needed if (folder := reach.closed_to(path, user)))
        raise IncompatibleError(
            f"its user {user[0]} may not enter {closed}, and the agent may not make mounts to show it what it needs",
            where=f"service {service}",
            hint=f"give the agent another --state-dir, or let others enter with: chmod o+x {closed}",
        )
    return user


def _installed_in(program: Path) -> Path:
    """The folder with what belongs to ``program``, its libraries for one."""
    return program.parent.parent if program.is_file() else program
