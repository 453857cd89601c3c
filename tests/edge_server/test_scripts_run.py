"""How ``run`` is called: undecorated, decorated, with headers, async; and what its answers become."""

from __future__ import annotations

import json
import logging
import math
from pathlib import Path
from typing import Any

import pytest

from edge_server.errors import ScriptError
from edge_server.http.messages import Response
from tests.edge_server.support.scripts import INIT, Scripted, configure, failed, json_of, serve

ECHO = INIT + "def run(data):\n    return [type(data).__name__, data]\n"


def test_undecorated_run_gets_the_body_as_text_whatever_its_content_type(tmp_path: Path) -> None:
    with serve(tmp_path, ECHO) as service:
        assert json_of(service.ask('{"a": "ü"}')) == ["str", '{"a": "ü"}']
        form = {"content-type": "application/x-www-form-urlencoded"}
        assert json_of(service.ask("a=1&b=2", headers=form)) == ["str", "a=1&b=2"]
        assert json_of(service.ask(b"")) == ["str", ""]
        response = service.ask(b"\xff\xfe")
        assert response.status == 400
        assert "UTF-8" in json_of(response)["message"]


def test_get_gives_the_query_as_json_text(tmp_path: Path) -> None:
    with serve(tmp_path, ECHO) as service:
        response = service.ask(method="GET", query="a=1&b=x&c=1&c=[2]&d=&e=%C3%BC&f=null")
        kind, text = json_of(response)
        assert kind == "str"
        assert json.loads(text) == {"a": 1, "b": "x", "c": [1, [2]], "d": "", "e": "ü", "f": None}
        assert text.startswith('{"a": 1, ')
        assert service.ask(method="GET", query="&".join("a=1" for _ in range(2000))).status == 400
        assert service.ask(method="PUT").status == 405
        assert service.service.methods == {"GET", "POST"}


def test_answers_say_how_long_run_took(tmp_path: Path) -> None:
    code = INIT + "import time\ndef run(data):\n    time.sleep(0.05)\n    return data\n"
    with serve(tmp_path, code) as service:
        response = service.ask("x")
        assert response.exec_ms is not None
        assert 50 <= response.exec_ms < 500
        assert ("run", "score:") in service.metrics.told


@pytest.mark.parametrize("prefix", ["", "async "])
def test_request_headers_are_given_to_a_run_that_takes_them(tmp_path: Path, prefix: str) -> None:
    code = INIT + f"{prefix}def run(data, request_headers):\n    return [data, request_headers]\n"
    with serve(tmp_path, code) as service:
        response = service.ask("x", headers={"x-trace-id": "7", "content-type": "text/plain"})
        assert json_of(response) == ["x", {"Host": "device:5001", "X-Trace-Id": "7", "Content-Type": "text/plain"}]


