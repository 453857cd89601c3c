"""Versions of an endpoint and their shares, and the comparison of two of them: pure."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest

from edgepack.errors import InvalidDocumentError, InvalidReferenceError, NotFoundError, UsageError
from edgepack.state.endpoints import EndpointTls
from edgepack.state.reported_endpoints import ReportedVersion
from edgepack.trees.yaml_tree import json_tree
from packager.services.configuration.rules import Configuration, Rules
from packager.services.configuration.values import ComputeType
from packager.services.endpoints.comparison import compare
from packager.services.endpoints.endpoint import (
    Endpoint,
    changed,
    host_name_of,
    of_version,
    promoted,
    service_of,
    with_traffic,
    with_version,
    without_version,
)
from packager.services.endpoints.store import EndpointStore

ONE = Endpoint("churn", ComputeType.LOCAL, None, 6789, {"v1": 0}, "v1")
TWO = with_version(ONE, "v2", 20)


def test_the_default_version_takes_what_the_others_leave() -> None:
    assert ONE.shares == {"v1": 100}
    assert TWO.shares == {"v1": 80, "v2": 20}
    # As in Azure: 20 and 10 leave 70 for the default one.
    assert with_traffic(TWO, {"v1": 10}).shares == {"v1": 80, "v2": 20}
    three = with_version(TWO, "v3", 10)
    assert three.shares == {"v1": 70, "v2": 20, "v3": 10}
    assert with_traffic(three, {"v2": 60}).shares == {"v1": 30, "v2": 60, "v3": 10}
    assert changed(three, "v2", is_default=True).shares == {"v1": 0, "v2": 90, "v3": 10}
    assert TWO.desired().weights == {"churn-v1": 0, "churn-v2": 20}
    assert TWO.desired().shares == {"churn-v1": 80, "churn-v2": 20}


def test_shares_over_100_and_versions_that_are_not_there_are_refused() -> None:
    with pytest.raises(UsageError, match=r"get 130 percent together \(v1 90, v2 40\)"):
        with_traffic(TWO, {"v1": 90, "v2": 40})
    with pytest.raises(UsageError, match="cannot get 101 percent"):
        with_traffic(TWO, {"v2": 101})
    with pytest.raises(NotFoundError, match="version 'v9' not found"):
        with_traffic(TWO, {"v9": 1})
    with pytest.raises(
        UsageError, match="has a version 'v2' already; change it: edgepack endpoint update churn --version v2"
    ):
        with_version(TWO, "v2")
    with pytest.raises(InvalidReferenceError):
        service_of("churn", "V_2")
    six = ONE
    for number in range(2, 7):
        six = with_version(six, f"v{number}")
    with pytest.raises(UsageError, match="has 6 versions"):
        with_version(six, "v7")


def test_one_control_and_promotion() -> None:
    controlled = changed(TWO, "v1", is_control=True)
    assert controlled.desired().control == "churn-v1"
    assert changed(controlled, "v2", is_control=True).control == "v2"
    assert changed(controlled, "v1", is_control=False).control is None
    new = promoted(controlled, "v2")
    assert (new.default, new.control, new.shares) == ("v2", "v2", {"v1": 0, "v2": 100})
    with pytest.raises(UsageError, match="is the default, and there must be one"):
        changed(TWO, "v1", is_default=False)


def test_a_version_that_still_gets_requests_is_not_deleted() -> None:
    with pytest.raises(UsageError, match=r"'v2' still gets 20 percent .*set-traffic churn v2=0"):
        without_version(TWO, "v2")
    with pytest.raises(UsageError, match=r"'v1' is the default; make another one the default"):
        without_version(TWO, "v1")
    with pytest.raises(UsageError, match=r"'v1' is the default; delete the endpoint"):
        without_version(ONE, "v1")
    left = without_version(changed(with_traffic(TWO, {"v2": 0}), "v2", is_control=True), "v2")
    assert (dict(left.weights), left.control) == ({"v1": 0}, None)


def test_endpoints_are_kept_as_they_are(tmp_path: Path) -> None:
    store = EndpointStore(tmp_path)
    assert store.list() == ()
    full = Endpoint(
        "churn", ComputeType.DEVICE, "press-7", 6789, {"v1": 80}, "v1", "v1", "x-caller", 4, 2.0,
        EndpointTls("/a.pem", "/b.pem"), "text", {"a": "b"}, {"c": "d"}, "then", "now", "press-7.local",
    )  # fmt: skip
    store.put(full)
    assert store.get("churn") == full
    assert store.list() == (full,)
    with pytest.raises(NotFoundError, match=r"endpoint 'chrun' not found.*did you mean"):
        store.get("chrun")
    with pytest.raises(UsageError, match="service churn-v1: is version v1 of endpoint churn; delete it there"):
        store.check_free("churn-v1")
    store.check_free("churn-v2")
    part = store.part("churn-v1")
    assert part is not None
    assert (part.endpoint.name, part.version) == ("churn", "v1")
    assert store.find("ab") is store.find("../churn") is None  # nothing is called so
    store.put(replace(full, name="churn-v3"))
    assert [one.name for one in store.list()] == ["churn", "churn-v3"]
    store.remove("churn-v3")
    (tmp_path / "services" / "endpoints" / "churn.json").write_text(json.dumps({"name": "churn"}))
    with pytest.raises(InvalidDocumentError):
        store.get("churn")
    store.remove("churn")
    assert store.find("churn") is None


def test_the_name_of_the_host_is_the_endpoints_and_a_version_is_for_its_device_alone(tmp_path: Path) -> None:
    def given(**more: object) -> Configuration:
        fields = {"computeType": "aci", **more}
        return Rules(json_tree(fields, "dc")).configuration("dc")

    one = replace(
        ONE, compute_type=ComputeType.DEVICE, target="press-7", host_name=host_name_of(given(dnsNameLabel="p7"))
    )
    assert (one.host_name, one.desired().host) == ("p7", "0.0.0.0")  # noqa: S104 - compared with, not bound to
    assert ONE.desired().host == "127.0.0.1"
    inner = of_version(one, "v1", given(dnsNameLabel="p7", port=7000))
    assert inner.deployment == given(port=7000).deployment
    assert inner.written == {"computeType": "aci", "port": 7000}
    assert of_version(one, "v2", given()) == given()
    with pytest.raises(UsageError, match="version v2: has another dnsNameLabel than the endpoint, whose name is p7"):
        of_version(one, "v2", given(dnsNameLabel="other"))
    for name in ("c.pem", "k.pem"):
        (tmp_path / name).touch()
    files = {"sslCertificate": str(tmp_path / "c.pem"), "sslKey": str(tmp_path / "k.pem")}
    tls = given(sslEnabled=True, cname="p7", **files)
    with pytest.raises(UsageError, match="give the endpoint one: --tls CERTIFICATE KEY"):
        of_version(one, "v1", tls)


def test_what_a_killed_command_left_is_told_from_what_somebody_made(tmp_path: Path) -> None:
    store = EndpointStore(tmp_path)
    assert not store.is_marked("churn-v2")
    assert not store.is_marked("../churn-v2")
    store.mark("churn-v2")
    assert store.is_marked("churn-v2")
    assert store.list() == ()
    store.unmark("churn-v2")
    store.unmark("churn-v2")
    assert not store.is_marked("churn-v2")


def version(requests: int, errors: int) -> ReportedVersion:
    return ReportedVersion("v", 50, True, requests, errors)


def test_the_test_of_two_proportions_is_the_textbooks() -> None:
    # 30 of 1000 beside 52 of 1000: z = 0.022 / sqrt(0.041 * 0.959 * 0.002) = 2.4809, p = 0.0131.
    found = compare(version(1000, 30), version(1000, 52))
    assert found.z is not None
    assert found.p is not None
    assert math.isclose(found.z, 2.4809, abs_tol=1e-4)
    assert math.isclose(found.p, 0.01311, abs_tol=1e-5)
    assert found.words == "more errors (p = 0.013)"
    assert compare(version(1000, 52), version(1000, 30)).words == "fewer errors (p = 0.013)"
    assert compare(version(1000, 30), version(1000, 33)).words.startswith("no difference shown (p = 0.7")
    assert compare(version(9000, 30), version(9000, 330)).words == "more errors (p < 0.001)"
    for one, other in ((version(0, 0), version(10, 1)), (version(1000, 1), version(1000, 2)), (version(9, 9),) * 2):
        assert compare(one, other).words == "too few to say"
    assert compare(version(10, 1), version(10, 2)).to_json()["test"] == "two-proportion z test, pooled, two-sided"
