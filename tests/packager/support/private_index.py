"""A package index on loopback that wants a password, over a folder of wheels; and one that gives altered files."""

from __future__ import annotations

import base64
import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path


@contextmanager
def private_index(folder: Path, user: str = "", password: str = "", *, altered: bool = False) -> Iterator[str]:
    """The address of the index (without the credentials) while it runs; ``altered`` files are not what it says."""
    wanted = "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode() if user else None

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if wanted is not None and self.headers.get("Authorization") != wanted:
                self._answer(401, b"", ("WWW-Authenticate", 'Basic realm="x"'))
                return
            name = self.path.rstrip("/").rpartition("/")[2]
            if self.path.startswith("/simple/"):
                found = [path for path in sorted(folder.glob("*.whl")) if _project(path) == name]
                links = "".join(
                    f'<a href="/files/{path.name}#sha256={_sha256(path)}">{path.name}</a>' for path in found
                )
                self._answer(200 if found else 404, f"<html><body>{links}</body></html>".encode())
                return
            data = (folder / name).read_bytes()
            self._answer(200, data + b"\n" if altered else data)

        def _answer(self, status: int, data: bytes, *headers: tuple[str, str]) -> None:
            self.send_response(status)
            for header, value in (("Content-Length", str(len(data))), ("Content-Type", "text/html"), *headers):
                self.send_header(header, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data)

        do_HEAD = do_GET  # noqa: N815 - the name that the module looks for

        def log_message(self, *_: object) -> None:
            """Nothing is printed."""

    class Server(ThreadingHTTPServer):
        request_queue_size = 128  # uv asks for everything at once

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/simple"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _project(path: Path) -> str:
    return re.sub(r"[-_.]+", "-", path.name.partition("-")[0]).lower()
