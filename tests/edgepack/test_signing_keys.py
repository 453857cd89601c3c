"""Keys: files that openssl reads, names, secrecy, and trust that is never replaced in silence."""

from __future__ import annotations

import contextlib
import hashlib
import stat
import subprocess
import threading
from pathlib import Path

import pytest

from edgepack.errors import NotFoundError, UsageError
from edgepack.signing.keys import KeyRing, PrivateKey, PublicKey, TrustStore, create_key


def openssl(*arguments: str | Path, data: bytes | None = None) -> bytes:
    return subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True, input=data).stdout


@pytest.mark.real("openssl")
def test_openssl_reads_both_files_and_computes_the_key_id(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path / "keys")
    key = ring.create("release")
    der = openssl("pkey", "-pubin", "-in", ring.public_path("release"), "-outform", "DER")
    assert hashlib.sha256(der).hexdigest() == key.id
    assert openssl("pkey", "-in", tmp_path / "keys/release.key", "-pubout") == ring.export("release")
    assert b"ED25519" in openssl("pkey", "-in", tmp_path / "keys/release.key", "-text", "-noout")


@pytest.mark.real("openssl")
def test_keys_that_openssl_made_are_read() -> None:
    pem = openssl("genpkey", "-algorithm", "ed25519")
    key = PrivateKey.from_pem(pem)
    assert key.public.to_pem() == openssl("pkey", "-pubout", data=pem)


@pytest.mark.real("openssl")
@pytest.mark.parametrize("passphrase", ["correct horse", "ключ", "x" * 300])
def test_a_key_under_a_passphrase_is_what_openssl_reads_and_writes(tmp_path: Path, passphrase: str) -> None:
    word = tmp_path / "word"
    word.write_text(f"{passphrase}\n")
    key = create_key()
    file = tmp_path / "release.key"
    file.write_bytes(key.to_pem(passphrase.encode()))
    opened = openssl("pkey", "-in", file, "-passin", f"file:{word}")
    assert PrivateKey.from_pem(opened).id == key.id
    again = openssl("pkcs8", "-topk8", "-scrypt", "-passout", f"file:{word}", data=opened)
    for pem in (file.read_bytes(), again):
        assert PrivateKey.from_pem(pem, passphrase=passphrase.encode()).id == key.id
        for wrong in (b"", b"another"):
            with pytest.raises(UsageError, match="is not opened by that passphrase"):
                PrivateKey.from_pem(pem, passphrase=wrong)
    text = openssl("asn1parse", "-in", file).decode()
    assert "scrypt" in text
    assert "aes-256-cbc" in text


def test_a_ring_asks_once_for_a_passphrase_and_only_where_one_is_needed(tmp_path: Path) -> None:
    asked: list[str] = []

    def passphrase(name: str) -> bytes:
        asked.append(name)
        return b"correct horse"

    made = KeyRing(tmp_path).create("release", b"correct horse")
    plain = KeyRing(tmp_path).create("plain")
    assert stat.S_IMODE((tmp_path / "release.key").stat().st_mode) == 0o600
    ring = KeyRing(tmp_path, passphrase)
    assert ring.list() == {"release": made.public, "plain": plain.public}
    assert ring.export("release") == made.public.to_pem()
    assert ring.get("plain").id == plain.id
    assert asked == []
    assert [ring.get("release").id for _ in range(2)] == [made.id] * 2
    assert asked == ["release"]
    with pytest.raises(UsageError, match="is under a passphrase"):
        KeyRing(tmp_path).get("release")
    ring.public_path("release").unlink()  # a creation was killed between its two files
    assert KeyRing(tmp_path, passphrase).list()["release"] == made.public


