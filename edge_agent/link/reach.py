"""A connected socket to a broker: TCP, TLS or a socket of this machine, and why there is none, in a sentence.

A device's clock may say 1970 until the network sets it. Then a certificate is not compared with the clock but with the
latest moment that is known to have passed: one that had ended by then is refused.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from edge_agent.config.configuration import Broker
from edge_agent.link.inlet import NotMqttError
from edgepack.errors import EdgepackError, InvalidDocumentError, NotFoundError, UsageError
from edgepack.hidden import HiddenText
from edgepack.host.inputs import open_regular
from edgepack.host.ownership import check_secret
from edgepack.limits import LIMITS

CONNECT_SECONDS = 10.0
# X509_V_FLAG_NO_CHECK_TIME (openssl/x509_vfy.h), which Python's ssl has no name for.
_NO_CHECK_TIME = 0x200000
# The clock may be corrected by a little.
_BEHIND_SECONDS = 3600.0
# openssl-verification-options(1): what X509_V_ERR_… means.
_TOO_EARLY, _EXPIRED, _OTHER_NAME, _OTHER_ADDRESS = 9, 10, 62, 64
_UNKNOWN_AUTHORITY = frozenset({2, 18, 19, 20, 21})
_NOT_TLS = frozenset({"WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"})
_ASKS_FOR_CERTIFICATE = frozenset(
    {
        "TLSV13_ALERT_CERTIFICATE_REQUIRED", "TLSV1_ALERT_CERTIFICATE_REQUIRED", "SSLV3_ALERT_BAD_CERTIFICATE",
        "TLSV1_ALERT_UNKNOWN_CA", "SSLV3_ALERT_CERTIFICATE_EXPIRED", "SSLV3_ALERT_CERTIFICATE_UNKNOWN",
        "SSLV3_ALERT_HANDSHAKE_FAILURE",
    }
)  # fmt: skip
_UNREACHABLE = {
    errno.ECONNREFUSED: "nothing listens there",
    errno.EHOSTUNREACH: "there is no way to it in the network",
    errno.ENETUNREACH: "there is no network",
    errno.ENOENT: "there is no such socket",
    errno.EACCES: "this user may not use that socket",
}


class PastCertificateError(ssl.SSLError):
    """The broker's certificate had ended before a moment that is known to have passed."""

    def __init__(self, ended: str) -> None:
        self.ended = ended
        super().__init__(f"its certificate ended on {ended}")


def reach(broker: Broker, now: Callable[[], float] = time.time) -> socket.socket:
    """A connected socket, blocking; ``now`` is never behind a moment that is known to have passed.

    Raises ``EdgepackError`` for files of the configuration, and ``OSError``, which ``unreachable`` explains.
    """
    context = _tls(broker, now) if broker.tls else None
    if broker.socket is not None:
        plain = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            plain.settimeout(CONNECT_SECONDS)
            plain.connect(str(broker.socket))
        except BaseException:
            plain.close()
            raise
        return plain
    plain = socket.create_connection((broker.host, broker.port), timeout=CONNECT_SECONDS)
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if context is None:
            return plain
        secure = context.wrap_socket(plain, server_hostname=broker.host)
    except BaseException:
        plain.close()
        raise
    try:
        if context.verify_flags & _NO_CHECK_TIME:
            _check_end(secure, now())
    except BaseException:
        secure.close()
        raise
    return secure


def _tls(broker: Broker, now: Callable[[], float]) -> ssl.SSLContext:
    """How the broker is verified, and who this device is to it; made anew for each connection, for files change."""
    if broker.ca_file is not None:
        _check_readable(broker.ca_file)
    try:
        context = ssl.create_default_context(cafile=broker.ca_file)
    except ssl.SSLError as error:
        raise InvalidDocumentError(broker.ca_file, ["has no certificate in PEM"]) from error
    if broker.certificate_file is not None:
        key = broker.key_file or broker.certificate_file
        for path in dict.fromkeys((broker.certificate_file, key)):
            _check_readable(path)
        check_secret(key)
        try:
            # An encrypted key would ask at the terminal; an empty password is never right.
            context.load_cert_chain(broker.certificate_file, key, password="")
        except ssl.SSLError as error:
            what = "is not a certificate in PEM with its key"
            if error.reason == "KEY_VALUES_MISMATCH":
                what = f"does not belong to the key in {key}"
            hint = "name a certificate and its own key, which has no password"
            raise InvalidDocumentError(broker.certificate_file, [what], hint=hint) from error
    if now() > time.time() + _BEHIND_SECONDS:
        context.verify_flags |= ssl.VerifyFlags(_NO_CHECK_TIME)
    return context