VALUES = """
    import collections, datetime, decimal, numpy, pandas, time
    def init(): pass
    Pair = collections.namedtuple("Pair", "label score")
    class Odds(float): pass
    nested = cycle = []
    cycle = {}
    cycle["me"] = cycle
    for _ in range(100_000):
        nested = [nested]
    class Broken:
        def __str__(self): raise RuntimeError("no")
        __repr__ = __str__
    frame = pandas.DataFrame({"n": [1, 2], "s": ["a", None], "t": pandas.to_datetime(["2024-01-02", None])})
    values = {
        "text": "é\\ud800", "none": None, "tuple": (1, 2.5), "keys": {1: "a", None: 2}, "big": 2**70,
        "array": numpy.arange(6, dtype="float32").reshape(2, 3), "scalar": numpy.int64(7), "bool": numpy.bool_(True),
        "fortran": numpy.asfortranarray(numpy.arange(4).reshape(2, 2)), "strings": numpy.array(["a", "b"]),
        "objects": numpy.array([1, "x", None], dtype=object), "half": numpy.float16(0.5),
        "frame": frame, "series": frame["n"], "index": frame.columns, "na": [pandas.NA, pandas.NaT],
        "nan": [float("nan"), numpy.float64("inf"), numpy.array([1.0, float("nan")])],
        "set": {1, 2}, "bytes": b"x", "cycle": cycle, "nested": nested, "object": Broken(), "type": int,
        "complex": 1j, "decimal": decimal.Decimal(1), "generator": (x for x in "ab"),
        "big and nan": [2**70, float("nan"), {"inner": (numpy.array([1.0, numpy.inf]), Odds("nan"))}],
        "named tuple": [Pair("cat", 0.9), Pair("dog", Odds(0.1))], "odds": Odds(0.5),
        "time": time.gmtime(0), "big in a named tuple": Pair(2**70, float("inf")),
    }
    def run(data):
        return values[data]
"""


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serve(tmp_path_factory.mktemp("values"), VALUES) as service:
        yield service


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("text", "é\ud800"),
        ("none", {}),
        ("tuple", [1, 2.5]),
        ("keys", {"1": "a", "null": 2}),
        ("big", 2**70),
        ("array", [[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]),
        ("scalar", 7),
        ("bool", True),
        ("fortran", [[0, 1], [2, 3]]),
        ("strings", ["a", "b"]),
        ("objects", [1, "x", None]),
        ("half", 0.5),
        ("frame", [{"n": 1, "s": "a", "t": "2024-01-02T00:00:00"}, {"n": 2, "s": None, "t": None}]),
        ("series", [1, 2]),
        ("index", ["n", "s", "t"]),
        ("na", [None, None]),
        ("nan", [None, None, [1.0, None]]),
        ("big and nan", [2**70, None, {"inner": [[1.0, None], None]}]),
        ("named tuple", [["cat", 0.9], ["dog", 0.1]]),
        ("odds", 0.5),
        ("time", [1970, 1, 1, 0, 0, 0, 3, 1, 0]),
        ("big in a named tuple", [2**70, None]),
    ],
)
def test_what_run_returns_is_json(values: Scripted, name: str, expected: Any) -> None:
    response = values.ask(name)
    assert response.status == 200
    assert response.content_type == b"application/json"
    assert json_of(response) == expected
    assert not any(isinstance(item, float) and math.isnan(item) for item in [json_of(response)])


@pytest.mark.parametrize(
    "name", ["set", "bytes", "cycle", "nested", "object", "type", "complex", "decimal", "generator"]
)
def test_what_cannot_be_json_is_an_internal_error_and_no_failed_run(values: Scripted, name: str) -> None:
    response = values.ask(name)
    assert (response.status, response.failed) == (500, False)
    assert json_of(response)["message"].startswith("An unexpected internal error occurred")
    assert values.ask("none").status == 200


DECORATED = """
    import numpy
    from inference_schema.schema_decorators import input_schema, output_schema
    from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
    from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
    def init(): pass
    @input_schema("data", NumpyParameterType(numpy.array([[1.0, 2.0]])))
    @input_schema("scale", StandardPythonParameterType(1.5))
    @output_schema(NumpyParameterType(numpy.array([3.0])))
    def run(data, scale=2.0):
        if scale == 13:
            raise ValueError("unlucky")
        return data.sum(axis=1) * scale
"""


@pytest.fixture(scope="module")
def decorated(tmp_path_factory: pytest.TempPathFactory) -> Any:
    with serve(tmp_path_factory.mktemp("decorated"), DECORATED) as service:
        yield service


def test_decorated_run_gets_converted_parameters(decorated: Scripted) -> None:
    assert json_of(decorated.post_json({"data": [[1, 2], [3, 4]], "scale": 3.0})) == [9.0, 21.0]
    assert json_of(decorated.post_json({"data": [[1, 2]]})) == [6.0]
    assert json_of(decorated.ask(method="GET", query="data=[[1,2]]&scale=1.0")) == [3.0]


def test_decorated_run_refuses_what_it_does_not_take_with_distinct_messages(decorated: Scripted) -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    wrong_type = decorated.ask('{"data": [[1,2]]}', headers={"content-type": "text/plain"})
    assert wrong_type.status == 415
    told = "Expects Content-Type to be application/json, not text/plain"
    assert json_of(wrong_type) == {"message": told, "status_code": 415}
    bodies: list[str | bytes] = [
        "", "{", "[1]", "{}", '{"data": "x"}', '{"data": [[1,2]], "scale": "x"}',
    ]  # fmt: skip
    found = {}
    for body in bodies:
        response = decorated.ask(body, headers=headers)
        assert response.status == 400, body
        assert not response.failed
        found[json_of(response)["message"]] = body
    assert len(found) == len(bodies)
    assert (
        decorated.ask('{"data": [[1, 2]], "rate": 1}', headers=headers).status == 200
    )  # what is unknown is left alone
    for body in ('{"data": [["NaN, 1]]}', "[" * 1_000_000, b"\xff", '{"data": [[1], [2, 3]]}', '{"data": [[1, 2, 3]]}'):
        assert decorated.ask(body, headers=headers).status == 400, body[:40]


