"""The engine's copies of images: sent, found and removed.

An engine gets just the layers that it lacks, from a registry on a loopback port over the device's store. Images are
known by a tag of ours and the digest of their configuration: an engine that loads an archive forgets the manifest's
digest.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Mapping
from pathlib import Path

from edge_agent.runtimes.engine.api import Engine
from edge_agent.runtimes.engine.errors import CONFLICT, NOT_FOUND, CallError, EngineRefusedError, refused
from edge_agent.runtimes.unpacked.images import check_platform, read_image, verify_blobs
from edgepack.errors import EdgepackError, NoSpaceError, NotFoundError, RuntimeFailedError
from edgepack.host.files import sync_file_system
from edgepack.limits import LIMITS
from edgepack.oci.archive.write import stream_archive
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Manifest
from edgepack.oci.recompress import without_zstd
from edgepack.oci.serve import serve
from edgepack.oci.store import Store

_log = logging.getLogger(__name__)
_REPOSITORY = "edgepack/image"
_PULL_SECONDS = 300.0


def image_name(image: Digest) -> str:
    """The name under which the engine keeps ``image``."""
    return f"{_REPOSITORY}:{image.hex}"


class EngineImages:
    """The images that ``engine`` has of ``store``.

    ``CallError`` passes through: the caller turns it into one of our errors, once for a whole operation.
    """

    def __init__(self, store: Store, engine: Engine) -> None:
        self._store = store
        self._engine = engine

    def send(self, image: Digest) -> None:
        """Send the engine the layers that it lacks, and wait until they are on the disk; see ``Runtime.prepare``."""
        manifest, config = read_image(self._store, image)
        check_platform(image, config)
        if self._has(image, manifest):
            return
        for blob in manifest.blobs:
            if not self._store.has(blob):
                with self._store.open(blob):  # raises: absent, or cut short
                    pass
        self._pull_or_load(image, manifest)
        self._sync()

    def config(self, image: Digest) -> ImageConfig:
        """The image's configuration from the engine alone: starting needs nothing of the store.

        Raises ``NotFoundError`` for an image that the engine does not have.
        """
        found = self._engine.image(image_name(image))
        if found is None:
            raise NotFoundError(f"image {image} is not prepared", hint="import it again")
        value = {"architecture": "amd64", "os": "linux", "config": found.get("Config") or {}}
        return ImageConfig.from_bytes(json.dumps(value).encode(), f"image {image}")

    def has(self, image: Digest) -> bool:
        """Whether the engine has an image under our name for ``image``."""
        return self._engine.image(image_name(image)) is not None

    def is_intact(self, image: Digest) -> bool:
        """Whether the engine can read all of ``image``: it compares each file with a sum that it took when it got it.

        True where there is no room for the copy that an engine makes to read it. Raises ``NotFoundError``.
        """
        try:
            self._engine.read_image(image_name(image))
        except CallError as error:
            if error.status == NOT_FOUND:
                raise NotFoundError(f"image {image} is not prepared", hint="import it again") from None
            return isinstance(refused(error.what, f"image {image}"), NoSpaceError)
        return True

    def remove(self, image: Digest) -> None:
        """Take our name from the image, and the image where nothing else holds it; absent is fine."""
        try:
            self._engine.remove_image(image_name(image))
        except CallError as error:
            if error.status != CONFLICT:  # something of the user's runs from it
                raise

    def _has(self, image: Digest, manifest: Manifest) -> bool:
        found = self._engine.image(image_name(image))
        # Docker's own store knows an image by its configuration, containerd's by its manifest.
        return found is not None and found.get("Id") in (str(manifest.config.digest), str(image))

    def _pull_or_load(self, image: Digest, manifest: Manifest) -> None:
        descriptor = self._store.describe(image)
        try:
            self._pull(image, manifest)
        except (EngineRefusedError, NoSpaceError) as error:
            # An engine says little about the cause; a damaged blob is named here.
            verify_blobs(self._store, (descriptor, *manifest.blobs))
            if isinstance(error, NoSpaceError):
                raise
            _log.info("image %s is loaded as an archive, because %s", image, error.what)
            self._load(image, descriptor)
            if not self._has(image, manifest):
                raise RuntimeFailedError(
                    "the engine loaded it and does not have it under its digest", where=f"image {image}"
                ) from error

    def _pull(self, image: Digest, manifest: Manifest) -> None:
        """Let the engine pull what it lacks; raises ``EngineRefusedError`` or ``NoSpaceError``."""
        with serve(self._store) as port:
            repository = f"127.0.0.1:{port}/{_REPOSITORY}"
            try:
                lines = self._engine.pull(repository, str(image), timeout=_PULL_SECONDS)
            except CallError as error:
                raise refused(error.what, f"image {image}") from error
            for line in lines:
                if line.get("error"):
                    raise refused(str(line["error"]).strip(), f"image {image}")
            name = f"{repository}@{image}"
            pulled = self._engine.image(name)
            if pulled is None:
                raise EngineRefusedError("the container engine does not have what it pulled", where=f"image {image}")
            self._engine.tag(str(pulled["Id"]), _REPOSITORY, image.hex)
            # The port means nothing tomorrow; with our tag in place this takes only the name away.
            self._engine.remove_image(name)
        if not self._has(image, manifest):
            raise EngineRefusedError("the container engine pulled an image with another digest", where=f"image {image}")

    def _load(self, image: Digest, descriptor: Descriptor) -> None:
        """Hand the whole image over as an archive, without a copy of it on the disk."""
        reading, writing = os.pipe()
        raised: list[BaseException] = []

        def write() -> None:
            try:
                with os.fdopen(writing, "wb") as stream:
                    # Docker before 23 loads no zstd; what was verified by its digest is the same image unpacked.
                    found = without_zstd(self._store, descriptor)
                    stream_archive(found, {image_name(image): found.root}, stream)
            except (EdgepackError, OSError) as error:
                raised.append(error)

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        try:
            with os.fdopen(reading, "rb") as stream:
                answer = self._engine.load(iter(lambda: stream.read(LIMITS.chunk_bytes), b""))
        finally:
            writer.join()
        for error in raised:
            if isinstance(error, EdgepackError):
                raise error
        for line in answer:
            if isinstance(line, Mapping) and "error" in line:
                raise RuntimeFailedError(f"the engine does not load it ({line['error']})", where=f"image {image}")

    def _sync(self) -> None:
        """Engines do not wait for the disk: a power cut could leave layers that look whole and are empty."""
        root = Path(str(self._engine.info().get("DockerRootDir") or ""))
        try:
            if root.is_absolute() and root.is_dir():
                sync_file_system(root)
        except PermissionError:  # an agent that is not root may not enter it
            os.sync()