def _check_end(secure: ssl.SSLSocket, now: float) -> None:
    ended = str((secure.getpeercert() or {}).get("notAfter", ""))
    if not ended or ssl.cert_time_to_seconds(ended) < now:
        raise PastCertificateError(ended)


def _check_readable(path: Path) -> None:
    try:
        open_regular(path).close()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> EdgepackError:
    if error.errno == errno.ENOENT:
        return NotFoundError("there is no such file", where=path, hint="check broker in the configuration")
    return UsageError(f"cannot be read ({error.strerror})", where=path, hint="let the agent's user read it")


def password(broker: Broker) -> HiddenText | None:
    """The password in the broker's file, its first line; None without a file.

    Raises ``EdgepackError`` where the file is missing, is not text, or may be read by others.
    """
    path = broker.password_file
    if path is None:
        return None
    try:
        with open_regular(path) as file:
            check_secret(path, os.fstat(file.fileno()))
            data = file.read(LIMITS.password_bytes + 1)
    except OSError as error:
        raise _unreadable(path, error) from error
    line = data.partition(b"\n")[0].removesuffix(b"\r")
    try:
        text = line.decode()
    except UnicodeDecodeError:
        raise InvalidDocumentError(path, ["is not text in UTF-8"]) from None  # its text has the bytes
    if not text or len(line) > LIMITS.password_bytes or "\0" in text:
        raise InvalidDocumentError(path, ["must hold a password in its first line"])
    return HiddenText(text)


def unreachable(broker: Broker, error: OSError, now: float) -> str:
    """Why there is no connection, and what to do about it."""
    if isinstance(error, ssl.SSLError):
        return _tls_failure(broker, error, now)
    if isinstance(error, NotMqttError):
        return f"what answers is not an MQTT broker ({error}); check host and port"
    if isinstance(error, socket.gaierror):
        return f"no address is known for the name {broker.host!r}; check the name and the network"
    if isinstance(error, TimeoutError):
        return f"it did not answer within {CONNECT_SECONDS:g} s; check host, port and the network"
    if isinstance(error, ConnectionResetError | BrokenPipeError):
        return "it closed the connection"
    if broker.socket is not None and error.errno == errno.ECONNREFUSED:
        return "nothing listens at that socket; start the broker"
    known = _UNREACHABLE.get(error.errno or 0)
    return f"cannot be reached: {known or error.strerror or type(error).__name__}"


def _tls_failure(broker: Broker, error: ssl.SSLError, now: float) -> str:
    if isinstance(error, PastCertificateError):
        return f"TLS failed: its certificate was valid until {error.ended}; give the broker a new one"
    code = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else 0
    today = datetime.fromtimestamp(now, UTC).date().isoformat()
    if code == _TOO_EARLY:
        return f"TLS failed: its certificate is not valid yet on {today}, today by this device's clock; check date -u"
    if code == _EXPIRED:
        return f"TLS failed: its certificate has expired, by this device's clock ({today}); give the broker a new one"
    if code in (_OTHER_NAME, _OTHER_ADDRESS):
        return f"TLS failed: its certificate is not for {broker.host}; use a name that it has"
    if code in _UNKNOWN_AUTHORITY:
        which = "the system's authorities" if broker.ca_file is None else f"an authority in {broker.ca_file}"
        return f"TLS failed: its certificate is not by {which}; name its authority's certificate in broker.ca_file"
    if error.reason in _NOT_TLS:
        return "TLS failed: what answers does not speak TLS; check the port, or use mqtt:// where the broker has no TLS"
    if error.reason in _ASKS_FOR_CERTIFICATE:
        own = (
            "takes no other certificate than its own clients'" if broker.certificate_file else "asks for a certificate"
        )
        return f"TLS failed: it {own}; check broker.certificate_file and broker.key_file"
    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        # What it says before it closes may not arrive (RFC 8446, section 6.2).
        own = "the device's certificate" if broker.certificate_file else "whether it asks for a certificate"
        return f"TLS failed: it closed the connection; check {own}, and that the port is that of TLS"
    return f"TLS failed ({error.reason or 'the handshake failed'})"