ANY = """
    from inference_schema.schema_decorators import input_schema
    from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
    class Any(StandardPythonParameterType):
        def deserialize_input(self, value): return value
    def init(): pass
    @input_schema("a", Any(1))
    def run(a):
        return repr(a)
"""
RAW_ANY = """
    from azureml.contrib.services.aml_request import rawhttp
    def init(): pass
    @rawhttp
    def run(request):
        return repr(request.get_json()["a"])
"""


@pytest.mark.parametrize("code", [ANY, RAW_ANY])
def test_json_is_read_as_python_reads_it(tmp_path: Path, code: str) -> None:
    # What clients send by json.dumps, and what the original takes: the oracle is Python's own json.
    texts = ["NaN", "[-Infinity, Infinity]", "1e400", "-1e400", *(str(n) for n in (2**64 - 1, 2**64, -(2**63) - 1))]
    texts += ["0.12345678901234567890123", "12345678901234567890.5", "1e25", '"\\ud800"', '"12345678901234567890"']
    texts += [f"[1.0, {10**25}]", f'{{"x": [{-(10**30)}]}}', '"\u00e9"']
    with serve(tmp_path, code) as service:

        def asked(body: bytes) -> Response:
            return service.ask(body, headers={"content-type": "application/json"})

        for text in texts:
            body = f'{{"a": {text}}}'
            for encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32"):
                response = asked(body.encode(encoding))
                assert (response.status, json_of(response)) == (200, repr(json.loads(body)["a"])), (text, encoding)
        for broken in (
            b'{"a": }',
            b'{"a": 1',
            b'{"a": "\xff"}',
            b'{"a": ' + b"[" * 100_000,
            b'{"a": 1}x',
            b"\xff\xfe{",
        ):
            assert asked(broken).status == 400, broken[:20]
        assert asked(b'{"a": ' + b"9" * 5000 + b"}").status == 400


def test_an_error_inside_a_decorated_run_is_a_failed_run(decorated: Scripted) -> None:
    assert failed(decorated.post_json({"data": [[1, 2]], "scale": 13.0}))


def test_description_comes_from_the_decorators(decorated: Scripted, tmp_path: Path) -> None:
    described = decorated.service.describe()
    assert set(described.input_schema["properties"]) == {"data", "scale"}
    assert described.input_schema["example"]["data"] == [[1.0, 2.0]]
    assert described.output_schema["type"] == "array"
    assert decorated.post_json(described.input_schema["example"]).status == 200
    with serve(tmp_path, ECHO) as plain:
        assert plain.service.describe().input_schema == {"type": "object", "example": {}}


def test_async_calls_run_at_once(tmp_path: Path) -> None:
    code = """
        import asyncio
        async def init():
            global barrier
            barrier = asyncio.Barrier(20)
        async def run(data):
            await asyncio.wait_for(barrier.wait(), 60)
            return data
    """
    with serve(tmp_path, code, concurrency=20) as service:
        assert [json_of(answer) for answer in service.ask_all([str(n) for n in range(20)])] == [
            str(n) for n in range(20)
        ]


def test_threads_and_workers_run_calls_at_the_same_time(tmp_path: Path) -> None:
    code = (
        INIT
        + """if True:
        import os, threading, time
        def run(data):
            open(data, "w").close()
            while len(os.listdir(os.path.dirname(data))) < 4:
                time.sleep(0.01)
            return [os.getpid(), threading.get_ident()]
    """
    )
    together = tmp_path / "together"
    together.mkdir()
    with serve(tmp_path, code, workers=2, threads=2) as service:
        answers = service.ask_all([f"{together}/{n}" for n in range(4)])
        places = {tuple(json_of(answer)) for answer in answers}
        assert len(places) == 4
        assert len({process for process, _ in places}) == 2


