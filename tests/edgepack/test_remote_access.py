"""Which registries have TLS, whose certificates are trusted, and who sees ours."""

from __future__ import annotations

import ipaddress
import json
import logging
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from edgepack.errors import RegistryError, RegistryUnavailableError, UsageError
from edgepack.oci.copy import copy
from edgepack.oci.layer import NoCompression, write_layer
from edgepack.oci.reference import Reference
from edgepack.oci.remote import Policy, RemoteRepository, anonymous
from edgepack.oci.remote.access import HostAccess, host_access
from edgepack.oci.remote.engines import Certificates, EngineFiles, certificates
from edgepack.oci.remote.origin import Origin
from edgepack.oci.remote.routes import _bypasses_proxy
from edgepack.oci.store import Store
from tests.edgepack.support.authority import Authority
from tests.edgepack.support.blobs import BLOB, QUICK, Bytes, blob
from tests.edgepack.support.registry_simulator import Simulator, digest_of, running
from tests.edgepack.support.small_images import entries, image
from tests.support.parts import docker_registry

HOST = "127.0.0.5"


@pytest.fixture
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EngineFiles:
    """A user's configuration folder, empty; and the machine's, which is not this one's."""
    (tmp_path / "user").mkdir()
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "user"))
    return EngineFiles(tmp_path / "etc", tmp_path / "user")


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def named(monkeypatch: pytest.MonkeyPatch) -> str:
    """A name that is not this machine's, whose connections nevertheless end here."""
    real = socket.getaddrinfo

    def resolve(host: Any, *rest: Any, **more: Any) -> Any:
        return real("127.0.0.1" if host == "registry.lan" else host, *rest, **more)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return "registry.lan"


def client(registry: str, policy: Policy = QUICK) -> RemoteRepository:
    return RemoteRepository(Reference.parse(f"{registry}/churn:1"), credentials=anonymous, policy=policy)


def policy(**options: Any) -> Policy:
    return Policy(attempts=2, backoff=0.01, connect_timeout=60, read_timeout=60, **options)


# ---- A real registry with TLS -------------------------------------------------------------------------------------


@pytest.mark.real("docker-registry", "openssl")
def test_a_registry_of_a_private_authority_is_trusted_by_option_and_by_certs_d(
    authority: Authority, files: EngineFiles, tmp_path: Path
) -> None:
    server, key = authority.signed("server", f"IP:{HOST}")
    store = Store.create(tmp_path / "store")
    root = image(store, (write_layer(entries(), store, NoCompression(), kind="code"),))
    with docker_registry(tmp_path / "r", host=HOST, tls={"certificate": str(server), "key": str(key)}) as port:
        registry = f"{HOST}:{port}"
        with pytest.raises(RegistryError, match=r"answered 400 .*; if it has TLS, name the file of its authority"):
            client(registry).has(root)
        remote = client(registry, policy(ca_file=authority.file))
        copy(store, remote, root)
        remote.tag("1", root)
        for number, folder in enumerate(("containers", "docker")):
            place = files.user / folder / "certs.d" / registry
            place.mkdir(parents=True)
            shutil.copy(authority.file, place / "any-name.crt")
            assert client(registry).resolve().digest == root.digest, number
            shutil.rmtree(place)
        other = Authority(tmp_path / "other")
        with pytest.raises(RegistryUnavailableError, match=r"TLS failed \(.*\); .* with --ca"):
            client(registry, policy(ca_file=other.file)).resolve()
        with pytest.raises(RegistryError, match="answered 400"):
            client(registry, policy(plain_http=(registry,), ca_file=authority.file)).resolve()


@pytest.mark.real("docker-registry", "openssl")
def test_a_registry_that_asks_for_a_certificate_gets_that_of_certs_d(
    authority: Authority, files: EngineFiles, tmp_path: Path
) -> None:
    server, key = authority.signed("server", f"IP:{HOST}")
    shown = authority.signed("client")
    tls = {"certificate": str(server), "key": str(key), "clientcas": [str(authority.file)]}
    with docker_registry(tmp_path / "r", host=HOST, tls=tls) as port:
        place = files.user / "containers/certs.d" / f"{HOST}:{port}"
        place.mkdir(parents=True)
        shutil.copy(authority.file, place / "ca.crt")
        with pytest.raises(RegistryUnavailableError, match=rf"asks for a certificate of yours.*certs\.d/{HOST}:{port}"):
            client(f"{HOST}:{port}").put(blob(), Bytes())
        shutil.copy(shown[0], place / "client.cert")
        with pytest.raises(UsageError, match=r"client\.cert: has no key client\.key beside it"):
            client(f"{HOST}:{port}").put(blob(), Bytes())
        shutil.copy(shown[1], place / "client.key")
        client(f"{HOST}:{port}").put(blob(), Bytes())
        assert client(f"{HOST}:{port}").has(blob())


