"""A connection to a broker, to publish and to listen: the one module of this room that imports paho."""

from __future__ import annotations

import queue
import ssl
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from edgepack.errors import UsageError, package_errors
from edgepack.hidden import HiddenText
from packager.fleet.reach import NotToldError, Reach, read_password
from packager.fleet.registry import MaybeSentError

_T = TypeVar("_T")
_PORTS = {"mqtt": 1883, "mqtts": 8883}
_REFUSED = 0x80
# Of MQTT 3.1.1 and 5: the broker does not speak the version that was offered.
_OTHER_VERSION = (0x01, 0x84)
# MQTT 5, section 3.4.2.1: the broker has the message, and nobody who listens to its topic or did so lately.
_NOBODY = 0x10


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


def access_of(reach: Reach) -> BrokerAccess:
    """What one logs in with to the broker of ``reach``; raises ``UsageError`` for an address or file that is wrong."""
    return BrokerAccess(
        reach.url or "", reach.ca_file, reach.certificate_file, reach.key_file, reach.user,
        read_password(reach.password_file),
    )  # fmt: skip


class NotSentError(NotToldError):
    """The broker has surely not taken the message."""


class UnansweredError(MaybeSentError):
    """It is not known whether the broker has the message."""


def publish(access: BrokerAccess, topic: str, data: bytes) -> None:
    """Publish ``data`` as the retained message of ``topic``, and wait until the broker has it.

    Raises as ``connected`` and ``Connection.publish`` do.
    """
    with connected(access) as connection:
        connection.publish(topic, data, retain=True)


@contextmanager
def connected(access: BrokerAccess, *topics: str) -> Iterator[Connection]:
    """A connection on which one listens to ``topics``, until the end of the block.

    By MQTT 5, or 3.1.1 where the broker knows only that. Raises ``NotSentError`` where the broker cannot be reached or
    refuses the login, and ``MissingPartError`` without paho.
    """
    with package_errors("packager"):
        from paho.mqtt.enums import MQTTProtocolVersion
    for version in (MQTTProtocolVersion.MQTTv5, MQTTProtocolVersion.MQTTv311):
        connection = Connection(access, topics, version)
        try:
            if connection.open() not in _OTHER_VERSION or version == MQTTProtocolVersion.MQTTv311:
                connection.check()
                yield connection
                return
        finally:
            connection.close()


def _other_scheme(scheme: str, error: OSError | ValueError) -> str:
    """What else may be wrong with an address at which somebody listens."""
    if scheme == "mqtts" and isinstance(error, ssl.SSLError | ConnectionResetError):
        return ", which begins with mqtt:// where the broker has no TLS"
    return ""


@dataclass(frozen=True)
class _Event:
    """What paho has told on its thread: a code with what it is about, or a message."""

    kind: str
    code: Any = None
    mid: int | None = None
    topic: str = ""
    data: bytes = b""


