"""TLS: a certificate and its key from PEM files, reloaded when they change while connections stay open."""

from __future__ import annotations

import asyncio
import logging
import ssl
from dataclasses import dataclass
from pathlib import Path

from edge_server.config.values import Tls
from edge_server.config.watched import Watched, warn_if_open
from edge_server.errors import ConfigurationError, MissingFileError

# How often the files are checked.
LOOK_SECONDS = 5.0

# Forward secrecy and authenticated encryption only; TLS 1.3 has nothing else.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Pair:
    context: ssl.SSLContext
    files: tuple[Path, ...]


class TlsContext:
    """The server's certificate for handshakes. ``context`` is for ``loop.create_server(ssl=…)`` and stays the same
    object.

    Between ``start`` and ``stop`` the files are checked every few seconds. Handshakes that begin after a change get
    the new certificate, connections that are open keep theirs; a new pair that cannot be used leaves the old one, and
    is logged. Raises MissingFileError or ConfigurationError when the pair cannot be used at the start.
    """

    def __init__(self, config: Tls, seconds: float = LOOK_SECONDS) -> None:
        self._seconds = seconds
        self._timer: asyncio.TimerHandle | None = None
        self._watched = Watched("certificate", lambda: _load(config))
        # A context of its own with the first pair: it is what every handshake begins with. Loading another pair into
        # a context that is in use would leave both in it when their keys are of two kinds.
        self.context = _load_context(config)
        self.context.sni_callback = self._choose

    def start(self) -> None:
        """Begin to check the files, on the running event loop."""
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._seconds, self._again)

    def stop(self) -> None:
        """Stop checking."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _again(self) -> None:
        self.start()
        self._watched.reload_if_changed()

    def _choose(self, connection: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _first: ssl.SSLContext) -> None:
        """Called in each handshake, also of clients that name no server."""
        connection.context = self._watched.value.context


def _load(config: Tls) -> _Pair:
    context = _load_context(config)
    try:
        problem = _problem(context, config.certificate)
    except OSError as error:  # the file has changed meanwhile, or what follows the first certificate is damaged
        raise ConfigurationError(str(config.certificate), [f"cannot be read as certificates ({error})"]) from None
    if problem:
        _log.warning("clients may refuse the certificate %s: %s", config.certificate, problem)
    warn_if_open(config.key, "private key")
    return _Pair(context, (config.certificate, config.key))


def _load_context(config: Tls) -> ssl.SSLContext:
    certificate = _read(config.certificate, "certificate")
    if b"-----BEGIN CERTIFICATE-----" not in certificate:
        raise ConfigurationError(str(config.certificate), ["is not a certificate in PEM (-----BEGIN CERTIFICATE-----)"])
    key = _read(config.key, "private key")
    if b"PRIVATE KEY-----" not in key:
        raise ConfigurationError(str(config.key), ["is not a private key in PEM (-----BEGIN PRIVATE KEY-----)"])
    if b"ENCRYPTED" in key:
        raise ConfigurationError(str(config.key), ["has a passphrase; write it without one: openssl pkey -in … -out …"])
    context = _settings()
    try:
        # An empty passphrase, so that the library never asks on a terminal.
        context.load_cert_chain(config.certificate, config.key, password="")
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            problem = f"is not the key of the certificate {config.certificate}"
        else:
            problem = f"cannot be used with the certificate {config.certificate} ({error.reason or 'damaged'})"
        raise ConfigurationError(str(config.key), [problem]) from None
    except OSError as error:
        raise ConfigurationError(str(config.key), [f"cannot be read ({error.strerror})"]) from None
    return context


def _settings() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(["http/1.1"])
    # All of these ciphers are safe, so the client chooses: it knows which one is fast on its processor.
    context.options &= ~ssl.OP_CIPHER_SERVER_PREFERENCE
    context.options |= ssl.OP_NO_RENEGOTIATION
    return context


def _read(path: Path, what: str) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
        raise MissingFileError(f"there is no {what} at {path}; check tls in service.json") from None
    except OSError as error:
        raise ConfigurationError(str(path), [f"cannot be read ({error.strerror})"]) from None


def _problem(server: ssl.SSLContext, certificate: Path) -> str:
    """Why a client that trusts the certificate itself would refuse it, such as that it has expired; "" for no reason.

    Found by a handshake in memory: the library checks dates and purposes of certificates nowhere else.
    """
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.check_hostname = False
    client.load_verify_locations(certificate)
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [server.wrap_bio(up, down, server_side=True), client.wrap_bio(down, up)]
    # The client speaks first, and has the certificate after the server's first answer.
    for side in (sides[1], sides[0], sides[1]):
        try:
            side.do_handshake()
        except ssl.SSLWantReadError:
            continue
        except ssl.SSLCertVerificationError as error:
            return str(error.verify_message)
        except ssl.SSLError as error:
            return str(error.reason)
    return ""
