"""Endpoints on a device: real HAProxy before real services, by the command and by the resident agent."""

from __future__ import annotations

import json
import os
import signal
import ssl
import subprocess
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from edge_agent.runtimes.supervisor import start_ticks
from tests.edge_agent.support.agent import Agent, Images, make_images
from tests.edge_agent.support.resident import Resident
from tests.support.ports import free_port
from tests.support.waiting import wait_until

pytestmark = pytest.mark.real("haproxy", "openssl")


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Images:
    return make_images(tmp_path_factory.mktemp("images"))


class Endpoint:
    """A device whose endpoint ``churn`` has the versions ``churn-v1`` and ``churn-v2``."""

    def __init__(self, agent: Agent) -> None:
        self.agent = agent
        self.port = free_port()
        self.ports = {"churn-v1": free_port(), "churn-v2": free_port()}

    def document(self, endpoint: object, versions: tuple[str, ...] = ("v1", "v2"), **more: Any) -> dict[str, Any]:
        services = [
            {"name": f"churn-{one}", "image": str(self.agent.images.digests[one]), "port": self.ports[f"churn-{one}"]}
            for one in versions
        ]
        found = {"schema": "edgepack.desired/v1", "services": services, **more}
        return found if endpoint is None else {**found, "endpoints": {"churn": endpoint}}

    def weights(self, v1: int, v2: int | None = None, **more: object) -> dict[str, Any]:
        versions = {"churn-v1": {"weight": v1}, **({} if v2 is None else {"churn-v2": {"weight": v2}})}
        return {"port": self.port, "versions": versions, "default": "churn-v1", **more}

    def write(self, document: object) -> Path:
        file = self.agent.root.parent / "desired.json"
        file.write_text(json.dumps(document))
        return file

    def apply(self, endpoint: object, code: int = 0, **more: Any) -> Any:
        done = self.agent.run("apply", str(self.write(self.document(endpoint, **more))))
        assert done.code == code, done.err
        return json.loads(done.out) if code == 0 else done.err

    def status(self) -> dict[str, Any]:
        found = json.loads(self.agent.ok("status").out).get("endpoints", [])
        return dict(found[0]) if found else {}

    def pid(self) -> int:
        found: int = json.loads((self.agent.root / "endpoints" / "churn" / "router.json").read_bytes())["pid"]
        return found

    def ask(self, caller: str | None = None, port: int | None = None) -> str:
        """The version that answers, by what it says of itself and by the header."""
        headers = {} if caller is None else {"X-Request-Id": caller}
        request = urllib.request.Request(f"http://127.0.0.1:{port or self.port}/score", headers=headers)
        with urllib.request.urlopen(request, timeout=10) as answer:
            text = answer.read().decode().split()[0]
            assert answer.headers["x-edgepack-version"] == f"churn-{text}"
        return text

    def split(self, count: int = 200) -> dict[str, str]:
        """Which version each of so many callers gets."""
        return {f"caller-{number}": self.ask(f"caller-{number}") for number in range(count)}

    def close(self) -> None:
        self.agent.run("apply", str(self.write({
            "schema": "edgepack.desired/v1", "services": [], "endpoints": {"churn": {"status": "removed"}},
        })))  # fmt: skip
        self.agent.close()


def certificate(folder: Path) -> dict[str, str]:
    """A certificate for this machine and its key, at a path with a space."""
    folder = folder / "my files"
    folder.mkdir()
    files = {"certificate": str(folder / "site.pem"), "key": str(folder / "site.key")}
    words = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    words += ["-subj", "/CN=churn", "-addext", "subjectAltName=IP:127.0.0.1"]
    subprocess.run(
        ["openssl", *words, "-out", files["certificate"], "-keyout", files["key"]], check=True, capture_output=True
    )
    return files


@pytest.fixture
def endpoint(images: Images, tmp_path: Path) -> Iterator[Endpoint]:
    agent = Agent(tmp_path / "device", images, free_port())
    agent.take_in("v1", "v2")
    made = Endpoint(agent)
    yield made
    made.close()


def test_callers_are_shared_out_and_keep_their_version_while_weights_change(endpoint: Endpoint) -> None:
    found = endpoint.apply(endpoint.weights(80, 20, control="churn-v1"))
    (one,) = found["endpoints"]
    assert (one["state"], one["url"]) == ("Healthy", f"http://127.0.0.1:{endpoint.port}")
    assert [(version["name"], version["weight"]) for version in one["versions"]] == [("churn-v1", 80), ("churn-v2", 20)]
    assert (one["default"], one["control"]) == ("churn-v1", "churn-v1")
    first, pid = endpoint.split(), endpoint.pid()
    counts = Counter(first.values())
    assert 130 <= counts["v1"] <= 185  # 80 % of 200: far outside of what chance does
    assert endpoint.split(60).items() <= first.items()

    # Who had the version that gets more keeps it, and the router is the same process.
    endpoint.apply(endpoint.weights(50, 50))
    second = endpoint.split()
    assert endpoint.pid() == pid
    assert all(second[caller] == "v2" for caller, version in first.items() if version == "v2")
    assert 70 <= Counter(second.values())["v2"] <= 130

    # What is not given to any version is the default's; the versions are counted.
    endpoint.apply(endpoint.weights(0, 0))
    assert set(endpoint.split(40).values()) == {"v1"}
    seen = endpoint.status()
    assert [version["weight"] for version in seen["versions"]] == [100, 0]
    assert sum(version["requests"] for version in seen["versions"]) == 200 + 60 + 200 + 40
    assert all(version["latency_ms"] is not None and version["errors"] == 0 for version in seen["versions"])


