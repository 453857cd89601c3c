"""A token service for a real registry (distribution, docs/spec/auth/token.md and jwt.md), with one user."""

from __future__ import annotations

import base64
import datetime
import json
import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

ISSUER, SERVICE = "tests", "registry"


@dataclass
class TokenServer:
    """Gives tokens to ``username``; ``asked`` has the scopes that it was asked for.

    To the repositories ``closed`` it gives no right: a token is without it, or with ``strict`` there is none.
    """

    username: str
    password: str
    lives: int = 300
    port: int = 0
    asked: list[list[str]] = field(default_factory=list)
    closed: set[str] = field(default_factory=set)
    strict: bool = False
    _key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))

    def __post_init__(self) -> None:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, ISSUER)])
        now = datetime.datetime.now(datetime.UTC)
        built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(self._key.public_key())
        built = built.serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=1))
        built = built.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        self._certificate = built.not_valid_after(now + datetime.timedelta(days=2)).sign(self._key, hashes.SHA256())

    def section(self, folder: Path) -> dict[str, object]:
        """The section ``auth`` of a registry's configuration; its certificate is written to ``folder``."""
        path = folder / "token.pem"
        path.write_bytes(self._certificate.public_bytes(serialization.Encoding.PEM))
        realm = f"http://127.0.0.1:{self.port}/token"
        return {"token": {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": str(path)}}

    def token(self, scopes: list[str]) -> str:
        """A token for ``scopes``, signed with ES256."""
        chain = base64.b64encode(self._certificate.public_bytes(serialization.Encoding.DER)).decode()
        access = []
        for scope in scopes:
            kind, name, actions = scope.split(":")
            access.append({"type": kind, "name": name, "actions": actions.split(",")})
        now = int(time.time())
        claims = {
            "iss": ISSUER, "sub": self.username, "aud": SERVICE, "exp": now + self.lives, "nbf": now - 5, "iat": now,
            "jti": secrets.token_hex(8), "access": access,
        }  # fmt: skip
        signed = f"{_coded({'typ': 'JWT', 'alg': 'ES256', 'x5c': [chain]})}.{_coded(claims)}"
        pair = decode_dss_signature(self._key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_letters(b''.join(number.to_bytes(32) for number in pair))}"


@contextmanager
def token_server(username: str, password: str) -> Iterator[TokenServer]:
    """A service on a port of its own."""
    service = TokenServer(username, password)
    handler = type("Handler", (_Handler,), {"service": service})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    service.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield service
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Handler(BaseHTTPRequestHandler):
    service: TokenServer

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        service = self.service
        expected = base64.b64encode(f"{service.username}:{service.password}".encode()).decode()
        if self.headers.get("Authorization") != f"Basic {expected}":
            self.send_response(401)
            self.end_headers()
            return
        asked = parse_qs(urlsplit(self.path).query).get("scope", [])
        scopes = [scope for item in asked for scope in item.split()]
        service.asked.append(scopes)
        given = [scope for scope in scopes if scope.split(":")[1] not in service.closed]
        if service.strict and given != scopes:
            self.send_response(403)
            self.end_headers()
            return
        scopes = given
        body = json.dumps({"token": service.token(scopes), "expires_in": service.lives}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def _coded(value: Any) -> str:
    return _letters(json.dumps(value).encode())


def _letters(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")
