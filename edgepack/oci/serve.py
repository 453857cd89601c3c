"""A read-only registry over a store (distribution-spec 1.1), from which an engine pulls just the layers that it lacks.

Meant for this machine: plain HTTP, no authentication, a loopback address unless ``allow_remote``.
"""

from __future__ import annotations

import errno
import http.server
import json
import logging
import re
import socket
import socketserver
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from http import HTTPStatus
from typing import Any, BinaryIO, Protocol
from urllib.parse import parse_qs, quote, unquote, urlsplit

from edgepack.errors import EdgepackError, NotFoundError, UsageError, VerificationError
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.oci.manifest import Index, Manifest
from edgepack.oci.reference import is_loopback, is_repository

_log = logging.getLogger(__name__)

_ROUTE = re.compile(r"/v2/(?P<name>.+)/(?P<kind>manifests|blobs|referrers)/(?P<target>[^/]+)")
_TAGS = re.compile(r"/v2/(?P<name>.+)/tags/list")
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")
_IDLE_SECONDS = 60
# Between two requests, where connections are counted.
_COUNTED_IDLE_SECONDS = 5
_COME_AGAIN = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

# Hears of each blob, with the number of bytes that are about to be sent of it.
BlobListener = Callable[[Digest, int], None]


class Served(Protocol):
    """What can be served: a store, or something that has images like one."""

    def index(self) -> Index:
        """What is named here."""

    def tags(self) -> dict[str, Descriptor]:
        """Every tag with its image."""

    def resolve(self, tag: str) -> Descriptor:
        """What ``tag`` names; raises ``NotFoundError``."""

    def describe(self, digest: Digest) -> Descriptor:
        """The descriptor of a manifest or index; raises ``NotFoundError``."""

    def size_of(self, digest: Digest) -> int | None:
        """How long the blob is; ``None`` when it is not here."""

    def read(self, descriptor: Descriptor) -> bytes:
        """The verified bytes of a manifest or index."""

    def open(self, descriptor: Descriptor, offset: int = 0) -> AbstractContextManager[BinaryIO]:
        """The bytes of a blob, which can be sought in."""

    def referrers(self, subject: Digest, artifact_type: str | None = None) -> tuple[Descriptor, ...]:
        """The artifacts attached to ``subject``."""


