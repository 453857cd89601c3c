"""Ed25519 in plain Python: the vectors of RFC 8032, and the same judgement as OpenSSL on what is almost a signature."""

from __future__ import annotations

import hashlib
import os

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_server.security import ed25519
from edge_server.security.ed25519 import PublicKey

P = 2**255 - 19
ORDER = 2**252 + 27742317777372353535851937790883648493

# RFC 8032, section 7.1: public key, message, signature.
VECTORS = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bb"
        "e24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302"
        "aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac18ff9b538d16f290ae67f760984dc6594a7c15e9716ed"
        "28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").hexdigest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b58909351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac"
        "17ad9bef1177331a704",
    ),
]

# The eight points of small order: y is 1, -1, 0 (two), and one of two numbers for the four of order eight.
ORDER_EIGHT = "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"
SMALL = [
    "01" + "00" * 31,
    "ec" + "ff" * 30 + "7f",
    "00" * 32,
    "00" * 31 + "80",
    ORDER_EIGHT,
    ORDER_EIGHT[:62] + "fa",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
    "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
]


def number(value: int) -> bytes:
    return value.to_bytes(32, "little")


def library(public: bytes, signature: bytes, message: bytes) -> bool:
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except InvalidSignature:
        return False
    return True


@pytest.mark.parametrize(("public", "message", "signature"), VECTORS)
def test_the_vectors_of_the_rfc_are_valid_and_any_changed_bit_is_not(public: str, message: str, signature: str) -> None:
    key = PublicKey(bytes.fromhex(public))
    whole, text = bytes.fromhex(signature), bytes.fromhex(message)
    assert key.verify(whole, text)
    assert not key.verify(whole, text + b"\0")
    for bit in range(0, 512, 25):
        changed = (int.from_bytes(whole, "little") ^ 1 << bit).to_bytes(64, "little")
        assert not key.verify(changed, text)
    for length in (0, 32, 63):
        assert not key.verify(whole[:length], text)
    assert not key.verify(whole + b"\0", text)


@settings(max_examples=25, deadline=None)
@given(st.binary(min_size=32, max_size=32), st.binary(max_size=200))
def test_what_the_library_signs_is_valid(seed: bytes, message: bytes) -> None:
    private = Ed25519PrivateKey.from_private_bytes(seed)
    assert PublicKey(private.public_key().public_bytes_raw()).verify(private.sign(message), message)


def test_a_second_form_of_a_signature_is_refused() -> None:
    private = Ed25519PrivateKey.generate()
    public = private.public_key().public_bytes_raw()
    key = PublicKey(public)
    signature = private.sign(b"x")
    scalar = int.from_bytes(signature[32:], "little")
    for times in range(1, 16):
        if scalar + times * ORDER < 2**256:
            other = signature[:32] + number(scalar + times * ORDER)
            assert not key.verify(other, b"x")
            assert not library(public, other, b"x")


@pytest.mark.parametrize("encoded", SMALL)
def test_keys_of_small_order_are_refused(encoded: str) -> None:
    with pytest.raises(ValueError, match="small order"):
        PublicKey(bytes.fromhex(encoded))


@pytest.mark.parametrize(
    ("encoded", "words"),
    [
        (number(P), "too large"),
        (number(P + 1), "too large"),
        (number(2**255 - 1), "too large"),
        (number(1 | 1 << 255), "zero with a sign"),
        (number(P - 1 | 1 << 255), "zero with a sign"),
        (number(2), "not a point"),
        (b"\1" * 31, "32 bytes"),
        (b"\1" * 33, "32 bytes"),
        (b"", "32 bytes"),
    ],
)
def test_keys_that_are_not_written_in_the_one_right_way_are_refused(encoded: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        PublicKey(encoded)


def test_special_values_are_judged_as_by_the_library() -> None:
    public = Ed25519PrivateKey.generate().public_key().public_bytes_raw()
    key = PublicKey(public)
    points = [bytes.fromhex(point) for point in SMALL] + [number(value) for value in (P, P + 1, ORDER, 2**256 - 1)]
    scalars = [number(value) for value in (0, 1, ORDER - 1, ORDER, ORDER + 1, P, 2**255, 2**256 - 1)]
    for point in points:
        for scalar in scalars:
            assert key.verify(point + scalar, b"?") is library(public, point + scalar, b"?") is False


def test_points_with_a_part_of_small_order_are_judged_as_by_the_library() -> None:
    """Where verifiers differ: a commitment or a key to which a point of small order was added."""
    torsion = ed25519._decode(bytes.fromhex(ORDER_EIGHT))
    base = ed25519._doublings(ed25519._BASE)
    secret, nonce = (int.from_bytes(os.urandom(32), "little") % ORDER for _ in range(2))
    plain = ed25519._sum(base, secret, ed25519._ZERO)
    accepted = 0
    for own, moved in ((plain, True), (ed25519._add(plain, torsion), False), (ed25519._add(plain, torsion), True)):
        public = ed25519._encode(own)
        key = PublicKey(public)
        for attempt in range(16):
            commitment = ed25519._sum(base, nonce + attempt, torsion if moved else ed25519._ZERO)
            message = b"%d" % attempt
            written = ed25519._encode(commitment)
            challenge = int.from_bytes(hashlib.sha512(written + public + message).digest(), "little")
            signature = written + number((nonce + attempt + challenge * secret) % ORDER)
            found = key.verify(signature, message)
            assert found is library(public, signature, message)
            accepted += found
    assert accepted < 24


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=80), st.binary(max_size=20))
def test_noise_is_no_signature(signature: bytes, message: bytes) -> None:
    assert not NOISE_KEY.verify(signature, message)


NOISE_KEY = PublicKey(bytes.fromhex(VECTORS[0][0]))
