"""Ed25519 keys as values, the key ring of a workstation and the trust store of a device.

Files are PEM: PKCS #8 for a private key (RFC 5958), under a passphrase if its owner wants one, SubjectPublicKeyInfo for
a public one (RFC 8410), so that ``openssl pkey`` reads both. A key's id is the sha256 of its SubjectPublicKeyInfo in
DER, in hex, which anybody can compute: ``openssl pkey -pubin -in KEY.pub -outform DER | sha256sum``.
"""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from edgepack.errors import NotFoundError, UsageError, disk_errors
from edgepack.host.files import atomic_write, fsync_dir, locked, make_dirs
from edgepack.host.ownership import check_own, check_way
from edgepack.limits import LIMITS
from edgepack.nearness import did_you_mean

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

_ID = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}")

_T = TypeVar("_T")


@dataclass(frozen=True, order=True)
class PublicKey:
    """An Ed25519 public key; ``der`` is its SubjectPublicKeyInfo."""

    der: bytes = field(repr=False)
    id: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "id", hashlib.sha256(self.der).hexdigest())

    @classmethod
    def from_pem(cls, pem: bytes, where: object = "public key") -> PublicKey:
        """Read a PEM SubjectPublicKeyInfo; raises ``UsageError`` for anything else, a private key included."""
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

        if b"PRIVATE KEY" in pem:
            raise UsageError("is a private key", where=where, hint="give the public key, and keep this one secret")
        key = _parsed(lambda: load_pem_public_key(pem), where, "public")
        if not isinstance(key, Ed25519PublicKey):
            raise UsageError("is not an Ed25519 key", where=where, hint="use a key that 'edgepack key create' made")
        return cls(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def to_pem(self) -> bytes:
        """The PEM SubjectPublicKeyInfo."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

        return load_der_public_key(self.der).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True, eq=False)
class PrivateKey:
    """An Ed25519 private key. Its representation shows only the id."""

    secret: Ed25519PrivateKey = field(repr=False)
    public: PublicKey = field(init=False)

    def __post_init__(self) -> None:
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        spki = self.secret.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        object.__setattr__(self, "public", PublicKey(spki))

    @property
    def id(self) -> str:
        """The id of its public key."""
        return self.public.id

    @classmethod
    def from_pem(cls, pem: bytes, where: object = "private key", passphrase: bytes | None = None) -> PrivateKey:
        """Read a PEM PKCS #8 key; raises ``UsageError``, which never quotes the file.

        ``passphrase`` is for a key that is under one; a key that is not has no use for it.
        """
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        if not is_protected(pem):
            passphrase = None
        try:
            key = _parsed(lambda: load_pem_private_key(pem, passphrase), where, "private")
        except UsageError:
            if passphrase is None:
                raise
            raise UsageError(
                "is not opened by that passphrase", where=where, hint="give the one that it was made with"
            ) from None
        if not isinstance(key, Ed25519PrivateKey):
            raise UsageError("is not an Ed25519 key", where=where, hint="use a key that 'edgepack key create' made")
        return cls(key)

    def to_pem(self, passphrase: bytes | None = None) -> bytes:
        """The PEM PKCS #8 form, under ``passphrase`` if there is one.

        Without, it is the secret itself: write it to a file of mode 0600 only.
        """
        from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

        if passphrase is None:
            return self.secret.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        from edgepack.signing.protected import protect

        return protect(self.secret.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption()), passphrase)


def is_protected(pem: bytes) -> bool:
    """Whether a PEM file says that it holds a private key under a passphrase."""
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in pem


def create_key() -> PrivateKey:
    """A new key from the system's randomness."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return PrivateKey(Ed25519PrivateKey.generate())


class KeyRing:
    """The private keys of a workstation: ``NAME.key`` (mode 0600) and ``NAME.pub`` in ``folder``.

    ``passphrase`` is called with the name of a key that is under one, and may raise ``UsageError``.
    """

    def __init__(self, folder: Path, passphrase: Callable[[str], bytes] | None = None) -> None:
        self.folder = folder
        self._passphrase = passphrase
        self._opened: dict[str, PrivateKey] = {}

    def create(self, name: str, passphrase: bytes | None = None) -> PrivateKey:
        """Create and store a new key; raises ``UsageError`` when the name is invalid or in use."""
        path = self._path(name)
        _private_folder(self.folder)
        key = create_key()
        with locked(self.folder / ".lock"):
            if path.exists():
                raise UsageError(f"key {name!r} already exists", where=self.folder, hint="choose another name")
            atomic_write(path, key.to_pem(passphrase), 0o600)
            atomic_write(self.public_path(name), key.public.to_pem())
        return key

    def get(self, name: str) -> PrivateKey:
        """The key called ``name``; raises ``NotFoundError`` or ``UsageError``."""
        path = self._path(name)
        hint = did_you_mean(name, self._names(), f"create it with: edgepack key create -n {name}")
        pem = _read(path, f"there is no key {name!r}", hint)
        ask = self._passphrase if is_protected(pem) else None
        key = self._opened.get(name) or PrivateKey.from_pem(pem, path, None if ask is None else ask(name))
        if ask is not None:
            self._opened[name] = key  # so that nobody is asked again
        if not self.public_path(name).exists():  # a creation was killed between its two files
            atomic_write(self.public_path(name), key.public.to_pem())
        return key

    def list(self) -> dict[str, PublicKey]:
        """The public half of every key, by name."""
        return {name: self.public(name) for name in self._names()}

    def public(self, name: str) -> PublicKey:
        """The public half of a key, for which no passphrase is needed; raises ``NotFoundError`` or ``UsageError``."""
        path, public = self._path(name), self.public_path(name)
        with contextlib.suppress(OSError):
            if is_protected(path.read_bytes()) and public.exists():
                return PublicKey.from_pem(_read(public, "there is no such key", "list the keys"), public)
        return self.get(name).public

    def export(self, name: str) -> bytes:
        """The PEM of the public half, to hand to a device; raises ``NotFoundError`` or ``UsageError``."""
        return self.public(name).to_pem()

    def public_path(self, name: str) -> Path:
        """The path of the PEM of the public half."""
        return self.folder / f"{_checked(name)}.pub"

    def _names(self) -> Iterable[str]:
        return sorted(path.stem for path in self.folder.glob("*.key"))

    def _path(self, name: str) -> Path:
        return self.folder / f"{_checked(name)}.key"


class TrustStore:
    """The public keys that a device trusts: ``NAME.pub`` in ``folder``."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add(self, pem: bytes, name: str | None = None) -> PublicKey:
        """Trust a key, under its id when no name is given; the same key again changes nothing.

        Raises ``UsageError`` when ``pem`` is not an Ed25519 public key, or when another key has that name, and
        ``UnsafePermissionsError`` as ``list`` does.
        """
        key = PublicKey.from_pem(pem)
        check_way(self.folder)
        path = self.folder / f"{_checked(name or key.id)}.pub"
        make_dirs(self.folder, 0o700)
        with locked(self.folder / ".lock"):
            held = self._held(path)
            if held is not None and held != key:
                raise UsageError(
                    f"key {held.id} is already trusted under the name {path.stem!r}",
                    where=self.folder,
                    hint="choose another name, or remove that key first",
                )
            if held is not None:
                return held
            atomic_write(path, key.to_pem())
        return key

    def list(self) -> dict[str, PublicKey]:
        """Every trusted key, by name; raises ``UsageError`` for a file that is not a key.

        Raises ``UnsafePermissionsError`` when another user could have put one here or changed it.
        """
        found = {}
        check_way(self.folder)
        for path in sorted(self.folder.glob("*.pub")):
            with contextlib.suppress(NotFoundError):  # removed by another process meanwhile
                found[path.stem] = self._read(path)
        return found

    def keys(self) -> tuple[PublicKey, ...]:
        """Every trusted key, each once."""
        return tuple(sorted(set(self.list().values())))

    def remove(self, name: str) -> None:
        """Stop trusting the key of that name or id; raises ``NotFoundError``."""
        with locked(self.folder / ".lock") if self.folder.is_dir() else disk_errors(self.folder):
            doomed = [held for held, key in self.list().items() if name in (held, key.id)]
            if not doomed:
                raise NotFoundError(f"there is no trusted key {name!r}", where=self.folder, hint="list the keys")
            for held in doomed:
                (self.folder / f"{held}.pub").unlink()
            fsync_dir(self.folder)

    def _held(self, path: Path) -> PublicKey | None:
        """The key of that name; ``None`` for an absent file, and for a damaged one, which may be replaced."""
        try:
            return self._read(path)
        except (NotFoundError, UsageError):
            return None

    def _read(self, path: Path) -> PublicKey:
        check_own(path)
        try:
            key = PublicKey.from_pem(_read(path, "there is no such key", "list the keys"), path)
            if _ID.fullmatch(path.stem) and key.id != path.stem:
                # An altered byte makes another key, which nobody has, of the one that was trusted.
                raise UsageError("is not the key that it is named after", where=path)
            return key
        except UsageError as error:
            hint = "trust that key again with: edge-agent trust KEY.pub, or remove the file"
            raise UsageError(error.what, where=error.where, hint=hint) from error


def _parsed(parse: Callable[[], _T], where: object, kind: str) -> _T:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        return parse()
    except TypeError:
        raise UsageError(
            "is under a passphrase", where=where, hint="give the key without one ('openssl pkey -in IN -out OUT')"
        ) from None
    except (ValueError, UnsupportedAlgorithm):  # the cause is dropped: it might quote the file
        raise UsageError(f"is not a {kind} key in PEM", where=where, hint="check the file") from None


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise UsageError(
            f"{name!r} is not a valid name for a key",
            hint="use letters, digits, '.', '_' and '-', a letter or digit first",
        )
    return name


def _read(path: Path, absent: str, hint: str) -> bytes:
    try:
        with disk_errors(path), path.open("rb") as file:
            return file.read(LIMITS.key_file_bytes)
    except FileNotFoundError:
        raise NotFoundError(absent, where=path, hint=hint) from None


def _private_folder(folder: Path) -> None:
    if not folder.is_dir():
        make_dirs(folder, 0o700)
