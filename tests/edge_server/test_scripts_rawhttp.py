"""Raw scripts: what AMLRequest knows, what AMLResponse becomes, forms, and the specification's sample."""

from __future__ import annotations

import contextlib
import datetime
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.http import parse_cookie
from werkzeug.test import EnvironBuilder
from werkzeug.wrappers import Request, Response

from edge_server.scripts.forms import read_multipart, read_urlencoded
from edge_server.scripts.inputs import RefusedInputError
from edge_server.scripts.outputs import UnserializableError
from edge_server.scripts.raw_outputs import encode_raw
from edge_server.scripts.raw_requests import AMLRequest, InvalidJSONError
from edge_server.scripts.raw_responses import AMLResponse
from tests.edge_server.support.scripts import INIT, Scripted, failed, json_of, serve

RAW = (
    "from azureml.contrib.services.aml_request import AMLRequest, rawhttp\n"
    "from azureml.contrib.services.aml_response import AMLResponse\n" + INIT
)


def request(method: str = "POST", query: str = "", body: bytes = b"", **headers: str) -> AMLRequest:
    """A request to /score with these headers; ``_`` stands for ``-`` in their names."""
    pairs = [("host", "device:5001"), *((name.replace("_", "-"), value) for name, value in headers.items())]
    return AMLRequest(method, "/score", query, pairs, body, "10.0.0.7")


def test_a_request_knows_its_url_and_its_client() -> None:
    asked = request("GET", "a=1&b=x%20y&a=2")
    assert (asked.method, asked.path, asked.full_path) == ("GET", "/score", "/score?a=1&b=x%20y&a=2")
    assert asked.url == "http://device:5001/score?a=1&b=x%20y&a=2"
    assert (asked.base_url, asked.host_url, asked.host) == (
        "http://device:5001/score",
        "http://device:5001/",
        "device:5001",
    )
    assert (asked.query_string, asked.remote_addr, asked.is_secure) == (b"a=1&b=x%20y&a=2", "10.0.0.7", False)
    assert repr(asked) == "<AMLRequest 'http://device:5001/score?a=1&b=x%20y&a=2' [GET]>"
    assert request().full_path == "/score?"
    assert request().url == request().base_url


def test_query_fields_may_come_more_than_once() -> None:
    args = request(query="a=1&b=x&a=2").args
    assert (args["a"], args.get("b"), args.getlist("a"), args.getlist("c")) == ("1", "x", ["1", "2"], [])
    assert args.to_dict() == {"a": "1", "b": "x"}
    assert args.to_dict(flat=False) == {"a": ["1", "2"], "b": ["x"]}
    assert (args.get("a", type=int), args.get("b", 7, type=int), args.getlist("a", type=int)) == (1, 7, [1, 2])
    with pytest.raises(KeyError):
        args["c"]


def test_header_names_match_in_any_case() -> None:
    headers = request(content_type="text/plain", x_id="7").headers
    assert headers["X-Id"] == headers.get("x-ID") == "7"
    assert "CONTENT-TYPE" in headers
    assert "x-none" not in headers
    assert headers.get("x-none", "no") == "no"
    assert dict(headers) == {"Host": "device:5001", "Content-Type": "text/plain", "X-Id": "7"}
    with pytest.raises(KeyError):
        headers["x-none"]


def test_the_body_is_bytes_text_json_or_a_file() -> None:
    asked = request(body=b'{"a": "\xc3\xbc"}', content_type="application/json; charset=utf-8")
    assert asked.data == asked.get_data() == asked.get_data(False) == asked.stream.read()
    assert asked.get_data(as_text=True) == '{"a": "ü"}'
    assert asked.is_json
    assert asked.json == asked.get_json() == {"a": "ü"}
    assert (asked.mimetype, asked.mimetype_params, asked.content_length) == (
        "application/json",
        {"charset": "utf-8"},
        11,
    )
    other = request(body=b"{", content_type="text/plain")
    assert other.get_json(silent=True) is None
    with pytest.raises(InvalidJSONError):
        other.get_json(force=True)
    with pytest.raises(InvalidJSONError) as refusal:
        other.get_json()
    assert refusal.value.status == 415


