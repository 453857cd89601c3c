"""The page at /docs in a real browser: it loads nothing else, runs nothing but its own, and asks the service."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from edge_server.config.values import Auth, Identity, ServiceConfig
from edge_server.openapi.page import page
from edge_server.service import Description, TensorInfo
from tests.edge_server.support.chromium import Chromium
from tests.edge_server.support.models import manifest, save, tensor
from tests.edge_server.support.server import Server
from tests.support.running import run

EVIL = "</textarea><script>window.broken=1</script><img src=x onerror=window.broken=1>\"'&"
CONFIG = ServiceConfig((), "127.0.0.1", identity=Identity(name=EVIL, version=EVIL))


def echo(folder: Path, name: str, columns: list[str]) -> dict[str, Any]:
    """A model that answers with the row it is given, as service.json names it."""
    home = folder / str(len(list(folder.iterdir())))
    home.mkdir()
    kind, shape = TensorProto.INT64, [None, len(columns)]
    nodes = [helper.make_node("Identity", ["x"], [end]) for end in ("y", "z")]
    save(home / "model.onnx", nodes, [tensor("x", kind, shape)], [tensor(end, kind, shape) for end in ("y", "z")])
    given = {"name": name, "graph_name": "x", "dtype": "int64", "shape": shape, "columns": columns}
    answered = [{"name": end, "graph_name": end, "dtype": "int64", "shape": shape} for end in ("y", "z")]
    manifest(home, [given], answered, methods={"default": "one", "one": ["y"], "both": ["y", "z"]})
    return {"name": name, "version": 1, "path": str(home), "file": "model.onnx"}


@dataclass
class Guarded:
    """A service that asks for a key."""

    server: Server
    key: str

    @property
    def port(self) -> int:
        return self.server.port


@pytest.fixture(scope="module")
def several(tmp_path_factory: pytest.TempPathFactory, start_for_module: Callable[..., Server]) -> Guarded:
    """A service of two models behind a key, with names that a page must not trust."""
    folder = tmp_path_factory.mktemp("docs")
    (folder / "models").mkdir()
    models = [echo(folder / "models", "plain", ["a", "b"]), echo(folder / "models", EVIL, [EVIL, "<b>b</b>"])]
    made = run(sys.executable, "-m", "edge_server.security", "keys", "new", folder / "keys.json")
    document = {
        "schema": "edgepack.service/v1",
        "host": "127.0.0.1",
        "port": 0,
        "models": models,
        "auth": {"mode": "key", "file": "keys.json"},
        "service": {"name": EVIL},
    }
    (folder / "service.json").write_text(json.dumps(document))
    return Guarded(start_for_module("--config", folder / "service.json"), json.loads(made)["primary"])


@pytest.fixture(scope="module")
def browser() -> Iterator[Chromium]:
    """One browser for all tests."""
    made = Chromium()
    yield made
    made.close()


def answered(browser: Chromium) -> str:
    """The text of the answer, when it is there."""
    browser.wait("document.getElementById('status').className")
    return str(browser.value("document.getElementById('answer').innerText"))


@pytest.mark.real("chromium")
def test_a_click_sends_the_example_and_shows_the_answer(browser: Chromium, several: Guarded) -> None:
    browser.look(1280, 900)
    browser.open(f"http://127.0.0.1:{several.port}/docs?model=plain")
    assert browser.value("document.getElementById('body').value") == '{"data": [[0, 0]]}'
    browser.click("#try button")
    refused = answered(browser)
    assert refused.startswith("401")
    browser.click("#key")
    browser.type(several.key)
    browser.click("#try button")
    browser.wait("document.getElementById('status').textContent.startsWith('200')")
    text = answered(browser)
    assert re.match(r"200 OK in \d+\.\d ms, [\d.]+ ms of it scoring", text)
    assert re.search(r"x-ms-request-id\s+[0-9a-f-]{36}", text)
    assert "[[0, 0]]" in text
    # Nothing keeps the key.
    assert browser.value("document.cookie + JSON.stringify({...localStorage, ...sessionStorage})") == "{}"
    assert several.key not in browser.value("document.getElementById('curl').textContent")
    browser.open(f"http://127.0.0.1:{several.port}/docs?model=plain")
    assert browser.value("document.getElementById('key').value") == ""


@pytest.mark.real("chromium")
def test_the_page_loads_nothing_else_and_breaks_no_rule_of_its_own(browser: Chromium, several: Guarded) -> None:
    url = f"http://127.0.0.1:{several.port}"
    browser.open(f"{url}/docs?model=plain")
    browser.click("#try button")
    answered(browser)
    assert browser.requested() == [f"{url}/docs?model=plain", f"{url}/score?model=plain"]
    assert [told for told in browser.violations() if "401" not in told] == []


@pytest.mark.real("chromium")
def test_names_of_models_and_columns_are_only_text(browser: Chromium, several: Guarded) -> None:
    url = f"http://127.0.0.1:{several.port}"
    browser.open(f"{url}/docs?model=plain")
    # The choice of a model opens its page.
    browser.value("(e=>{e.selectedIndex=e.selectedIndex?0:1;e.dispatchEvent(new Event('change'))})(model)")
    browser.wait("location.search.includes('textarea') && document.readyState === 'complete'")
    assert browser.value("window.broken") is None
    assert browser.value("document.querySelector('h1').textContent") == EVIL
    assert browser.value("document.getElementById('model').value") == EVIL
    assert browser.value("document.querySelectorAll('script').length") == 1
    assert browser.value("document.querySelectorAll('img').length") == 0
    assert "<b>b</b>" in browser.value("document.body.innerText")
    browser.click("#key")
    browser.type(several.key)
    browser.press("Enter", 13, "\r")
    browser.wait("document.getElementById('status').textContent.startsWith('200')")
    assert "[[0, 0]]" in answered(browser)
    assert browser.value("window.broken") is None
    assert browser.violations() == []


@pytest.mark.real("chromium")
def test_a_method_is_put_into_the_body_and_long_integers_stay_what_they_are(
    browser: Chromium, several: Guarded
) -> None:
    browser.open(f"http://127.0.0.1:{several.port}/docs?model=plain")
    choose = "(e=>{e.value=%r;e.dispatchEvent(new Event('change'))})(method)"
    browser.value(choose % "both")
    assert json.loads(browser.value("document.getElementById('body').value")) == {"data": [[0, 0]], "method": "both"}
    browser.value(choose % "one")
    assert json.loads(browser.value("document.getElementById('body').value")) == {"data": [[0, 0]]}
    browser.click("#key")
    browser.type(several.key)
    browser.click("#body")
    browser.value("document.getElementById('body').select()")
    browser.type('{"data": [[9223372036854775807, -1]]}')
    browser.press("Enter", 13, modifiers=2)
    browser.wait("document.getElementById('status').textContent.startsWith('200')")
    assert "[[9223372036854775807, -1]]" in answered(browser)


@pytest.mark.real("chromium")
def test_the_command_that_is_shown_does_the_same(browser: Chromium, several: Guarded) -> None:
    browser.open(f"http://127.0.0.1:{several.port}/docs?model=plain")
    browser.value("document.getElementById('body').select()")
    browser.type('{"data": [[1, 2]], "method": "it\'s"}')
    command = browser.value("document.getElementById('curl').textContent")
    shell = f"curl() {{ printf '%s\\n' \"$@\"; }}; {command}"
    words = run("sh", "-c", shell, env={"KEY": "the key"}).splitlines()
    assert words == [
        f"http://127.0.0.1:{several.port}/score?model=plain",
        "-H",
        "authorization: Bearer the key",
        "-H",
        "content-type: application/json",
        "-d",
        '{"data": [[1, 2]], "method": "it\'s"}',
    ]


@pytest.mark.real("chromium")
def test_a_scripts_page_shows_its_schema_and_its_failures(
    browser: Chromium, tmp_path: Path, start: Callable[..., Server]
) -> None:
    (tmp_path / "score.py").write_text("def init(): pass\ndef run(data): return {'got': data}\n")
    server = start("--entry-script", tmp_path / "score.py", "--port", "0")
    browser.open(f"http://127.0.0.1:{server.port}/docs")
    browser.click("#try button")
    text = answered(browser)
    assert text.startswith("200")
    assert re.search(r"x-ms-run-function-failed\s+False", text)
    assert '"got": "{}"' in text
    server.stop()
    browser.value("document.getElementById('status').className = ''")
    browser.click("#try button")
    assert answered(browser).startswith("no answer")


@pytest.mark.real("chromium")
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_nothing_is_wider_than_the_window(browser: Chromium, several: Guarded, width: int) -> None:
    browser.look(width, 800, dark=width == 390)
    browser.open(f"http://127.0.0.1:{several.port}/docs")
    assert browser.value("document.documentElement.scrollWidth") == width
    dark = browser.value("getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (width != 390)


@pytest.mark.real("chromium")
def test_a_keyboard_reaches_everything_and_shows_where_it_is(browser: Chromium, several: Guarded) -> None:
    browser.look(1280, 900)
    browser.open(f"http://127.0.0.1:{several.port}/docs?model=plain")
    browser.value("document.getElementById('body').focus()")
    reached = []
    for _ in range(4):
        browser.press("Tab", 9)
        reached.append(browser.value("document.activeElement.id || document.activeElement.tagName"))
        assert browser.value("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert reached[:2] == ["method", "key"]
    assert "BUTTON" in reached
    # Every field has a label.
    assert browser.value("[...document.querySelectorAll('input,select,textarea')].every(e=>e.labels.length)")


class Parsed(HTMLParser):
    """Elements and attributes of a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_whatever_the_names_are_the_page_has_its_own_elements_only() -> None:
    tensors = (TensorInfo(EVIL, EVIL, (None, 9), (EVIL,) * 9, EVIL), TensorInfo("x", "int64", None))
    described = Description(
        {"type": "object", "example": {EVIL: EVIL}}, {}, methods=(EVIL, "b"), inputs=tensors, formats={EVIL: {}}
    )
    script = Description({"type": EVIL, "title": "</pre>" + EVIL}, {"type": EVIL})
    for description in (described, script, Description({}, {}, models={EVIL: described, "other": script})):
        response = page(description, CONFIG)
        text = response.body.decode()
        elements = Parsed(text).found
        assert [tag for tag, _ in elements].count("script") == 1
        assert "img" not in {tag for tag, _ in elements}
        assert not any(name.startswith("on") for _, attributes in elements for name in attributes)