def test_what_the_script_prints_and_logs_becomes_log_lines(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    code = (
        INIT
        + """if True:
        import logging, os, sys
        def run(data):
            print("printed")
            os.write(2, b"bin\\xff\\n" + b"y" * 100_000 + b"\\n")
            logging.getLogger("mine").warning("careful %s", data, extra={"rows": 3})
            logging.getLogger("mine").debug("not seen")
            return os.environ.get("HOME") and sys.stdin.read()
    """
    )
    caplog.set_level(logging.INFO)
    with serve(tmp_path, code) as service:
        assert json_of(service.ask("x", request_id="r-1")) == ""
        service.wait(lambda: sum(record.name == "script" for record in caplog.records) >= 3)
        service.wait(lambda: any(record.name == "mine" for record in caplog.records))
    lines = {record.getMessage()[:10]: record for record in caplog.records}
    assert (lines["printed"].stream, lines["printed"].worker) == ("stdout", 0)  # type: ignore[attr-defined]
    assert lines["bin\ufffd"].stream == "stderr"  # type: ignore[attr-defined]
    assert len(lines["y" * 10].getMessage()) == 16 * 1024
    record = lines["careful x"]
    assert (record.levelname, record.request_id, record.rows) == ("WARNING", "r-1", 3)  # type: ignore[attr-defined]
    assert "not seen" not in lines


@pytest.mark.parametrize(
    ("code", "parts"),
    [
        ("import nowhere_to_be_found\n", ["importing", "ModuleNotFoundError", "score.py, line 1"]),
        ("def init():\n    x = 1\n    raise KeyError('model')\ndef run(d): ...\n", ["init()", "KeyError", "line 3"]),
        ("def init() ...\n", ["SyntaxError: expected ':' (", "score.py, line 1)"]),
        ("import sys\nsys.exit(4)\n", ["SystemExit: 4", "line 2"]),
        ("import os\nos._exit(7)\n", ["exit code 7 while importing the script or in init()"]),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n", ["signal SIGSEGV"]),
        ("def run(data): ...\n", ["no init()"]),
        (INIT, ["no run()"]),
        (INIT + "def run(): ...\n", ["takes no argument"]),
        (INIT + "def run(*data): ...\n", ["*args"]),
        (INIT + "def run(data, **more): ...\n", ["**kwargs"]),
        (INIT + "def run(request_headers): ...\n", ["takes no argument"]),
        (
            "from azureml.contrib.services.aml_request import rawhttp\n"
            "from inference_schema.schema_decorators import input_schema\n"
            "from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType\n"
            + INIT
            + "@rawhttp\n@input_schema('data', StandardPythonParameterType(1))\ndef run(data): ...\n",
            ["@rawhttp and @input_schema"],
        ),
    ],
)
def test_a_script_that_cannot_start_is_refused_with_one_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, code: str, parts: list[str]
) -> None:
    _assert_refused(tmp_path, code, parts)
    if "line 3" in parts:
        assert any("in init" in getattr(record, "traceback", "") for record in caplog.records)


def test_a_script_that_does_not_start_in_time_is_refused_with_one_sentence(tmp_path: Path) -> None:
    told = "within 0.7 s; let init() do less, or raise entry_script.start_seconds"
    _assert_refused(tmp_path, "import time\ntime.sleep(60)\n", [told], start_seconds=0.7)


def _assert_refused(folder: Path, code: str, parts: list[str], **script: object) -> None:
    with pytest.raises(ScriptError) as refusal, serve(folder, code, **script):
        pass
    assert str(refusal.value).count("score.py") == 1
    for part in parts:
        assert part in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert refusal.value.exit_code == 5


def test_the_script_finds_its_folder_its_neighbours_and_its_models(tmp_path: Path) -> None:
    configure(tmp_path, "")
    (tmp_path / "source" / "helper.py").write_text("NAME = 'mine'\n")
    code = (
        INIT
        + """if True:
        import os, sys, helper
        def run(data):
            here = __name__, sys.modules["score"].run is run, helper.NAME, sys.path[0], os.getcwd()
            return [*here, os.environ["AML_APP_ROOT"], os.environ["AZUREML_MODEL_DIR"]]
    """
    )
    with serve(tmp_path, code) as service:
        found = json_of(service.ask())
    assert found[:3] == ["score", True, "mine"]
    assert found[3:6] == [str(tmp_path / "source"), str(tmp_path), str(tmp_path)]