def test_cookies_are_read() -> None:
    for header in ('a=1; b="x y"; c', 'a=%20x; d=a=b; e="q\\054\\"z"; a=2; f=', 'u="\\303\\251"; ;=x; g= "h" ', "a"):
        assert list(request(cookie=header).cookies.pairs()) == list(parse_cookie(header).items(multi=True)), header
    assert request(cookie="a=%20x; a=2").cookies.getlist("a") == ["%20x", "2"]


HEADERS = [
    {},
    {
        "accept": "text/html;q=0.8, application/json, */*;q=0.1", "user-agent": "curl/8.1", "origin": "http://o",
        "authorization": "Bearer tok", "accept-language": "de,en;q=0.5", "date": "Mon, 30 Nov 2026 06:19:34 GMT",
        "referer": "http://r/", "x-forwarded-for": "1.2.3.4, 5.6.7.8", "content-length": "3",
        "content-type": "text/plain; charset=utf-8",
    },
    {"accept": "image/*, text/html;q=0", "authorization": "Basic bWU6cMOkOng=", "date": "soon"},
    {"accept-encoding": "gzip, br;q=1, *;q=0", "accept-charset": "utf-8"},
    {"accept": "a/b;q=x", "authorization": 'Digest a=1, b="x, y"'},
    {"authorization": "Basic %%%"},
]  # fmt: skip


@pytest.mark.parametrize("headers", HEADERS)
def test_headers_are_read_as_flask_reads_them(headers: dict[str, str]) -> None:
    body = b"abc" if "content-length" in headers else None
    theirs = Request(EnvironBuilder("/score", method="POST", headers=headers, data=body).get_environ())
    ours = request(body=body or b"", **{k.replace("-", "_"): v for k, v in headers.items()})
    for name in ("content_length", "content_encoding", "origin", "referrer", "date"):
        assert getattr(ours, name) == getattr(theirs, name), name
    assert ours.access_route == (list(theirs.access_route) or ["10.0.0.7"])
    assert ours.user_agent.string == str(ours.user_agent) == theirs.user_agent.string
    assert (ours.authorization is None) == (theirs.authorization is None)
    if ours.authorization is not None and theirs.authorization is not None:
        assert ours.authorization.type == theirs.authorization.type
        assert ours.authorization.token == theirs.authorization.token
        assert ours.authorization.username == theirs.authorization.username
        assert ours.authorization.password == theirs.authorization.password
        assert "tok" not in repr(ours.authorization)
        assert ours.authorization.to_header() == headers["authorization"]
    for name in ("accept_mimetypes", "accept_languages", "accept_encodings", "accept_charsets"):
        assert list(getattr(ours, name)) == list(getattr(theirs, name)), name
        assert getattr(ours, name).best == getattr(theirs, name).best, name
    mine, their = ours.accept_mimetypes, theirs.accept_mimetypes
    offers = ["text/html", "application/json", "image/png", "a/b"]
    assert [mine[offer] for offer in offers] == [their[offer] for offer in offers]
    assert [offer in mine for offer in offers] == [offer in their for offer in offers]
    assert (mine.accept_json, mine.accept_html, mine.values()) == (
        their.accept_json,
        their.accept_html,
        list(their.values()),
    )
    for some in (offers, offers[::-1], offers[2:], []):
        assert mine.best_match(some) == their.best_match(some), some


def test_the_environment_of_a_request_is_that_of_wsgi() -> None:
    from wsgiref.validate import check_environ

    asked = request(query="a=1&b=%C3%BC", body=b"abc", content_type="text/plain", x_id="7", accept="*/*")
    check_environ(asked.environ)
    theirs = Request(asked.environ)
    assert (theirs.base_url, theirs.method, theirs.get_data()) == (asked.base_url, "POST", b"abc")
    assert theirs.query_string == asked.query_string
    assert (theirs.args["b"], theirs.headers["X-Id"], theirs.remote_addr) == ("ü", "7", "10.0.0.7")
    assert (theirs.content_type, theirs.content_length) == ("text/plain", 3)


