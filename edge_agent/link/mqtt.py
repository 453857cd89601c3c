"""MQTT by paho, the only module that imports it: one connection at a time, each by a client of its own.

Nothing of a connection is left in the next one, and the files of the configuration are read again for each. All of it
is on the link's thread: paho's own threads and reconnecting are not used.
"""

from __future__ import annotations

import select
import time
from collections import deque
from contextlib import suppress
from dataclasses import replace
from typing import Any

from paho.mqtt.client import Client, ConnectFlags, DisconnectFlags, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.reasoncodes import ReasonCode
from paho.mqtt.subscribeoptions import SubscribeOptions

from edge_agent.link import codes
from edge_agent.link.base import Message
from edge_agent.link.course import Attempt, Ended, Kind, Version
from edge_agent.link.inlet import Inlet
from edge_agent.link.keeper import Keeper
from edge_agent.link.outbox import Outgoing
from edge_agent.link.reach import password, reach, unreachable
from edgepack.errors import EdgepackError
from edgepack.state.presence import DeviceStatus, Presence

ANSWER_SECONDS = 20.0
"""How long a broker that took the connection may think about the first packet."""
# Commands wait this long at the broker for a device that is away.
SESSION_SECONDS = 24 * 3600
# A device that is back by then was not lost.
WILL_DELAY_SECONDS = 15
_GOODBYE_SECONDS = 2.0
_LONGEST_POLL_SECONDS = 10.0
# A connection that lasts so long is not taken over by another client any more.
_ALONE_SECONDS = 300.0
_WINDOW = 10
_KEEP_ALIVE_TIMEOUT, _PROTOCOL_ERROR = 0x8D, 0x82
_READ = select.POLLIN | select.POLLERR | select.POLLHUP


class MqttLink(Keeper):
    """The ``Link`` over MQTT."""

    def connect(self, attempt: Attempt) -> Ended:
        """Make a connection, and stay until it ends."""
        return _Connection(self, attempt).run()


class _Client(Client):
    """paho's client over a socket that is connected here, with its own errors, limits and time."""

    def __init__(self, link: Keeper, attempt: Attempt) -> None:
        is_5 = attempt.version is Version.MQTT5
        super().__init__(
            CallbackAPIVersion.VERSION2,
            link.device,
            clean_session=None if is_5 else False,
            protocol=MQTTProtocolVersion.MQTTv5 if is_5 else MQTTProtocolVersion.MQTTv311,
            reconnect_on_failure=False,
            manual_ack=True,
        )
        self._link = link
        self.inlet: Inlet | None = None

    def _create_socket(self) -> Inlet:
        self.inlet = Inlet(reach(self._link.broker, self._link.now))
        return self.inlet


