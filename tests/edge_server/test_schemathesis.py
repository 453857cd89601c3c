"""schemathesis, told by our own OpenAPI documents what we take and answer, tries to prove them wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.edge_server.support.live_server import ROW, Server, post, write_config, write_iris, write_script
from tests.support.http_client import ask
from tests.support.running import python

CHECKS = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance"
OTHERS = CHECKS.rpartition(",")[0]

SCRIPT = """
import numpy as np
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType
from inference_schema.schema_decorators import input_schema, output_schema

def init():
    pass

@input_schema("data", NumpyParameterType(np.array([[5.1, 3.5, 1.4, 0.2]])))
@input_schema("words", StandardPythonParameterType(["a"]))
@input_schema("scale", StandardPythonParameterType(1.5))
@output_schema(StandardPythonParameterType([1.5]))
def run(data, words, scale):
    return [float(row.sum()) * scale for row in np.nan_to_num(data)]
"""
GOOD = {"data": [ROW], "words": ["a"], "scale": 2.0}


@pytest.fixture(scope="module")
def servers(
    start_for_module: Callable[..., Server], tmp_path_factory: pytest.TempPathFactory, iris: Any
) -> dict[str, Server]:
    folder = tmp_path_factory.mktemp("described")
    models = {"iris:1": write_iris(folder / "iris", iris.onnx)}
    model = start_for_module("--config", write_config(folder / "service.json", models))
    script = start_for_module("--entry-script", write_script(folder / "source", SCRIPT), "--port", "0")
    return {"model": model, "script": script}


# Swagger 2 has no alternatives, so it tells of the usual method's answers alone; and schemathesis 4.32 fails on the
# lists of types by which OpenAPI 3.1 says that a number may be null.
CASES = {("model", "2"): OTHERS, ("model", "3"): CHECKS, ("script", "3.1"): CHECKS}
END = "\n-- this run has ended --"
# Each argument is a run's arguments, and each run's end a line. It takes five seconds to import.
RUNS = """
import json, sys
from schemathesis.cli import schemathesis
for argv in sys.argv[1:]:
    try:
        code = schemathesis(json.loads(argv), standalone_mode=False)
    except SystemExit as ended:
        code = ended.code
    print(f"\\nexit code {code or 0}\\n-- this run has ended --", flush=True)
"""


@pytest.fixture(scope="module")
def told(servers: dict[str, Server], tmp_path_factory: pytest.TempPathFactory) -> dict[tuple[str, str], str]:
    """What schemathesis tells of each case."""
    runs = []
    for (kind, version), checks in CASES.items():
        address = f"http://127.0.0.1:{servers[kind].port}"
        argv = [
            "run", f"{address}/swagger.json?version={version}", "--url", address, "--checks", checks, "--phases",
            "examples,coverage,fuzzing", "--max-examples", "20", "--no-shrink", "--generation-deterministic",
            "--continue-on-failure", "--no-color", "--request-timeout", "10",
        ]  # fmt: skip
        runs.append(json.dumps(argv))
    lines = python(RUNS, *runs, cwd=tmp_path_factory.mktemp("schemathesis"))
    *each, rest = lines.split(END)
    assert rest == "\n"
    return dict(zip(CASES, each, strict=True))


@pytest.mark.parametrize(("kind", "version"), CASES)
def test_what_is_described_is_what_is_answered(
    servers: dict[str, Server], told: dict[tuple[str, str], str], kind: str, version: str
) -> None:
    server = servers[kind]
    tried = re.search(r"(\d+) generated", told[kind, version])
    assert tried is not None
    assert told[kind, version].endswith("exit code 0"), told[kind, version]
    assert int(tried[1]) > 50
    assert ask(server.port, "GET", "/").status == 200
    assert post(server, {"data": [ROW]} if kind == "model" else GOOD).status == 200
