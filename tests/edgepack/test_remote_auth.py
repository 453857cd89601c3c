"""Authentication, and who may see an Authorization header."""

from __future__ import annotations

import base64
import contextlib
import datetime
import ipaddress
import logging
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import AuthenticationError, EdgepackError, RegistryError, RegistryUnavailableError, UsageError
from edgepack.oci.reference import Reference
from edgepack.oci.remote import CredentialLookup, Credentials, Policy, RemoteRepository, anonymous
from edgepack.oci.remote.auth import Challenge, Token, parse_challenges
from edgepack.oci.sources import read_verified
from tests.edgepack.support.blobs import BLOB, QUICK, Bytes, blob
from tests.edgepack.support.registry_simulator import Simulator, digest_of, running

ANN = Credentials("ann", "open sesame")


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with running(Simulator(blobs={digest_of(BLOB): BLOB})) as simulator:
        yield simulator


@pytest.fixture
def elsewhere() -> Iterator[Simulator]:
    """Another host: another port is another origin."""
    with running(Simulator(blobs={digest_of(BLOB): BLOB})) as simulator:
        yield simulator


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name that is not this machine's, whose connections nevertheless end here."""
    real = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host == "registry.example" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return "registry.example"


def client(
    sim: Simulator,
    credentials: Credentials | CredentialLookup | None = ANN,
    policy: Policy = QUICK,
    host: str = "127.0.0.1",
) -> RemoteRepository:
    lookup = credentials if callable(credentials) else lambda _: credentials
    return RemoteRepository(Reference.parse(f"{host}:{sim.port}/churn:1"), credentials=lookup, policy=policy)


def pull(remote: RemoteRepository) -> bytes:
    return read_verified(remote, blob(), limit=len(BLOB))


def authorizations(sim: Simulator) -> list[str]:
    return [one.headers["Authorization"] for one in sim.seen if "Authorization" in one.headers]


def test_credentials_are_looked_up_only_when_the_registry_asks(sim: Simulator) -> None:
    asked: list[str] = []

    def lookup(registry: str) -> Credentials:
        asked.append(registry)
        return ANN

    assert pull(client(sim, lookup)) == BLOB
    assert asked == []
    sim.auth = "basic"
    remote = client(sim, lookup)
    assert pull(remote) == BLOB
    assert remote.has(blob())
    assert asked == [f"127.0.0.1:{sim.port}"]


@pytest.mark.parametrize("field", ["token", "access_token"])
@pytest.mark.parametrize("expires_in", [None, 300])
def test_a_token_is_fetched_once_and_used_again(sim: Simulator, field: str, expires_in: int | None) -> None:
    sim.auth, sim.token_field, sim.expires_in = "bearer", field, expires_in
    remote = client(sim)
    assert pull(remote) == BLOB
    assert remote.has(blob())
    assert sim.count("GET", "/token") == 1
    token_request = next(one.path for one in sim.seen if "/token" in one.path)
    assert "service=sim" in token_request
    assert "scope=repository:churn:pull" in token_request
    sim.blobs.clear()
    remote.put(blob(), Bytes())
    assert sim.count("GET", "/token?service=sim&scope=repository:churn:pull,push") == 1


@pytest.mark.parametrize(
    "challenges",
    [
        ('Bearer realm="{realm}"',),
        ('bearer realm="{realm}",service="sim"',),
        ('BEARER REALM="{realm}", SERVICE="sim", SCOPE="repository:x:pull repository:y:pull"',),
        ('Bearer realm = "{realm}" , service = "sim"',),
        ("Bearer realm={realm},service=sim,scope=repository:x:pull,push",),
        ('Bearer realm="/token",service="sim",error="invalid_token"',),
        ('Bearer service="sim",realm="{realm}?account=ann"',),
        ('Negotiate, Bearer realm="{realm}",service="sim"',),
        ('Basic realm="here"', 'Bearer realm="{realm}",service="sim"'),
        ('Bearer realm="{realm}",service="sim"', 'Basic realm="here"'),
        ("Negotiate", 'Digest realm="x", nonce="a,b", qop="auth"', 'Bearer realm="{realm}"'),
    ],
)
def test_a_challenge_is_answered_however_it_is_written(sim: Simulator, challenges: tuple[str, ...]) -> None:
    sim.auth, sim.challenges = "bearer", challenges
    assert pull(client(sim)) == BLOB