class _RefusedError(Exception):
    def __init__(self, status: HTTPStatus, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message


@contextmanager
def serve(
    store: Served,
    host: str = "127.0.0.1",
    port: int = 0,
    *,
    allow_remote: bool = False,
    on_blob: BlobListener | None = None,
    most_connections: int | None = None,
) -> Iterator[int]:
    """Serve ``store`` at ``host`` and give the port (a free one for 0) until the context ends.

    The repository ``churn`` with the tag ``1`` is what the store calls ``churn:1``, or plainly ``1``; by digest any
    repository answers. ``on_blob`` is called for each GET of a blob, from several threads. Beyond
    ``most_connections`` at once, further ones are told to come again. Raises ``UsageError`` for
    an address of the network without ``allow_remote``, and for a port that is taken.
    """
    if not is_loopback(host) and not allow_remote:
        raise UsageError(
            f"{host} can be reached from other machines", hint="serve on 127.0.0.1, or allow remote access"
        )
    try:
        server = _Server(store, host, port, on_blob, local_only=not allow_remote)
        server.most_connections = most_connections
    except OSError as error:
        what = "is taken" if error.errno == errno.EADDRINUSE else f"cannot be used ({error.strerror})"
        raise UsageError(f"port {port} {what}", where=host, hint="choose another one") from None
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield int(server.server_address[1])
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    # An engine that keeps its connection open must not keep the context from ending.
    block_on_close = False

    def __init__(self, store: Served, host: str, port: int, on_blob: BlobListener | None, *, local_only: bool) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.catalogue = _Catalogue(store)
        self.on_blob = on_blob
        self.local_only = local_only
        self.most_connections: int | None = None
        self._connections = 0
        self._counting = threading.Lock()
        super().__init__((host.strip("[]"), port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._counting:
            full = self.most_connections is not None and self._connections >= self.most_connections
            self._connections += not full
        if full:
            with suppress(OSError):
                request.sendall(_COME_AGAIN)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            with self._counting:
                self._connections -= 1

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own asks a name server for this machine's name

    def handle_error(self, request: object, client_address: object) -> None:
        _log.debug("a connection from %s ended early", client_address, exc_info=True)


class _Catalogue:
    """What the store has, by the names that a registry's client uses; and how long its blobs must be."""

    def __init__(self, store: Served) -> None:
        self.store = store
        self._sizes: dict[Digest, int] = {}

    def manifest(self, name: str, target: str) -> tuple[Descriptor, bytes]:
        descriptor = self._resolve(name, target)
        data = self.store.read(descriptor)
        self._learn(descriptor, data)
        return descriptor, data

    def _resolve(self, name: str, target: str) -> Descriptor:
        if target.startswith("sha256:"):
            return self.store.describe(Digest.parse(target))
        try:
            return self.store.resolve(f"{name}:{target}")
        except NotFoundError:
            return self.store.resolve(target)

    def _learn(self, descriptor: Descriptor, data: bytes) -> None:
        needs = (
            Index.from_bytes(data).manifests
            if descriptor.media_type in mediatypes.INDEXES
            else Manifest.from_bytes(data).blobs
        )
        self._sizes[descriptor.digest] = descriptor.size
        self._sizes.update((item.digest, item.size) for item in needs)

    def blob(self, digest: Digest) -> Descriptor:
        """The blob with the size that its manifest announced, where one that was asked for or is tagged names it."""
        if digest not in self._sizes:
            self._scan(self.store.index().manifests)
        size = self._sizes.get(digest)
        if size is None:
            size = self.store.size_of(digest)
            if size is None:
                raise NotFoundError(f"blob {digest} is missing")
        return Descriptor("application/octet-stream", digest, size)

    def _scan(self, items: tuple[Descriptor, ...]) -> None:
        for item in items:
            if item.digest in self._sizes and item.media_type not in mediatypes.INDEXES:
                continue
            try:
                data = self.store.read(item)
                self._learn(item, data)
            except EdgepackError:
                continue  # it is reported when somebody asks for it
            if item.media_type in mediatypes.INDEXES:
                self._scan(Index.from_bytes(data).manifests)

    def tags(self, name: str) -> list[str]:
        return sorted(tag.removeprefix(f"{name}:") for tag in self.store.tags() if tag.startswith(f"{name}:"))

    def referrers(self, subject: Digest, artifact_type: str | None) -> bytes:
        return Index(self.store.referrers(subject, artifact_type)).to_bytes()


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"
    timeout = _IDLE_SECONDS
    server_version = "edgepack"
    sys_version = ""

    def handle_one_request(self) -> None:
        self.connection.settimeout(_IDLE_SECONDS if self.server.most_connections is None else _COUNTED_IDLE_SECONDS)
        super().handle_one_request()

    def do_GET(self) -> None:
        self.connection.settimeout(_IDLE_SECONDS)  # for one who takes what he is sent slowly
        try:
            self._answer()
        except _RefusedError as refused:
            self._refuse(refused.status, refused.code, refused.message)
        except VerificationError as error:
            _log.warning("not served: %s", error)
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, "UNKNOWN", "what is stored there is damaged")
        except EdgepackError as error:
            _log.debug("not found: %s", error)
            code = "BLOB_UNKNOWN" if "/blobs/" in self.path else "MANIFEST_UNKNOWN"
            self._refuse(HTTPStatus.NOT_FOUND, code, "there is nothing of that name")

    do_HEAD = do_GET  # noqa: N815

    def _unsupported(self) -> None:
        self.close_connection = True  # a body may follow, and it is not read
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", "this registry is read-only")

    do_POST = do_PUT = do_PATCH = do_DELETE = _unsupported  # noqa: N815

    def _answer(self) -> None:
        self._check_host()
        url = urlsplit(self.path)
        path, query = unquote(url.path), parse_qs(url.query)
        if path in ("/v2", "/v2/"):
            self._send(b"{}", "application/json")
            return
        route, tags = _ROUTE.fullmatch(path), _TAGS.fullmatch(path)
        found = route or tags
        if found is None or not is_repository(found["name"]):
            raise _RefusedError(HTTPStatus.NOT_FOUND, "NAME_UNKNOWN", "there is nothing at this address")
        if route is None:
            self._send_tags(found["name"], query)
        elif route["kind"] == "manifests":
            descriptor, data = self.server.catalogue.manifest(route["name"], route["target"])
            self._send(data, descriptor.media_type, {"Docker-Content-Digest": str(descriptor.digest)})
        elif route["kind"] == "blobs":
            self._send_blob(self.server.catalogue.blob(Digest.parse(route["target"])))
        else:
            wanted = query.get("artifactType", [None])[0]
            data = self.server.catalogue.referrers(Digest.parse(route["target"]), wanted)
            self._send(data, mediatypes.INDEX, {} if wanted is None else {"OCI-Filters-Applied": "artifactType"})

    def _check_host(self) -> None:
        """A page in a browser can make its own name point at this machine; its requests then carry that name."""
        host = urlsplit(f"//{self.headers.get('Host', 'localhost')}").hostname or ""
        if self.server.local_only and not is_loopback(host):
            raise _RefusedError(HTTPStatus.FORBIDDEN, "DENIED", "this registry answers this machine only")

    def _send_tags(self, name: str, query: dict[str, list[str]]) -> None:
        tags = self.server.catalogue.tags(name)
        if not tags:
            raise _RefusedError(HTTPStatus.NOT_FOUND, "NAME_UNKNOWN", "there is no such repository")
        last, number = query.get("last", [""])[0], query.get("n", [""])[0]
        rest = [tag for tag in tags if tag > last]
        page = rest[: int(number[:9])] if number.isascii() and number.isdigit() else rest
        more = {}
        if page and len(page) < len(rest):
            more["Link"] = f'</v2/{name}/tags/list?n={len(page)}&last={quote(page[-1])}>; rel="next"'
        self._send(json.dumps({"name": name, "tags": page}).encode(), "application/json", more)

    def _send_blob(self, blob: Descriptor) -> None:
        with self.server.catalogue.store.open(blob) as file:
            start, end = self._range(blob.size)
            partial = end - start != blob.size
            self.send_response(HTTPStatus.PARTIAL_CONTENT if partial else HTTPStatus.OK)
            self.send_header("Content-Type", blob.media_type)
            self.send_header("Content-Length", str(end - start))
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Docker-Content-Digest", str(blob.digest))
            if partial:
                self.send_header("Content-Range", f"bytes {start}-{end - 1}/{blob.size}")
            self.end_headers()
            if self.command == "HEAD":
                return
            if self.server.on_blob is not None:
                self.server.on_blob(blob.digest, end - start)
            # sendfile where the system has it, so a blob never passes through this process's memory.
            if end > start and self.connection.sendfile(file, start, end - start) != end - start:
                self.close_connection = True  # the file shrank under us: the client must not wait for the rest

    def _range(self, size: int) -> tuple[int, int]:
        """The first byte and the one after the last; several ranges, or another form, mean the whole."""
        match = _RANGE.fullmatch(self.headers.get("Range", ""))
        if match is None or match[1] == match[2] == "":
            return 0, size
        if match[1] == "":
            start, end = max(0, size - int(match[2])), size
        else:
            start, end = int(match[1]), min(size, int(match[2]) + 1) if match[2] else size
        if start >= end:
            raise _RefusedError(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "RANGE_INVALID", f"bytes */{size}")
        return start, end

    def _send(self, data: bytes, media_type: str, headers: dict[str, str] | None = None) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(len(data)))
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def _refuse(self, status: HTTPStatus, code: str, message: str) -> None:
        data = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE:
            self.send_header("Content-Range", message)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(data)

    def end_headers(self) -> None:
        self.send_header("Docker-Distribution-API-Version", "registry/2.0")
        super().end_headers()

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        _log.debug("%s %s", self.address_string(), format % args)