def test_an_urlencoded_form_is_read() -> None:
    asked = request(query="q=0&a=9", body=b"a=1&a=2&b=%C3%BC+x", content_type="application/x-www-form-urlencoded")
    assert asked.form.getlist("a") == ["1", "2"]
    assert asked.form["b"] == "ü x"
    assert asked.values.getlist("a") == ["9", "1", "2"]
    assert asked.values["q"] == "0"
    assert asked.files == {}
    assert request(body=b"a=1").form == {}


def multipart(*parts: tuple[str, bytes], boundary: str = "b0undary") -> bytes:
    """A body of parts: what stands in the content-disposition, and the content."""
    lines = [
        b"--%b\r\nContent-Disposition: form-data; %b\r\n\r\n%b\r\n" % (boundary.encode(), head.encode(), content)
        for head, content in parts
    ]
    return b"".join(lines) + f"--{boundary}--\r\n".encode()


def test_a_multipart_form_has_fields_and_files(tmp_path: Path) -> None:
    content = bytes(range(256)) + b"\r\n--b0undar\r\n\r\n"
    body = multipart(
        ('name="note"', "grüße".encode()),
        ('name="image"; filename="a \\"b\\".png"', content),
        ('name="other"; filename="x"; filename*=UTF-8\'\'%C3%BC.txt', b""),
    )
    asked = request(body=body, content_type='multipart/form-data; boundary="b0undary"')
    assert asked.form == {"note": "grüße"}
    image = asked.files["image"]
    assert (image.filename, image.name, image.content_length) == ('a "b".png', "image", len(content))
    assert image.read(4) == content[:4]
    image.save(tmp_path / "rest")
    assert (tmp_path / "rest").read_bytes() == content[4:]
    image.seek(0)
    target = io.BytesIO()
    image.save(target)
    assert target.getvalue() == content
    assert asked.files.get("other").filename == "ü.txt"


@given(st.lists(st.tuples(st.from_regex(r"[a-z]{1,9}", fullmatch=True), st.binary(max_size=200)), max_size=5))
def test_any_content_comes_through_a_multipart_form(parts: list[tuple[str, bytes]]) -> None:
    boundary = "a-boundary-that-is-in-no-content"
    body = multipart(*((f'name="{name}"; filename="f"', content) for name, content in parts), boundary=boundary)
    fields, files = read_multipart(f"multipart/form-data; boundary={boundary}", body)
    assert fields == []
    assert [(name, file.read()) for name, file in files] == parts


@given(st.binary(max_size=300), st.text(max_size=80))
def test_no_form_breaks_the_parser(body: bytes, content_type: str) -> None:
    read_urlencoded(body)
    for kind in (content_type, "multipart/form-data; boundary=-", f"multipart/form-data; boundary={content_type}"):
        with contextlib.suppress(RefusedInputError):
            read_multipart(kind, body)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--b\r\n",
        multipart(('name="a"', b"x"), boundary="b")[:-6],
        b"--b\r\n\r\nx\r\n--b--",
        b"--b\r\nContent-Disposition: form-data\r\n\r\nx\r\n--b--",
        b'--b\r\nContent-Disposition: form-data; name="a"; ' + b"x" * 20_000 + b"\r\n\r\nx\r\n--b--",
        multipart(*[('name="a"', b"x")] * 1001, boundary="b"),
    ],
)
def test_a_broken_form_is_refused(body: bytes) -> None:
    with pytest.raises(RefusedInputError):
        read_multipart("multipart/form-data; boundary=b", body)


def test_a_form_of_too_many_fields_is_refused() -> None:
    with pytest.raises(RefusedInputError):
        read_urlencoded(b"a=1&" * 2000)


