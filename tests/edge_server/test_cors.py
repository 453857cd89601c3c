"""Cross-origin requests: which origins get which headers."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_server.config.values import Cors as CorsConfig
from edge_server.errors import ConfigurationError
from edge_server.http.cors import Cors
from edge_server.http.messages import Headers, Request

PAGE = b"https://page.example"
KNOWN = {b"content-type", b"authorization", b"x-request-id", b"traceid", b"traceparent", b"tracestate"} | {
    b"inference-header-content-length"
}


def asking(*headers: tuple[bytes, bytes], method: str = "POST") -> Request:
    return Request(method, "/score", "/score", "", list(headers), b"")


def values(headers: Headers | None, name: bytes) -> list[bytes]:
    return [value for found, value in headers or [] if found == name]


def preflight(cors: Cors, origin: bytes, names: bytes | None = None) -> Headers:
    more = [] if names is None else [(b"access-control-request-headers", names)]
    request = asking((b"origin", origin), (b"access-control-request-method", b"POST"), *more, method="OPTIONS")
    response = cors.preflight(request, ["GET", "POST"])
    assert (response.status, response.body, response.content_type) == (200, b"", None)
    assert response.headers is not None
    return response.headers


def test_without_origins_nothing_is_said_and_options_tells_the_methods() -> None:
    cors = Cors(CorsConfig())
    assert not cors.active
    assert cors.headers(asking((b"origin", PAGE))) == []
    assert preflight(cors, PAGE) == [(b"allow", b"GET, OPTIONS, POST")]


def test_a_listed_origin_is_named_and_may_read_the_ids() -> None:
    cors = Cors(CorsConfig(("https://other.example", "https://page.example")))
    headers = cors.headers(asking((b"origin", PAGE)))
    assert values(headers, b"access-control-allow-origin") == [PAGE]
    assert values(headers, b"vary") == [b"origin"]
    assert b"x-ms-request-id" in values(headers, b"access-control-expose-headers")[0].split(b", ")
    assert not values(headers, b"access-control-allow-credentials")


@pytest.mark.parametrize(
    "origin",
    [b"https://page.example.evil", b"http://page.example", b"https://page.example:444", b"null", b"*", b"", b"\xff"],
)
def test_another_origin_is_not_granted_and_caches_are_told_why(origin: bytes) -> None:
    cors = Cors(CorsConfig(("https://page.example",)))
    assert cors.headers(asking((b"origin", origin))) == [(b"vary", b"origin")]
    headers = preflight(cors, origin)
    assert not [name for name, _ in headers if name.startswith(b"access-control-")]


def test_a_request_without_origin_is_told_that_answers_vary() -> None:
    assert Cors(CorsConfig(("https://page.example",))).headers(asking()) == [(b"vary", b"origin")]


def test_the_star_grants_every_origin_with_one_answer_for_all() -> None:
    cors = Cors(CorsConfig(("*", "https://page.example")))
    for origin in (PAGE, b"null", b"https://anything.example"):
        headers = cors.headers(asking((b"origin", origin)))
        assert values(headers, b"access-control-allow-origin") == [b"*"]
        assert not values(headers, b"vary")


def test_a_preflight_grants_methods_and_the_headers_that_a_page_may_send() -> None:
    cors = Cors(CorsConfig(("https://page.example",)))
    headers = preflight(cors, PAGE, b"Authorization, content-type,x-ms-client-request-id, x-secret, cookie,x-ms-a b")
    assert values(headers, b"access-control-allow-origin") == [PAGE]
    assert values(headers, b"access-control-allow-methods") == [b"GET, OPTIONS, POST"]
    assert values(headers, b"access-control-allow-headers") == [b"authorization, content-type, x-ms-client-request-id"]
    assert values(headers, b"access-control-max-age") == [b"7200"]
    assert values(headers, b"vary") == [b"origin", b"access-control-request-headers"]


def test_options_that_is_no_preflight_gets_the_plain_headers() -> None:
    cors = Cors(CorsConfig(("*",)))
    response = cors.preflight(asking((b"origin", PAGE), method="OPTIONS"), ["POST"])
    assert values(response.headers, b"allow") == [b"OPTIONS, POST"]
    assert values(response.headers, b"access-control-allow-origin") == [b"*"]
    assert not values(response.headers, b"access-control-allow-methods")


def test_what_a_script_says_of_access_control_is_left_alone() -> None:
    cors = Cors(CorsConfig(("*",)))
    assert cors.headers(asking((b"origin", PAGE)), [(b"access-control-allow-origin", b"https://own.example")]) == []
    assert cors.headers(asking((b"origin", PAGE)), [(b"x-other", b"1")]) != []


def test_origins_may_be_written_loosely() -> None:
    cors = Cors(CorsConfig((" HTTPS://Page.Example/ ",)))
    assert values(cors.headers(asking((b"origin", PAGE))), b"access-control-allow-origin") == [PAGE]


@pytest.mark.parametrize(
    "origin", ["page.example", "https://page.example/path", "https://*.example", "", "https://a b", "x\r\ny://z"]
)
def test_what_is_no_origin_is_refused_at_the_start(origin: str) -> None:
    with pytest.raises(ConfigurationError, match="origins"):
        Cors(CorsConfig((origin,)))


@given(st.binary(max_size=300), st.binary(max_size=60))
def test_nothing_that_a_client_sends_comes_back_but_known_names(names: bytes, origin: bytes) -> None:
    headers = preflight(Cors(CorsConfig(("*",))), origin, names)
    for name in b", ".join(values(headers, b"access-control-allow-headers")).split(b", "):
        assert name == b"" or name in KNOWN or re.fullmatch(rb"x-ms-[a-z0-9_-]*", name)
