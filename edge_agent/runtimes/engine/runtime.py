"""Services as containers of an engine that runs already: Docker, or Podman by its Docker-compatible socket.

The only module here that imports the ``docker`` SDK. An engine gets just the layers that it lacks, from a registry on a
loopback port over the device's store. Images are known by a tag of ours and the digest of their configuration: an
engine that loads an archive forgets the manifest's digest.
"""

from __future__ import annotations

import json
import logging
import math
import os
import stat
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from edge_agent.runtimes.base import Instance
from edge_agent.runtimes.engine.options import container_name, container_options
from edge_agent.runtimes.instances import check_port, spec_hash
from edge_agent.runtimes.unpacked.images import check_platform, read_image, verify_blobs
from edgepack.errors import EdgepackError, MissingPartError, NoSpaceError, NotFoundError, RuntimeFailedError
from edgepack.host.files import sync_file_system
from edgepack.limits import LIMITS
from edgepack.oci.archive.write import stream_archive
from edgepack.oci.config import ImageConfig
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Manifest
from edgepack.oci.serve import serve
from edgepack.oci.store import Store
from edgepack.state.desired import DesiredService

_log = logging.getLogger(__name__)
_REPOSITORY = "edgepack/image"
_IMAGE_LABEL, _SPEC_LABEL, _PORT_LABEL = "io.edgepack.image", "io.edgepack.spec", "io.edgepack.port"
_PING_SECONDS = 3
_CALL_SECONDS = 300
_LATE_SECONDS = 20.0
# Podman's own interface, from 4.0 on; only there a registry without TLS can be named for one pull.
_LIBPOD = "/v4.0.0/libpod"


def sockets(environment: Mapping[str, str] = os.environ) -> tuple[str, ...]:
    """The addresses where an engine may listen, best first."""
    if environment.get("DOCKER_HOST"):
        return (environment["DOCKER_HOST"],)
    own = Path(environment.get("XDG_RUNTIME_DIR") or f"/run/user/{os.getuid()}")
    paths = [Path("/run/docker.sock"), Path("/run/podman/podman.sock")]
    paths += [own / "docker.sock", own / "podman/podman.sock"]
    return tuple(f"unix://{path}" for path in paths if _is_socket(path))


def _is_socket(path: Path) -> bool:
    try:
        return stat.S_ISSOCK(path.stat().st_mode)
    except OSError:  # absent, or in a folder that only another user may enter
        return False


def connect(address: str | None = None) -> Any:
    """A client of the first engine that answers, at ``address`` or where engines usually listen.

    Raises ``MissingPartError`` when none answers or the SDK is not installed.
    """
    try:
        import docker
        import requests
    except ImportError as error:
        raise MissingPartError(
            "the docker package is not installed", hint="install edgepack[agent], or use another --runtime"
        ) from error
    tried = (address,) if address is not None else sockets()
    reasons = []
    for one in tried:
        try:
            client = docker.from_env(environment={**os.environ, "DOCKER_HOST": one}, timeout=_PING_SECONDS)
            client.ping()
        except (docker.errors.DockerException, requests.RequestException, OSError) as error:
            reasons.append(f"{one}: {_said(error)}")
            continue
        client.api.timeout = _CALL_SECONDS
        return client
    raise MissingPartError(
        f"no container engine answers ({'; '.join(reasons) or 'no socket of one is there'})",
        hint="start Docker or Podman's socket, set DOCKER_HOST, or use --runtime crun or process",
    )


class EngineRefusedError(RuntimeFailedError):
    """The container engine refused a request, or did not answer it."""


