"""The contract as clients see it: every case of its table, asked over HTTP of servers as they are really run."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper

from edge_server.security.command import main
from tests.edge_server.support import models
from tests.edge_server.support.live_server import JSON, ROW, Server, post, write_config, write_iris, write_script
from tests.support.http_client import ask
from tests.support.waiting import wait_until

SCRIPT_FAILED = "An unexpected error occurred in scoring script. Check the logs for more info."
SERVER_FAILED = "An unexpected internal error occurred. Check the logs for more info."
Start = Callable[..., Server]

TEXT = """
import sys, time

def init():
    pass

def run(data):
    if data == "raise":
        raise ValueError("secret 42")
    if data == "exit":
        sys.exit(3)
    if data == "set":
        return {1, 2}
    if data == "none":
        return None
    if data == "tuple":
        return {"a": 1}, 400
    if data == "sleep":
        time.sleep(60)
    if data == "long":
        return "x" * 3_000_000
    return {"type": type(data).__name__, "data": data}
"""

SCHEMA = """
import numpy as np
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema, output_schema

def init():
    pass

@input_schema("data", NumpyParameterType(np.array([[1.0, 2.0, 3.0]])))
@input_schema("scale", StandardPythonParameterType(1.5))
@output_schema(StandardPythonParameterType([1.5]))
def run(data, scale=1.0):
    return (data.sum(axis=1) * scale).tolist()
"""

RAW = """
from azureml.contrib.services.aml_request import AMLRequest, rawhttp
from azureml.contrib.services.aml_response import AMLResponse

def init():
    pass

@rawhttp
def run(request):
    if request.method == "OPTIONS":
        answer = AMLResponse("", 200)
        answer.headers["Allow"] = "OPTIONS, GET, POST"
        answer.headers["Access-Control-Allow-Methods"] = "OPTIONS, GET, POST"
        answer.headers["Access-Control-Allow-Origin"] = "http://www.example.com"
        answer.headers["Access-Control-Allow-Headers"] = "*"
        return answer
    if request.method == "GET":
        return AMLResponse(str.encode(request.full_path), 200)
    body = request.get_data(False)
    if body == b"none":
        return AMLResponse(None, 202)
    if body == b"json":
        return AMLResponse({"a": [1]}, 201, json_str=True)
    if body == b"busy":
        answer = AMLResponse("busy", 503, {"Retry-After": "7", "x-request-id": "mine"})
        answer.headers["x-ms-server-version"] = "mine"
        answer.headers["x-ms-run-fn-exec-ms"] = "mine"
        answer.headers["x-ms-client-request-id"] = "mine"
        return answer
    if body == b"said":
        return AMLResponse("said", 200, run_function_failed=True)
    return AMLResponse(body[::-1], 200)
"""

HEADERS = """
def init():
    pass

def run(data, request_headers):
    return {"data": data, "mine": request_headers.get("X-My-Header"), "kind": type(request_headers).__name__}
