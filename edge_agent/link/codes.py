"""What a broker's reason codes mean for a device (MQTT 5.0, section 2.4); paho gives those of 3.1.1 as the same."""

from __future__ import annotations

from edge_agent.link.course import Kind

_VERSION, _NOT_AUTHORIZED, _TAKEN_OVER = 0x84, 0x87, 0x8E
_NO_RETAIN, _NO_QOS = 0x9A, 0x9B
_REFUSALS = {
    0x80: "it gave no reason; its log may",
    0x81: "it could not read what the device sent",
    0x82: "it says that the device broke the protocol",
    0x83: "it gave no reason; its log may",
    _VERSION: "it does not speak this version of MQTT",
    0x85: "it does not take the device's name as a client's",
    0x86: "user or password is wrong; check broker.user and broker.password_file",
    _NOT_AUTHORIZED: "this device is not allowed to connect; check user, password and the broker's access list",
    0x88: "it is not available now",
    0x89: "it is busy",
    0x8A: "this device is banned there",
    0x8C: "it asks for another way of authentication",
    0x95: "what the device sent is too large for it",
    0x97: "a limit of the broker is reached",
    _NO_RETAIN: "it keeps no retained messages",
    _NO_QOS: "it confirms no messages",
    0x9C: "it sends devices to another server",
    0x9D: "it has moved to another server; change broker.url",
    0x9F: "too many devices connect at once",
}
_ENDS = {
    0x00: "it ended the connection",
    0x04: "it ended the connection",
    0x87: "this device is not allowed to do what it did; check the broker's access list",
    0x89: "it is busy",
    0x8B: "it is shutting down",
    0x8D: "it did not hear from the device for too long",
    0x93: "the device sent too much at once",
    0x95: "what the device sent is too large for it",
    0x96: "the device sends too often",
    0x97: "a limit of the broker is reached",
    0x98: "somebody ended the connection at the broker",
    0x9C: "it sends devices to another server",
    0x9D: "it has moved to another server; change broker.url",
    0x9F: "too many devices connect at once",
    0xA0: "the connection had lasted as long as it allows",
}


def refused(code: int) -> tuple[Kind, str]:
    """How a connection ends that the broker refused with ``code``, and the sentence."""
    kinds = {_VERSION: Kind.OTHER_VERSION, _NO_RETAIN: Kind.NO_RETAIN, _NO_QOS: Kind.NO_QOS}
    return kinds.get(code, Kind.REFUSED), f"it refused the connection: {_REFUSALS.get(code, f'reason 0x{code:02x}')}"


def ended(code: int) -> tuple[Kind, str]:
    """How a connection ends to which the broker said goodbye with ``code``, and the sentence."""
    if code == _TAKEN_OVER:
        return Kind.TAKEN_OVER, "another client has connected with the device's name"
    return Kind.LOST, _ENDS.get(code, f"it ended the connection for the reason 0x{code:02x}")


def denied(what: str, topic: str, code: int) -> str:
    """The sentence for a topic that the broker does not let the device read or write."""
    if code == _NOT_AUTHORIZED or what == "subscribe to":
        why = "the broker's access list needs the lines that edgepack device add prints"
    else:
        why = _REFUSALS.get(code, f"reason 0x{code:02x}")
    return f"the broker does not let this device {what} {topic}: {why}"