class DockerRuntime:
    """Runs services as containers of the engine at ``address`` (by default where engines usually listen)."""

    name = "docker"

    def __init__(self, store: Store, address: str | None = None) -> None:
        self._store = store
        self._client = connect(address)
        parts = self._client.version().get("Components") or []
        self._podman = any("podman" in str(part.get("Name", "")).lower() for part in parts)

    def prepare(self, image: Digest) -> None:
        """Send the engine the layers that it lacks, and wait until they are on the disk; see the protocol."""
        manifest, config = read_image(self._store, image)
        check_platform(image, config)
        with _engine_errors(f"image {image}"):
            if self._has(image, manifest):
                return
            for blob in manifest.blobs:
                if not self._store.has(blob):
                    with self._store.open(blob):  # raises: absent, or cut short
                        pass
            self._pull_or_load(image, manifest)
            self._sync()

    def start(self, spec: DesiredService) -> Instance:
        """Create and start the service's container; see the protocol."""
        with _engine_errors(f"service {spec.name}"):
            config = self._config(spec.image)
            found = self._container(spec.name)
            if found is not None:
                now = _instance(spec.name, found)
                if now.state == "running" and found.labels.get(_SPEC_LABEL) == spec_hash(spec):
                    return now
                self.stop(spec.name)
            check_port(spec)
            container = self._create(spec, config)
            try:
                container.start()
            except BaseException:
                # A port that was taken since the check is in the engine's own words: asked again now, it may still be
                # held by what the engine has not yet let go of.
                container.remove(force=True, v=True)
                raise
            container.reload()
            return _instance(spec.name, container)

    def stop(self, service: str, timeout: float = 10.0) -> None:
        """See the protocol."""
        import docker

        with _engine_errors(f"service {service}"):
            container = self._container(service)
            if container is None:
                return
            try:
                container.stop(timeout=math.ceil(timeout))
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:  # removing by force ends it too
                _log.warning("service %s does not stop on request (%s)", service, _said(error))
            try:
                container.remove(force=True, v=True)
            except docker.errors.NotFound:
                return

    def inspect(self, service: str) -> Instance | None:
        """See the protocol."""
        with _engine_errors(f"service {service}"):
            found = self._container(service)
            return None if found is None else _instance(service, found)

    def logs(self, service: str, lines: int = 100) -> str:
        """See the protocol; the engine forgets a service's log with its container."""
        with _engine_errors(f"service {service}"):
            found = self._container(service)
            text = b"" if found is None else found.logs(tail=max(0, lines))
            return bytes(text).decode("utf-8", "replace")

    def forget_image(self, image: Digest) -> None:
        """See the protocol."""
        import docker

        with _engine_errors(f"image {image}"):
            if self._client.containers.list(all=True, filters={"label": f"{_IMAGE_LABEL}={image}"}):
                return
            try:
                self._client.images.remove(_tag(image))
            except docker.errors.NotFound:
                return
            except docker.errors.APIError as error:
                if error.status_code != 409:  # something of the user's runs from it
                    raise

    # Images

    def _has(self, image: Digest, manifest: Manifest) -> bool:
        import docker

        try:
            found = self._client.images.get(_tag(image))
        except docker.errors.NotFound:
            return False
        # Docker's own store knows an image by its configuration, containerd's by its manifest.
        return found.id in (str(manifest.config.digest), str(image))

    def _config(self, image: Digest) -> ImageConfig:
        """The image's configuration from the engine alone: starting needs nothing of the store."""
        import docker

        try:
            found = self._client.images.get(_tag(image))
        except docker.errors.NotFound:
            raise NotFoundError(f"image {image} is not prepared", hint="import it again") from None
        value = {"architecture": "amd64", "os": "linux", "config": found.attrs.get("Config") or {}}
        return ImageConfig.from_bytes(json.dumps(value).encode(), f"image {image}")

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
        import docker

        with serve(self._store) as port:
            name = f"127.0.0.1:{port}/{_REPOSITORY}@{image}"
            try:
                if self._podman:
                    url = f"{self._client.api.base_url}{_LIBPOD}/images/pull"
                    query = {"reference": name, "tlsVerify": "false", "quiet": "true"}
                    answer = self._client.api.post(url, params=query, timeout=_CALL_SECONDS)
                    answer.raise_for_status()
                    lines = [json.loads(line) for line in answer.text.splitlines() if line]
                else:
                    # Credentials are neither needed nor anything for this registry to see.
                    lines = list(
                        self._client.api.pull(
                            name.partition("@")[0], str(image), stream=True, decode=True, auth_config={}
                        )
                    )
            except (docker.errors.APIError, OSError, ValueError) as error:
                raise _refused(_said(error), f"image {image}") from error
            for line in lines:
                if line.get("error"):
                    raise _refused(str(line["error"]).strip(), f"image {image}")
            pulled = self._client.images.get(name)
            pulled.tag(_REPOSITORY, image.hex)
            # The port means nothing tomorrow; with our tag in place this takes only the name away.
            self._client.images.remove(name)
        if not self._has(image, manifest):
            raise EngineRefusedError("the container engine pulled an image with another digest", where=f"image {image}")

    def _load(self, image: Digest, descriptor: Descriptor) -> None:
        """Hand the whole image over as an archive, without a copy of it on the disk."""
        reading, writing = os.pipe()
        raised: list[BaseException] = []

        def write() -> None:
            try:
                with os.fdopen(writing, "wb") as stream:
                    stream_archive(self._store, {_tag(image): descriptor}, stream)
            except (EdgepackError, OSError) as error:
                raised.append(error)

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        try:
            with os.fdopen(reading, "rb") as stream:
                answer = list(self._client.api.load_image(iter(lambda: stream.read(LIMITS.chunk_bytes), b"")))
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
        root = Path(str(self._client.info().get("DockerRootDir") or ""))
        if root.is_absolute() and root.is_dir():
            sync_file_system(root)

    # Containers

    def _create(self, spec: DesiredService, config: ImageConfig) -> Any:
        """A new container. One that appears late, at the request of a killed process of the agent, is removed first."""
        import docker

        options = container_options(spec, config, podman=self._podman)
        deadline = time.monotonic() + _LATE_SECONDS
        while True:
            try:
                return self._client.containers.create(_tag(spec.image), labels=_labels(spec), **options)
            except docker.errors.APIError as error:
                in_use = error.status_code == 409 or self._container(spec.name) is not None
                if not in_use or time.monotonic() > deadline:
                    raise
            self.stop(spec.name)
            time.sleep(0.1)

    def _container(self, service: str) -> Any:
        import docker

        try:
            return self._client.containers.get(container_name(service))
        except docker.errors.NotFound:
            return None