@pytest.mark.parametrize("at", [0, 1_000_000])
def test_a_token_that_expires_in_the_middle_is_renewed_and_the_rest_is_fetched(sim: Simulator, at: int) -> None:
    sim.auth, sim.drops = "bearer", [at or 1] if at else []
    remote = client(sim)
    assert remote.has(blob())
    with remote.open(blob()) as stream:
        first = stream.read(10)
        sim.tokens.clear()
        assert first + stream.read() == BLOB
    sim.tokens.clear()
    sim.blobs.clear()
    RemoteRepository.put(remote, blob(), Bytes())
    assert sim.blobs[str(blob().digest)] == BLOB


@pytest.mark.parametrize(("expires_in", "still_good", "too_old"), [(300, 285, 291), (None, 49, 51), (10, 7, 9)])
def test_a_token_is_renewed_before_it_expires(
    sim: Simulator, expires_in: int | None, still_good: int, too_old: int
) -> None:
    sim.auth, sim.expires_in = "bearer", expires_in
    remote, start = client(sim), time.monotonic()
    authorizer = remote._session.authorizer
    authorizer._clock = lambda: start
    assert remote.has(blob())
    authorizer._clock = lambda: start + still_good
    assert remote.has(blob())
    assert sim.count("GET", "/token") == 1
    authorizer._clock = lambda: start + too_old
    assert remote.has(blob())
    assert sim.count("GET", "/token") == 2
    assert sim.count("HEAD") == 4  # one 401 at first, none later


def test_a_token_that_was_withdrawn_is_replaced(sim: Simulator) -> None:
    sim.auth = "bearer"
    remote = client(sim)
    assert remote.has(blob())
    sim.tokens.clear()
    assert remote.has(blob())


def test_an_identity_token_is_exchanged(sim: Simulator) -> None:
    sim.auth, sim.refresh_token, sim.token_field = "bearer", "an identity token", "access_token"
    assert pull(client(sim, Credentials(identity_token="an identity token"))) == BLOB
    assert sim.count("POST", "/token") == 1


@pytest.mark.parametrize("auth", ["basic", "bearer"])
@pytest.mark.parametrize("credentials", [None, Credentials("ann", "wrong-password-7")])
def test_a_refused_login_says_which_registry_and_what_to_do(
    sim: Simulator, auth: str, credentials: Credentials | None
) -> None:
    sim.auth = auth
    with pytest.raises(AuthenticationError, match=rf"127\.0\.0\.1:{sim.port}.*docker login 127\.0\.0\.1:{sim.port}"):
        pull(client(sim, credentials))


def test_what_a_user_may_not_do_is_said(sim: Simulator) -> None:
    sim.auth, sim.forbid = "basic", True
    with pytest.raises(AuthenticationError, match=r"does not allow blob .*403 DENIED"):
        pull(client(sim))


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_storage_on_another_host_never_sees_the_authorization(sim: Simulator, elsewhere: Simulator, auth: str) -> None:
    sim.auth, sim.redirect_blobs = auth, f"http://127.0.0.1:{elsewhere.port}"
    elsewhere.drops = [1_000_000]
    remote = client(sim)
    assert pull(remote) == BLOB
    assert remote.has(blob())
    assert authorizations(sim)
    assert elsewhere.count("GET", "X-Signature=abc%2Bdef") == 2
    assert authorizations(elsewhere) == []


def test_an_upload_on_another_host_never_sees_the_authorization(sim: Simulator, elsewhere: Simulator) -> None:
    sim.auth, sim.location_base = "basic", f"http://127.0.0.1:{elsewhere.port}"
    sim.blobs.clear()
    elsewhere.uploads = sim.uploads
    client(sim).put(blob(), Bytes())
    assert elsewhere.blobs[str(blob().digest)] == BLOB
    assert authorizations(sim)
    assert authorizations(elsewhere) == []


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_storage_that_asks_for_a_login_gets_none(sim: Simulator, elsewhere: Simulator, auth: str) -> None:
    sim.redirect_blobs, elsewhere.auth = f"http://127.0.0.1:{elsewhere.port}", auth
    with pytest.raises(AuthenticationError):
        pull(client(sim))
    assert authorizations(elsewhere) == []


