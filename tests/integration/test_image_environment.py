"""An image whose script imports scikit-learn and pandas: what it weighs, that it scores, that a lock makes it again."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from edgepack.oci.descriptor import Platform
from edgepack.oci.store import Store
from edgepack.oci.tar.compression import decompressed
from tests.integration.support.images import Commands, image_of, wait_healthy
from tests.support.http_client import ask
from tests.support.ports import free_port

HOST = Platform.host()
SCRIPT = """
import json

import pandas as pd
from sklearn.linear_model import LogisticRegression
from inference_schema.parameter_types.pandas_parameter_type import PandasParameterType
from inference_schema.schema_decorators import input_schema


def init():
    global model
    model = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])


@input_schema("data", PandasParameterType(pd.DataFrame({"a": [1.0]})))
def run(data):
    import sklearn
    return {"labels": model.predict(data.values).tolist(), "from": [sklearn.__file__, pd.__file__]}
"""
CONDA = """
name: project_environment
channels: [conda-forge]
dependencies:
  - python=3.11
  - nomkl
  - scikit-learn
  - pandas
  - pip:
    - azureml-defaults>=1.0.45
    - inference-schema[numpy-support]
variables: {OMP_NUM_THREADS: "1"}
"""


@dataclass(frozen=True)
class Made:
    commands: Commands
    folder: Path
    built: Any
    said: str


@pytest.fixture(scope="module")
def made(place: Path) -> Made:
    folder = place / "with an environment"
    (folder / "app").mkdir(parents=True)
    (folder / "app/score.py").write_text(SCRIPT)
    (folder / "conda.yml").write_text(CONDA)
    commands = Commands(folder, folder / "workspace")
    done = commands.edgepack(
        "package", "build", "--entry-script", "score.py", "--source-directory", folder / "app", "--environment",
        folder / "conda.yml", "-t", "learn:1", "--write-lock", folder / "lock.txt", "--output", "json",
    )  # fmt: skip
    return Made(commands, folder, done.json, done.stderr)


def test_the_image_is_within_its_budget_and_says_what_is_left_out(made: Made) -> None:
    image = image_of(made.built, str(HOST))
    assert image["size"] <= 110_000_000
    assert image["unpacked_size"] <= 360_000_000
    assert "azureml-defaults is not installed" in made.said
    assert "inference-schema is not installed" in made.said
    assert "nomkl is left out" in made.said


def test_a_build_with_its_lock_is_the_same_image(made: Made) -> None:
    again = made.commands.edgepack(
        "package", "build", "--entry-script", "score.py", "--source-directory", made.folder / "app", "--environment",
        made.folder / "conda.yml", "-t", "learn:2", "--lock", made.folder / "lock.txt", "--offline", "--output", "json",
    )  # fmt: skip
    assert again.json["digest"] == made.built["digest"]


@pytest.fixture(scope="module")
def root(made: Made) -> Path:
    """The files of the image without those of its base."""
    store = Store(made.commands.workspace / "store")
    root = made.folder / "root"
    for layer in store.manifest(store.resolve("learn:1")).layers:
        if layer.kind != "base":
            with store.open(layer) as blob:
                stream = decompressed(blob, layer, 1 << 30)
                with tarfile.open(fileobj=stream, mode="r|") as archive:
                    archive.extractall(root, filter="data")
    return root


@pytest.fixture
def port(made: Made, root: Path) -> Iterator[int]:
    """The image's server, run by this Python with the image's modules and no others."""
    if sys.version_info[:2] != (3, 11):
        pytest.skip("the image is of Python 3.11")
    port = free_port()
    own = f"{root}/opt/edgepack/server:{root}/opt/edgepack/lib/python3.11/site-packages"
    variables = {"PYTHONPATH": own, "PATH": os.environ["PATH"], "PYTHONNOUSERSITE": "1", "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable, "-S", "-m", "edge_server", "--config", root / "opt/edgepack/service.json", "--port", str(port),
        "--host", "127.0.0.1",
    ]  # fmt: skip
    with subprocess.Popen(command, env=variables, cwd=made.folder) as server:
        try:
            wait_healthy(port, 120, lambda: server.poll() is None)
            yield port
        finally:
            server.terminate()


def test_the_script_scores_with_the_modules_of_the_image(port: int, root: Path) -> None:
    body = json.dumps({"data": [{"a": 0.0}, {"a": 3.0}]}).encode()
    answer = ask(port, "POST", "/score", body, {"Content-Type": "application/json"})
    said = json.loads(answer.body)
    assert said["labels"] == [0, 1]
    assert all(path.startswith(str(root)) for path in said["from"])