def _tag(image: Digest) -> str:
    return f"{_REPOSITORY}:{image.hex}"


def _labels(spec: DesiredService) -> dict[str, str]:
    return {_IMAGE_LABEL: str(spec.image), _SPEC_LABEL: spec_hash(spec), _PORT_LABEL: str(spec.port)}


def _instance(service: str, container: Any) -> Instance:
    state = container.attrs["State"]
    labels = container.labels
    image, port = Digest.parse(labels.get(_IMAGE_LABEL)), int(labels.get(_PORT_LABEL, "0"))
    if state.get("Status") in ("running", "restarting", "paused", "removing"):
        return Instance(service, image, "running", port)
    return Instance(service, image, "exited", port, state.get("ExitCode"))


def _said(error: BaseException) -> str:
    """An engine's error message in one line."""
    text = getattr(error, "explanation", None) or str(error)
    return " ".join(str(text).split())


@contextmanager
def _engine_errors(where: str) -> Iterator[None]:
    """Turn an error of the engine, or of the connection to it, into one of ours."""
    import docker
    import requests

    try:
        yield
    except (docker.errors.DockerException, requests.RequestException) as error:
        raise _refused(_said(error), where) from error


def _refused(text: str, where: str) -> EngineRefusedError | NoSpaceError:
    """The error for an engine's message, which is all that an engine says when its disk is full."""
    if "no space left" in text:
        return NoSpaceError("no space left where the engine keeps its images and containers", where=where)
    return EngineRefusedError(f"the container engine refuses ({text})", where=where, hint="look at the engine's log")
