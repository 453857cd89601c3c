"""The device's folder: its store, whom it trusts, what it remembers."""

from __future__ import annotations

import logging
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import cast

from edge_agent.runtimes.base import Runtime
from edge_agent.runtimes.select import RuntimeName, choose
from edge_agent.state import StateFile
from edgepack.errors import IncompatibleError, SignatureError
from edgepack.files import locked, make_dirs
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Index
from edgepack.oci.store import Store

log = logging.getLogger(__name__)
# runc stands in for crun where that is not there.
_CHOICES = {"runc": "crun", "podman": "docker"}


class Device:
    """Everything below ``root``; one command at a time changes it."""

    def __init__(self, root: Path, runtime: str = "auto") -> None:
        self.root = root.absolute()
        self._runtime = runtime
        make_dirs(self.root)
        # A service's own user must reach its unpacked files, and see nothing else in here.
        self.root.chmod(0o711)

    @cached_property
    def store(self) -> Store:
        """The blobs that the device holds."""
        return Store.create(self._private("store"))

    @cached_property
    def state(self) -> StateFile:
        """What the device remembers; the environment of a service may be nobody else's business."""
        return StateFile(self._private("state") / "agent.db")

    @cached_property
    def runtime(self) -> Runtime:
        """What runs new services."""
        return self._choose(self._runtime)

    def runtime_named(self, name: str) -> Runtime:
        """The runtime that an existing service was started with."""
        if "runtime" in self.__dict__ and self.runtime.name == name:
            return self.runtime
        return self._choose(_CHOICES.get(name, name))

    def _choose(self, name: str) -> Runtime:
        return choose(cast(RuntimeName, name), self.root, self.store)

    def _private(self, name: str) -> Path:
        folder = self.root / name
        make_dirs(folder)
        folder.chmod(0o700)
        return folder

    @property
    def name(self) -> str:
        """What the device calls itself."""
        return socket.gethostname()

    @contextmanager
    def changing(self) -> Iterator[None]:
        """Hold the device's lock: a second command waits for the first."""
        with locked(self.root / ".lock"):
            yield

    def manifest_of(self, image: Digest, platform: Platform | None = None) -> Digest:
        """The image manifest for this device's platform: ``image`` itself, or what the index ``image`` names.

        Raises ``NotFoundError`` when it was not imported and ``IncompatibleError`` when it is for other platforms.
        """
        descriptor = self.store.describe(image)
        if descriptor.media_type not in mediatypes.INDEXES:
            return image
        wanted = platform or Platform.host()
        found = Index.from_bytes(self.store.read(descriptor), f"index {image}").manifests
        for one in found:
            if one.platform == wanted:
                return one.digest
        have = ", ".join(str(one.platform) for one in found)
        raise IncompatibleError(f"is for {have}, and this device is {wanted}", where=f"image {image}",
                                hint="build the image for this platform")  # fmt: skip

    def check_signed(self, image: Digest, *, allow_unsigned: bool) -> None:
        """Raise ``SignatureError`` unless a trusted key signed ``image``."""
        from edgepack.signing.keys import TrustStore
        from edgepack.signing.statement import verify_image

        try:
            verify_image(self.store, image, TrustStore(self.root / "trust").keys())
        except SignatureError:
            if not allow_unsigned:
                raise
            log.warning("image %s is run without a trusted signature, as was asked for", image)
