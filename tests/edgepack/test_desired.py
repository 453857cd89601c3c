"""Desired states: what they may say, and that everything wrong in one is told at once."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgepack.errors import InvalidDocumentError
from edgepack.oci.digest import Digest
from edgepack.state.desired import SCHEMA, Desired, DesiredService

IMAGE = Digest.of(b"image")


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


def test_no_services_is_a_document_and_their_absence_is_none() -> None:
    assert Desired.from_bytes(document()).services == ()
    assert violations(json.dumps({"schema": SCHEMA}).encode()) == ("services is missing",)
    assert violations(b"{}") == ("schema is missing", "services is missing")


services = st.builds(
    DesiredService,
    name=st.from_regex(r"[a-z][-a-z0-9]{1,30}[a-z0-9]", fullmatch=True),
    image=st.binary(max_size=4).map(Digest.of),
    port=st.integers(1, 65535),
    status=st.sampled_from(["running", "stopped"]),
    address=st.sampled_from(["127.0.0.1", "::1", "10.0.0.1"]),
    env=st.dictionaries(
        st.from_regex(r"[A-Z_][A-Z0-9_]*", fullmatch=True),
        st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0")),
    ),
    memory_bytes=st.none() | st.integers(1 << 20, 1 << 40),
    cpus=st.none() | st.floats(0.01, 64),
    health_path=st.sampled_from(["/", "/health?deep=1", "/a%20b"]),
    health_timeout_seconds=st.floats(0.1, 86400),
)


@given(services, st.none() | st.integers(0, (1 << 63) - 1))
def test_what_is_written_is_read_again(service: DesiredService, serial: int | None) -> None:
    desired = Desired((service,), serial)

    assert Desired.from_bytes(desired.to_bytes()) == desired
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
        ({"status": "paused"}, "services[0].status must be running or stopped"),
        ({"status": ""}, "services[0].status must be running or stopped"),
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