def test_a_token_service_elsewhere_gets_the_login_and_the_registry_only_the_token(
    sim: Simulator, elsewhere: Simulator
) -> None:
    sim.auth, sim.realm, elsewhere.tokens = "bearer", f"http://127.0.0.1:{elsewhere.port}/token", sim.tokens
    assert pull(client(sim)) == BLOB
    assert authorizations(elsewhere) == [ANN.basic]
    assert {text.split()[0] for text in authorizations(sim)} == {"Bearer"}


def test_a_token_that_could_break_out_of_its_header_is_refused(sim: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    sim.auth, sim.token_field = "bearer", "nothing"
    with pytest.raises(RegistryError, match="gave no token"):
        pull(client(sim))
    with pytest.raises(RegistryError, match="gave no token"):
        client(sim)._session.authorizer._token(b'{"token": "a\\r\\nX-Evil: 1"}', 0)


# Plain HTTP


@pytest.mark.parametrize("auth", ["basic", "bearer"])
def test_credentials_never_travel_without_tls(sim: Simulator, named: str, auth: str) -> None:
    sim.auth, sim.realm = auth, f"http://{named}:{sim.port}/token"
    with pytest.raises(RegistryError, match="without TLS"):
        pull(client(sim, policy=Policy(insecure=True), host=named))
    assert authorizations(sim) == []


def test_a_token_service_without_tls_gets_no_credentials(sim: Simulator, named: str) -> None:
    sim.auth, sim.realm = "bearer", f"http://{named}:{sim.port}/token"
    for policy in (QUICK, Policy(insecure=True)):
        with pytest.raises(RegistryError, match="without TLS"):
            pull(client(sim, policy=policy))
    assert authorizations(sim) == []


def test_a_registry_elsewhere_cannot_name_a_token_service_on_this_machine(sim: Simulator, named: str) -> None:
    sim.auth = "bearer"
    with pytest.raises(RegistryError, match="on this machine"):
        pull(client(sim, None, Policy(insecure=True), named))


def test_plain_http_to_another_machine_must_be_asked_for(sim: Simulator, named: str) -> None:
    assert pull(client(sim, anonymous, Policy(insecure=True), named)) == BLOB
    sim.seen.clear()
    with pytest.raises(RegistryUnavailableError, match=r"https://registry\.example:\d+: TLS failed"):
        pull(client(sim, anonymous, host=named))
    assert sim.seen == []


def test_a_redirect_to_plain_http_elsewhere_is_not_followed(sim: Simulator, named: str) -> None:
    sim.redirect_blobs = f"http://{named}:{sim.port}"
    with pytest.raises(RegistryError, match="plain HTTP is for this machine only"):
        pull(client(sim))


@pytest.mark.parametrize("target", ["ftp://127.0.0.1", "file:///etc/passwd", "http://[", "//"])
def test_a_redirect_to_no_address_of_the_web_is_an_error(sim: Simulator, target: str) -> None:
    sim.redirect_blobs = target
    with pytest.raises(EdgepackError):
        pull(client(sim))


def test_redirects_in_a_circle_end(sim: Simulator) -> None:
    sim.redirect_blobs = f"http://127.0.0.1:{sim.port}"
    with pytest.raises(RegistryError, match="redirects more than"):
        pull(client(sim))


# TLS


@pytest.fixture
def certificate(tmp_path: Path, named: str) -> tuple[Path, Path]:
    """A certificate of this machine's own, and its key."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(named)]
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), True)
        .sign(key, hashes.SHA256())
    )  # fmt: skip
    files = tmp_path / "certificate.pem", tmp_path / "key.pem"
    files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    files[1].write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return files


def test_tls_is_verified_against_the_authority_that_is_named(certificate: tuple[Path, Path], tmp_path: Path) -> None:
    with running(Simulator(blobs={digest_of(BLOB): BLOB}, auth="basic"), certificate) as sim:
        assert pull(client(sim, policy=Policy(ca_file=certificate[0]))) == BLOB
        sim.seen.clear()
        with pytest.raises(RegistryUnavailableError, match="TLS failed"):
            pull(client(sim, host="registry.example"))  # by the system's own authorities
        assert sim.seen == []


@pytest.mark.parametrize("let_through", [True, False])
def test_a_proxy_of_the_environment_is_used_and_sees_no_credentials(
    certificate: tuple[Path, Path], named: str, monkeypatch: pytest.MonkeyPatch, let_through: bool
) -> None:
    heard: list[bytes] = []
    simulator = Simulator(blobs={digest_of(BLOB): BLOB}, auth="basic")
    with running(simulator, certificate) as sim, tunnelling(sim.port, heard, let_through=let_through) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://eve:pr%40xy@127.0.0.1:{port}")
        remote = client(sim, policy=Policy(ca_file=certificate[0]), host=named)
        if let_through:
            assert pull(remote) == BLOB
        else:
            with pytest.raises(RegistryUnavailableError, match="the proxy refused the connection") as failed:
                pull(remote)
            assert "pr@xy" not in str(failed.value)
        assert heard[0].startswith(f"CONNECT {named}:{sim.port}".encode())
        assert base64.b64encode(b"eve:pr@xy") in heard[0]
        assert ANN.basic.encode() not in b"".join(heard)
        count = len(heard)
        monkeypatch.setenv("NO_PROXY", named)
        assert pull(client(sim, policy=Policy(ca_file=certificate[0]), host=named)) == BLOB
        assert len(heard) == count


@contextmanager
def tunnelling(target: int, heard: list[bytes], *, let_through: bool) -> Iterator[int]:
    """An HTTP proxy that only tunnels; ``heard`` gets what it was asked."""
    listener = socket.create_server(("127.0.0.1", 0))

    def pump(source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                near = listener.accept()[0]
                heard.append(near.recv(65536))
                if not let_through:
                    near.sendall(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")
                    near.close()
                    continue
                near.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
                far = socket.create_connection(("127.0.0.1", target))
                for ends in ((near, far), (far, near)):
                    threading.Thread(target=pump, args=ends, daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    try:
        yield int(listener.getsockname()[1])
    finally:
        listener.close()


def test_a_file_without_certificates_is_named(sim: Simulator, tmp_path: Path) -> None:
    (tmp_path / "empty.pem").write_text("nothing")
    for name in ("empty.pem", "missing.pem"):
        with pytest.raises(UsageError, match=name):
            client(sim, policy=Policy(ca_file=tmp_path / name))


# What is written down


def test_no_credential_is_ever_logged_or_shown(
    sim: Simulator, elsewhere: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    secrets = ["open sesame", base64.b64encode(b"ann:open sesame").decode(), "token-0", "X-Signature", "wrong-password"]
    shown: list[str] = [repr(Token("token-0", 1))]
    sim.redirect_blobs, elsewhere.drops = f"http://127.0.0.1:{elsewhere.port}", [10] * 50
    for auth in ("basic", "bearer"):
        sim.auth = auth
        for credentials in (ANN, Credentials("ann", "wrong-password")):
            remote = client(sim, credentials)
            with pytest.raises(EdgepackError) as failed:
                pull(remote)
            shown += [str(failed.value), repr(failed.value), repr(remote), repr(vars(remote._session))]
    text = "\n".join([*shown, caplog.text])
    assert [secret for secret in secrets if secret in text] == []
    assert f"127.0.0.1:{sim.port}" in text


# Challenges


def test_challenges_are_read_as_they_are_written() -> None:
    header = 'Bearer realm="https://a.example/t?x=1,2",service="s \\"q\\"", scope=pull, Basic realm="b"'
    assert parse_challenges(header) == (
        Challenge("bearer", {"realm": "https://a.example/t?x=1,2", "service": 's "q"', "scope": "pull"}),
        Challenge("basic", {"realm": "b"}),
    )
    assert parse_challenges("BASIC") == (Challenge("basic", {}),)


@given(st.text(max_size=200) | st.text(alphabet='Bearer="\\, ab', max_size=200))
def test_any_challenge_can_be_parsed(text: str) -> None:
    for challenge in parse_challenges(text):
        assert challenge.scheme == challenge.scheme.lower()


@given(
    st.dictionaries(
        st.from_regex(r"[a-z]{1,8}", fullmatch=True),
        st.text(st.characters(min_codepoint=32, max_codepoint=126)),
        min_size=1,
    )
)
def test_every_parameter_survives_quoting(parameters: dict[str, str]) -> None:
    quoted = ",".join(
        name + '="' + value.replace("\\", "\\\\").replace('"', '\\"') + '"' for name, value in parameters.items()
    )
    assert parse_challenges(f"Bearer {quoted}") == (Challenge("bearer", parameters),)
