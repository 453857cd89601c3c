"""TLS with real certificates and handshakes: versions, ciphers, faults of files, reload under open connections."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
import warnings
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge_server.config.values import Tls
from edge_server.errors import ConfigurationError, MissingFileError
from edge_server.http.tls import TlsContext
from tests.support.running import finish
from tests.support.waiting import SECONDS, happens

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def pem(key: PrivateKey, passphrase: bytes | None = None, *, old: bool = False) -> bytes:
    encryption = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    form = serialization.PrivateFormat.TraditionalOpenSSL if old else serialization.PrivateFormat.PKCS8
    return key.private_bytes(serialization.Encoding.PEM, form, encryption)


def certificate(
    key: PrivateKey,
    name: str = "first",
    days: int = 30,
    *,
    age: int = 1,
    purpose: x509.ObjectIdentifier = ExtendedKeyUsageOID.SERVER_AUTH,
    issuer: tuple[str, PrivateKey] | None = None,
) -> bytes:
    """A certificate of that common name, by itself or by an issuer, in PEM."""
    now = datetime.now(UTC)
    issuer_name, issuer_key = issuer or (name, key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer_name)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=age))
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    )
    return builder.sign(issuer_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@pytest.fixture(scope="session")
def keys() -> list[PrivateKey]:
    return [
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
        rsa.generate_private_key(65537, 2048),
    ]


@pytest.fixture
def files(tmp_path: Path, keys: list[PrivateKey]) -> Tls:
    tls = Tls(tmp_path / "chain.pem", tmp_path / "key.pem")
    replace(tls.certificate, certificate(keys[0]))
    replace(tls.key, pem(keys[0]))
    return tls


def replace(path: Path, content: bytes) -> None:
    new = path.with_suffix(".new")
    new.write_bytes(content)
    new.chmod(0o600)
    new.rename(path)


@asynccontextmanager
async def serving(tls: Tls, seconds: float = 0.02) -> AsyncIterator[int]:
    """A server that sends back each line, and looks at the files many times a second."""
    secure = TlsContext(tls, seconds)

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=secure.context, ssl_handshake_timeout=SECONDS)
    secure.start()
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        secure.stop()
        server.close()
        await server.wait_closed()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def client(
    low: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2, high: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3
) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = low, high
    # What is left out must be left out by the server, not by this side.
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


async def connect(port: int, context: ssl.SSLContext | None = None, name: str | None = "localhost") -> Streams:
    # An empty name sends no server name at all.
    return await asyncio.open_connection("127.0.0.1", port, ssl=context or client(), server_hostname=name or "")


async def ask(streams: Streams) -> bytes:
    streams[1].write(b"hello\n")
    return await asyncio.wait_for(streams[0].readline(), SECONDS)


async def close(streams: Streams) -> None:
    streams[1].close()
    await streams[1].wait_closed()


def shown(streams: Streams) -> str:
    """The common name of the server's certificate."""
    der = streams[1].get_extra_info("ssl_object").getpeercert(binary_form=True)
    return x509.load_der_x509_certificate(der).subject.rfc4514_string()


async def shown_by(port: int, context: ssl.SSLContext | None = None, name: str | None = "localhost") -> str:
    streams = await connect(port, context, name)
    try:
        assert await ask(streams) == b"hello\n"
        return shown(streams)
    finally:
        await close(streams)


async def until(port: int, name: str) -> None:
    for _ in range(200):
        if await shown_by(port) == f"CN={name}":
            return
        await asyncio.sleep(0.02)
    pytest.fail(f"the server never showed {name}")


