"""Our scoring server under the HTTP tests of ``azureml-inference-server-http``, which ask a Flask application.

As a plugin of pytest it puts our modules under their names. In place of the tests' ``common.py`` it has the application
and the client that they use: one server of ours in a thread, which calls their ``run`` in this process.
"""

from __future__ import annotations

import asyncio
import http.client
import json as json_of
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import orjson
import pytest

from edge_server.scripts.raw_requests import AMLRequest
from tests.peers.differences import mark
from tests.peers.stand_ins import module, ours_as_inference_schema

ours_as_inference_schema()


class _Named:
    """Stands for internals of theirs that tests import and that those which we run do not use."""


class UserScriptError(Exception):
    """What is raised for a ``run`` that cannot be called; the tests compare its text with theirs."""


_INNER = "azureml_inference_server_http.server"
module("flask", Flask=_Named, Request=AMLRequest)
module("flask.testing", FlaskClient=_Named)
module(f"{_INNER}.routes", HEADER_LIMIT=100)
module(f"{_INNER}.swagger", Swagger=_Named)
_ERRORS = {"UserScriptError": UserScriptError, "UserScriptException": _Named, "UserScriptImportException": _Named}
module(f"{_INNER}.user_script", **_ERRORS)
module("inference_schema._constants", ALL_SUPPORTED_VERSIONS=["2.0", "3.0", "3.1"])

# Where we differ on purpose, or what is not of the contract, by the end of the test's name.
DIFFERENCES = {
    "supported_versions": "of the builder classes inside",
    "bad_version": "the sentence is ours",
    "no_2": "our Swagger 2 shows the usual one of several types",
    "read_user_swagger": "a file that is not a document is not served in place of one",
    "routes_x_ms_request_id": "a line of their log",
    "routes_404": "the sentence is ours, and names the path",
    "routes_405": "the sentence is ours, and names the methods",
    "script_not_found": "of their start",
    "import_error_in_main": "of their start",
    "script_load*": "of their start",
    "user_import": "of their start",
    "init_exception": "of their start",
    "run_no_argument": "the sentence is ours, and names the file",
    "bad_run_signature": "the sentence is ours, and names the file",
    "run_http_exception": "not implemented there either",
    "run_timer*": "a timing of 30 ms, which other work on the machine breaks",
    "run_timeout*": "a call that runs too long ends in a worker process, which there is none of here",
    "flask2_json_error": "a body that is not JSON is the client's fault, 400",
    "amlresponse_headers": "the script's own content type is the only one, theirs sends two",
    "cors_enabled": "an origin has a scheme, as browsers send it",
    "swagger_generation*": "the same paths and schemas in other words, with more of the answers",
    "not_utf8": "the sentence is ours",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Leave out what we do not have, and say why."""
    mark(items, DIFFERENCES)


@dataclass
class Run:
    """What the last ``run`` was given."""

    input: dict[str, Any]


@dataclass
class Settings:
    """The settings of theirs that tests change."""

    service_path_prefix: str = ""
    cors_origins: str = ""
    app_root: str = "."


class Service:
    """Calls a ``run`` in this process, by what workers use: the seam of ``edge_server.service``."""

    methods = frozenset(("GET", "POST"))

    def __init__(self) -> None:
        self.last_run: Run | None = None
        self.use(lambda data: None)

    def use(self, run: Callable[..., Any]) -> None:
        """Take ``run`` for the script's."""
        import sys
        from types import ModuleType

        from edge_server.scripts import script
        from edge_server.scripts.calls import Caller

        entry = ModuleType("entry_of_peers")
        entry.run, entry.init = run, lambda: None  # type: ignore[attr-defined]
        imported = script._import
        script._import = lambda file, folder: entry
        try:
            self.script = script.load(Path("score.py"), Path())
        finally:
            script._import = imported
        self.methods = frozenset(("GET", "POST"))
        if self.script.style == "raw":
            self.methods = frozenset(("GET", "HEAD", "POST", "OPTIONS"))
        parameter = self.script.parameter

        def noted(*arguments: Any, **more: Any) -> Any:
            self.last_run = Run({parameter: arguments[0], **more} if arguments else more)
            return run(*arguments, **more)

        self.caller = Caller(replace(self.script, run=noted))
        assert "score" not in sys.modules

    def score(self, request: Any) -> Any:
        """Answer a request to /score."""
        from edge_server.scripts import frames
        from edge_server.scripts.frames import Frame
        from edge_server.scripts.replies import read_answer

        headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers]
        meta = orjson.dumps(
            (request.request_id, request.method, request.path, request.query, request.client, "http", headers)
        )
        answer = self.caller.answer(
            Frame(kind=frames.CALL_WHOLE, slot=0, number=0, body=request.body, meta=meta, status=0, seconds=0.0)
        )
        assert isinstance(answer, bytes)
        return read_answer(frames.FrameReader().feed(answer)[0])

    def describe(self) -> Any:
        """What the decorators say."""
        from edge_server.service import Description

        told = self.script.describe()
        return Description(told["in"], told["out"], takes_get=True)


