"""Ids of requests, and the headers that every answer has."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.support.http_client import ask

BODY = b'{"data": [[5.1, 3.5, 1.4, 0.2]]}'
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


@pytest.fixture(scope="module")
def port(start_for_module: Callable[..., Any], iris_file: Any) -> int:
    return int(start_for_module("--model", iris_file, "--port", "0").port)


def test_an_id_is_made_where_the_client_sent_none(port: int) -> None:
    _, first, _ = ask(port, "POST", "/score", BODY)
    _, second, _ = ask(port, "POST", "/score", BODY)
    assert UUID.fullmatch(first["x-request-id"])
    assert first["x-ms-request-id"] == first["x-request-id"] != second["x-request-id"]
    assert "x-ms-client-request-id" not in first


@pytest.mark.parametrize(
    ("sent", "own", "ms", "client_id"),
    [
        ({"x-request-id": "A"}, "A", "A", None),
        ({"x-ms-request-id": "B"}, None, "B", "B"),
        ({"x-ms-client-request-id": "C"}, None, "C", "C"),
        ({"x-request-id": "A", "x-ms-request-id": "B"}, "A", "B", "B"),
        ({"x-request-id": "A", "x-ms-client-request-id": "C"}, "A", "C", "C"),
        ({"x-ms-request-id": "B", "x-ms-client-request-id": "C"}, None, "B", "C"),
        ({"x-request-id": "A", "x-ms-request-id": "B", "x-ms-client-request-id": "C"}, "A", "B", "C"),
        ({"x-request-id": ""}, None, None, None),
        ({"x-request-id": "M" * 100}, "M" * 100, "M" * 100, None),
    ],
)
def test_ids_of_the_client_come_back(
    port: int, sent: dict[str, str], own: str | None, ms: str | None, client_id: str | None
) -> None:
    status, found, _ = ask(port, "POST", "/score", BODY, sent)
    assert status == 200
    if own is None:
        assert UUID.fullmatch(found["x-request-id"])
    else:
        assert found["x-request-id"] == own
    assert found["x-ms-request-id"] == (ms or found["x-request-id"])
    assert found.get("x-ms-client-request-id") == client_id


@pytest.mark.parametrize("path", ["/", "/score", "/swagger.json"])
@pytest.mark.parametrize("name", ["x-request-id", "x-ms-request-id", "x-ms-client-request-id"])
def test_an_id_of_more_than_100_characters_is_refused(port: int, path: str, name: str) -> None:
    method = "POST" if path == "/score" else "GET"
    status, _, content = ask(port, method, path, BODY if path == "/score" else None, {name: "L" * 101})
    assert status == 431
    assert b"must not exceed 100 characters" in content


@pytest.mark.parametrize(("method", "path", "status"), [("GET", "/nothing", 404), ("PUT", "/score", 405)])
def test_what_is_not_there_has_no_ids(port: int, method: str, path: str, status: int) -> None:
    found, headers, _ = ask(port, method, path, None, {"x-request-id": "A"})
    assert found == status
    assert not [name for name in headers if name.endswith("request-id")]


def test_an_answer_tells_how_long_the_model_ran(port: int) -> None:
    _, found, _ = ask(port, "POST", "/score", BODY)
    assert re.fullmatch(r"\d+\.\d{3}", found["x-ms-run-fn-exec-ms"])
    assert found["x-ms-run-function-failed"] == "False"
    assert found["x-ms-server-version"].startswith("edgepack/")


def test_an_answer_that_ran_nothing_tells_no_time(port: int) -> None:
    status, found, _ = ask(port, "POST", "/score", b"{")
    assert status == 400
    assert "x-ms-run-fn-exec-ms" not in found
    assert found["x-ms-run-function-failed"] == "False"


def test_the_trace_id_comes_back(port: int) -> None:
    assert ask(port, "GET", "/", None, {"TraceId": "abc"})[1]["traceid"] == "abc"


def test_options_is_answered_without_a_body(port: int) -> None:
    status, found, content = ask(port, "OPTIONS", "/score")
    assert (status, content, found["allow"]) == (200, b"", "OPTIONS, POST")
    assert "access-control-allow-origin" not in found


def test_the_path_may_be_percent_encoded(port: int) -> None:
    assert ask(port, "POST", "/%73core", BODY)[0] == 200