def refused_because(tls: Tls, asking: ssl.SSLContext) -> str | None:
    """Why the server's side ends the handshake, which asyncio tells no client."""
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    other, own = asking.wrap_bio(down, up), TlsContext(tls).context.wrap_bio(up, down, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        other.do_handshake()
    with pytest.raises(ssl.SSLError) as caught:
        own.do_handshake()
    return caught.value.reason


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_tls_1_2_and_1_3_are_spoken(files: Tls, version: ssl.TLSVersion) -> None:
    async def run() -> None:
        async with serving(files) as port:
            streams = await connect(port, client(version, version))
            assert await ask(streams) == b"hello\n"
            found = streams[1].get_extra_info("ssl_object").version()
            assert found == {"TLSv1_2": "TLSv1.2", "TLSv1_3": "TLSv1.3"}[version.name]
            await close(streams)

    asyncio.run(run())


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_older_versions_are_refused(files: Tls, version: ssl.TLSVersion) -> None:
    async def run() -> None:
        async with serving(files) as port:
            with pytest.raises(OSError):  # asyncio hangs up without saying why
                await connect(port, client(version, version))
            assert await shown_by(port) == "CN=first"

    asyncio.run(run())
    assert refused_because(files, client(version, version)) == "UNSUPPORTED_PROTOCOL"


@pytest.mark.parametrize(
    "cipher", ["AES128-SHA256", "AES256-GCM-SHA384", "ECDHE-RSA-AES128-SHA256", "DHE-RSA-AES256-GCM-SHA384"]
)
def test_ciphers_without_forward_secrecy_or_authentication_are_refused(
    files: Tls, keys: list[PrivateKey], cipher: str
) -> None:
    replace(files.certificate, certificate(keys[2]))
    replace(files.key, pem(keys[2]))

    context = client(high=ssl.TLSVersion.TLSv1_2)
    context.set_ciphers(cipher)
    assert refused_because(files, context) == "NO_SHARED_CIPHER"


@pytest.mark.parametrize(
    ("offered", "chosen"), [(["h2", "http/1.1"], "http/1.1"), (["http/1.1"], "http/1.1"), (["h2"], None), ([], None)]
)
def test_http_1_1_is_the_only_protocol(files: Tls, offered: list[str], chosen: str | None) -> None:
    async def run() -> None:
        async with serving(files) as port:
            context = client()
            if offered:
                context.set_alpn_protocols(offered)
            streams = await connect(port, context)
            assert streams[1].get_extra_info("ssl_object").selected_alpn_protocol() == chosen
            await close(streams)

    asyncio.run(run())


def test_a_new_pair_is_shown_to_new_connections_and_open_ones_go_on(files: Tls, keys: list[PrivateKey]) -> None:
    async def run() -> None:
        async with serving(files) as port:
            before = await connect(port)
            assert await ask(before) == b"hello\n"
            # Of another kind of key, so that a context that kept both would still show the first to some clients.
            replace(files.certificate, certificate(keys[2], "second"))
            replace(files.key, pem(keys[2]))
            await until(port, "second")
            assert await shown_by(port, name=None) == "CN=second"
            assert await shown_by(port, client(high=ssl.TLSVersion.TLSv1_2)) == "CN=second"
            only_first = client(high=ssl.TLSVersion.TLSv1_2)
            only_first.set_ciphers("ECDHE-ECDSA-AES128-GCM-SHA256")
            with pytest.raises(OSError):
                await connect(port, only_first)
            assert await ask(before) == b"hello\n"
            assert shown(before) == "CN=first"
            await close(before)
            protocols = client()
            protocols.set_alpn_protocols(["h2", "http/1.1"])
            after = await connect(port, protocols)
            assert after[1].get_extra_info("ssl_object").selected_alpn_protocol() == "http/1.1"
            await close(after)
            with pytest.raises(OSError):
                await connect(port, client(ssl.TLSVersion.TLSv1_1, ssl.TLSVersion.TLSv1_1))

    asyncio.run(run())


def test_a_broken_pair_keeps_the_former_one_and_is_logged_once(
    files: Tls, keys: list[PrivateKey], caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        async with serving(files) as port:
            # The certificate alone: the key of the former one does not fit.
            replace(files.certificate, certificate(keys[1], "second"))
            await happens(lambda: any(record.levelname == "ERROR" for record in caplog.records))
            await asyncio.sleep(0.2)  # in which it looks several times
            assert await shown_by(port) == "CN=first"
            errors = [record for record in caplog.records if record.levelname == "ERROR"]
            assert len(errors) == 1
            assert "is not the key of the certificate" in errors[0].getMessage()
            files.key.unlink()
            await asyncio.sleep(0.1)
            assert await shown_by(port) == "CN=first"
            replace(files.key, pem(keys[1]))
            await until(port, "second")

    asyncio.run(run())


def test_a_renewed_certificate_of_the_same_key_is_taken(files: Tls, keys: list[PrivateKey]) -> None:
    async def run() -> None:
        async with serving(files) as port:
            files.certificate.write_bytes(certificate(keys[0], "renewed"))  # in place, as some tools write
            await until(port, "renewed")

    asyncio.run(run())


def test_the_whole_chain_is_sent_and_nothing_is_said_against_it(
    files: Tls, keys: list[PrivateKey], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = datetime.now(UTC)

    def authority(name: str, key: PrivateKey, by: str, by_key: PrivateKey) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, by)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=30))
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        )
        return builder.sign(by_key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    root = tmp_path / "root.pem"
    root.write_bytes(authority("root", keys[2], "root", keys[2]))
    leaf = certificate(keys[0], "leaf", issuer=("middle", keys[1]))
    replace(files.certificate, leaf + authority("middle", keys[1], "root", keys[2]))

    async def run() -> None:
        async with serving(files) as port:
            context = ssl.create_default_context(cafile=str(root))
            assert await shown_by(port, context) == "CN=leaf"

    asyncio.run(run())
    assert not [record for record in caplog.records if record.levelname == "WARNING"]


def test_plain_http_and_noise_on_the_port_do_no_harm(files: Tls) -> None:
    async def run() -> None:
        async with serving(files) as port:
            for noise in (b"GET / HTTP/1.1\r\nhost: x\r\n\r\n", os.urandom(300), b"\x16\x03\x01\xff\xff" + b"\0" * 100):
                reader, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.write(noise)
                writer.write_eof()
                await asyncio.wait_for(reader.read(), SECONDS)
                writer.close()
            assert await shown_by(port) == "CN=first"

    asyncio.run(run())


@pytest.mark.real("openssl")
def test_openssl_sees_versions_and_the_new_certificate(files: Tls, keys: list[PrivateKey]) -> None:
    def look(port: int, *options: str) -> str:
        command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-cipher", "ALL:@SECLEVEL=0", *options]
        done = finish(*command)
        return done.stdout + done.stderr

    async def run() -> None:
        async with serving(files) as port:
            for option, version in (("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")):
                text = await asyncio.to_thread(look, port, option)
                assert "CN = first" in text
                assert f"New, {version}" in text or f"Protocol  : {version}" in text
            assert "no peer certificate available" in await asyncio.to_thread(look, port, "-tls1_1")
            replace(files.certificate, certificate(keys[1], "second"))
            replace(files.key, pem(keys[1]))
            await until(port, "second")
            assert "CN = second" in await asyncio.to_thread(look, port, "-noservername")

    asyncio.run(run())


Break = Callable[[Tls, list[PrivateKey]], None]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda tls, keys: tls.certificate.write_bytes(b"\x30\x82"), "chain.pem: is not a certificate in PEM"),
        (
            lambda tls, keys: tls.certificate.write_bytes(
                tls.certificate.read_bytes() + b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
            ),
            "chain.pem",
        ),
        (lambda tls, keys: tls.key.write_bytes(b"secret"), "key.pem: is not a private key in PEM"),
        (lambda tls, keys: tls.key.write_bytes(pem(keys[1])), "key.pem: is not the key of the certificate .*chain.pem"),
        (lambda tls, keys: tls.key.write_bytes(pem(keys[2])), "key.pem: "),
        (lambda tls, keys: tls.key.write_bytes(pem(keys[0], b"word")), "key.pem: has a passphrase"),
        (lambda tls, keys: tls.key.write_bytes(pem(keys[0], b"word", old=True)), "key.pem: has a passphrase"),
        (lambda tls, keys: tls.key.write_bytes(pem(keys[0])[:100]), "key.pem: cannot be used"),
        (
            lambda tls, keys: tls.certificate.write_bytes(
                b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"
            ),
            "key.pem: cannot be used with the certificate .*chain.pem",
        ),
    ],
)
def test_a_pair_that_cannot_be_used_is_named_at_the_start(
    files: Tls, keys: list[PrivateKey], spoil: Break, words: str
) -> None:
    spoil(files, keys)
    with pytest.raises(ConfigurationError, match=words) as caught:
        TlsContext(files)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("which", ["certificate", "key"])
