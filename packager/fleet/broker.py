"""Publishing to a broker: the one module of this room that imports paho."""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from edgepack.errors import EdgepackError, UsageError, package_errors
from edgepack.hidden import HiddenText

_PORTS = {"mqtt": 1883, "mqtts": 8883}
_REFUSED = 0x80
# Of MQTT 3.1.1 and 5: the broker does not speak the version that was offered.
_OTHER_VERSION = (0x01, 0x84)


@dataclass(frozen=True)
class BrokerAccess:
    """A broker at ``url``, and what one logs in to it with."""

    url: str
    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    user: str | None = None
    password: HiddenText | None = field(default=None, repr=False)
    seconds: float = 20.0

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if "@" in self.url:
            raise UsageError(
                "holds a user name or a password", where="--broker", hint="give --user and --password-file instead"
            )
        try:
            port = parts.port
        except ValueError:
            port = 0
        is_socket = parts.scheme == "unix" and parts.path.startswith("/") and not parts.netloc
        if not is_socket and (parts.scheme not in _PORTS or not parts.hostname or port == 0 or parts.path.strip("/")):
            raise UsageError(
                f"{self.url!r} is not the address of a broker", where="--broker",
                hint="write mqtts://HOST[:PORT], mqtt://HOST[:PORT] or unix:///PATH",
            )  # fmt: skip
        if parts.scheme != "mqtts" and (self.ca_file or self.certificate_file or self.key_file):
            raise UsageError("has no TLS, which the given certificates are for", where=self.url, hint="write mqtts://")
        if self.password is not None and self.user is None:
            raise UsageError("is given without --user", where="--password-file", hint="give both")


def publish(access: BrokerAccess, topic: str, data: bytes) -> None:
    """Publish ``data`` as the retained message of ``topic``, and wait until the broker has it.

    By MQTT 5, or 3.1.1 where the broker knows only that. Raises ``EdgepackError`` where the broker cannot be reached,
    refuses the login or the message, or does not answer; ``MissingPartError`` without paho.
    """
    with package_errors("packager"):
        from paho.mqtt.enums import MQTTProtocolVersion
    for version in (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311):
        attempt = _Attempt(access, topic, data, version)
        if attempt.run() not in _OTHER_VERSION:
            break
    attempt.check()


class _Attempt:
    """One connection, on paho's thread, which ends with ``_done``."""

    def __init__(self, access: BrokerAccess, topic: str, data: bytes, version: Any) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self._access = access
        self._message = topic, data
        self._done = threading.Event()
        self._refused: str | None = None
        self._code = 0
        is_socket = access.url.startswith("unix:")
        self._client = Client(
            CallbackAPIVersion.VERSION2, protocol=version, transport="unix" if is_socket else "tcp",
            reconnect_on_failure=False,
        )  # fmt: skip
        client = self._client
        client.connect_timeout = access.seconds
        client.on_connect, client.on_publish = self._on_connect, self._on_publish
        client.on_disconnect = client.on_connect_fail = self._on_end
        if access.user is not None:
            client.username_pw_set(access.user, None if access.password is None else str(access.password))
        if access.url.startswith("mqtts:"):
            client.tls_set_context(self._tls())

    def _tls(self) -> ssl.SSLContext:
        access = self._access
        try:
            context = ssl.create_default_context(cafile=access.ca_file)
            if access.certificate_file is not None:
                context.load_cert_chain(access.certificate_file, access.key_file, password="")
        except (OSError, ssl.SSLError) as error:
            files = " or ".join(str(one) for one in (access.ca_file, access.certificate_file, access.key_file) if one)
            raise UsageError(f"cannot be used ({error.strerror or 'not PEM'})", where=files, hint="check it") from error
        return context

    def run(self) -> int:
        """Connect, publish, and end; the code with which the broker refused, 0 when it did not."""
        parts = urlsplit(self._access.url)
        host = parts.path if parts.scheme == "unix" else str(parts.hostname)
        try:
            self._client.connect(host, parts.port or _PORTS.get(parts.scheme, 1), keepalive=30)
        except (OSError, ValueError) as error:
            what = getattr(error, "strerror", None) or str(error) or type(error).__name__
            raise EdgepackError(
                f"cannot be reached ({what})", where=f"broker {self._access.url}",
                hint="check its address, or write the document to a file with -o",
            ) from error  # fmt: skip
        self._client.loop_start()
        answered = self._done.wait(self._access.seconds)
        self._client.disconnect()
        self._client.loop_stop()
        if not answered:
            self._refused = f"does not answer within {self._access.seconds:g} seconds"
        return self._code

    def check(self) -> None:
        """Raise ``EdgepackError`` unless the broker has the message."""
        if self._refused is not None:
            raise EdgepackError(
                self._refused, where=f"broker {self._access.url}",
                hint="nothing was published; run it again, or write the document to a file with -o",
            )  # fmt: skip

    def _on_connect(self, client: Any, _data: object, _flags: object, code: Any, _properties: object) -> None:
        if code.value >= _REFUSED or code.is_failure:
            self._end(f"refuses the login ({code})", code.value)
        else:
            client.publish(*self._message, qos=1, retain=True)

    def _on_publish(self, _client: object, _data: object, _mid: int, code: Any, _properties: object) -> None:
        if code.is_failure:
            self._end(f"refuses to publish to {self._message[0]} ({code})", code.value)
        else:
            self._end(None, 0)

    def _on_end(self, *arguments: Any) -> None:
        self._end("ended the connection before it had the message", 0)

    def _end(self, refused: str | None, code: int) -> None:
        if not self._done.is_set():
            self._refused, self._code = refused, code
            self._done.set()
