"""What is asked of a container engine, and what is made of its answers, by a server that answers as one does."""

from __future__ import annotations

import http.server
import json
import os
import socketserver
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar, cast

import pytest

from edge_agent.runtimes.engine import follow
from edge_agent.runtimes.engine.api import Container
from edge_agent.runtimes.engine.connect import connect
from edge_agent.runtimes.engine.errors import CallError
from edge_agent.runtimes.engine.facts import check_facts, of_docker, of_podman
from edge_agent.runtimes.engine.runtime import DockerRuntime
from edgepack.errors import IncompatibleError, MissingPartError
from edgepack.oci.digest import Digest
from edgepack.oci.store import Store
from edgepack.state.desired import DesiredService

PODMAN = {"Api-Version": "1.41", "Libpod-Api-Version": "4.3.1"}


class Engine(http.server.BaseHTTPRequestHandler):
    """Answers a ping, and what else ``answers`` has: a status and the body."""

    asked: ClassVar[list[str]] = []
    headers_of_ping: ClassVar[dict[str, str]] = PODMAN
    answers: ClassVar[dict[str, tuple[int, bytes]]] = {}

    def do_GET(self) -> None:
        self.asked.append(self.path)
        status, body = (200, b"OK") if self.path == "/_ping" else self.answers.get(self.path, (404, b"{}"))
        self.send_response(status)
        for name, text in self.headers_of_ping.items():
            self.send_header(name, text)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def address_string(self) -> str:
        return "engine"

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    monkeypatch.setattr(Engine, "asked", [])
    # A socket's path may have 107 bytes, which pytest's folders exceed.
    with tempfile.TemporaryDirectory(prefix="edp-e-") as folder:
        server: socketserver.BaseServer
        if request.param == "unix":
            path = Path(folder) / "a b.sock"
            server, found = socketserver.ThreadingUnixStreamServer(str(path), Engine), f"unix://{path}"
        else:
            server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Engine)
            found = f"tcp://127.0.0.1:{server.server_address[1]}"
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield found
        server.shutdown()
        server.server_close()