@pytest.mark.real("docker-registry", "openssl")
@pytest.mark.parametrize("secure", [False, True])
def test_a_registry_at_an_ipv6_address(authority: Authority, files: EngineFiles, tmp_path: Path, secure: bool) -> None:
    server, key = authority.signed("six", "IP:::1")
    tls = {"certificate": str(server), "key": str(key)} if secure else None
    with docker_registry(tmp_path / "r", host="[::1]", tls=tls) as port:
        remote = client(f"[::1]:{port}", policy(ca_file=authority.file if secure else None))
        remote.put(blob(), Bytes())
        with remote.open(blob(), 5) as stream:
            assert stream.read() == BLOB[5:]


# ---- Plain HTTP ---------------------------------------------------------------------------------------------------


@pytest.fixture
def sim() -> Iterator[Simulator]:
    with running(Simulator(blobs={digest_of(BLOB): BLOB})) as simulator:
        yield simulator


def test_plain_http_is_for_the_registries_that_were_named(sim: Simulator, named: str, files: EngineFiles) -> None:
    registry = f"{named}:{sim.port}"
    with pytest.raises(RegistryUnavailableError, match=rf"answers with plain HTTP; .* --plain-http {registry}$"):
        client(registry, policy()).has(blob())
    for allowed in (registry, named, registry.upper()):
        assert client(registry, policy(plain_http=("other", allowed))).has(blob())
    for other in ("registry", f"{named}:{sim.port}0", "other.lan"):
        with pytest.raises(RegistryUnavailableError, match="plain HTTP"):
            client(registry, policy(plain_http=(other,))).has(blob())


def test_a_registry_without_tls_may_lead_to_storage_without_tls_but_not_to_this_machine(
    sim: Simulator, named: str, files: EngineFiles
) -> None:
    with running(Simulator(redirect_blobs=f"http://{named}:{sim.port}", blobs=sim.blobs)) as front:
        registry = f"{named}:{front.port}"
        with client(registry, policy(plain_http=(registry,))).open(blob()) as stream:
            assert stream.read() == BLOB
        front.redirect_blobs = f"http://127.0.0.1:{sim.port}"
        with pytest.raises(RegistryError, match="leads to plain HTTP on this one"):
            client(registry, policy(plain_http=(registry,))).has(blob())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("containers/registries.conf", '[[registry]]\nlocation = "{0}"\ninsecure = true\n'),
        ("containers/registries.conf", '[[registry]]\nprefix = "*.lan"\ninsecure = true\n'),
        ("containers/registries.conf", '[registries.insecure]\nregistries = ["{0}"]\n'),
        ("containers/registries.conf.d/50-ours.conf", '[[registry]]\nlocation = "{0}/churn"\ninsecure = true\n'),
        ("docker/daemon.json", '{{"insecure-registries": ["{0}"]}}'),
    ],
)
@pytest.mark.parametrize("place", ["user", "root"])
def test_what_the_engines_may_reach_without_tls_is_reached_so(
    sim: Simulator, named: str, files: EngineFiles, monkeypatch: pytest.MonkeyPatch, path: str, text: str, place: str
) -> None:
    monkeypatch.setattr(EngineFiles, "default", lambda: files)
    written = getattr(files, place) / path
    written.parent.mkdir(parents=True)
    written.write_text(text.format(f"{named}:{sim.port}"))
    assert client(f"{named}:{sim.port}", policy()).has(blob())