def test_versions_come_and_go_without_a_restart_and_another_port_takes_one(endpoint: Endpoint) -> None:
    endpoint.apply(endpoint.weights(100), versions=("v1",))
    pid = endpoint.pid()
    endpoint.apply(endpoint.weights(0, 100))
    assert set(endpoint.split(20).values()) == {"v2"}
    endpoint.apply(endpoint.weights(100), versions=("v1",))
    assert set(endpoint.split(20).values()) == {"v1"}
    assert endpoint.pid() == pid
    assert [one["name"] for one in endpoint.status()["versions"]] == ["churn-v1"]

    # A change that HAProxy takes at its start only: another process, which has the sockets of the first.
    port, endpoint.port = endpoint.port, free_port()
    files = certificate(endpoint.agent.root.parent)
    endpoint.apply(endpoint.weights(50, 50, caller_header="x-caller", max_connections=4, tls=files))
    assert endpoint.pid() != pid
    trusted = ssl.create_default_context(cafile=files["certificate"])
    with urllib.request.urlopen(f"https://127.0.0.1:{endpoint.port}/score", context=trusted, timeout=10) as answer:
        assert answer.read().decode().split()[0] in ("v1", "v2")
    assert endpoint.status()["url"] == f"https://127.0.0.1:{endpoint.port}"
    with pytest.raises(urllib.error.URLError):
        endpoint.ask(port=port)


def test_a_version_that_dies_is_left_out_and_a_router_that_dies_is_told(endpoint: Endpoint) -> None:
    endpoint.apply(endpoint.weights(50, 50))
    endpoint.agent.ok("stop", "churn-v2")
    assert set(endpoint.split(20).values()) == {"v1"}
    endpoint.agent.ok("start", "churn-v2")
    assert set(endpoint.split(40).values()) == {"v1", "v2"}
    pid = endpoint.pid()
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: endpoint.status()["state"] == "Failed")
    assert endpoint.status()["reason"] == "its router does not run"
    before = endpoint.split  # the shares of callers outlive the router
    endpoint.apply(endpoint.weights(50, 50))
    assert endpoint.pid() != pid
    assert set(before(40).values()) == {"v1", "v2"}


def test_an_endpoint_that_a_document_does_not_name_stays_until_one_removes_it(endpoint: Endpoint) -> None:
    endpoint.apply(endpoint.weights(50, 50))
    pid = endpoint.pid()
    endpoint.apply(None)
    assert endpoint.pid() == pid
    assert endpoint.ask() in ("v1", "v2")
    endpoint.apply({"status": "removed"})
    assert endpoint.status() == {}
    assert not (endpoint.agent.root / "endpoints" / "churn").exists()
    with pytest.raises(urllib.error.URLError):
        endpoint.ask()
    assert start_ticks(pid) is None


def test_ports_of_others_and_files_that_are_missing_change_nothing(endpoint: Endpoint, tmp_path: Path) -> None:
    endpoint.apply(endpoint.weights(50, 50))
    other = {**endpoint.weights(50, 50), "port": endpoint.ports["churn-v1"]}
    assert f"has port {endpoint.ports['churn-v1']} of churn-v1" in endpoint.apply(other, code=2)
    fraud = {"name": "fraud", "image": str(endpoint.agent.images.digests["v1"]), "port": endpoint.port}
    done = endpoint.agent.run("apply", str(endpoint.write({"schema": "edgepack.desired/v1", "services": [fraud]})))
    assert done.code == 2
    assert f"service 'fraud' needs port {endpoint.port} of endpoint 'churn'" in done.err
    missing = endpoint.weights(50, 50, tls={"certificate": str(tmp_path / "a.pem"), "key": str(tmp_path / "b.pem")})
    assert "endpoint churn: HAProxy does not take its configuration" in endpoint.apply(missing, code=1)
    assert endpoint.ask() in ("v1", "v2")


def test_the_resident_agent_starts_a_router_again_that_died_and_reports_it(images: Images, tmp_path: Path) -> None:
    agent = Agent(tmp_path / "device", images, free_port())
    agent.take_in("v1", "v2")
    made, resident = Endpoint(agent), Resident(agent)
    try:
        made.apply(made.weights(50, 50))
        pid = made.pid()
        resident.start()
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: made.pid() != pid and made.status()["state"] == "Healthy")
        assert set(made.split(40).values()) == {"v1", "v2"}
        report = tmp_path / "device" / "state" / "reported.json"
        wait_until(lambda: "endpoints" in json.loads(report.read_bytes()), 30)
        assert json.loads(report.read_bytes())["endpoints"][0]["name"] == "churn"
        pid = made.pid()
        # It outlives the agent, as services do.
        resident.end()
        assert made.pid() == pid
        assert made.ask() in ("v1", "v2")
    finally:
        resident.close()
        made.close()