def headers_of(answer: AMLResponse) -> tuple[int, bool, Any, bytes]:
    """What goes over the wire, with the meta part read."""
    status, was_failed, meta, body = encode_raw(answer)
    return status, was_failed, json.loads(meta), body


def test_a_response_is_text_bytes_or_json() -> None:
    html = "text/html; charset=utf-8"
    assert headers_of(AMLResponse("ü", 200)) == (200, False, [html, []], "ü".encode())
    assert headers_of(AMLResponse(b"\xff", 201)) == (201, False, [html, []], b"\xff")
    assert headers_of(AMLResponse({"a": [1, "ü"]}, 200, json_str=True)) == (
        200, False, ["application/json", []], b'{"a": [1, "\\u00fc"]}',
    )  # fmt: skip
    assert headers_of(AMLResponse(None, 200)) == (200, False, ["application/json", []], b"{}")
    assert headers_of(AMLResponse("x", "404 NOT FOUND"))[0] == 404


def test_a_response_has_headers_that_may_be_changed() -> None:
    given = {"content-type": "image/png", "X-Many": "a, b,c", "Connection": "close", "Content-Length": "7"}
    answer = AMLResponse(b"", 200, given)
    answer.headers["Access-Control-Allow-Origin"] = "http://www.example.com"
    assert headers_of(answer)[2] == [
        "image/png",
        [["x-many", "a"], ["x-many", "b"], ["x-many", "c"], ["access-control-allow-origin", "http://www.example.com"]],
    ]
    assert AMLResponse("x", 200).headers["Content-Type"] == "text/html; charset=utf-8"


def test_a_response_is_changed_as_flasks_is() -> None:
    ours, theirs = AMLResponse("x", 200), Response("x")

    def both(change: Callable[[Any], object]) -> None:
        change(ours)
        change(theirs)

    noon = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.UTC)
    both(lambda r: r.set_cookie("a", 'b c;é\\"', max_age=5, expires=noon, path="/p", domain="x.y", secure=True))
    both(lambda r: r.set_cookie("n", "v", datetime.timedelta(days=365), noon, httponly=True, samesite="lax"))
    both(lambda r: r.set_cookie("p", partitioned=True))
    both(lambda r: r.delete_cookie("k", path="/q"))
    both(lambda r: setattr(r.cache_control, "no_cache", True))
    both(lambda r: setattr(r.cache_control, "max_age", 60))
    both(lambda r: setattr(r.cache_control, "no_cache", None))
    both(lambda r: setattr(r, "last_modified", noon))
    both(lambda r: setattr(r, "expires", noon))
    both(lambda r: setattr(r, "location", "/there"))
    both(lambda r: setattr(r, "content_encoding", "gzip"))
    for name in ("Set-Cookie", "Cache-Control", "Last-Modified", "Expires", "Location", "Content-Encoding"):
        assert ours.headers.getlist(name) == theirs.headers.getlist(name), name
    assert (ours.last_modified, ours.location) == (theirs.last_modified, theirs.location)
    assert (ours.cache_control.max_age, ours.cache_control.public) == (60, None)
    for status in (404, "201 CREATED", 299, "200"):
        both(lambda r, status=status: setattr(r, "status", status))
        assert (ours.status, ours.status_code) == (theirs.status, theirs.status_code)
    for text, kind in (('{"a": 1}', "application/json"), ("{", "text/plain")):
        both(lambda r, text=text: r.set_data(text))
        both(lambda r, kind=kind: setattr(r, "mimetype", kind))
        assert (ours.json, ours.is_json, ours.content_length) == (theirs.json, theirs.is_json, theirs.content_length)
    ours.location = None
    assert "location" not in ours.headers
    for wrong in ({"key": "a b"}, {"key": "a", "value": "x", "path": "/\r\nx"}, {"key": "a", "samesite": "some"}):
        with pytest.raises(ValueError, match=r"cookie|samesite"):
            ours.set_cookie(**wrong)


