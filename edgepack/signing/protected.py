"""Private keys under a passphrase: PKCS #8 (RFC 5958) encrypted by PBES2 with scrypt and AES-256-CBC (RFC 8018, 7914).

``cryptography`` reads that and does not write it: what it writes uses PBKDF2 with 2,048 rounds, which a stolen file
does not withstand. ``openssl pkcs8 -topk8 -scrypt`` writes the same form, and ``openssl pkey`` reads it.
"""

from __future__ import annotations

import base64
import os

# RFC 7914, section 2: 16 MiB, and as much work as the smallest workstations do in half a second.
_COST, _BLOCK, _PARALLEL = 16_384, 8, 4
_PBES2 = bytes.fromhex("2a864886f70d01050d")  # 1.2.840.113549.1.5.13
_SCRYPT = bytes.fromhex("2b06010401da47040b")  # 1.3.6.1.4.1.11591.4.11
_AES_256_CBC = bytes.fromhex("60864801650304012a")  # 2.16.840.1.101.3.4.1.42
_INTEGER, _OCTETS, _OID, _SEQUENCE = 0x02, 0x04, 0x06, 0x30


def protect(der: bytes, passphrase: bytes) -> bytes:
    """The private key ``der`` (PKCS #8) as PEM that only ``passphrase`` opens; other bytes each time."""
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES256
    from cryptography.hazmat.primitives.ciphers.modes import CBC
    from cryptography.hazmat.primitives.kdf.scrypt import Scrypt
    from cryptography.hazmat.primitives.padding import PKCS7

    salt, vector = os.urandom(16), os.urandom(16)
    key = Scrypt(salt, 32, _COST, _BLOCK, _PARALLEL).derive(passphrase)
    padder, encryptor = PKCS7(128).padder(), Cipher(AES256(key), CBC(vector)).encryptor()
    secret = encryptor.update(padder.update(der) + padder.finalize()) + encryptor.finalize()
    costs = b"".join(_der(_INTEGER, _unsigned(one)) for one in (_COST, _BLOCK, _PARALLEL))
    derivation = _der(_SEQUENCE, _der(_OID, _SCRYPT) + _der(_SEQUENCE, _der(_OCTETS, salt) + costs))
    scheme = _der(_SEQUENCE, _der(_OID, _AES_256_CBC) + _der(_OCTETS, vector))
    algorithm = _der(_SEQUENCE, _der(_OID, _PBES2) + _der(_SEQUENCE, derivation + scheme))
    return _pem(_der(_SEQUENCE, algorithm + _der(_OCTETS, secret)))


def _unsigned(value: int) -> bytes:
    return value.to_bytes(value.bit_length() // 8 + 1, "big")


def _der(tag: int, content: bytes) -> bytes:
    """X.690, section 8.1: tag, length, content."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _pem(der: bytes) -> bytes:
    text = base64.b64encode(der).decode()
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    label = "ENCRYPTED PRIVATE KEY"
    return "\n".join([f"-----BEGIN {label}-----", *lines, f"-----END {label}-----", ""]).encode()