@pytest.mark.real("openssl")
def test_an_insecure_registry_that_has_tls_is_verified(
    authority: Authority, named: str, files: EngineFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    (files.user / "docker").mkdir()
    pair = authority.signed("server", f"DNS:{named}")
    with running(Simulator(blobs={digest_of(BLOB): BLOB}), pair) as sim:
        (files.user / "docker/daemon.json").write_text(json.dumps({"insecure-registries": [f"{named}:{sim.port}"]}))
        with pytest.raises(RegistryUnavailableError, match="TLS failed"):
            client(f"{named}:{sim.port}", policy()).has(blob())
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        assert client(f"{named}:{sim.port}", policy()).has(blob())


def test_a_file_that_cannot_be_read_allows_nothing_and_is_named(
    files: EngineFiles, caplog: pytest.LogCaptureFixture
) -> None:
    (files.user / "containers").mkdir()
    (files.user / "docker").mkdir()
    (files.user / "containers/registries.conf").write_text("[[registry]\n")
    (files.user / "docker/daemon.json").write_text('["x"')
    assert files.insecure("r.lan:5000/x") is None
    assert caplog.text.count("cannot be read") == 2
    (files.user / "containers/registries.conf").write_text('registry = "r.lan:5000"\nregistries = ["r.lan:5000"]\n')
    (files.user / "docker/daemon.json").write_text('["r.lan:5000"]')
    assert files.insecure("r.lan:5000/x") is None


@pytest.mark.parametrize(
    ("entry", "name", "found"),
    [
        ("r.lan:5000", "r.lan:5000/x", True), ("r.lan", "r.lan:5000/x", False),
        ("r.lan:5000/a", "r.lan:5000/ab", False), ("r.lan:5000/a", "r.lan:5000/a/b", True),
        ("*.lan", "r.lan:5000/x", True), ("*.lan", "lan:5000/x", False),
        ("10.0.0.0/8", "10.1.2.3:5000/x", True), ("10.0.0.0/8", "11.1.2.3:5000/x", False),
        ("10.0.0.0/8", "10.lan/x", False), ("::1/128", "[::1]:5000/x", True), ("fd00::/8", "[fd00::1]/x", True),
    ],
)  # fmt: skip
def test_an_entry_of_the_engines_is_for_what_it_says(files: EngineFiles, entry: str, name: str, found: bool) -> None:
    (files.user / "docker").mkdir()
    (files.user / "docker/daemon.json").write_text(json.dumps({"insecure-registries": [entry]}))
    assert (files.insecure(name) is not None) is found


# ---- Certificates -------------------------------------------------------------------------------------------------


def test_certificates_of_all_folders_are_trusted_and_the_users_is_shown_first(files: EngineFiles) -> None:
    assert certificates("r.lan:5000", files) == Certificates()
    made = []
    for place in ("root", "user"):
        folder = getattr(files, place) / "containers/certs.d/r.lan:5000"
        folder.mkdir(parents=True)
        for name in ("a.crt", "client.cert", "client.key", "notes.txt", "other.key"):
            (folder / name).write_text("x")
        made.append(folder)
    found = certificates("r.lan:5000", files)
    assert found.authorities == (made[1] / "a.crt", made[0] / "a.crt")
    assert found.shown == (made[1] / "client.cert", made[1] / "client.key")
    assert certificates("r.lan", files) == Certificates()


def test_what_another_user_keeps_to_himself_is_named_and_passed_over(
    files: EngineFiles, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = files.root / "docker/certs.d/r.lan"
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text("x")
    monkeypatch.setattr(os, "access", lambda *_: False)  # root may read everything
    assert certificates("r.lan", files) == Certificates()
    assert "ca.crt cannot be read by this user" in caplog.text


_ANOTHERS_HOME = """
import logging, os, pathlib, sys
from edgepack.oci.reference import Reference
from edgepack.oci.remote.access import host_access
from edgepack.oci.docker_config import DockerConfig
logging.basicConfig()
if os.geteuid() == 0:
    os.setgroups([]), os.setgid(54321), os.setuid(54321)
print(host_access(Reference.parse("r.lan/x")).scheme)
"""


@pytest.mark.parametrize("home", ["closed", None])
def test_a_home_that_is_not_ours_or_that_nobody_has_says_nothing(tmp_path: Path, home: str | None) -> None:
    environment = {key: value for key, value in os.environ.items() if key not in ("HOME", "XDG_CONFIG_HOME")}
    if home is not None:
        (tmp_path / home).mkdir(mode=0o700 if os.geteuid() == 0 else 0)
        environment["HOME"] = str(tmp_path / home)
    done = subprocess.run(
        [sys.executable, "-c", _ANOTHERS_HOME], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("https\n", "")


@pytest.mark.parametrize("content", ["", "nothing", "-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n"])
def test_a_file_without_certificates_is_named(files: EngineFiles, content: str) -> None:
    folder = files.user / "containers/certs.d/r.lan"
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text(content)
    with pytest.raises(UsageError, match=r"ca\.crt: holds no certificates that can be read"):
        client("r.lan")
    with pytest.raises(UsageError, match=r"absent\.pem: there is no such file"):
        client("other.lan", policy(ca_file=folder / "absent.pem"))


@pytest.mark.real("openssl")
def test_a_key_with_a_password_is_refused_and_not_asked_for(
    authority: Authority, files: EngineFiles, tmp_path: Path
) -> None:
    from tests.support.parts import run

    certificate, key = authority.signed("locked")
    folder = files.user / "docker/certs.d/r.lan"
    folder.mkdir(parents=True)
    shutil.copy(certificate, folder / "client.cert")
    run("openssl", "pkcs8", "-topk8", "-in", key, "-out", folder / "client.key", "-passout", "pass:secret")
    with pytest.raises(UsageError, match=r"client\.cert: holds no certificates that can be read"):
        client("r.lan")


@pytest.mark.real("openssl")
def test_our_certificate_is_shown_to_the_registry_and_to_nobody_else(
    authority: Authority, files: EngineFiles, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with ExitStack() as stack:
        pair = authority.signed("server", "IP:127.0.0.1")
        store = stack.enter_context(running(Simulator(blobs={digest_of(BLOB): BLOB}), pair, authority.file))
        front = Simulator(redirect_blobs=f"https://127.0.0.1:{store.port}", blobs=store.blobs)
        stack.enter_context(running(front, pair, authority.file))
        folder = files.user / "docker/certs.d" / f"127.0.0.1:{front.port}"
        folder.mkdir(parents=True)
        shutil.copy(authority.file, folder / "ca.crt")
        for name, path in zip(("client.cert", "client.key"), authority.signed("client"), strict=True):
            shutil.copy(path, folder / name)
        with client(f"127.0.0.1:{front.port}").open(blob()) as stream:
            assert stream.read() == BLOB
        assert front.shown == ["client"]
        assert store.shown == [None]


def test_tls_is_verified_alike_on_each_python_and_as_engines_do() -> None:
    context = HostAccess("https").context(shown=False)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    # Python 3.13 refuses authorities without a key usage, as they are made by hand.
    assert not context.verify_flags & ssl.VERIFY_X509_STRICT
    assert context.verify_flags & ssl.VERIFY_X509_PARTIAL_CHAIN


def test_the_schemes_of_registries(files: EngineFiles, tmp_path: Path) -> None:
    def scheme(name: str, **options: Any) -> str:
        return host_access(Reference.parse(name), files=files, **options).scheme

    assert [scheme(name) for name in ("r.lan/x", "docker.io/x", "127.0.0.5:1/x", "[::1]:1/x", "localhost:1/x")] == [
        "https", "https", "http", "http", "http",
    ]  # fmt: skip
    assert scheme("r.lan/x", insecure=True) == "http"
    assert scheme("localhost:1/x", ca_file=tmp_path) == "https"
    assert scheme("localhost:1/x", ca_file=tmp_path, plain_http=("localhost",)) == "http"


@pytest.mark.parametrize(
    ("no_proxy", "host", "found"),
    [
        ("10.0.0.0/8", "10.1.2.3", True), ("10.0.0.0/8", "11.1.2.3", False), ("a, 10.1.2.3", "10.1.2.3", True),
        ("fd00::/8", "[fd00::1]", True), ("10.0.0.0/8", "r.lan", False), (".lan", "r.lan", True), ("*", "r.lan", True),
    ],
)  # fmt: skip
def test_no_proxy_has_names_domains_and_networks(
    monkeypatch: pytest.MonkeyPatch, no_proxy: str, host: str, found: bool
) -> None:
    monkeypatch.setenv("NO_PROXY", no_proxy)
    monkeypatch.setenv("no_proxy", no_proxy)
    assert _bypasses_proxy(Origin("https", host, 443)) is found


@pytest.mark.parametrize(("begins", "ends"), [(-9, -2), (2, 9)])
def test_a_certificate_of_another_time_says_to_check_the_clock(tmp_path: Path, begins: int, ends: int) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.oid.NameOID.COMMON_NAME, "r")])
    now, address = datetime.now(UTC), ipaddress.ip_address("127.0.0.1")
    made = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now + timedelta(days=begins)).not_valid_after(now + timedelta(days=ends))
    made = made.add_extension(x509.SubjectAlternativeName([x509.IPAddress(address)]), critical=False)
    pem = made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (tmp_path / "c.pem").write_bytes(pem)
    form, secret = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    (tmp_path / "k.pem").write_bytes(key.private_bytes(serialization.Encoding.PEM, form, secret))
    with running(Simulator(), (tmp_path / "c.pem", tmp_path / "k.pem")) as sim:
        reference, trusting = Reference.parse(f"127.0.0.1:{sim.port}/x:1"), policy(ca_file=tmp_path / "c.pem")
        remote = RemoteRepository(reference, credentials=anonymous, policy=trusting)
        with pytest.raises(RegistryUnavailableError, match=r"not valid on \d{4}-\d\d-\d\d, .*check the clock"):
            remote.resolve()
