"""Desired states: what they may say, and that everything wrong in one is told at once."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import InvalidDocumentError
from edgepack.oci.digest import Digest
from edgepack.signing.keys import create_key
from edgepack.state.desired import NO_IMAGE, SCHEMA, Desired, DesiredService
from edgepack.state.host_access import DeviceNode, Mount
from edgepack.state.service_auth import KeyAuth, TokenAuth

IMAGE = Digest.of(b"image")
KEYS = KeyAuth(f"sha256:{'a' * 64}", f"sha256:{'b' * 64}")
TOKENS = TokenAuth(create_key().public.to_pem().decode(), "churn", "edgepack")


def document(*services: dict[str, Any], **fields: Any) -> bytes:
    return json.dumps({"schema": SCHEMA, "services": list(services)} | fields).encode()


def churn(**fields: Any) -> dict[str, Any]:
    return {"name": "churn", "image": str(IMAGE), "port": 6789} | fields


def violations(data: bytes) -> tuple[str, ...]:
    with pytest.raises(InvalidDocumentError) as caught:
        Desired.from_bytes(data, "desired.json")
    assert caught.value.where == "desired.json"
    return caught.value.violations


def test_a_short_document_says_enough() -> None:
    assert Desired.from_bytes(document(churn())) == Desired((DesiredService("churn", IMAGE, 6789),))


def test_a_wrong_name_or_image_is_told_with_the_rule_or_the_way_to_find_it() -> None:
    with pytest.raises(InvalidDocumentError) as caught:
        Desired.from_bytes(document(churn(name="Churn_1", image="churn:1")))
    assert str(caught.value).endswith(
        "; use 3 to 32 lowercase letters, digits and '-', starting with a letter and not ending in '-'; images are "
        "named by digest: edge-agent import prints it, and so does: edgepack package inspect TAG"
    )
    with pytest.raises(InvalidDocumentError) as caught:
        Desired.from_bytes(document(churn(port=0)))
    assert caught.value.hint is None


def test_whom_a_document_is_for_and_when_it_was_signed_are_checked() -> None:
    assert violations(document(device="press/1", group="a", signed_at="today")) == (
        "device: 'press/1' is not a device name",
        "signed_at: 'today' is not a time such as 2026-11-30T15:35:10Z",
    )
    assert violations(document(device="press-1", group="+")) == ("group: '+' is not a group name",)
    assert violations(document(device="press-1", group="line-a")) == (
        "group and device must not both be there: a document is for a device or for a group",
    )


def test_a_thousand_services_are_the_most() -> None:
    many = [churn(name=f"service-{number}", port=10_000 + number) for number in range(1001)]
    assert len(Desired.from_bytes(document(*many[:1000])).services) == 1000
    assert violations(document(*many)) == ("services must be at most 1000, and are 1001",)


def test_no_services_is_a_document_and_their_absence_is_none() -> None:
    assert Desired.from_bytes(document()).services == ()
    assert violations(json.dumps({"schema": SCHEMA}).encode()) == ("services is missing",)
    assert violations(b"{}") == ("schema is missing", "services is missing")


services = st.builds(
    DesiredService,
    name=st.from_regex(r"[a-z][-a-z0-9]{1,30}[a-z0-9]", fullmatch=True),
    image=st.binary(max_size=4).map(Digest.of),
    port=st.integers(1, 65535),
    status=st.sampled_from(["running", "stopped", "removed"]),
    address=st.sampled_from(["127.0.0.1", "::1", "10.0.0.1"]),
    env=st.dictionaries(
        st.from_regex(r"[A-Z_][A-Z0-9_]*", fullmatch=True),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    ),
    memory_bytes=st.none() | st.integers(1 << 20, 1 << 40),
    cpus=st.none() | st.floats(0.01, 64),
    health_path=st.sampled_from(["/", "/health?deep=1", "/a%20b"]),
    health_timeout_seconds=st.floats(0.1, 86400),
    health_interval_seconds=st.floats(0.1, 86400),
    health_failures=st.integers(1, 1000),
    restart=st.sampled_from(["never", "on-failure", "on-unhealthy", "always"]),
    probation_seconds=st.floats(0, 86400),
    mounts=st.sampled_from([(), (Mount("/srv/a", "/data"), Mount("/srv/b", "/data2", read_only=False))]),
    devices=st.sampled_from([(), (DeviceNode("/dev/ttyUSB0"), DeviceNode("/dev/video0", "/dev/camera", "r"))]),
    secrets=st.lists(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,9}", fullmatch=True), max_size=3, unique=True).map(
        tuple
    ),
    network=st.sampled_from([None, "own", "device"]),
    auth=st.sampled_from([None, KEYS, TOKENS]),
    log_bytes=st.none() | st.integers(64 << 10, 1 << 40),
)


@given(
    services, st.none() | st.integers(0, (1 << 63) - 1), st.sampled_from([{}, {"device": "d-1"}, {"group": "A.b_c"}]),
    st.none() | st.integers(0, 4_000_000_000),
)  # fmt: skip
def test_what_is_written_is_read_again(
    service: DesiredService, serial: int | None, address: dict[str, str], signed_at: int | None
) -> None:
    desired = Desired((service,), serial, **address, signed_at=signed_at)  # type: ignore[arg-type]

    assert Desired.from_bytes(desired.to_bytes()) == desired
    assert Desired.from_bytes(desired.content) == replace(desired, signed_at=None)
    assert Desired.from_bytes(desired.to_bytes()).to_bytes() == desired.to_bytes()


@pytest.mark.parametrize(
    ("fields", "wrong"),
    [
        ({"name": None}, "services[0].name is missing"),
        ({"name": "Churn"}, "services[0].name: 'Churn' is not a service name"),
        ({"name": 5}, "services[0].name must be text"),
        ({"image": "churn:1"}, "services[0].image: 'churn:1' is not a digest"),
        ({"port": None}, "services[0].port is missing"),
        ({"port": 0}, "services[0].port must be from 1 to 65535"),
        ({"port": 65536}, "services[0].port must be from 1 to 65535"),
        ({"port": "6789"}, "services[0].port must be a whole number"),
        ({"port": True}, "services[0].port must be a whole number"),
        ({"port": 80.5}, "services[0].port must be a whole number"),
        ({"status": "paused"}, "services[0].status must be running, stopped or removed"),
        ({"status": ""}, "services[0].status must be running, stopped or removed"),
        ({"restart": "sometimes"}, "services[0].restart must be never, on-failure, on-unhealthy or always"),
        ({"probation_seconds": -1}, "services[0].probation_seconds must be at least 0 and at most 86400"),
        ({"network": "host"}, "services[0].network must be own or device"),
        ({"log_bytes": 1000}, "services[0].log_bytes must be from 65536 to 1099511627776"),
        ({"mounts": "/data"}, "services[0].mounts must be a list"),
        ({"mounts": ["/data"]}, "services[0].mounts[0] must be an object"),
        ({"mounts": [{"source": "/a"}]}, "services[0].mounts[0].target is missing"),
        (
            {"mounts": [{"source": "data", "target": "/data"}]},
            "services[0].mounts[0].source: 'data' is not an absolute path such as /srv/data, without . or .. in it",
        ),
        (
            {"mounts": [{"source": "/a", "target": "/data/../usr"}]},
            "services[0].mounts[0].target: '/data/../usr' is not an absolute path such as /srv/data, without . or .. in"
            " it",
        ),
        (
            {"mounts": [{"source": "/a", "target": "/b", "writable": True}]},
            "services[0].mounts[0].writable is not a known field",
        ),
        (
            {"mounts": [{"source": "/a", "target": "/b", "read_only": "no"}]},
            "services[0].mounts[0].read_only must be true or false",
        ),
        (
            {"mounts": [{"source": "/proc/1", "target": "/b"}]},
            "services[0].mounts[0].source must not be /proc/1: nothing of the kernel's is shared, and devices names"
            " devices",
        ),
        (
            {"mounts": [{"source": "/a", "target": "/opt/edgepack/server/x"}]},
            "services[0].mounts[0].target must not be /opt/edgepack/server/x: /opt/edgepack holds the image's server"
            " and its configuration",
        ),
        (
            {"mounts": [{"source": "/a", "target": "/var"}]},
            "services[0].mounts[0].target must not be /var: /var/azureml-app holds the image's models and code",
        ),
        (
            {"mounts": [{"source": "/a", "target": "/b"}, {"source": "/c", "target": "/b/d"}]},
            "services[0].mounts must not have /b/d beside /b",
        ),
        (
            {"mounts": [{"source": "/a", "target": f"/m{number}"} for number in range(65)]},
            "services[0].mounts must be at most 64",
        ),
        (
            {"devices": [{"path": "/dev/mem"}]},
            "services[0].devices[0].path must be a device below /dev that is not the device's whole memory",
        ),
        (
            {"devices": [{"path": "/dev/null"}]},
            "services[0].devices[0].path must not be /dev/null: every service has one of its own",
        ),
        (
            {"devices": [{"path": "/dev/a", "target": "/camera"}]},
            "services[0].devices[0].target must be below /dev",
        ),
        (
            {"devices": [{"path": "/dev/a", "access": "rx"}]},
            "services[0].devices[0].access must be made of r, w and m, each once",
        ),
        (
            {"secrets": ["../key"]},
            "services[0].secrets[0] must be the name of a secret: use 1 to 64 letters, digits, '.', '_' and '-',"
            " starting with a letter or digit",
        ),
        ({"secrets": ["a", "a"]}, "services[0].secrets list 'a' twice"),
        ({"auth": {"mode": "password"}}, "services[0].auth.mode must be key or token"),
        (
            {"auth": {"mode": "key", "primary": "a-key-itself", "secondary": KEYS.secondary}},
            "services[0].auth.primary: must be sha256: and 64 hexadecimal digits, the digest of a key",
        ),
        ({"auth": {"mode": "key", "primary": KEYS.primary}}, "services[0].auth.secondary is missing"),
        ({"auth": KEYS.to_json() | {"audience": "x"}}, "services[0].auth.audience is not a known field"),
        ({"auth": TOKENS.to_json() | {"public_key": "x"}}, "services[0].auth.public_key: is not a public key in PEM"),
        ({"auth": TOKENS.to_json() | {"audience": ""}}, "services[0].auth.audience: must have 1 to 4096 characters"),
        ({"auth": "key"}, "services[0].auth must be an object"),
        (
            {"mounts": [{"source": "/srv", "target": "/run/edgepack"}]},
            "services[0].mounts[0].target must not be /run/edgepack: /run/edgepack/auth holds what callers show, which "
            "auth says",
        ),
        ({"health": {"failures": 0}}, "services[0].health.failures must be from 1 to 1000"),
        (
            {"health": {"interval_seconds": 0}},
            "services[0].health.interval_seconds must be more than 0 and at most 86400",
        ),
        ({"address": "localhost"}, "services[0].address: 'localhost' is not an IP address such as 127.0.0.1"),
        ({"address": ""}, "services[0].address: '' is not an IP address such as 127.0.0.1"),
        ({"env": []}, "services[0].env must be an object"),
        ({"env": {"A": 1}}, "services[0].env.A must be text, without zero bytes"),
        ({"env": {"A": "\0"}}, "services[0].env.A must be text, without zero bytes"),
        ({"env": {"A=B": "x"}}, "services[0].env must not have the name 'A=B'"),
        ({"env": {"": "x"}}, "services[0].env must not have the name ''"),
        ({"memory_bytes": 5}, "services[0].memory_bytes must be at least 1048576"),
        ({"cpus": 0}, "services[0].cpus must be more than 0, such as 0.5"),
        ({"cpus": float("nan")}, "services[0].cpus must be more than 0, such as 0.5"),
        ({"cpus": float("inf")}, "services[0].cpus must be more than 0, such as 0.5"),
        ({"health": {"path": "health"}}, "services[0].health.path must be a path such as /health, without spaces"),
        ({"health": {"path": ""}}, "services[0].health.path must be a path such as /health, without spaces"),
        (
            {"health": {"path": "/ HTTP/1.1\r\nHost: x"}},
            "services[0].health.path must be a path such as /health, without spaces",
        ),
        (
            {"health": {"timeout_seconds": 0}},
            "services[0].health.timeout_seconds must be more than 0 and at most 86400",
        ),
        (
            {"health": {"timeout_seconds": float("nan")}},
            "services[0].health.timeout_seconds must be more than 0 and at most 86400",
        ),
        (
            {"health": {"timeout": 5}},
            "services[0].health.timeout is not a known field; did you mean 'timeout_seconds'?",
        ),
        ({"health": 5}, "services[0].health must be an object"),
        ({"healthy": {}}, "services[0].healthy is not a known field; did you mean 'health'?"),
    ],
)
def test_a_wrong_field_is_named_once(fields: dict[str, Any], wrong: str) -> None:
    assert violations(document(churn(**fields))) == (wrong,)


def test_what_is_not_set_is_not_written_so_that_a_document_of_earlier_versions_keeps_its_digest() -> None:
    assert DesiredService("churn", IMAGE, 6789).to_json() == {
        "name": "churn", "image": str(IMAGE), "port": 6789, "status": "running", "address": "127.0.0.1", "env": {},
        "health": {"path": "/", "timeout_seconds": 60.0},
    }  # fmt: skip


def test_a_service_is_removed_by_its_name() -> None:
    (gone,) = Desired.from_bytes(document({"name": "churn", "status": "removed"})).services
    assert (gone.status, gone.image, gone.port) == ("removed", NO_IMAGE, 0)
    assert gone.to_json().keys() == {"name", "status", "address", "env", "health"}
    assert violations(document({"name": "churn", "status": "stopped"})) == (
        "services[0].image is missing", "services[0].port is missing"
    )  # fmt: skip


def test_what_changed_is_told_without_what_could_be_secret() -> None:
    before = DesiredService("churn", IMAGE, 6789, env={"A": "one"})
    after = DesiredService(
        "churn", IMAGE, 6789, env={"A": "two"}, restart="never", mounts=(Mount("/a", "/b"),), secrets=("key",)
    )
    assert before.settings_changed(after) == "the change of restart always to never, env.A, mounts, secrets"
    other = replace(before, auth=KEYS)
    assert before.settings_changed(other) == "the change of auth"
    assert other.with_other_keys(replace(other, auth=replace(KEYS, primary=KEYS.secondary)))
    for one in (other, before, replace(other, auth=TOKENS), replace(other, port=1, auth=replace(KEYS, primary=""))):
        assert not other.with_other_keys(one)
    assert not before.with_other_keys(other)


@pytest.mark.parametrize("serial", [-1, 1 << 63, "7", 1.5, True])
def test_a_serial_is_a_whole_number_that_fits(serial: object) -> None:
    (wrong,) = violations(document(serial=serial))
    assert wrong.startswith("serial must be")


def test_everything_wrong_is_told_at_once() -> None:
    found = violations(document(churn(name="X", port=0), 5, churn(image=None), schema="other", serial=-1, extra=1))

    assert found == (
        "schema must be edgepack.desired/v1, is other",
        "serial must be from 0 to 9223372036854775807",
        "services[1] must be an object",
        "services[0].name: 'X' is not a service name",
        "services[0].port must be from 1 to 65535",
        "services[2].image is missing",
        "extra is not a known field",
    )


def test_names_and_ports_are_given_once() -> None:
    assert violations(document(churn(), churn(port=7000))) == ("services list 'churn' twice",)
    assert violations(document(churn(), churn(name="other"))) == ("services give port 6789 to more than one service",)
    everywhere = churn(name="other", address="0.0.0.0")  # noqa: S104
    assert violations(document(churn(), everywhere)) == ("services give port 6789 to more than one service",)
    Desired.from_bytes(document(churn(), churn(name="other", address="127.0.0.2")))
    Desired.from_bytes(document(churn(), churn(name="other", status="stopped")))


@pytest.mark.parametrize("data", [b"", b"\xff", b"[]", b"null", b"{", b'{"a":' * 100_000])
def test_what_is_no_object_is_no_document(data: bytes) -> None:
    assert len(violations(data)) == 1


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(
        st.sampled_from(["schema", "services", "name", "image", "port", "env", "health", "serial", "x"]), inner,
        max_size=5,
    ),
))  # fmt: skip
def test_no_document_whatever_it_holds_ends_otherwise_than_with_its_violations(value: object) -> None:
    with suppress(InvalidDocumentError):
        found = Desired.from_bytes(json.dumps(value).encode())
        assert Desired.from_bytes(found.to_bytes()) == found
