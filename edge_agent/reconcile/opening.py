"""The payload of a signed document that came from anywhere, or why it is not looked at any further; pure."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from edge_agent.state.goals import Refusal
from edgepack.documents import parse_object
from edgepack.errors import InvalidDocumentError, SignatureError
from edgepack.limits import LIMITS
from edgepack.oci.digest import Digest
from edgepack.signing.keys import PublicKey
from edgepack.state import commands
from edgepack.state.desired import PAYLOAD_TYPE
from edgepack.state.reported import Answer
from edgepack.text import human, printable


@dataclass(frozen=True)
class Form:
    """What kind of signed document is meant: its name in messages, its type, how it is signed, and its length."""

    name: str
    payload_type: str
    signed_with: str
    most_bytes: int
    empty_hint: str | None = None
    long_hint: str = "send it as it was written"


DESIRED = Form(
    "desired state", PAYLOAD_TYPE, "edgepack desired sign", LIMITS.desired_state_bytes,
    "to remove a service, send a document that names it with the status removed",
    "split it over groups, or send the right file",
)  # fmt: skip
COMMAND = Form("command", commands.PAYLOAD_TYPE, "edgepack device command", LIMITS.command_bytes)


def opened(
    data: bytes, trusted: Collection[PublicKey], *, signed: bool = True, form: Form = DESIRED
) -> bytes | Refusal:
    """The document in ``data``, from its envelope when it has one; with ``signed`` it must have a good one."""
    if not data.strip():
        return refusal_of(Answer.NOTHING_DESIRED, "it is empty; everything stays as it is", form.empty_hint)
    if len(data) > form.most_bytes:
        return refusal_of(Answer.INVALID, f"it is longer than {human(form.most_bytes)}", form.long_hint)
    try:
        value = parse_object(data, form.name)
    except InvalidDocumentError as error:
        return refusal_of(Answer.INVALID, error.what, f"send a signed {form.name} as it was written")
    if "payloadType" in value:
        return _verified(data, trusted, form)
    if signed:
        hint = f"sign it with: {form.signed_with}, by a key that this device trusts"
        return refusal_of(Answer.PRECONDITION_FAILED, "it is not signed", hint)
    return data


def _verified(data: bytes, trusted: Collection[PublicKey], form: Form) -> bytes | Refusal:
    from edgepack.signing.envelope import open_unsigned, verify

    try:
        open_unsigned(data, form.payload_type, where=form.name)
    except SignatureError as error:
        return refusal_of(Answer.INVALID, error.what, f"sign it with: {form.signed_with}")
    try:
        return verify(data, form.payload_type, trusted, where=form.name).payload
    except SignatureError as error:
        return refusal_of(
            Answer.PRECONDITION_FAILED, error.what, "sign it with a key that this device trusts, or make the device "
            "trust that key with: edge-agent trust KEY.pub",
        )  # fmt: skip


def refusal_of(
    status: Answer, reason: str, hint: str | None, *, serial: int | None = None, digest: Digest | None = None
) -> Refusal:
    """A refusal; what was sent may be part of the reason, so it is made fit to be shown, and cut."""
    text = printable(" ".join(reason.split()))
    if len(text) > LIMITS.reason_chars:
        text = f"{text[: LIMITS.reason_chars]}…"
    return Refusal("", status, text, hint, serial, digest)
