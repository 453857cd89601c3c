"""Endpoints in desired and reported states: what is written is read again, and every wrong field is named."""

from __future__ import annotations

import json
from typing import Any

import pytest

from edgepack.errors import InvalidDocumentError
from edgepack.state.desired import Desired
from edgepack.state.endpoints import DesiredEndpoint, EndpointTls
from edgepack.state.reported import Answer, ReportedDevice
from edgepack.state.reported_endpoints import EndpointState, ReportedEndpoint, ReportedVersion

DIGEST = f"sha256:{'a' * 64}"
WEIGHTS = {"churn-v1": {"weight": 80}, "churn-v2": {"weight": 10}}
ENDPOINT = {"port": 6789, "versions": WEIGHTS, "default": "churn-v1"}


def document(endpoints: object, **of_first: Any) -> bytes:
    services = [{"name": f"churn-v{n}", "image": DIGEST, "port": 7000 + n} for n in range(1, 8)]
    services[0] |= of_first
    return json.dumps({"schema": "edgepack.desired/v1", "services": services, "endpoints": endpoints}).encode()


def test_an_endpoint_is_read_as_it_was_written() -> None:
    desired = Desired.from_bytes(document({"churn": ENDPOINT, "old": {"status": "removed"}}))
    churn, old = desired.endpoints
    assert churn == DesiredEndpoint("churn", 6789, {"churn-v1": 80, "churn-v2": 10}, "churn-v1")
    assert churn.shares == {"churn-v1": 90, "churn-v2": 10}
    assert old.status == "removed"
    assert Desired.from_bytes(desired.to_bytes()) == desired
    everything = {
        **ENDPOINT, "control": "churn-v2", "host": "10.0.0.7", "caller_header": "X-Caller", "max_connections": 4,
        "queue_seconds": 2, "tls": {"certificate": "/etc/site.pem", "key": "/etc/site key.pem"},
    }  # fmt: skip
    (full,) = Desired.from_bytes(document({"churn": everything})).endpoints
    assert full.tls == EndpointTls("/etc/site.pem", "/etc/site key.pem")
    assert full.to_json() == {**everything, "caller_header": "x-caller"}
    # As before for who has none.
    assert b"endpoints" not in Desired(desired.services).to_bytes()


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"default": "v9"}, "endpoints.churn.default must be one of the versions churn-v1, churn-v2, and is 'v9'"),
        ({"control": "v9"}, "endpoints.churn.control must be one of"),
        ({"versions": {"churn-v1": {"weight": 90}, "churn-v2": {"weight": 40}}}, "versions get 130 percent together"),
        ({"versions": {"churn-v1": {"weight": 101}}}, "churn-v1.weight must be from 0 to 100 percent"),
        ({"versions": {"churn-v1": {"weight": 0.5}}}, "churn-v1.weight must be a whole number"),
        ({"versions": {f"churn-v{n}": {} for n in range(1, 8)}}, "versions must be from 1 to 6, and are 7"),
        ({"versions": {"churn-v1": {}, "churn-v9": {}}}, "versions.churn-v9 must be a service of this document"),
        ({"versions": {}}, "versions must be from 1 to 6, and are 0"),
        ({"wieghts": 1}, "endpoints.churn.wieghts is not a known field"),
        ({"host": "localhost"}, "endpoints.churn.host: 'localhost' is not an IP address"),
        ({"port": 7002}, "endpoints.churn has port 7002 of churn-v2"),
        ({"port": 0}, "endpoints.churn.port must be from 1 to 65535"),
        ({"tls": {"certificate": "site.pem", "key": "/k"}}, "tls.certificate: 'site.pem' is not an absolute path"),
        ({"tls": {"certificate": "/site.pem"}}, "tls.key is missing"),
        ({"caller_header": "x y"}, "caller_header must be the name of a header"),
        ({"queue_seconds": 0}, "queue_seconds must be more than 0"),
        ({"max_connections": 0}, "max_connections must be from 1"),
        ({"status": "stopped"}, "status must be running or removed"),
    ],
)
def test_every_wrong_field_is_named(change: dict[str, Any], says: str) -> None:
    with pytest.raises(InvalidDocumentError, match=r"desired state") as caught:
        Desired.from_bytes(document({"churn": {**ENDPOINT, **change}}))
    assert says in str(caught.value)


def test_versions_run_on_loopback_and_names_are_not_shared() -> None:
    for endpoints, first, says in (
        ({"churn": ENDPOINT}, {"address": "10.0.0.7"}, "must be on a loopback address, and is on 10.0.0.7"),
        ({"churn": ENDPOINT}, {"status": "stopped"}, "must be a service of this document that is to run"),
        ({"churn-v1": ENDPOINT}, {}, "endpoints.churn-v1 has the name of a service"),
        ({"churn": ENDPOINT, "other": ENDPOINT}, {}, "endpoints.other has port 6789 of churn"),
        ({"No": ENDPOINT}, {}, "endpoints.No cannot be the name of an endpoint"),
        ({"churn": 5}, {}, "endpoints.churn must be an object"),
        ([], {}, "endpoints must be an object"),
    ):
        with pytest.raises(InvalidDocumentError) as caught:
            Desired.from_bytes(document(endpoints, **first))
        assert says in str(caught.value)


def test_what_is_reported_is_read_as_it_was_written() -> None:
    versions = (ReportedVersion("churn-v1", 90, True, 1000, 7, 12.0, 80.0), ReportedVersion("churn-v2", 10, False))
    one = ReportedEndpoint(
        "churn", EndpointState.UNHEALTHY, "http://127.0.0.1:6789", "churn-v1", "churn-v1", versions, "why",
        1700000000, "device", 7,
    )  # fmt: skip
    device = ReportedDevice("press-7", "1", 1, 1700000000, 5, endpoints=(one,))
    assert ReportedDevice.from_bytes(device.to_bytes()) == device
    assert one.uncounted.versions[0].requests == 0
    assert device.status is Answer.NOTHING_DESIRED