def test_private_key_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    KeyRing(tmp_path / "keys").create("release")
    assert stat.S_IMODE((tmp_path / "keys/release.key").stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_no_representation_shows_a_private_byte() -> None:
    key = create_key()
    secret = key.secret.private_bytes_raw()
    for text in (repr(key), str(key), repr([key]), repr(key.public), f"{key!r}"):
        assert secret.hex() not in text
        assert repr(secret)[2:-1] not in text
        assert "PRIVATE" not in text
    assert key.id in repr(key)


def test_key_ring_gives_back_what_it_made(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    assert ring.list() == {}
    one, two = ring.create("one"), ring.create("two")
    assert ring.get("one").public == one.public
    assert ring.list() == {"one": one.public, "two": two.public}
    assert PublicKey.from_pem(ring.export("two")) == two.public


def test_a_key_is_never_replaced(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    before = ring.create("release")
    with pytest.raises(UsageError, match="already"):
        ring.create("release")
    assert ring.get("release").id == before.id


def test_of_creations_at_once_exactly_one_succeeds(tmp_path: Path) -> None:
    made: list[str] = []

    def create() -> None:
        with contextlib.suppress(UsageError):
            made.append(KeyRing(tmp_path / "keys").create("release").id)

    threads = [threading.Thread(target=create) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert made == [KeyRing(tmp_path / "keys").get("release").id]


def test_a_public_file_that_a_killed_creation_did_not_write_comes_back(tmp_path: Path) -> None:
    ring = KeyRing(tmp_path)
    key = ring.create("release")
    ring.public_path("release").unlink()
    assert ring.list() == {"release": key.public}
    assert PublicKey.from_pem(ring.public_path("release").read_bytes()) == key.public


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../up", "a/b", "/abs", "a b", ".hidden", "-flag", "ü", "a\n", "x" * 90]
)
def test_names_that_are_no_file_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="is not a valid name for a key"):
        KeyRing(tmp_path / "keys").create(name)
    assert not (tmp_path / "keys").exists()


def test_unknown_keys_are_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no key 'release'"):
        KeyRing(tmp_path / "nowhere").get("release")
    with pytest.raises(NotFoundError):
        TrustStore(tmp_path / "nowhere").remove("release")


@pytest.mark.real("openssl")
def test_other_kinds_of_key_are_refused(tmp_path: Path) -> None:
    other = openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
    with pytest.raises(UsageError, match="not an Ed25519 key"):
        PrivateKey.from_pem(other)
    with pytest.raises(UsageError, match="not an Ed25519 key"):
        PublicKey.from_pem(openssl("pkey", "-pubout", data=other))
    locked = openssl("pkey", "-aes256", "-passout", "pass:x", data=create_key().to_pem())
    with pytest.raises(UsageError, match="is under a passphrase"):
        PrivateKey.from_pem(locked)


@pytest.mark.parametrize("data", [b"", b"\0" * 50, b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_files_that_are_no_keys_are_refused(data: bytes) -> None:
    with pytest.raises(UsageError, match="is not a public key"):
        PublicKey.from_pem(data)
    with pytest.raises(UsageError, match="is not a private key"):
        PrivateKey.from_pem(data)


def test_a_private_key_is_not_taken_for_a_public_one(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a private key"):
        TrustStore(tmp_path).add(create_key().to_pem())
    assert list(tmp_path.iterdir()) == []


def test_trust_is_added_listed_and_removed(tmp_path: Path) -> None:
    trust = TrustStore(tmp_path / "trust")
    assert trust.keys() == ()
    one, two = create_key().public, create_key().public
    assert trust.add(one.to_pem()) == one
    trust.add(two.to_pem(), "release")
    trust.add(two.to_pem(), "release")
    assert trust.list() == {one.id: one, "release": two}
    assert set(trust.keys()) == {one, two}
    trust.remove(two.id)
    assert trust.list() == {one.id: one}
    trust.remove(one.id)
    assert trust.keys() == ()


def test_trust_under_a_name_is_not_replaced_by_another_key(tmp_path: Path) -> None:
    trust = TrustStore(tmp_path)
    held = trust.add(create_key().public.to_pem(), "release")
    with pytest.raises(UsageError, match="already"):
        trust.add(create_key().public.to_pem(), "release")
    assert trust.list() == {"release": held}


def test_a_damaged_trusted_key_is_named_and_not_skipped(tmp_path: Path) -> None:
    trust = TrustStore(tmp_path)
    trust.add(create_key().public.to_pem(), "good")
    (tmp_path / "bad.pub").write_bytes(b"nonsense")
    with pytest.raises(UsageError, match=r"bad\.pub"):
        trust.keys()


def test_a_key_that_is_removed_while_they_are_listed_is_not_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = TrustStore(tmp_path)
    kept, removed = create_key().public, create_key().public
    store.add(kept.to_pem(), "a")
    store.add(removed.to_pem(), "b")
    real = Path.glob

    def glob(self: Path, pattern: str) -> list[Path]:
        found = list(real(self, pattern))
        (tmp_path / "b.pub").unlink(missing_ok=True)
        return found

    monkeypatch.setattr(Path, "glob", glob)

    assert store.list() == {"a": kept}
