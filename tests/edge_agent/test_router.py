"""The configuration of a router and the buckets of callers: pure, and what HAProxy itself says of the former."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import pytest

from edge_agent.runtimes.haproxy.process import alerts
from edge_agent.traffic.control import read_statistics
from edge_agent.traffic.process import RouterProcess
from edge_agent.traffic.router import (
    Router,
    Version,
    buckets,
    configuration,
    read_buckets,
    router_of,
    write_buckets,
)
from edgepack.errors import RuntimeFailedError
from edgepack.oci.digest import Digest
from edgepack.state.desired import DesiredService
from edgepack.state.endpoints import DesiredEndpoint

ENDPOINT = DesiredEndpoint("churn", 6789, {"churn-v1": 70, "churn-v2": 20}, "churn-v1", max_connections=4)
IMAGE = Digest("a" * 64)


def router(endpoint: DesiredEndpoint = ENDPOINT) -> Router:
    specs = {name: DesiredService(name, IMAGE, 7000 + at) for at, name in enumerate(endpoint.weights)}
    return router_of(endpoint, {}, specs)


def test_the_rest_is_the_default_versions_and_a_version_that_is_not_there_gets_nothing() -> None:
    assert router().shares == {"churn-v1": 80, "churn-v2": 20}
    alone = router_of(ENDPOINT, {}, {"churn-v1": DesiredService("churn-v1", IMAGE, 7000)})
    assert alone.shares == {"churn-v1": 100}
    assert router_of(ENDPOINT, {}, {}).versions == ()


def test_callers_move_no_more_than_the_shares_do() -> None:
    first = buckets({"a": 80, "b": 20})
    assert Counter(first.values()) == {"a": 80, "b": 20}
    for shares, moved in (
        ({"a": 50, "b": 50}, 30),
        ({"a": 80, "b": 10, "c": 10}, 10),
        ({"b": 100}, 80),
        ({"a": 80, "b": 20}, 0),
        ({"c": 0, "a": 100}, 20),
    ):
        after = buckets(shares, first)
        assert Counter(after.values()) == Counter({name: share for name, share in shares.items() if share})
        assert sum(first[number] != after[number] for number in range(100)) == moved
    assert read_buckets(write_buckets(first)) == first
    assert read_buckets("# nothing\nx y z\n") == {}
    assert buckets({}) == {}


def test_only_what_cannot_be_changed_while_it_runs_is_its_structure() -> None:
    one = router()
    other = Router(ENDPOINT, (Version("churn-v3", "127.0.0.1", 9, 100),))
    assert one.structure == other.structure
    assert one.structure != router(DesiredEndpoint("churn", 6790, ENDPOINT.weights, "churn-v1")).structure
    assert "server churn-v1 127.0.0.1:7000 check" in configuration(one)
    assert "maxconn 4" in configuration(one)


@pytest.mark.real("haproxy")
@pytest.mark.parametrize("user", [None, 65534])
def test_haproxy_takes_what_is_generated(tmp_path: Path, user: int | None) -> None:
    if user is not None and os.geteuid() != 0:
        user = None
    wild = DesiredEndpoint("churn", 6789, ENDPOINT.weights, "churn-v1", host="::1", caller_header="x-caller_1")
    specs = {"churn-v1": DesiredService("churn-v1", IMAGE, 7000, health_path="/it's?a=%[env(HOME)]")}
    for one in (router(), router_of(wild, {}, specs, user), router_of(wild, {}, {}, user)):
        RouterProcess(tmp_path, "churn").write(one, write_buckets(buckets(one.shares)))
        RouterProcess(tmp_path, "churn").check()
    (tmp_path / "haproxy.cfg").write_text("global\n  nonsense\n")
    with pytest.raises(RuntimeFailedError, match=r"does not take its configuration.*nonsense"):
        RouterProcess(tmp_path, "churn").check()


def test_statistics_and_complaints_are_read() -> None:
    text = "# pxname,svname,status,weight,addr,scur,qcur,hrsp_2xx,hrsp_4xx,hrsp_5xx,eresp,econ,ttime,ttime_max,\n"
    text += "churn,FRONTEND,OPEN,,,1,,9,0,0,,,,,\nversions,churn-v1,UP 1/2,80,127.0.0.1:7000,1,0,90,5,3,1,1,12,80,\n"
    text += "versions,churn-v2,DOWN,20,127.0.0.1:7001,0,0,0,0,0,0,0,0,0,\nversions,BACKEND,UP,100,,1,0,90,5,3,1,1,,,\n"
    found = read_statistics(text)
    assert list(found) == ["churn-v1", "churn-v2"]
    first, second = found.values()
    assert (first.counts.requests, first.counts.errors, first.counts.latency_ms) == (100, 5, 12.0)
    assert (first.is_up, second.is_up, second.counts.latency_ms) == (True, False, None)
    assert alerts("[NOTICE] (1) : x\n[ALERT]    (1) : cannot bind\n") == "cannot bind"
