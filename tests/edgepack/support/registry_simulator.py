"""A small real registry in memory, with switches for what registries, networks and attackers do wrong."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

_PATH = re.compile(r"/v2/(.+)/(manifests|blobs|referrers)/(.+)")


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _pieces(data: bytes) -> Iterator[bytes]:
    return (data[at : at + 65536] for at in range(0, len(data), 65536))


@dataclass(frozen=True)
class Seen:
    """One request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    size: int = 0


@dataclass
class Simulator:
    """The registry's content and its switches; ``seen`` is what it was asked."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)  # "repository:target" -> type, bytes
    seen: list[Seen] = field(default_factory=list)
    port: int = 0
    shown: list[str | None] = field(default_factory=list)  # the common names of the certificates of clients

    # Authentication: None, "basic" or "bearer"; the realm is this registry's own /token unless told.
    auth: str | None = None
    username: str = "ann"
    password: str = "open sesame"
    refresh_token: str | None = None
    realm: str | None = None
    # The headers of a 401, each with {realm} in it; by default one with a scope.
    challenges: tuple[str, ...] = ('Bearer realm="{realm}",service="sim",scope="repository:x:pull"',)
    token_field: str = "token"
    expires_in: int | None = 300
    token_more: dict[str, object] = field(default_factory=dict)  # beside what a token's answer has
    withdraws: bool = False  # no token lives longer than the chunk that it was sent with
    forbid: bool = False
    tokens: dict[str, float] = field(default_factory=dict)

    # Answers given instead of the true one, first to last: status and Retry-After.
    busy: list[tuple[int, str | None]] = field(default_factory=list)
    # Blobs.
    drops: list[int] = field(default_factory=list)  # break the next downloads after so many bytes
    drops_of: str | None = None  # and only those of this blob
    drop_every: int | None = None  # break each download after so many bytes
    drop_ends_tokens: bool = False  # and no token lives longer than that
    piece_seconds: float = 0.0  # wait so long before each piece of 64 KiB of a blob
    silent: bool = False  # take requests for blobs and answer nothing, for as long as the client waits
    sent: int = 0  # bytes of blobs that went out
    ignore_range: bool = False
    range_refused: int | None = None  # the status for every request with a Range
    framing: str = "length"  # how the end of a body is told: "length", "chunked", or "close" (not at all)
    redirect_blobs: str | None = None
    altered: set[str] = field(default_factory=set)
    wrong_length: int = 0
    shift_range: int = 0
    # Uploads.
    uploads: dict[str, bytearray] = field(default_factory=dict)
    absolute_location: bool = False
    location_base: str | None = None
    sibling_location: bool = False  # a Location without a path: beside the address that was asked
    lose_session_after: list[int] = field(default_factory=list)  # a PATCH or PUT when so many were taken: 404
    drop_upload: list[int] = field(default_factory=list)  # break the next PATCH or PUT after so many bytes; -1: do not
    busy_after_drop: list[tuple[int, str | None]] = field(
        default_factory=list
    )  # then answered instead of the true ones
    keep_dropped: bool = False  # a broken PATCH leaves its bytes, and its session alive
    garble_dropped: bool = False  # and one byte of them is another
    gullible: bool = False  # take any bytes for any digest
    busy_at: dict[int, int] = field(default_factory=dict)  # bytes taken so far -> status answered once, body unread
    mountable: dict[str, set[str]] = field(default_factory=dict)
    catalog: list[str] | None = None  # what repositories it lists, if it does
    # Referrers: whether there is a list, what is said instead of it, and instead of the fallback tag.
    referrers_api: bool = False
    referrers_answer: tuple[int, bytes, dict[str, str]] | None = None
    fallback_answer: tuple[int, bytes, dict[str, str]] | None = None
    # Manifests: break the next ones after so many bytes; answers 400 DIGEST_INVALID so often, as a tag being written.
    manifest_drops: list[int] = field(default_factory=list)
    manifest_invalid: int = 0
    no_digest_header: bool = False
    content_type: str | None = None  # said of every manifest
    head_status: int | None = None  # the answer to every HEAD

    def put_manifest(self, repository: str, tag: str, data: bytes, media_type: str) -> str:
        for target in (tag, digest_of(data)):
            self.manifests[f"{repository}:{target}"] = (media_type, data)
        return digest_of(data)

    def count(self, method: str, part: str = "") -> int:
        return sum(1 for one in self.seen if one.method == method and part in one.path)


def handler_of(simulator: Simulator) -> type[BaseHTTPRequestHandler]:
    """What answers one connection."""
    return type("Handler", (_Handler,), {"sim": simulator})


@contextmanager
def running(
    simulator: Simulator, tls: tuple[Path, Path] | None = None, asks: Path | None = None
) -> Iterator[Simulator]:
    """``tls``: with this certificate and key. ``asks``: clients may show a certificate of this authority."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler_of(simulator))
    server.daemon_threads = True
    server.block_on_close = False
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
        if asks is not None:
            context.load_verify_locations(asks)
            context.verify_mode = ssl.CERT_OPTIONAL
        server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    simulator.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield simulator
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    sim: Simulator
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        pass

    def _say(self, status: int, body: bytes = b"", **headers: str | None) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if value is not None:
                self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _body(self, data: bytes, drop: int | None, *, counted: bool = False) -> None:
        """What comes after the headers: all of ``data``, or its first ``drop`` bytes and a broken connection."""
        if self.command == "HEAD":
            return
        self.close_connection = self.sim.framing == "close" or drop is not None
        for piece in _pieces(data if drop is None else data[:drop]):
            if counted:
                time.sleep(self.sim.piece_seconds)
                self.sim.sent += len(piece)
            if self.sim.framing == "chunked":
                self.wfile.write(b"%x\r\n%s\r\n" % (len(piece), piece))
            else:
                self.wfile.write(piece)
        if drop is not None:
            self.wfile.flush()
            self.connection.shutdown(2)
        elif self.sim.framing == "chunked":
            self.wfile.write(b"0\r\n\r\n")

    def _frame(self, size: int) -> None:
        """The header that tells where the body ends."""
        if self.sim.framing == "chunked":
            self.send_header("Transfer-Encoding", "chunked")
        elif self.sim.framing == "length":
            self.send_header("Content-Length", str(size))
        else:
            self.send_header("Connection", "close")

    def _error(self, status: int, code: str, **headers: str | None) -> None:
        self._say(status, json.dumps({"errors": [{"code": code, "message": "no"}]}).encode(), **headers)

    def _any(self) -> None:
        sim = self.sim
        if isinstance(self.connection, ssl.SSLSocket):
            subject: Any = (self.connection.getpeercert() or {}).get("subject", ())
            sim.shown.append(next((pair[1] for part in subject for pair in part), None))
        sim.seen.append(Seen(self.command, self.path, dict(self.headers), int(self.headers.get("Content-Length", 0))))
        url = urlsplit(self.path)
        if url.path == "/token":
            self._token()
            return
        if sim.busy and self.command in ("GET", "HEAD", "POST"):
            status, wait = sim.busy.pop(0)
            self._error(status, "TOOMANYREQUESTS", Retry_After=wait)
            return
        if not self._allowed():
            return
        if sim.forbid:
            self._error(403, "DENIED")
            return
        if sim.head_status is not None and self.command == "HEAD":
            self._say(sim.head_status)
            return
        if url.path == "/v2/_catalog" and sim.catalog is not None:
            self._say(200, json.dumps({"repositories": sim.catalog}).encode())
            return
        if url.path == "/v2/":
            self._say(200, b"{}")
            return
        if url.path.startswith("/v2/") and "/blobs/uploads/" in url.path:
            self._upload(url.path, parse_qs(url.query))
            return
        match = _PATH.fullmatch(url.path)
        if match is None:
            self._error(404, "NAME_UNKNOWN")
            return
        repository, kind, target = match.groups()
        if kind == "blobs":
            self._blob(target)
        elif kind == "manifests":
            self._manifest(repository, target)
        else:
            self._referrers(repository, target)

    do_GET = do_HEAD = do_POST = do_PATCH = do_PUT = _any  # noqa: N815

    # Authentication

    def _basic_ok(self) -> bool:
        expected = base64.b64encode(f"{self.sim.username}:{self.sim.password}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"

    def _allowed(self) -> bool:
        sim, given = self.sim, self.headers.get("Authorization", "")
        if sim.auth is None:
            return True
        if sim.auth == "basic":
            if self._basic_ok():
                return True
            self._error(401, "UNAUTHORIZED", WWW_Authenticate='Basic realm="here"')
            return False
        if sim.tokens.get(given.removeprefix("Bearer "), 0) > time.monotonic():
            return True
        realm = sim.realm or f"http://127.0.0.1:{sim.port}/token"
        self.rfile.read(int(self.headers.get("Content-Length", 0)))  # else it would be taken for the next request
        self.send_response(401)
        for challenge in sim.challenges:
            self.send_header("WWW-Authenticate", challenge.replace("{realm}", realm))
        self.send_header("Content-Length", "0")
        self.end_headers()
        return False

    def _token(self) -> None:
        sim = self.sim
        if self.command == "POST":
            form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
            allowed = form.get("refresh_token") == [sim.refresh_token] and form["grant_type"] == ["refresh_token"]
        else:
            allowed = self._basic_ok()
        if not allowed:
            self._error(401, "UNAUTHORIZED")
            return
        token = f"token-{len(sim.tokens)}"
        sim.tokens[token] = time.monotonic() + (sim.expires_in or 60)
        answer: dict[str, object] = {sim.token_field: token, **sim.token_more}
        if sim.expires_in is not None:
            answer["expires_in"] = sim.expires_in
        self._say(200, json.dumps(answer).encode())

    # Reading

    def _blob(self, target: str) -> None:
        sim = self.sim
        data = sim.blobs.get(target)
        if data is None:
            self._error(404, "BLOB_UNKNOWN")
            return
        if sim.silent:
            self.close_connection = True
            self.rfile.read(1)  # until the client goes away
            return
        if sim.redirect_blobs is not None:
            self._say(307, Location=f"{sim.redirect_blobs}{self.path}?X-Signature=abc%2Bdef")
            return
        if target in sim.altered:
            data = data[:-1] + bytes([data[-1] ^ 1])
        data += bytes(sim.wrong_length)
        if "Range" in self.headers and sim.range_refused is not None:
            self._error(sim.range_refused, "UNSUPPORTED")
            return
        wanted = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
        start = int(wanted[1]) if wanted and not sim.ignore_range else 0
        self.send_response(206 if start else 200)
        self._frame(len(data) - start)
        if start:
            self.send_header("Content-Range", f"bytes {start + sim.shift_range}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        drop = sim.drop_every if sim.drop_every is not None and len(data) - start > sim.drop_every else None
        if sim.drops and self.command == "GET" and sim.drops_of in (None, target):
            drop = sim.drops.pop(0)
        if drop is not None and sim.drop_ends_tokens:
            sim.tokens.clear()
        self._body(data[start:], drop, counted=True)

    def _manifest(self, repository: str, target: str) -> None:
        sim = self.sim
        if sim.fallback_answer is not None and target.startswith("sha256-"):
            self._say(*sim.fallback_answer[:2], **sim.fallback_answer[2])
            return
        if sim.manifest_invalid:
            sim.manifest_invalid -= 1
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            self._error(400, "DIGEST_INVALID")
            return
        if self.command == "PUT":
            data = self.rfile.read(int(self.headers["Content-Length"]))
            digest = digest_of(data)
            for name in (target, digest):
                sim.manifests[f"{repository}:{name}"] = (self.headers["Content-Type"], data)
            subject = json.loads(data).get("subject")
            listed = subject["digest"] if subject and sim.referrers_api else None
            self._say(201, Docker_Content_Digest=digest, OCI_Subject=listed)
            return
        found = sim.manifests.get(f"{repository}:{target}")
        if found is None:
            self._error(404, "MANIFEST_UNKNOWN")
            return
        media_type, data = found
        digest = digest_of(data)
        if digest in sim.altered:
            data = data.replace(b'"schemaVersion":2', b'"schemaVersion":2 ')
        self.send_response(200)
        self.send_header("Content-Type", sim.content_type or media_type)
        if not sim.no_digest_header:
            self.send_header("Docker-Content-Digest", digest)
        self._frame(len(data))
        self.end_headers()
        self._body(data, sim.manifest_drops.pop(0) if sim.manifest_drops and self.command == "GET" else None)

    def _referrers(self, repository: str, subject: str) -> None:
        if self.sim.referrers_answer is not None:
            self._say(*self.sim.referrers_answer[:2], **self.sim.referrers_answer[2])
            return
        if not self.sim.referrers_api:
            self._error(404, "NAME_UNKNOWN")
            return
        found = {}
        for name, (media_type, data) in self.sim.manifests.items():
            value = json.loads(data)
            if name.startswith(f"{repository}:") and value.get("subject", {}).get("digest") == subject:
                found[digest_of(data)] = {
                    "mediaType": media_type, "digest": digest_of(data), "size": len(data),
                    "artifactType": value.get("artifactType"), "annotations": value.get("annotations", {}),
                }  # fmt: skip
        index = {"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
                 "manifests": list(found.values())}  # fmt: skip
        self._say(200, json.dumps(index).encode(), Content_Type="application/vnd.oci.image.index.v1+json")

    # Uploads

    def _location(self, repository: str, session: str) -> str:
        path = f"/v2/{repository}/blobs/uploads/{session}?_state=a%3Db%2Bc&n={len(self.sim.uploads[session])}"
        if self.sim.sibling_location:
            return path.rpartition("/uploads/")[2]
        if self.sim.location_base is not None:
            return f"{self.sim.location_base}{path}"
        return f"http://127.0.0.1:{self.sim.port}{path}" if self.sim.absolute_location else path

    def _upload(self, path: str, query: dict[str, list[str]]) -> None:
        sim = self.sim
        repository, _, session = path.removeprefix("/v2/").partition("/blobs/uploads/")
        if self.command == "POST":
            mount = query.get("mount", [""])[0]
            if mount and mount in sim.mountable.get(query["from"][0], set()):
                sim.blobs[mount] = sim.blobs.get(mount, b"")
                self._say(201, Location=f"/v2/{repository}/blobs/{mount}")
                return
            session = f"session-{sim.count('POST')}"
            sim.uploads[session] = bytearray()
            self._say(202, Location=self._location(repository, session))
            return
        if session not in sim.uploads or query.get("_state") != ["a=b+c"]:
            self.close_connection = True
            self._error(404, "BLOB_UPLOAD_UNKNOWN")
            return
        kept = sim.uploads[session]
        if self.command == "GET":
            self._say(204, Location=self._location(repository, session), Range=f"0-{max(0, len(kept) - 1)}")
            return
        if len(kept) in sim.busy_at:
            self.close_connection = True
            self._error(sim.busy_at.pop(len(kept)), "UNAVAILABLE")
            return
        size = int(self.headers["Content-Length"])
        drop = sim.drop_upload.pop(0) if sim.drop_upload else -1
        if drop >= 0:
            kept += self.rfile.read(min(size, drop))
            if not sim.keep_dropped:
                del sim.uploads[session]
            if sim.garble_dropped:
                kept[-1] ^= 1
            sim.busy, sim.busy_after_drop = [*sim.busy, *sim.busy_after_drop], []
            self.close_connection = True
            self.connection.shutdown(2)
            return
        left = size
        while left:
            piece = self.rfile.read(min(left, 1 << 20))
            if not piece:  # the client is gone
                self.close_connection = True
                return
            kept += piece
            left -= len(piece)
        if sim.lose_session_after and len(kept) >= sim.lose_session_after[0]:
            sim.lose_session_after.pop(0)
            del sim.uploads[session]
            self._error(404, "BLOB_UPLOAD_INVALID")
            return
        if self.command == "PATCH":
            if sim.withdraws:
                sim.tokens.clear()
            self._say(202, Location=self._location(repository, session), Range=f"0-{len(kept) - 1}")
            return
        digest = query["digest"][0]
        if digest_of(bytes(kept)) != digest and not sim.gullible:
            self._error(400, "DIGEST_INVALID")
            return
        sim.blobs[digest] = bytes(kept)
        del sim.uploads[session]
        self._say(201, Location=f"/v2/{repository}/blobs/{digest}", Docker_Content_Digest=digest)