class _Connection:
    """One connection of ``link``, from the socket to the end."""

    def __init__(self, link: Keeper, attempt: Attempt) -> None:
        self._link = link
        self._attempt = attempt
        self._is_5 = attempt.version is Version.MQTT5
        self._client = _Client(link, attempt)
        self._ended: Ended | None = None
        self._ready_at: float | None = None
        self._window = _WINDOW
        self._largest: int | None = None
        self._inflight: dict[int, Outgoing | None] = {}
        self._acks: deque[int] = deque()
        self._subscribed: dict[int, str] = {}
        self._goodbye_by: float | None = None
        # An earlier start of this agent has left its own word there, so the first connection says nothing of others.
        self._is_first = link.status.connections == 0
        self._rival = False
        self._rival_at = 0.0

    def run(self) -> Ended:
        """Connect, and stay until the connection ends; raises ``EdgepackError`` for files of the configuration."""
        client, broker = self._client, self._link.broker
        self._prepare()
        try:
            if self._is_5:
                properties = _properties(PacketTypes.CONNECT, SessionExpiryInterval=SESSION_SECONDS)
                client.connect("broker", 1, broker.keepalive_seconds, clean_start=False, properties=properties)
            else:
                client.connect("broker", 1, broker.keepalive_seconds)
            self._loop(time.monotonic() + ANSWER_SECONDS)
        except OSError as error:
            self._end(Kind.UNREACHABLE, unreachable(broker, error, self._link.now()))
        finally:
            self._drop()
        return self._ended or Ended(Kind.STOPPED, "it was closed")

    def _prepare(self) -> None:
        client, link = self._client, self._link
        client.on_connect, client.on_disconnect = self._on_connect, self._on_disconnect
        client.on_message, client.on_publish, client.on_subscribe = (
            self._on_message,
            self._on_publish,
            self._on_subscribe,
        )
        secret = password(link.broker)
        if secret is not None and not link.broker.tls and link.broker.socket is None:
            link.warn_of_plain_password()
        if link.broker.user is not None or secret is not None:
            client.username_pw_set(link.broker.user or link.device, secret)
        properties = None
        if self._is_5:
            properties = _properties(PacketTypes.WILLMESSAGE, WillDelayInterval=WILL_DELAY_SECONDS)
        will = link.presence(Presence.LOST)
        client.will_set(link.status_topic, will, self._attempt.qos, self._attempt.retain, properties)

    def _drop(self) -> None:
        """Close the socket, and let nothing keep the client alive."""
        client = self._client
        client.on_connect = client.on_disconnect = client.on_message = client.on_publish = client.on_subscribe = None
        if client.inlet is not None:
            client.inlet.close()

    def _loop(self, answer_by: float) -> None:
        client = self._client
        keepalive = max(1, self._link.broker.keepalive_seconds)
        while self._ended is None and (sock := client.socket()) is not None and client.inlet is not None:
            poll, descriptor = select.poll(), sock.fileno()
            poll.register(descriptor, _READ | (select.POLLOUT if client.want_write() else 0))
            seconds = min(keepalive / 4, _LONGEST_POLL_SECONDS)
            if self._ready_at is None:
                seconds = min(seconds, answer_by - time.monotonic())
            elif self._goodbye_by is not None:
                seconds = min(seconds, self._goodbye_by - time.monotonic())
            ready = self._link.wait(poll, 0 if client.inlet.pending() else seconds)
            events = ready[0][1] if ready else 0
            if events & _READ or client.inlet.pending():
                client.loop_read()
            if events & select.POLLOUT:
                client.loop_write()
            client.loop_misc()
            self._work(answer_by)

    def _work(self, answer_by: float) -> None:
        """What is to be done beside reading: acknowledge, publish, give up, say goodbye."""
        if self._ended is not None:
            return
        if self._ready_at is None:
            if self._link.closing.is_set():
                self._end(Kind.STOPPED, "it was closed")
            elif time.monotonic() >= answer_by:
                self._end(Kind.UNANSWERED, f"it took the connection and did not answer within {ANSWER_SECONDS:g} s")
            return
        while self._acks:
            self._client.ack(self._acks.popleft(), 1)
        self._publish_due()
        if self._rival and time.monotonic() >= self._rival_at + _ALONE_SECONDS:
            self._rival = False
            self._link.remark(None)
        if self._link.closing.is_set():
            self._say_goodbye()

    def _say_goodbye(self) -> None:
        if self._goodbye_by is None:
            self._goodbye_by = time.monotonic() + _GOODBYE_SECONDS
            self._publish_presence(Presence.OFFLINE)
        if not self._inflight or time.monotonic() >= self._goodbye_by:
            self._end(Kind.STOPPED, "it was closed")
            self._client.disconnect()

    def _end(self, kind: Kind, reason: str) -> None:
        """Keep how the connection ended; the first word says most."""
        if self._ended is None:
            lasted = 0.0 if self._ready_at is None else time.monotonic() - self._ready_at
            self._ended = Ended(kind, reason, lasted)

    # What paho calls. A connection that was refused is told of by the first of these and then by the second.

    def _on_connect(
        self, client: Client, userdata: Any, flags: ConnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        if code.is_failure:
            self._end(*codes.refused(code.value))
            return
        self._ready_at = time.monotonic()
        self._window = min(_WINDOW, getattr(properties, "ReceiveMaximum", _WINDOW))
        self._largest = getattr(properties, "MaximumPacketSize", None)
        if getattr(properties, "RetainAvailable", 1) == 0 or getattr(properties, "MaximumQoS", 1) == 0:
            self._attempt = replace(
                self._attempt,
                retain=bool(getattr(properties, "RetainAvailable", 1)) and self._attempt.retain,
                qos=min(getattr(properties, "MaximumQoS", 1), self._attempt.qos),
            )
        self._link.connected(self._attempt.version)
        if not self._attempt.retain:
            self._link.remark("the broker keeps no retained messages: what is sent while this device is away is lost")
        # What is kept there is heard before it is replaced. One by one, so that each answer is that for one topic.
        for topic in (self._link.status_topic, *self._link.topics):
            _, mid = client.subscribe(topic, **self._how(topic))
            if mid is not None:
                self._subscribed[mid] = topic
        self._publish_presence(Presence.ONLINE)
        self._link.outbox.again()

    def _how(self, topic: str) -> dict[str, Any]:
        """How a topic is subscribed to. Of a command it must be known that it was sent as one to be kept."""
        qos = self._attempt.qos
        if self._is_5 and topic == self._link.command_topic:
            return {"options": SubscribeOptions(qos=qos, retainAsPublished=True)}
        return {"qos": qos}

    def _on_disconnect(
        self, client: Client, userdata: Any, flags: DisconnectFlags, code: ReasonCode, properties: Properties | None
    ) -> None:
        fault = None if self._client.inlet is None else self._client.inlet.fault
        if flags.is_disconnect_packet_from_server:
            kind, reason = codes.ended(code.value)
        elif fault is not None:
            kind, reason = Kind.LOST, unreachable(self._link.broker, fault, 0.0)
        elif code.value == _PROTOCOL_ERROR:
            kind, reason = Kind.LOST, "what it sent is not MQTT; check host and port"
        elif code.value == _KEEP_ALIVE_TIMEOUT:
            seconds = self._link.broker.keepalive_seconds
            kind, reason = Kind.LOST, f"it has not answered for {seconds} s; the network or the broker hangs"
        else:
            kind, reason = Kind.TAKEN_OVER if self._rival else Kind.LOST, "it closed the connection"
        self._end(kind if self._ready_at is not None else Kind.UNANSWERED, reason)

    def _on_subscribe(
        self, client: Client, userdata: Any, mid: int, answers: list[ReasonCode], properties: Properties | None
    ) -> None:
        topic = self._subscribed.pop(mid, None)
        for code in answers:
            if topic is not None and code.is_failure:
                self._link.remark(codes.denied("subscribe to", topic, code.value))

    def _on_message(self, client: Client, userdata: Any, message: MQTTMessage) -> None:
        mid = message.mid if message.qos else None
        try:
            topic = message.topic
        except UnicodeDecodeError:
            topic = ""
        if topic == self._link.status_topic and not self._is_first:
            self._look_for_another(bytes(message.payload))
        if topic not in self._link.topics or not message.payload:
            self._acknowledge(mid)  # an empty message says nothing, and others were not asked for
            return
        properties = message.properties
        reply_to, correlation = getattr(properties, "ResponseTopic", None), getattr(properties, "CorrelationData", None)
        data = bytes(message.payload)
        self._link.deliver(
            Message(topic, data, message.retain, lambda: self._acknowledge(mid), reply_to, correlation)
        )  # fmt: skip

    def _look_for_another(self, data: bytes) -> None:
        """See whether another client has used this device's name since it was connected; not every broker says so."""
        with suppress(EdgepackError):
            if DeviceStatus.from_bytes(data).instance != self._link.instance and not self._rival:
                self._rival, self._rival_at = True, time.monotonic()
                self._link.remark(
                    f"another client connects with the name {self._link.device}: give each device a name of its own"
                )

    def _acknowledge(self, mid: int | None) -> None:
        """From any thread; of a connection that has ended nothing is sent, and the message comes again."""
        if mid is not None:
            self._acks.append(mid)
            self._link.wake()

    def _on_publish(
        self, client: Client, userdata: Any, mid: int, code: ReasonCode, properties: Properties | None
    ) -> None:
        message = self._inflight.pop(mid, None)
        if code.is_failure:
            topic = self._link.status_topic if message is None else message.topic
            self._link.remark(codes.denied("publish to", topic, code.value))
        if message is not None:
            self._link.outbox.confirm(message)

    def _publish_presence(self, presence: Presence) -> None:
        self._publish(Outgoing(self._link.status_topic, self._link.presence(presence), retain=True), keep=False)

    def _publish_due(self) -> None:
        outbox = self._link.outbox
        while len(self._inflight) < self._window and (message := outbox.take()) is not None:
            # The topic and the properties go with it.
            if self._largest is not None and len(message.data) + len(message.topic) + 64 > self._largest:
                self._link.remark(f"the broker takes {self._largest} bytes, and what goes to {message.topic} is longer")
                outbox.confirm(message)
            else:
                self._publish(message, keep=True)

    def _publish(self, message: Outgoing, *, keep: bool) -> None:
        properties = None
        if self._is_5 and message.correlation is not None:
            properties = _properties(PacketTypes.PUBLISH, CorrelationData=message.correlation)
        qos = self._attempt.qos
        try:
            sent = self._client.publish(
                message.topic, message.data, qos, message.retain and self._attempt.retain, properties
            )
        except ValueError:  # a topic that somebody asked an answer on, and that is none
            self._link.remark(f"{message.topic[:200]!r} is not a topic that can be published to")
            self._link.outbox.confirm(message)
            return
        if qos:
            self._inflight[sent.mid] = message if keep else None
        elif keep:
            self._link.outbox.confirm(message)


def _properties(packet_type: int, **values: object) -> Properties:
    found = Properties(packet_type)  # type: ignore[no-untyped-call]
    for name, value in values.items():
        setattr(found, name, value)
    return found