"""


def serve(start: Start, folder: Path, code: str, **env: str) -> Server:
    return start("--entry-script", write_script(folder, code), "--port", "0", env=env)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("contract")


@pytest.fixture(scope="module")
def text(start_for_module: Start, folder: Path) -> Server:
    return serve(start_for_module, folder / "text", TEXT)


@pytest.fixture(scope="module")
def schema(start_for_module: Start, folder: Path) -> Server:
    env = {"AML_CORS_ORIGINS": "https://page.example, https://other.example", "SERVICE_NAME": "scales"}
    return serve(start_for_module, folder / "schema", SCHEMA, **env)


@pytest.fixture(scope="module")
def raw(start_for_module: Start, folder: Path) -> Server:
    return serve(start_for_module, folder / "raw", RAW)


@pytest.fixture(scope="module")
def model(start_for_module: Start, folder: Path, iris: Any) -> Server:
    """No code: a model of scikit-learn and its manifest."""
    models = {"iris:1": write_iris(folder / "iris", iris.onnx)}
    return start_for_module("--config", write_config(folder / "service.json", models))


# ---- The table ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "raw", "model"])
def test_health_is_healthy_and_takes_no_post(request: pytest.FixtureRequest, kind: str) -> None:
    server = request.getfixturevalue(kind)
    for path in ("/", "/?a=1"):
        answer = ask(server.port, "GET", path)
        assert (answer.status, answer.body) == (200, b"Healthy")
        assert answer.headers["content-type"] == "text/html; charset=utf-8"
        assert answer.headers["x-ms-server-version"].startswith("edgepack/")
        assert "x-ms-run-function-failed" not in answer.headers
    answer = ask(server.port, "HEAD", "/")
    assert (answer.status, answer.headers["content-length"], answer.body) == (200, "7", b"")
    assert ask(server.port, "POST", "/", b"x").status == 405


@pytest.mark.parametrize("kind", [None, "application/json", "text/csv", "application/octet-stream", "a b"])
def test_an_undecorated_run_gets_the_body_as_text_whatever_its_type(text: Server, kind: str | None) -> None:
    answer = ask(text.port, "POST", "/score?a=1", '{"á": [1, 2]}'.encode(), {"content-type": kind} if kind else {})
    assert (answer.status, answer.json) == (200, {"type": "str", "data": '{"á": [1, 2]}'})
    assert answer.headers["content-type"] == "application/json"


def test_what_run_returns_is_json(text: Server) -> None:
    assert ask(text.port, "POST", "/score", b"").json == {"type": "str", "data": ""}
    assert ask(text.port, "POST", "/score", b"tuple").json == [{"a": 1}, 400]

    assert ask(text.port, "POST", "/score", b"none").body == b"{}"
    assert len(ask(text.port, "POST", "/score", b"long").json) == 3_000_000


@pytest.mark.parametrize(
    ("query", "given"),
    [
        ("?a=1&b=x", {"a": 1, "b": "x"}),
        ("?a=1&a=2&b=%5B1%2C2%5D", {"a": [1, 2], "b": [1, 2]}),
        ("?a=", {"a": ""}),
        ("?a=%D1%8F&b=true", {"a": "я", "b": True}),
        ("", {}),
    ],
)
def test_a_query_becomes_the_text_of_an_object(text: Server, query: str, given: dict[str, Any]) -> None:
    answer = ask(text.port, "GET", f"/score{query}")
    assert answer.status == 200
    assert json.loads(answer.json["data"]) == given


@pytest.mark.parametrize("kind", ["text/json", "text/plain", "application/x-www-form-urlencoded", None])
def test_a_schema_needs_json(schema: Server, kind: str | None) -> None:
    headers = {"content-type": kind} if kind else {}
    for body in (b'{"data": [[1, 2, 3]]}', b""):
        answer = ask(schema.port, "POST", "/score", body, headers)
        told = "Expects Content-Type to be application/json" + (f", not {kind}" if kind else "")
        assert (answer.status, answer.message) == (415, told)


@pytest.mark.parametrize("kind", ["application/json; charset=utf-8", "APPLICATION/JSON", "application/vnd.x+json"])
def test_a_schema_takes_every_way_to_say_json(schema: Server, kind: str) -> None:
    answer = ask(
        schema.port, "POST", "/score", b'{"data": [[1, 2, 3], [4, 5, 6]], "scale": 2.0}', {"content-type": kind}
    )
    assert (answer.status, answer.json) == (200, [12.0, 30.0])


@pytest.mark.parametrize(
    ("body", "says"),
    [
        (b"", "POST body is empty. Expecting a JSON dictionary."),
        (b'{"data": ', "POST body could not be decoded as JSON"),
        (b"[1]", "POST body should be a JSON dictionary."),
        (b'{"scale": 1.0}', "A value is not provided for the 'data' parameter."),
    ],
)
def test_what_a_schema_cannot_take_is_told_apart(schema: Server, body: bytes, says: str) -> None:
    answer = ask(schema.port, "POST", "/score", body, JSON)
    assert (answer.status, answer.headers["x-ms-run-function-failed"]) == (400, "False")
    assert answer.message.startswith(says)
    assert "x-ms-run-fn-exec-ms" not in answer.headers


def test_a_default_is_used_and_a_query_gives_parameters(schema: Server) -> None:
    assert post(schema, {"data": [[1, 2, 3]]}).json == [6.0]
    assert post(schema, {"data": [["1", "2", 3]]}).json == [6.0]
    assert ask(schema.port, "GET", "/score?data=%5B%5B1,2,3%5D%5D&scale=3.0").json == [18.0]


@pytest.mark.parametrize("data", [[[1, 2]], [[1, 2], [3]], [1, 2, 3], [], 7, None, "x", [[[1, 2, 3]]], [["x", 2, 3]]])
def test_a_wrong_shape_is_the_clients_fault(schema: Server, data: Any) -> None:
    """The original answers 500: its converter raises inside of run. Ours says what is wrong."""
    answer = post(schema, {"data": data})
    assert (answer.status, answer.headers["x-ms-run-function-failed"]) == (400, "False")
    assert answer.message
    assert post(schema, {"data": [[1, 2, 3]]}).json == [6.0]


def test_text_that_is_not_utf_8_is_refused(text: Server) -> None:
    answer = ask(text.port, "POST", "/score", b"ab\xff")
    assert (answer.status, answer.headers["x-ms-run-function-failed"]) == (400, "False")
    assert answer.message.startswith("Input cannot be decoded as UTF-8: ")


def test_a_form_is_given_as_it_came(text: Server) -> None:
    """The original gives an empty text: its framework has eaten the form."""
    answer = ask(text.port, "POST", "/score", b"a=1&b=2", {"content-type": "application/x-www-form-urlencoded"})
    assert answer.json["data"] == "a=1&b=2"


def test_options_is_answered_empty(text: Server) -> None:
    answer = ask(text.port, "OPTIONS", "/score", headers={"origin": "https://page.example"})
    assert (answer.status, answer.body) in ((200, b""), (204, b""))
    assert answer.headers["x-request-id"]
    assert not [name for name in answer.headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [("https://page.example", "https://page.example"), ("https://other.example", "https://other.example"),
     ("https://evil.example", None)],
)  # fmt: skip
def test_configured_origins_may_ask(schema: Server, origin: str, allowed: str | None) -> None:
    preflight = {"origin": origin, "access-control-request-method": "POST"}
    answer = ask(
        schema.port, "OPTIONS", "/score", headers=preflight | {"access-control-request-headers": "content-type"}
    )
    assert answer.status in (200, 204)
    assert answer.headers.get("access-control-allow-origin") == allowed
    if allowed:
        assert "POST" in answer.headers["access-control-allow-methods"]
        assert "content-type" in answer.headers["access-control-allow-headers"]
    for body, status in ((b'{"data": [[1, 2, 3]]}', 200), (b"{", 400)):
        answer = ask(schema.port, "POST", "/score", body, JSON | {"origin": origin})
        assert answer.status == status
        assert answer.headers.get("access-control-allow-origin") == allowed
        assert "origin" in answer.headers["vary"].lower()


def test_a_raw_script_answers_other_origins_by_itself(raw: Server) -> None:
    answer = ask(raw.port, "OPTIONS", "/score", headers={"origin": "http://www.example.com"})
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["access-control-allow-origin"] == "http://www.example.com"
    assert answer.headers["access-control-allow-headers"] == "*"
    methods = re.split(r",\s*", answer.headers["access-control-allow-methods"])
    assert methods == ["OPTIONS", "GET", "POST"]


@pytest.mark.parametrize("kind", ["text", "schema", "raw", "model"])
@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("PUT", "/score", 405),
        ("DELETE", "/score", 405),
        ("TRACE", "/score", 405),
        ("POST", "/nothing", 404),
        ("GET", "/score/", 404),
        ("GET", "/Score", 404),
        ("OPTIONS", "/nothing", 404),
    ],
)
def test_other_methods_and_paths_get_a_message_and_no_ids(
    request: pytest.FixtureRequest, kind: str, method: str, path: str, status: int
) -> None:
    answer = ask(
        request.getfixturevalue(kind).port, method, path, headers={"x-request-id": "A", "x-ms-request-id": "B"}
    )
    assert answer.status == status
    assert answer.message
    assert not answer.headers.keys() & {"x-request-id", "x-ms-request-id", "x-ms-client-request-id"}
    # RFC 9110 section 15.5.6; the original leaves it out.
    assert ("allow" in answer.headers) == (status == 405)


@pytest.mark.parametrize("body", [b"raise", b"exit"])
def test_an_exception_in_run_is_told_without_its_text(text: Server, body: bytes) -> None:
    answer = ask(text.port, "POST", "/score", body, {"x-request-id": "A"})
    assert (answer.status, answer.message) == (500, SCRIPT_FAILED)
    assert (answer.headers["x-ms-run-function-failed"], answer.headers["x-request-id"]) == ("True", "A")
    assert ask(text.port, "POST", "/score", b"x").status == 200
    if body == b"raise":
        wait_until(lambda: any("secret 42" in line for line in text.lines))


def test_a_value_that_json_does_not_know_is_no_fault_of_run(text: Server) -> None:
    answer = ask(text.port, "POST", "/score", b"set")
    assert (answer.status, answer.message) == (500, SERVER_FAILED)
    assert answer.headers["x-ms-run-function-failed"] == "False"


def test_a_call_whose_time_is_over_is_answered_and_its_worker_freed(start: Start, tmp_path: Path) -> None:
    # A limit that the call after it keeps on a busy machine too, a worker's start included.
    hurried = serve(start, tmp_path, TEXT, SCORING_TIMEOUT_MS="4000")
    begun = time.monotonic()
    answer = ask(hurried.port, "POST", "/score", b"sleep")
    assert 3.9 < time.monotonic() - begun < 50  # of 60 s
    assert (answer.status, answer.message) == (500, "Scoring timeout after 4000 ms")
    assert answer.headers["x-ms-run-function-failed"] == "True"
    begun = time.monotonic()
    assert ask(hurried.port, "POST", "/score", b"x").status == 200
    assert time.monotonic() - begun < 50


@pytest.mark.parametrize("kind", ["text", "model"])
@pytest.mark.parametrize("path", ["/", "/score", "/swagger.json"])
def test_an_id_that_is_too_long_is_refused(request: pytest.FixtureRequest, kind: str, path: str) -> None:
    server, method = request.getfixturevalue(kind), "POST" if path == "/score" else "GET"
    answer = ask(server.port, method, path, headers={"x-request-id": "L" * 101, "x-ms-request-id": "B"})
    assert (answer.status, answer.message) == (431, "x-request-id must not exceed 100 characters")
    assert "x-request-id" not in answer.headers
    for name in ("x-ms-request-id", "x-ms-client-request-id"):
        answer = ask(server.port, method, path, headers={"x-request-id": "A", name: "L" * 101})
        assert answer.status == 431
        assert answer.message == "x-ms-request-id and x-ms-client-request-id must not exceed 100 characters"
        assert answer.headers["x-request-id"] == "A"
        assert not answer.headers.keys() & {"x-ms-request-id", "x-ms-client-request-id"}


@pytest.mark.parametrize(
    ("code", "says"),
    [
        ("def init():\n    raise RuntimeError('no licence')\n\ndef run(data):\n    return data\n", "no licence"),
        ("import a_module_that_is_not_there\n", "a_module_that_is_not_there"),
        ("def init(:\n", "SyntaxError"),
        ("def run(data):\n    return data\n", "init()"),
        ("def init():\n    pass\n\ndef run(*args):\n    return 1\n", "*args"),
        (RAW.replace("@rawhttp", "@input_schema('request', StandardPythonParameterType(''))\n@rawhttp").replace(
            "\ndef init", "from inference_schema.schema_decorators import input_schema\n"
            "from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType\n"
            "\ndef init"), "@rawhttp"),
    ],
)  # fmt: skip
def test_a_script_that_cannot_start_ends_the_server(
    refused: Callable[..., Any], tmp_path: Path, code: str, says: str
) -> None:
    done = refused("--entry-script", write_script(tmp_path / "source", code), "--port", "0")
    assert done.code == 5
    sentence = [line for line in done.stderr.splitlines() if line.startswith("edge-server: ")]
    assert len(sentence) == 1
    assert says in sentence[0]
    assert sentence == done.stderr.splitlines()[-1:]


# ---- Headers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "schema", "raw", "model"])
def test_a_good_answer_has_the_contracts_headers(request: pytest.FixtureRequest, kind: str) -> None:
    data = [ROW] if kind == "model" else [[1, 2, 3]]
    sent = {"x_ms_client_request_id": "C", "TraceId": "t1"}
    answer = post(request.getfixturevalue(kind), {"data": data}, **sent)
    assert answer.status == 200
    assert answer.headers["x-ms-run-function-failed"] == "False"
    assert re.fullmatch(r"\d+\.\d{3}", answer.headers["x-ms-run-fn-exec-ms"])
    assert re.fullmatch(r"[0-9a-f-]{36}", answer.headers["x-request-id"])
    assert (answer.headers["x-ms-request-id"], answer.headers["x-ms-client-request-id"]) == ("C", "C")
    assert answer.headers["traceid"] == "t1"
    assert answer.headers["x-ms-server-version"].startswith("edgepack/")


def test_run_may_take_the_requests_headers(start: Start, tmp_path: Path) -> None:
    server = serve(start, tmp_path, HEADERS)
    answer = ask(server.port, "POST", "/score", b"x", {"x-my-header": "1"})
    assert answer.json == {"data": "x", "mine": "1", "kind": "dict"}


# ---- Raw requests -------------------------------------------------------------------------------------------------


def test_a_raw_script_sees_bytes_and_paths(raw: Server) -> None:
    answer = ask(raw.port, "POST", "/score", bytes(range(256)))
    assert (answer.status, answer.body) == (200, bytes(reversed(range(256))))
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert ask(raw.port, "GET", "/score?a=1").body == b"/score?a=1"
    assert ask(raw.port, "GET", "/score").body == b"/score?"
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert ask(raw.port, "POST", "/score", b"a=1", form).body == b"1=a"
    assert ask(raw.port, "PUT", "/score", b"x").status == 405


def test_a_raw_script_says_status_headers_and_failure(raw: Server) -> None:
    answer = ask(raw.port, "POST", "/score", b"none")
    assert (answer.status, answer.body, answer.headers["content-type"]) == (202, b"{}", "application/json")
    answer = ask(raw.port, "POST", "/score", b"json")
    assert (answer.status, answer.json) == (201, {"a": [1]})
    answer = ask(raw.port, "POST", "/score", b"busy", {"x-request-id": "A"})
    assert (answer.status, answer.body, answer.headers["retry-after"]) == (503, b"busy", "7")
    assert answer.headers["x-ms-run-function-failed"] == "True"
    assert answer.headers["x-request-id"] == answer.headers["x-ms-request-id"] == "A"
    assert answer.headers["x-ms-client-request-id"] == "mine"
    assert "mine" not in answer.headers["x-ms-server-version"] + answer.headers["x-ms-run-fn-exec-ms"]
    answer = ask(raw.port, "POST", "/score", b"busy", {"x-ms-client-request-id": "C"})
    assert answer.headers["x-ms-client-request-id"] == "C"
    answer = ask(raw.port, "POST", "/score", b"said")
    assert (answer.status, answer.headers["x-ms-run-function-failed"]) == (200, "True")


# ---- Descriptions -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["text", "schema", "raw", "model"])
@pytest.mark.parametrize(
    ("query", "field", "version"),
    [("", "swagger", "2.0"), ("?version=2", "swagger", "2.0"), ("?version=3", "openapi", "3.0"),
     ("?version=3.1", "openapi", "3.1"), ("?version=3.0", "openapi", "3.0"), ("?version=2.0", "swagger", "2.0")],
)  # fmt: skip
def test_every_service_describes_itself(
    request: pytest.FixtureRequest, kind: str, query: str, field: str, version: str
) -> None:
    answer = ask(request.getfixturevalue(kind).port, "GET", f"/swagger.json{query}")
    assert answer.status == 200
    assert answer.json[field].startswith(version)
    assert {"/", "/score"} <= answer.json["paths"].keys()
    assert answer.json["info"]["title"] == {"schema": "scales"}.get(kind, answer.json["info"]["title"])


@pytest.mark.parametrize("query", ["?version=9", "?version=", "?version=02", "?version=3.0.3"])
def test_other_versions_of_the_description_are_not_there(text: Server, query: str) -> None:
    answer = ask(text.port, "GET", f"/swagger.json{query}")
    assert answer.status == 404
    assert "version" in answer.message.lower()


# ---- Without code -------------------------------------------------------------------------------------------------


def test_a_model_without_code_answers_by_its_methods(model: Server, iris: Any) -> None:
    wanted = iris.model.predict_proba(iris.rows)
    assert post(model, {"data": iris.rows}).json == [pytest.approx(row, abs=1e-6) for row in wanted.tolist()]
    assert post(model, {"data": iris.rows, "method": "predict"}).json == iris.model.predict(iris.rows).tolist()
    named = {"inputs": {"features": iris.rows}, "method": "predict"}
    assert post(model, named).json == iris.model.predict(iris.rows).tolist()
    columns = ["sepal length", "sepal width", "petal length", "petal width"]
    records = [dict(zip(columns, row, strict=True)) for row in iris.rows]
    assert post(model, {"data": records, "method": "predict"}).json == iris.model.predict(iris.rows).tolist()


def test_v2_and_score_give_the_same_numbers(model: Server, iris: Any) -> None:
    flat = [value for row in iris.rows for value in row]
    body = {"inputs": [{"name": "features", "datatype": "FP32", "shape": [len(iris.rows), 4], "data": flat}]}
    metadata = ask(model.port, "GET", "/v2/models/iris").json
    body["inputs"][0]["name"] = metadata["inputs"][0]["name"]
    outputs = {output["name"]: output for output in post(model, body, "/v2/models/iris/infer").json["outputs"]}
    scored = post(model, {"data": iris.rows}).json
    probabilities = next(output for output in outputs.values() if output["shape"] == [len(iris.rows), 3])
    assert probabilities["data"] == pytest.approx([value for row in scored for value in row], abs=1e-6)


def write_large(folder: Path, factor: float) -> Path:
    """A model of 13 MB that sums up a row of 4 and multiplies it by ``factor``."""
    wide = 800_000
    nodes = [
        helper.make_node("MatMul", ["x", "w"], ["products"]),
        helper.make_node("ReduceMean", ["products", "axes"], ["y"], keepdims=0),
    ]
    weights = numpy_helper.from_array(np.full((4, wide), factor, np.float32), "w")
    folder.mkdir()
    models.save(
        folder / "model.onnx", nodes, [models.tensor("x", TensorProto.FLOAT, ["n", 4])],
        [models.tensor("y", TensorProto.FLOAT, ["n"])], [weights, numpy_helper.from_array(np.array([1]), "axes")],
    )  # fmt: skip
    return folder


def test_several_models_share_a_budget(start: Start, tmp_path: Path) -> None:
    names = ("one:1", "one:2", "two:1", "three:1")
    models = {name: write_large(tmp_path / name.replace(":", "-"), place + 1.0) for place, name in enumerate(names)}
    config = write_config(tmp_path / "service.json", models, runtime={"memory_bytes": 40 << 20, "threads": 1})
    server = start("--config", config)
    for _ in range(2):
        for name, factor in (("one", 2), ("one:1", 1), ("two", 3), ("three:1", 4)):
            answer = post(server, {"data": [[1, 2, 3, 4], [0, 0, 0, 1]]}, f"/score?model={name}")
            assert (answer.status, answer.json) == (200, pytest.approx([10 * factor, factor], rel=1e-4))
    assert re.search(
        rb'edgepack_model_evictions_total\{model="\w+",version="\d"\} [1-9]', ask(server.port, "GET", "/metrics").body
    )
    for name, status in (("four", 404), ("one:3", 404), ("one:x", 400)):
        answer = post(server, {"data": [[1, 2, 3, 4]]}, f"/score?model={name}")
        assert (answer.status, bool(answer.message)) == (status, True)
    answer = post(server, {"data": [[1, 2, 3, 4]]})
    assert answer.status in (400, 404)
    assert "model" in answer.message
    assert ask(server.port, "GET", "/v2/models/two/versions/1").json["name"] == "two"
    assert server.stop() == 0


def test_keys_are_asked_for_everywhere_but_at_health(
    start: Start, tmp_path: Path, iris: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {"iris:1": write_iris(tmp_path / "iris", iris.onnx)}
    config = write_config(tmp_path / "service.json", models, auth={"mode": "key", "file": "keys.json"})
    assert main(["keys", "new", str(tmp_path / "keys.json")]) == 0
    keys = json.loads(capsys.readouterr().out)
    server = start("--config", config)
    document = {"data": [ROW], "method": "predict"}
    for path in ("/", "/v2/health/live", "/v2/health/ready", "/swagger.json"):
        assert ask(server.port, "GET", path).status == 200
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": keys["primary"]}):
        answer = post(server, document, **headers)
        assert (answer.status, bool(answer.message)) == (401, True)
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["x-request-id"]
        assert post(server, {}, "/v2/models/iris/infer", **headers).status == 401
    for key in keys.values():
        assert post(server, document, Authorization=f"Bearer {key}").json == [0]
    assert server.stop() == 0
    assert not any(key in line for key in keys.values() for line in server.lines)