def test_a_missing_file_is_named(files: Tls, which: str) -> None:
    path: Path = getattr(files, which)
    path.unlink()
    with pytest.raises(MissingFileError, match=path.name):
        TlsContext(files)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"days": -1, "age": 5}, "certificate has expired"),
        ({"days": 9, "age": -3}, "certificate is not yet valid"),
        (
            {"purpose": ExtendedKeyUsageOID.CLIENT_AUTH},
            "unsuitable certificate purpose|unsupported certificate purpose",
        ),
    ],
)
def test_a_certificate_that_clients_may_refuse_is_served_with_a_warning(
    files: Tls, keys: list[PrivateKey], caplog: pytest.LogCaptureFixture, changes: dict[str, int], words: str
) -> None:
    replace(files.certificate, certificate(keys[0], **changes))  # type: ignore[arg-type]

    async def run() -> None:
        async with serving(files, 5) as port:
            assert await shown_by(port) == "CN=first"

    asyncio.run(run())
    (warning,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "clients may refuse the certificate" in warning
    assert re.search(words, warning)


def test_a_good_pair_is_silent_and_an_open_key_is_warned_of(files: Tls, caplog: pytest.LogCaptureFixture) -> None:
    TlsContext(files)
    assert not caplog.records
    files.key.chmod(0o644)
    TlsContext(files)
    (record,) = caplog.records
    assert "open to all users" in record.getMessage()