def test_the_policy_allows_only_what_the_page_brings() -> None:
    response = page(Description({"example": {}}, {}), CONFIG)
    headers = dict(response.headers or [])
    policy = headers[b"content-security-policy"].decode()
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers[b"x-content-type-options"] == b"nosniff"


def test_the_page_is_small() -> None:
    columns = tuple(f"column {number}" for number in range(50))
    described = Description(
        {"example": {"data": [[0.5] * 50]}},
        {},
        formats={"image/png": {}},
        methods=("predict", "predict_proba"),
        inputs=(TensorInfo("features", "float32", (None, 50), columns),),
        outputs=(TensorInfo("label", "int64", (None,)), TensorInfo("probabilities", "float32", (None, 3))),
    )
    config = ServiceConfig((), "127.0.0.1", auth=Auth("key"))
    assert len(page(described, config).body) < 12_000


@pytest.mark.parametrize(
    ("dtype", "shape", "words"),
    [
        ("float64", (None, 1), "number"),
        ("int64", (None,), "whole number"),
        ("uint8", (None, 224, 224, 3), "224 × 224 × 3 whole numbers in each row"),
        ("float32", (None, 4), "4 numbers in each row"),
        ("float32", (None, None), "any number of numbers in each row"),
        ("string", (None, 2), "2 texts in each row"),
        ("bool", (2,), "2 values, true or false"),
        ("float32", None, "numbers, in lists of any depth"),
        ("float16", (), "number"),
        ("sequence or map", None, "sequence or map, in lists of any depth"),
    ],
)
def test_inputs_are_told_in_words(dtype: str, shape: tuple[int | None, ...] | None, words: str) -> None:
    described = Description({}, {}, inputs=(TensorInfo("x", dtype, shape),))
    body = page(described, ServiceConfig((), "127.0.0.1")).body.decode()
    assert f'<li><b>x</b> <span title="{dtype}">{words}</span>' in body


def test_there_is_no_page_where_it_is_switched_off(tmp_path: Path, start: Callable[..., Server]) -> None:
    (tmp_path / "models").mkdir()
    document = {
        "schema": "edgepack.service/v1",
        "host": "127.0.0.1",
        "port": 0,
        "models": [echo(tmp_path / "models", "plain", ["a"])],
        "docs": False,
    }
    (tmp_path / "service.json").write_text(json.dumps(document))
    server = start("--config", tmp_path / "service.json")
    assert server.request("GET", "/docs")[0] == 404
    assert server.request("GET", "/swagger.json")[0] == 200


def test_an_unknown_model_has_no_page(several: Guarded) -> None:
    status, _, body = several.server.request("GET", "/docs?model=%3Cscript%3E")
    assert status == 404
    assert json.loads(body)["message"] == "there is no model '<script>'"
