"""Services as plain processes of this machine's Python, for devices that have no container engine and no root.

A process is not a container: it sees the device's files and network as its user does. Where the agent is root, the
service runs as the image's user. Memory is not limited: ``RLIMIT_AS`` counts addresses, of which onnxruntime maps far
more than it uses.
"""

from __future__ import annotations

import logging
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_agent.runtimes import supervision
from edge_agent.runtimes.instances import open_log, write_spec
from edge_agent.runtimes.runtime_spec import numeric_user, service_env
from edge_agent.runtimes.translate import command, environment, python_minor
from edge_agent.runtimes.unpacked.images import UnpackedImage
from edge_agent.runtimes.unpacked.runtime import UnpackedRuntime
from edge_agent.runtimes.unpacked.trees import merge_trees
from edgepack.errors import IncompatibleError, disk_errors
from edgepack.host.files import discard, locked, make_dirs
from edgepack.oci import mediatypes
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor, Platform
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.oci.whiteouts import RefuseWhiteouts
from edgepack.state.desired import DesiredService

_log = logging.getLogger(__name__)


class ProcessRuntime(UnpackedRuntime):
    """Runs services as processes below the folder ``state``, from the device's ``store``."""

    def __init__(self, state: Path, store: Store) -> None:
        super().__init__("process", state, store, RefuseWhiteouts())
        self._trees = self._state / "rootfs"

    def prepare(self, image: Digest) -> None:
        """Unpack the image's layers above its base and merge them; see the protocol.

        ``IncompatibleError`` says which platform or which Python is needed.
        """
        ready = self._images.prepare(image, _choose)
        make_dirs(self._trees)
        with locked(self._trees / f".{image.hex}.lock"):
            merge_trees(ready.layers, self._trees / image.hex)

    def _prepared(self, image: Digest) -> UnpackedImage | None:
        return super()._prepared(image) if (self._trees / image.hex).is_dir() else None

    def _forget(self, image: Digest) -> None:
        if self._trees.is_dir():
            with locked(self._trees / f".{image.hex}.lock"), disk_errors(self._trees):
                discard(self._trees / image.hex)
        super()._forget(image)

    def _running(self, service: str, folder: Path) -> bool:
        found = supervision.find(folder)
        return found is not None and found.running

    def _launch(self, folder: Path, image: UnpackedImage, spec: DesiredService, lock: int) -> None:
        make_dirs(folder)
        config, tree = image.config, self._trees / image.digest.hex
        python = find_python(python_minor(config))
        cwd = tree / config.working_dir.lstrip("/")
        # Recorded before anything runs, so that whoever comes after a crash knows what to stop.
        write_spec(folder, spec)
        supervision.launch(
            folder,
            command(config, python, tree),
            env=environment(service_env(config, spec, spec.address, spec.port), tree),
            cwd=cwd if cwd.is_dir() else tree,
            lock=lock,
            log=open_log(self._log_path(spec.name)),
            user=_user(config, spec.name, (tree, Path(python).resolve())),
        )

    def _clear(self, service: str, timeout: float) -> None:
        folder = self._folder(service)
        found = supervision.find(folder)
        if found is not None:
            supervision.end(found, timeout)
        if folder.exists():
            shutil.rmtree(folder)


def _choose(image: Digest, config: ImageConfig, layers: Sequence[Descriptor]) -> Sequence[bool]:
    """All layers but those of the base, which this machine replaces; raises ``IncompatibleError``."""
    host = Platform.host()
    if config.platform != host:
        raise IncompatibleError(
            f"is for {config.platform} and this machine is {host}", where=f"image {image}", hint=f"build it for {host}"
        )
    find_python(python_minor(config))
    kinds = [layer.annotations.get(mediatypes.LAYER_KIND) for layer in layers]
    if None in kinds:
        raise IncompatibleError(
            "does not say which of its layers are the base",
            where=f"image {image}",
            hint="without containers only images that edgepack built can run; use --runtime docker or crun",
        )
    return [kind != "base" for kind in kinds]


def find_python(minor: int) -> str:
    """A Python 3.``minor`` of this machine; raises ``IncompatibleError`` saying what is needed."""
    candidates = [sys.executable, shutil.which(f"python3.{minor}"), shutil.which("python3")]
    for candidate in candidates:
        if candidate and _minor_of(candidate) == minor:
            return candidate
    raise IncompatibleError(
        f"the image runs Python 3.{minor}, which this machine does not have",
        hint=f"install python3.{minor}, or use --runtime docker or crun",
    )


def _minor_of(python: str) -> int | None:
    if python == sys.executable:
        return sys.version_info.minor
    # A name on PATH may be a script that chooses a version, or fails to.
    ask = [python, "-I", "-S", "-c", "import sys; sys.stdout.write('%d.%d' % sys.version_info[:2])"]
    try:
        done = subprocess.run(ask, capture_output=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    major, _, minor = done.stdout.decode("ascii", "replace").partition(".")
    return int(minor) if done.returncode == 0 and major == "3" and minor.isdecimal() else None


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