def test_an_engine_is_known_by_its_answer_to_one_ping(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = connect(address)
    assert (engine.podman, engine.version, Engine.asked) == (True, "1.41", ["/_ping"])
    assert (engine.transport.socket_path is not None) is address.startswith("unix")

    monkeypatch.setattr(Engine, "headers_of_ping", {"Api-Version": "1.44"})
    assert (connect(address).podman, connect(address).version) == (False, "1.44")

    monkeypatch.setattr(Engine, "headers_of_ping", {})
    with pytest.raises(MissingPartError, match="not the answer of a container engine"):
        connect(address)


def test_refusals_are_told_in_the_words_of_the_engine(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    refusals = {
        "/v1.41/containers/a/json": (500, json.dumps({"message": "a\n reason"}).encode()),
        "/v1.41/containers/b/json": (502, b"no JSON"),
        "/v1.41/containers/c/json": (503, b""),
        "/v1.41/containers/d/json": (200, b"<html>"),
        "/v1.41/containers/e/json": (200, json.dumps({"Id": "5", "Config": {"Labels": None}}).encode()),
        "/v1.41/containers/e/logs?tail=2&stdout=true&stderr=true": (
            200, b"\1\0\0\0\0\0\0\3one\2\0\0\0\0\0\0\3two\1\0\0",
        ),
    }  # fmt: skip
    monkeypatch.setattr(Engine, "answers", refusals)
    engine = connect(address)
    for name, reason in {"a": "a reason", "b": "no JSON", "c": "503 Service Unavailable", "d": "is not JSON"}.items():
        with pytest.raises(CallError) as raised:
            engine.container(name)
        assert reason in raised.value.what
    found = engine.container("e")
    assert found is not None
    assert (found.id, found.labels, found.state) == ("5", {}, {})
    assert engine.container("absent") is None
    assert b"".join(engine.logs("e", tail=2)) == b"onetwo"


REMAPPED = {"SecurityOptions": ["name=seccomp,profile=default", "name=userns"]}
ROOTLESS = {"SecurityOptions": ["name=rootless"], "MemoryLimit": False, "CpuCfsQuota": False}
ALL = {"SecurityOptions": ["name=seccomp"], "MemoryLimit": True, "CpuCfsQuota": True, "LoggingDriver": "journald"}
LIMITED: dict[str, Any] = {"memory_bytes": 64 << 20, "cpus": 1.0}
OF_ROOT = {"host": {"security": {"rootless": False}, "cgroupControllers": ["memory", "cpu"], "logDriver": "k8s-file"}}
BARE = {"host": {"security": {"rootless": True}, "cgroupControllers": []}}


@pytest.mark.parametrize(
    ("podman", "info", "asked", "reason"),
    [
        (False, REMAPPED, {"secrets": ("token",)}, r"could not be read: .* \(userns-remap\); take .*daemon.json"),
        (False, REMAPPED, LIMITED, None),
        (False, ROOTLESS, LIMITED, "memory_bytes and cpus would not be kept: .*; let systemd delegate"),
        (False, {"CpuCfsQuota": False}, LIMITED, "service churn: its cpus would not be kept: .*; enable them in the"),
        (False, ROOTLESS, {}, None),
        (False, ALL, LIMITED, None),
        (False, {}, LIMITED, None),
        (True, BARE, LIMITED, "memory_bytes and cpus would not be kept"),
        (True, OF_ROOT, LIMITED, None),
        (True, {"host": {}}, LIMITED, None),
    ],
)
@pytest.mark.parametrize("address", ["unix"], indirect=True)
def test_what_an_engine_would_drop_or_hide_is_refused_before_anything_is_stopped(
    address: str, podman: bool, info: dict[str, Any], asked: dict[str, Any], reason: str | None, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    path = "/v4.0.0/libpod/info" if podman else "/v1.41/info"
    monkeypatch.setattr(Engine, "headers_of_ping", PODMAN if podman else {"Api-Version": "1.41"})
    monkeypatch.setattr(Engine, "answers", {path: (200, json.dumps(info).encode())})
    runtime = DockerRuntime(Store.create(tmp_path / "store"), address)
    spec = DesiredService("churn", Digest.of(b"image"), 6789, **asked)
    for _ in range(2):
        if reason is None:
            runtime.check(spec, held=True)
        else:
            with pytest.raises(IncompatibleError, match=reason):
                runtime.check(spec, held=True)
    # Asked once, for Podman needs long to answer.
    assert Engine.asked.count(path) == 1


def test_a_rootless_engine_gets_no_secrets_of_root_and_those_of_its_own_user(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = DesiredService("churn", Digest.of(b"image"), 6789, secrets=("token",))
    for facts in (of_docker({**ROOTLESS}), of_podman(BARE)):
        monkeypatch.setattr(os, "geteuid", lambda: 1000)
        check_facts(spec, facts)
        monkeypatch.setattr(os, "geteuid", lambda: 0)
        with pytest.raises(IncompatibleError, match="is rootless, and the agent is root; run the agent as"):
            check_facts(spec, facts)
    assert (of_docker(ALL).log_driver, of_podman(OF_ROOT).log_driver) == ("journald", "k8s-file")


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("ssh://device", "neither unix:///PATH nor tcp://HOST:PORT"),
        ("tcp://127.0.0.1:99999", "Port out of range"),
        ("tcp://127.0.0.1:1", "does not answer: Connection refused"),
        ("unix:///absent/engine.sock", "does not answer: No such file"),
    ],
)
def test_an_address_where_no_engine_can_be_says_why(address: str, reason: str) -> None:
    with pytest.raises(MissingPartError, match=reason):
        connect(address)


def test_certificates_that_are_missing_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    with pytest.raises(MissingPartError, match=f"certificates in {tmp_path} cannot be used: No such file"):
        connect("tcp://127.0.0.1:1")


class Streams:
    """An engine that answers look by look: the container, whether it runs, the stream of its log."""

    def __init__(self, *given: tuple[str, bool, list[bytes | CallError]]) -> None:
        self.given = list(given)
        self.asked: list[dict[str, object]] = []

    def container(self, _: str) -> Container | None:
        name, running, _log = self.given[0]
        return Container(name, {"State": {"Status": "running" if running else "exited", "Running": running}})

    def stamped_logs(self, _: str, **query: object) -> Iterator[tuple[str, bytes]]:
        self.asked.append({name: found for name, found in query.items() if name in ("tail", "since")})
        for piece in self.given.pop(0)[2]:
            if isinstance(piece, CallError):
                raise piece
            stamp, _space, data = piece.partition(b" ")
            yield f"1970-01-01T00:00:{stamp.decode()}Z", data


@pytest.mark.parametrize("first", [[], [CallError("not yet", 409)]], ids=["ended", "refused"])
def test_a_log_is_followed_without_a_gap_and_without_a_line_twice(
    monkeypatch: pytest.MonkeyPatch, first: list[bytes | CallError]
) -> None:
    """What gave nothing yet is asked for as before; what broke, from the last entry on; and once more after the end."""
    monkeypatch.setattr(follow, "_AGAIN_SECONDS", 0)
    streams = Streams(
        ("a", True, first),
        ("a", True, [b"05.001 one\n"]),
        ("b", True, first),
        # Of two streams, the one of which is written down a little late.
        ("b", True, [b"07.000000002 two\n", b"07.000000001 three\n", CallError("gone")]),
        ("b", True, [CallError("gone")]),
        ("b", True, [b"07.000000002 two\n", b"07.000000001 three\n"]),  # and the stream ends before the last entry
        ("b", False, [b"07.000000002 two\n", b"07.000000001 three\n", b"07.5 four\n"]),
        # By whole seconds, and one line twice.
        ("c", True, [b"09 five\n", b"09 six\n", b"09 six\n"]),
        ("c", False, [b"09 five\n", b"09 six\n", b"09 six\n", b"09 six\n", b"09 seven\n"]),
    )
    pieces = follow.follow(cast(Any, streams), "churn", 7)
    written = ["one", "two", "three", "four", "five", "six", "six", "six", "seven"]
    assert [next(pieces).strip() for _ in written] == written
    since = [{"since": pytest.approx(second - 0.01)} for second in (7, 9)]
    told = [{"tail": 7}, {"tail": 7}, {"tail": "all"}, {"tail": "all"}, *[since[0]] * 3, {"tail": "all"}, since[1]]
    assert streams.asked == told