class Connection:
    """One connection; what happens on paho's thread comes by a queue, in its order."""

    def __init__(self, access: BrokerAccess, topics: Sequence[str], version: Any) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion

        self._access = access
        self._topics = topics
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._messages: list[_Event] = []
        self._refused: str | None = None
        is_socket = access.url.startswith("unix:")
        self._client = Client(
            CallbackAPIVersion.VERSION2, protocol=version, transport="unix" if is_socket else "tcp",
            reconnect_on_failure=False,
        )  # fmt: skip
        client, put = self._client, self._events.put
        client.connect_timeout = access.seconds
        client.on_connect = lambda _c, _d, _flags, code, _p: put(_Event("connected", code))
        client.on_publish = lambda _c, _d, mid, code, _p: put(_Event("published", code, mid))
        client.on_subscribe = lambda _c, _d, mid, codes, _p: put(_Event("subscribed", codes, mid))
        client.on_message = lambda _c, _d, one: put(_Event("message", topic=one.topic, data=bytes(one.payload)))
        client.on_disconnect = lambda *_: put(_Event("ended"))
        client.on_connect_fail = lambda *_: put(_Event("ended"))
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

    def open(self) -> int:
        """Connect, and listen; the code with which the broker refused, 0 when it did not."""
        parts = urlsplit(self._access.url)
        host = parts.path if parts.scheme == "unix" else str(parts.hostname)
        try:
            self._client.connect(host, parts.port or _PORTS.get(parts.scheme, 1), keepalive=30)
        except (OSError, ValueError) as error:
            what = getattr(error, "strerror", None) or str(error) or type(error).__name__
            way = f"check its address{_other_scheme(parts.scheme, error)}"
            raise self._not_sent(f"cannot be reached ({what})", way) from error
        self._client.loop_start()
        code = 0
        match self._next("connected"):
            case None:
                self._refused = f"does not answer within {self._access.seconds:g} seconds"
            case _Event("ended"):
                ours = self._access.url.startswith("mqtt:")
                why = ", as one does whose address begins with mqtts://" if ours else ""
                self._refused = f"ended the connection before it had the message{why}"
            case event if event.code.value >= _REFUSED or event.code.is_failure:
                self._refused, code = f"refuses the login ({event.code})", event.code.value
            case _ if self._topics:
                self._client.subscribe([(topic, 1) for topic in self._topics])
                found = self._next("subscribed")
                if found is None or found.kind == "ended" or any(one.is_failure for one in found.code):
                    self._refused = f"does not let this user listen to {self._topics[0]}"
        return code

    def check(self) -> None:
        """Raise ``NotSentError`` unless the connection is open."""
        if self._refused is not None:
            raise self._not_sent(self._refused, "run it again")

    def publish(self, topic: str, data: bytes, *, retain: bool = False) -> bool:
        """Publish, and wait until the broker has it; whether somebody listens, as far as the broker says.

        Raises ``NotSentError`` for what the broker refuses, and ``UnansweredError`` when it does not answer.
        """
        mid = self._client.publish(topic, data, qos=1, retain=retain).mid
        event = self._next("published", mid)
        if event is None or event.kind == "ended":
            what = "ended the connection before it had the message"
            if event is None:
                what = f"does not answer within {self._access.seconds:g} seconds"
            raise UnansweredError(
                what, where=f"broker {self._access.url}",
                hint="it is not known whether it was published; run it again, or write it to a file with -o",
            )  # fmt: skip
        if event.code.is_failure:
            raise self._not_sent(f"refuses to publish to {topic} ({event.code})", "run it again")
        return bool(event.code.value != _NOBODY)

    def wait_for(self, read: Callable[[str, bytes], _T | None], seconds: float) -> _T | None:
        """What ``read`` makes of the first message that it takes, given its topic; ``None`` when none comes in time.

        Raises ``UnansweredError`` when the connection ends.
        """
        end = time.monotonic() + seconds
        while True:
            while self._messages:
                one = self._messages.pop(0)
                if (found := read(one.topic, one.data)) is not None:
                    return found
            event = self._next("message", seconds=end - time.monotonic())
            if event is None:
                return None
            if event.kind == "ended":
                raise UnansweredError("ended the connection", where=f"broker {self._access.url}", hint="run it again")
            self._messages.append(event)

    def close(self) -> None:
        """End it."""
        self._client.disconnect()
        self._client.loop_stop()

    def _next(self, kind: str, mid: int | None = None, seconds: float | None = None) -> _Event | None:
        """The next event of ``kind``, or that the connection has ended; messages that come before it are kept."""
        end = time.monotonic() + (self._access.seconds if seconds is None else seconds)
        while (left := end - time.monotonic()) > 0:
            try:
                event = self._events.get(timeout=left)
            except queue.Empty:
                break
            if event.kind == "ended" or (event.kind == kind and mid in (None, event.mid)):
                return event
            if event.kind == "message":
                self._messages.append(event)
        return None

    def _not_sent(self, what: str, way: str) -> NotSentError:
        return NotSentError(
            what, where=f"broker {self._access.url}",
            hint=f"nothing was published; {way}, or write the document to a file with -o",
        )  # fmt: skip
