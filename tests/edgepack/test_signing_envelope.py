"""DSSE: what verifies, what does not and why, and openssl's opinion."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import SignatureError
from edgepack.signing import envelope
from edgepack.signing.keys import create_key

TYPE = "application/example+json"
ALICE, BOB = create_key(), create_key()


def edited(change: Callable[[dict[str, Any]], object]) -> bytes:
    value = json.loads(envelope.sign(b"payload", TYPE, ALICE))
    change(value)
    return json.dumps(value).encode()


def test_a_signed_payload_comes_back_with_its_signers() -> None:
    data = envelope.sign(b"payload", TYPE, ALICE, BOB)
    assert envelope.verify(data, TYPE, [ALICE.public]) == envelope.Opened(b"payload", (ALICE.id,))
    both = tuple(sorted([ALICE.id, BOB.id]))
    assert envelope.verify(data, TYPE, [BOB.public, ALICE.public], threshold=2).key_ids == both


def test_signing_is_deterministic() -> None:
    assert envelope.sign(b"x", TYPE, ALICE, BOB) == envelope.sign(b"x", TYPE, BOB, ALICE)


@pytest.mark.real("openssl")
def test_plain_openssl_checks_the_signature_over_the_pre_authentication_encoding(tmp_path: Path) -> None:
    value = json.loads(envelope.sign(b'{"a":1}', TYPE, ALICE))
    payload, kind = base64.b64decode(value["payload"]), value["payloadType"].encode()
    (tmp_path / "pae").write_bytes(b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload))
    (tmp_path / "sig").write_bytes(base64.b64decode(value["signatures"][0]["sig"]))
    (tmp_path / "key.pub").write_bytes(ALICE.public.to_pem())
    command = ["openssl", "pkeyutl", "-verify", "-pubin", "-inkey", tmp_path / "key.pub", "-rawin"]
    command += ["-in", tmp_path / "pae", "-sigfile", tmp_path / "sig"]
    assert subprocess.run(command, check=False, capture_output=True).returncode == 0
    (tmp_path / "pae").write_bytes((tmp_path / "pae").read_bytes() + b" ")
    assert subprocess.run(command, check=False, capture_output=True).returncode != 0


def test_an_unsigned_envelope_is_refused_and_opened_only_on_request() -> None:
    data = envelope.sign(b"payload", TYPE)
    with pytest.raises(SignatureError, match="is not signed"):
        envelope.verify(data, TYPE, [ALICE.public])
    assert envelope.open_unsigned(data, TYPE) == envelope.Opened(b"payload", ())


def test_a_signed_envelope_is_never_opened_as_unsigned() -> None:
    assert envelope.open_unsigned(envelope.sign(b"payload", TYPE, ALICE), TYPE) is None


def test_unknown_keys_are_named() -> None:
    with pytest.raises(SignatureError, match=ALICE.id):
        envelope.verify(envelope.sign(b"payload", TYPE, ALICE), TYPE, [BOB.public])
    with pytest.raises(SignatureError, match=ALICE.id):
        envelope.verify(envelope.sign(b"payload", TYPE, ALICE), TYPE, [])


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(payload=base64.b64encode(b"other").decode()),
        lambda value: value.update(payloadType="application/other"),
        lambda value: value["signatures"][0].update(sig=base64.b64encode(bytes(64)).decode()),
        lambda value: value["signatures"][0].update(sig=base64.b64encode(b"short").decode()),
        lambda value: value["signatures"][0].update(sig=""),
    ],
)
def test_an_altered_envelope_does_not_verify(change: Callable[[dict[str, Any]], object]) -> None:
    with pytest.raises(SignatureError, match=f"signature by key {ALICE.id}"):
        envelope.verify(edited(change), TYPE, [ALICE.public])


def test_a_signature_under_another_key_s_id_does_not_verify() -> None:
    data = edited(lambda value: value["signatures"][0].update(keyid=BOB.id))
    with pytest.raises(SignatureError, match="signature by key"):
        envelope.verify(data, TYPE, [ALICE.public, BOB.public])


def test_another_type_of_payload_is_refused() -> None:
    data = envelope.sign(b"payload", "application/other", ALICE)
    with pytest.raises(SignatureError, match="application/other"):
        envelope.verify(data, TYPE, [ALICE.public])
    with pytest.raises(SignatureError, match="application/other"):
        envelope.open_unsigned(envelope.sign(b"payload", "application/other"), TYPE)


def test_a_threshold_counts_different_keys() -> None:
    with pytest.raises(SignatureError, match="1 trusted keys; 2 are required"):
        envelope.verify(envelope.sign(b"x", TYPE, ALICE), TYPE, [ALICE.public, BOB.public], threshold=2)
    twice = edited(lambda value: value["signatures"].append(dict(value["signatures"][0])))
    with pytest.raises(SignatureError, match="not a DSSE envelope"):
        envelope.verify(twice, TYPE, [ALICE.public, BOB.public], threshold=2)
    with pytest.raises(ValueError, match="threshold"):
        envelope.verify(envelope.sign(b"x", TYPE), TYPE, [ALICE.public], threshold=0)


def test_a_good_signature_counts_beside_a_bad_one() -> None:
    data = json.loads(envelope.sign(b"x", TYPE, ALICE, BOB))
    for one in data["signatures"]:
        if one["keyid"] == BOB.id:
            one["sig"] = base64.b64encode(bytes(64)).decode()
    opened = envelope.verify(json.dumps(data).encode(), TYPE, [ALICE.public, BOB.public])
    assert opened.key_ids == (ALICE.id,)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b"[" * 100_000,
        b'{"payload":1,"payloadType":"x","signatures":[]}',
        b'{"payload":"*","payloadType":"x","signatures":[]}',
        b'{"payload":"AA==","payloadType":"x","signatures":{}}',
        b'{"payload":"AA==","payloadType":"x","signatures":[1]}',
        b'{"payload":"AA==","payloadType":"x","signatures":[{"keyid":1,"sig":"AA=="}]}',
        b'{"payload":"AA==","payloadType":"x","signatures":[{"keyid":"a","sig":"*"}]}',
        b'{"payload":"\xc3\xbc","payloadType":"x","signatures":[]}',
    ],
)
def test_a_malformed_envelope_is_refused(data: bytes) -> None:
    with pytest.raises(SignatureError, match="not a DSSE envelope"):
        envelope.verify(data, "x", [ALICE.public])
    with pytest.raises(SignatureError, match="not a DSSE envelope"):
        envelope.open_unsigned(data, "x")


def test_an_oversized_envelope_is_not_even_parsed() -> None:
    with pytest.raises(SignatureError, match="longer than"):
        envelope.verify(envelope.sign(bytes(1000), TYPE, ALICE), TYPE, [ALICE.public], limit=1000)


@given(st.binary(max_size=200), st.data())
def test_any_changed_byte_of_an_envelope_is_refused_or_means_the_same(payload: bytes, data: st.DataObject) -> None:
    signed = bytearray(envelope.sign(payload, TYPE, ALICE))
    place = data.draw(st.integers(0, len(signed) - 1))
    signed[place] = data.draw(st.integers(0, 255))
    try:
        opened = envelope.verify(bytes(signed), TYPE, [ALICE.public])
    except SignatureError:
        return
    assert opened == envelope.Opened(payload, (ALICE.id,))