def test_a_response_may_say_that_run_failed() -> None:
    assert headers_of(AMLResponse("x", 500))[1]
    assert headers_of(AMLResponse("x", 200, run_function_failed=True))[1]
    assert headers_of(AMLResponse("x", 200, {"x-ms-run-function-failed": "True"}))[1]
    assert not headers_of(AMLResponse("x", 499))[1]


@pytest.mark.parametrize(
    "answer",
    [
        AMLResponse("x", 200, {"a": "b\r\nset-cookie: c"}),
        AMLResponse("x", 200, {"a b": "c"}),
        AMLResponse("x", 200, {"": "c"}),
        AMLResponse("x", 200, {"a": "\u20ac"}),
        AMLResponse("x", 101),
        AMLResponse("x", 9999),
    ],
)
def test_what_http_has_not_is_no_response(answer: AMLResponse) -> None:
    with pytest.raises(UnserializableError):
        encode_raw(answer)


SAMPLE = (
    RAW
    + """
@rawhttp
def run(request):
    print("Request: [{0}]".format(request))
    if request.method == 'GET':
        return AMLResponse(str.encode(request.full_path), 200)
    elif request.method == 'POST':
        reqBody = request.get_data(False)
        resp = AMLResponse(reqBody, 200)
        resp.headers['Access-Control-Allow-Origin'] = "http://www.example.com"
        return resp
    else:
        return AMLResponse("bad request", 500)
"""
)


def test_the_sample_of_the_specification_serves_binary_data(tmp_path: Path) -> None:
    with serve(tmp_path, SAMPLE) as service:
        assert service.service.methods == {"GET", "HEAD", "POST", "OPTIONS"}
        data = bytes(range(256))
        response = service.ask(data)
        assert (response.status, response.body, response.content_type) == (200, data, b"text/html; charset=utf-8")
        assert response.headers == [(b"access-control-allow-origin", b"http://www.example.com")]
        assert service.ask(method="GET").body == b"/score?"
        assert service.ask(method="GET", query="a=1").body == b"/score?a=1"
        response = service.ask(method="OPTIONS")
        assert (response.status, response.failed, response.body) == (500, True, b"bad request")
        assert service.ask(method="DELETE").status == 405


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Any:
    code = RAW + "\n@rawhttp\ndef run(request):\n    return eval(request.args.get('do'))\n"
    with serve(tmp_path_factory.mktemp("raw"), code) as service:
        yield service


def ask(service: Scripted, do: str, body: bytes = b"", **headers: str) -> Any:
    """Let the script evaluate an expression over its request."""
    from urllib.parse import quote

    return service.ask(body, query="do=" + quote(do), headers=headers)


def test_a_raw_run_may_return_any_value(raw: Scripted) -> None:
    assert json_of(ask(raw, "{'a': request.remote_addr}")) == {"a": "127.0.0.1"}
    assert ask(raw, "AMLResponse('x', 404)").status == 404


def test_a_raw_run_that_reads_json_that_is_none_refuses_its_client(raw: Scripted) -> None:
    json_type = {"content-type": "application/json"}
    assert json_of(ask(raw, "request.get_json()", b"[1]", **json_type)) == [1]
    assert ask(raw, "request.get_json()", b"[1", **json_type).status == 400
    assert ask(raw, "request.get_json()", b"[1]").status == 415
    assert failed(ask(raw, "request.args['x']"))


@pytest.mark.parametrize(
    "do",
    [
        "AMLResponse('x', 200, {'a': 'b\\nc'})",
        "AMLResponse('x', 99)",
        "setattr(a := AMLResponse('x', 200), 'headers', 5) or a",
        "setattr(a := AMLResponse('x', 200), 'status_code', None) or a",
    ],
)
def test_a_response_that_http_has_not_is_an_internal_error(raw: Scripted, do: str) -> None:
    response = ask(raw, do)
    assert (response.status, response.failed) == (500, False)
    assert ask(raw, "1").status == 200