class TestingApp:
    """One server on loopback, until ``close``."""

    __test__ = False

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings()
        self.service = Service()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        assert self._ready.wait(20)

    @property
    def last_run(self) -> Run | None:
        """What ``run`` was given last."""
        return self.service.last_run

    def set_user_run(self, run: Callable[..., Any]) -> Callable[..., Any]:
        """Take ``run`` for the script's, as a decorator."""
        from edge_server.scripts.script import StartError

        try:
            self.service.use(run)
        except StartError as error:
            raise UserScriptError(error.sentence) from None
        return run

    def test_client(self) -> TestingClient:
        """A client of the server."""
        return TestingClient(self)

    def close(self) -> None:
        """End the server."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)
        self._listener.close()

    def _serve(self) -> None:
        from edge_server.http.server import HttpServer

        async def start() -> None:
            self._server = HttpServer(self._app(), self._config().limits)
            await self._server.start(self._listener)
            self._ready.set()

        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(start())
        self._loop.run_forever()
        self._loop.run_until_complete(self._server.drain())
        self._loop.close()

    def _config(self) -> Any:
        from edge_server.config.environment import override
        from edge_server.config.values import Identity, ScriptConfig, ServiceConfig

        place = Path("absent")
        config = ServiceConfig((), "127.0.0.1", script=ScriptConfig(place / "score.py", place), root=place)
        prefix = f"/{self.settings.service_path_prefix}" if self.settings.service_path_prefix else ""
        config = replace(config, identity=Identity(path_prefix=prefix))
        origins = {"AML_CORS_ORIGINS": self.settings.cors_origins} if self.settings.cors_origins else {}
        return override(config, origins)

    def _app(self) -> Any:
        from edge_server.app import ScoringApp
        from edge_server.http.cors import Cors
        from edge_server.http.messages import HTML, Request, Response, Route
        from edge_server.http.routing import Routes
        from edge_server.openapi.routes import routes
        from edge_server.telemetry.lines import LineWriter
        from edge_server.telemetry.metrics import Metrics
        from edge_server.telemetry.request_log import RequestLog

        config, service = self._config(), self.service

        class Score(Mapping[str, Any]):
            """The methods of the script that is served now."""

            def __getitem__(self, method: str) -> Any:
                return dict.fromkeys(service.methods, service.score)[method]

            def __iter__(self) -> Any:
                return iter(service.methods)

            def __len__(self) -> int:
                return len(service.methods)

        def health(request: Request) -> Response:
            return Response(200, b"Healthy", HTML)

        own = Routes(
            {
                "/": Route("/", {"GET": health}, guarded=False),
                "/score": Route("/score", Score(), cors=True, scores=True, unpacks=True),
            }
        )
        writer = LineWriter(os.open(os.devnull, os.O_WRONLY), lambda count: b"")
        return ScoringApp(
            own | routes(service, config),  # type: ignore[arg-type]
            metrics=Metrics(),
            request_log=RequestLog(config.logging, writer),
            guard=None,
            cors=Cors(config.cors),
        )


@dataclass
class Answer:
    """An answer in the form of werkzeug's test client."""

    status_code: int
    data: bytes
    headers: Any

    @property
    def json(self) -> Any:
        """The body; a refusal without the ``status_code`` that ours have beside the message, as the contract says."""
        found = json_of.loads(self.data)
        if isinstance(found, dict) and found.get("status_code") == self.status_code:
            return {key: value for key, value in found.items() if key != "status_code"}
        return found


class TestingClient:
    """Asks one application; the methods are those of the tests' own client."""

    __test__ = False

    def __init__(self, app: TestingApp) -> None:
        self._app = app

    def open(self, path: str, *, method: str = "GET", data: bytes | str = b"", json: Any = None,
             headers: Mapping[str, str] | None = None, query_string: Mapping[str, Any] | None = None,
             content_type: str | None = None) -> Answer:  # fmt: skip
        """One request over a connection of its own."""
        sent = dict(headers or {})
        if json is not None:
            data, content_type = json_of.dumps(json), content_type if content_type is not None else "application/json"
        if content_type:
            sent.setdefault("content-type", content_type)
        target = path + (f"?{urlencode(query_string, doseq=True)}" if query_string else "")
        connection = http.client.HTTPConnection("127.0.0.1", self._app.port, timeout=20)
        try:
            body = data.encode() if isinstance(data, str) else data
            connection.request(method, target, body or None, sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), answer.headers)
        finally:
            connection.close()

    def get(self, path: str, **more: Any) -> Answer:
        """GET."""
        return self.open(path, **more)

    def post(self, path: str, **more: Any) -> Answer:
        """POST."""
        return self.open(path, method="POST", **more)

    def options(self, path: str, **more: Any) -> Answer:
        """OPTIONS."""
        return self.open(path, method="OPTIONS", **more)

    def delete(self, path: str, **more: Any) -> Answer:
        """DELETE."""
        return self.open(path, method="DELETE", **more)

    def get_health(self, **more: Any) -> Answer:
        """GET of the health."""
        return self.get("/", **more)

    def get_score(self, params: Mapping[str, Any] | None = None, **more: Any) -> Answer:
        """GET of /score with a query."""
        return self.get("/score", query_string=params or {}, **more)

    def post_score(self, json: Any = None, **more: Any) -> Answer:
        """POST to /score."""
        return self.post("/score", json=json, **more)

    def options_score(self, **more: Any) -> Answer:
        """OPTIONS of /score."""
        return self.options("/score", **more)

    def score(self, method: str, input_data: Any = None, **more: Any) -> Answer:
        """GET or POST of the same input."""
        return self.get_score(input_data, **more) if method == "GET" else self.post_score(input_data, **more)

    def get_swagger(self, version: Any = None) -> Answer:
        """GET of the description."""
        return self.get("/swagger.json", query_string={"version": version} if version else {})


class TestingUserScript:
    """A script from a file, of which the tests that we run make none."""

    __test__ = False


def data_path(*parts: str) -> str:
    """A file of the tests' own data, which lies beside them."""
    return str(next(Path.cwd().glob("tests_of_*/data")).joinpath(*parts))


@contextmanager
def application(settings: Settings) -> Any:
    """A server for one test."""
    app = TestingApp(settings)
    try:
        yield app
    finally:
        app.close()
        logging.getLogger("edge_server").handlers.clear()
