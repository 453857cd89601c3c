"""The part of Docker's HTTP interface that running services needs, as Docker and Podman answer it."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from edge_agent.runtimes.engine.errors import NOT_FOUND, CallError
from edge_agent.runtimes.engine.facts import Facts, of_docker, of_podman
from edge_agent.runtimes.engine.transport import CALL_SECONDS, Transport
from edgepack.limits import LIMITS

# Podman's own interface, from 4.0 on.
LIBPOD = "/v4.0.0/libpod"
_JSON = {"Content-Type": "application/json"}
# No credentials, as a header has them: neither needed nor anything for a registry of ours to see.
_NO_LOGIN = {"X-Registry-Auth": base64.urlsafe_b64encode(b"{}").decode()}
# Before each piece of a container's output: its stream, three zeros, its length.
_FRAME_HEAD = 8


@dataclass(frozen=True)
class Container:
    """A container as the engine described it; ``attrs`` is what it said."""

    id: str
    attrs: Mapping[str, Any]

    @property
    def labels(self) -> Mapping[str, str]:
        """Its labels."""
        return (self.attrs.get("Config") or {}).get("Labels") or {}

    @property
    def state(self) -> Mapping[str, Any]:
        """What the engine says of its process."""
        return self.attrs.get("State") or {}


class Engine:
    """An engine by its interface of that ``version``. Every call raises ``CallError`` for what it refuses."""

    def __init__(self, transport: Transport, version: str, *, podman: bool) -> None:
        self.transport = transport
        self.version = version
        self.podman = podman

    # Requests

    @contextmanager
    def answer(self, method: str, path: str, **more: Any) -> Iterator[http.client.HTTPResponse]:
        """The answer to a request, which is no refusal; ``more`` is as for ``Transport.answer``."""
        full = path if path.startswith(LIBPOD) else f"/v{self.version}{path}"
        with self.transport.answer(method, quote(full, safe="/:@"), **more) as found:
            if found.status >= http.HTTPStatus.BAD_REQUEST:
                raise CallError(_reason(found), found.status)
            yield found

    def _do(self, method: str, path: str, **more: Any) -> None:
        with self.answer(method, path, **more) as found:
            found.read()

    def _get(self, path: str, **query: object) -> Any:
        with self.answer("GET", path, query=query) as found:
            return _value(found.read())

    def _lines(self, method: str, path: str, **more: Any) -> list[Any]:
        """The lines of an answer that tells how something goes on; what is no JSON is left out."""
        found = []
        with self.answer(method, path, **more) as answer:
            for line in answer:
                with contextlib.suppress(ValueError):
                    found.append(json.loads(line))
        return found

    # The engine

    def info(self) -> Mapping[str, Any]:
        """What the engine says of itself."""
        return dict(self._get("/info"))

    def facts(self) -> Facts:
        """What it can do. Podman needs nearly a second to answer, so this is not for when a service is stopped."""
        return of_podman(self._get(f"{LIBPOD}/info")) if self.podman else of_docker(self.info())

    # Containers

    def container(self, name: str) -> Container | None:
        """The container of that name or ID."""
        try:
            attrs = self._get(f"/containers/{name}/json")
        except CallError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return Container(str(attrs["Id"]), attrs)

    def containers(self, label: str | None = None) -> list[str]:
        """The names of all containers, or of those with ``label``, whether they run or not."""
        filters = {} if label is None else {"filters": json.dumps({"label": [label]})}
        found = self._get("/containers/json", all="true", **filters)
        return [str(name).lstrip("/") for one in found or () for name in one.get("Names") or ()]

    def create(self, name: str, options: Mapping[str, Any]) -> str:
        """Create a container; its ID."""
        data = json.dumps(options).encode()
        with self.answer("POST", "/containers/create", query={"name": name}, body=data, headers=_JSON) as found:
            return str(_value(found.read())["Id"])

    def start(self, container: str) -> None:
        """Start a container."""
        self._do("POST", f"/containers/{container}/start")

    def stop(self, container: str, seconds: int) -> None:
        """Ask a container to end, and kill it after ``seconds``."""
        self._do("POST", f"/containers/{container}/stop", query={"t": seconds}, timeout=CALL_SECONDS + seconds)

    def rename(self, container: str, name: str) -> None:
        """Give a container another name."""
        self._do("POST", f"/containers/{container}/rename", query={"name": name})

    def remove(self, container: str) -> None:
        """End and remove a container with its nameless volumes; absent is fine."""
        with _absent_is_fine():
            self._do("DELETE", f"/containers/{container}", query={"force": "true", "v": "true"})

    def logs(self, container: str, *, timeout: float | None = CALL_SECONDS, **query: object) -> Iterator[bytes]:
        """What a container wrote, entry by entry: lines, or parts of them; see the interface for ``query``."""
        path = f"/containers/{container}/logs"
        query |= {"stdout": "true", "stderr": "true"}
        with self.answer("GET", path, timeout=timeout, query=query) as found:
            while len(head := found.read(_FRAME_HEAD)) == _FRAME_HEAD:
                yield found.read(int.from_bytes(head[4:]))

    def stamped_logs(self, container: str, **query: Any) -> Iterator[tuple[str, bytes]]:
        """The same with the time of each entry, in ISO 8601."""
        for entry in self.logs(container, timestamps="true", **query):
            stamp, _, data = entry.partition(b" ")
            yield stamp.decode("ascii", "replace"), data

    def path_mode(self, container: str, path: str) -> int | None:
        """The mode of what is at a path of a container, as Go's ``io/fs`` has it; ``None`` where nothing is."""
        try:
            with self.answer("HEAD", f"/containers/{container}/archive", query={"path": path}) as found:
                said = json.loads(base64.b64decode(found.headers["X-Docker-Container-Path-Stat"]))
        except CallError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return int(said["mode"])

    @contextmanager
    def archive(self, container: str, path: str) -> Iterator[http.client.HTTPResponse]:
        """A tar of what is at a path of a container."""
        with self.answer("GET", f"/containers/{container}/archive", query={"path": path}) as found:
            yield found

    # Images

    def image(self, name: str) -> Mapping[str, Any] | None:
        """What the engine says of an image."""
        try:
            return dict(self._get(f"/images/{name}/json"))
        except CallError as error:
            if error.status == NOT_FOUND:
                return None
            raise

    def images(self) -> list[str]:
        """The IDs of the images."""
        return [str(one["Id"]) for one in self._get("/images/json")]

    def read_image(self, name: str) -> None:
        """Let the engine read all of an image."""
        with self.answer("GET", f"/images/{name}/get") as found:
            while found.read(LIMITS.chunk_bytes):
                pass

    def tag(self, image: str, repository: str, tag: str) -> None:
        """Give an image another name."""
        self._do("POST", f"/images/{image}/tag", query={"repo": repository, "tag": tag})

    def remove_image(self, name: str) -> None:
        """Take the name from an image, and the image where it has no other; absent is fine."""
        with _absent_is_fine():
            self._do("DELETE", f"/images/{name}")

    def pull(self, repository: str, digest: str, *, timeout: float) -> list[Any]:
        """Pull an image without a login, from a registry of this machine that has no TLS; what the engine tells."""
        if self.podman:  # only in its own interface a registry without TLS can be named for one pull
            named = {"reference": f"{repository}@{digest}", "tlsVerify": "false", "quiet": "true"}
            return self._lines("POST", f"{LIBPOD}/images/pull", timeout=timeout, query=named)
        parts = {"fromImage": repository, "tag": digest}
        return self._lines("POST", "/images/create", headers=_NO_LOGIN, query=parts)

    def load(self, archive: Iterable[bytes]) -> list[Any]:
        """Load an archive of images; what the engine tells."""
        return self._lines("POST", "/images/load", body=archive, headers={"Content-Type": "application/x-tar"})

    # Volumes

    def volumes(self, prefix: str = "") -> list[str]:
        """The names of the volumes that begin so."""
        found = self._get("/volumes", filters=json.dumps({"name": [prefix]} if prefix else {}))
        names = (str(one["Name"]) for one in found.get("Volumes") or ())
        return [name for name in names if name.startswith(prefix)]

    def remove_volume(self, name: str) -> None:
        """Remove a volume."""
        self._do("DELETE", f"/volumes/{name}", query={"force": "true"})


@contextmanager
def _absent_is_fine() -> Iterator[None]:
    try:
        yield
    except CallError as error:
        if error.status != NOT_FOUND:
            raise


def _value(data: bytes) -> Any:
    try:
        return json.loads(data)
    except ValueError as error:
        raise CallError("its answer is not JSON") from error


def _reason(answer: http.client.HTTPResponse) -> str:
    """What the engine says about a refusal, in its words."""
    data = answer.read(LIMITS.error_bytes)
    try:
        said = json.loads(data)
    except ValueError:
        said = None
    text = said.get("message") if isinstance(said, dict) else data.decode("utf-8", "replace")
    return str(text or f"{answer.status} {answer.reason}")
