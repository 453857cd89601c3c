"""Services as plain processes of the image's own Python, for devices that have no container engine and no root.

The image's base is merged in a folder apart from the rest: paths are translated to the rest only, so that a service
sees the device's ``/tmp`` and ``/etc``. A process is not a container: it sees the device's files and network as its
user does. Where the agent is root, the service runs as the image's user. Memory is not limited: ``RLIMIT_AS`` counts
addresses, of which onnxruntime maps far more than it uses.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
from collections.abc import Sequence
from pathlib import Path

from edge_agent.runtimes import supervision
from edge_agent.runtimes.instances import open_log, write_spec
from edge_agent.runtimes.interpreter import find_interpreter, install_own_interpreter
from edge_agent.runtimes.runtime_spec import numeric_user, service_env
from edge_agent.runtimes.translate import command, environment, python_minor
from edge_agent.runtimes.unpacked.images import UnpackedImage, read_image
from edge_agent.runtimes.unpacked.inventory import discard_tree, forget_records, is_intact
from edge_agent.runtimes.unpacked.runtime import UnpackedRuntime
from edge_agent.runtimes.unpacked.trees import merge_trees
from edgepack.errors import IncompatibleError, disk_errors
from edgepack.host.files import locked, make_dirs
from edgepack.host.ownership import open_to_others
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.oci.whiteouts import KeptWhiteouts, OverlayWhiteouts
from edgepack.state.desired import DesiredService

_log = logging.getLogger(__name__)


class ProcessRuntime(UnpackedRuntime):
    """Runs services as processes below the folder ``state``, from the device's ``store``."""

    def __init__(self, state: Path, store: Store) -> None:
        # Only root can make them as overlays read them, and only root runs overlays of the same layers.
        super().__init__("process", state, store, OverlayWhiteouts() if os.geteuid() == 0 else KeptWhiteouts())
        self._store = store
        self._trees = self._state / "rootfs"
        self._bases = self._state / "bases"

    def prepare(self, image: Digest) -> None:
        """Unpack the image's layers and merge them, its base apart from the others; see the protocol.

        ``IncompatibleError`` says which platform or which Python is needed.
        """
        self._prepare(image, thorough=False)

    def _prepare(self, image: Digest, *, thorough: bool) -> None:
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
                )
                merge_trees([path for path, below in layers if not below], self._trees / image.hex)
            find_interpreter(ready.config, self._bases / image.hex)

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

    def _running(self, service: str, folder: Path) -> bool:
        found = supervision.find(folder)
        return found is not None and found.running

    def _launch(self, folder: Path, image: UnpackedImage, spec: DesiredService, lock: int) -> None:
        make_dirs(folder, 0o700)
        config, tree = image.config, self._trees / image.digest.hex
        python = find_interpreter(config, self._bases / image.digest.hex)
        cwd = tree / config.working_dir.lstrip("/")
        # Recorded before anything runs, so that whoever comes after a crash knows what to stop.
        write_spec(folder, spec)
        supervision.launch(
            folder,
            command(config, python.program, tree, python.flags),
            env={**python.env, **environment(service_env(config, spec, spec.address, spec.port), tree)},
            cwd=cwd if cwd.is_dir() else tree,
            lock=lock,
            log=open_log(self._log_path(spec.name)),
            user=_user(config, spec.name, (tree, *python.needs)),
        )

    def _clear(self, service: str, timeout: float) -> None:
        folder = self._folder(service)
        found = supervision.find(folder)
        if found is not None:
            supervision.end(found, timeout)
        if folder.exists():
            shutil.rmtree(folder)


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


def _is_base(layer: Descriptor) -> bool:
    return layer.annotations.get(mediatypes.LAYER_KIND) == "base"


def _user(config: ImageConfig, service: str, needed: Sequence[Path]) -> tuple[int, int] | None:
    """The image's user where this process may become it and it can reach what it needs."""
    user = numeric_user(config)
    if os.geteuid() != 0 or user[0] == 0:
        return None
    for path in needed:
        for part in (path, *path.parents):
            if not part.stat().st_mode & stat.S_IXOTH:
                _log.warning(
                    "service %s runs as the agent's own user, because the image's user %d may not enter %s",
                    service, user[0], part,
                )  # fmt: skip
                return None
    return user
