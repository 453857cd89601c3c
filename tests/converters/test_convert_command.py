"""The whole command: a model, a sample, measured variants, and the report as a page and as JSON."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.datasets import load_breast_cancer
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from converters import Options, convert
from edge_server.models.loading import load_model
from edge_server.models.running.golden import check_golden, read_golden
from tests.support import forked

VARIANTS = ["plain", "graph, basic", "graph, extended", "float16", "int8, dynamic", "int8, static"]


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A network of float32 weights' size, and rows for it."""
    x, y = load_breast_cancer(return_X_y=True)
    network = MLPClassifier((300, 300), max_iter=20, random_state=0)
    joblib.dump(make_pipeline(StandardScaler(), network).fit(x, y), tmp_path / "net.joblib")
    np.savetxt(tmp_path / "rows.csv", x[:40], delimiter=",")
    return tmp_path / "net.joblib"


def _run(tmp_path: Path, *words: str) -> dict[str, Any]:
    env = {**os.environ, "EDGEPACK_WORKSPACE": str(tmp_path / "workspace")}
    done = forked.finish("edgepack", *words, "--output", "json", cwd=tmp_path, env=env)
    assert done.code == 0, done.stderr
    answer: dict[str, Any] = done.json
    return answer


def test_sample_variants_and_reports_by_the_command(trained: Path, tmp_path: Path) -> None:
    _run(tmp_path, "model", "register", "-n", "net", "-p", str(trained))
    words = ("model", "convert", "-m", "net", "--sample", "rows.csv", "--optimize", "--report")
    found = _run(tmp_path, *words, "report.html")
    assert found["report"]["rows"]["sample"]["rows"] == 40
    assert [entry["name"] for entry in found["report"]["variants"]] == VARIANTS
    assert sum(entry["kept"] for entry in found["report"]["variants"]) == 1
    page = (tmp_path / "report.html").read_text()
    for told in ("Parity of net:1", "Optimised variants", "<svg", "int8, static"):
        assert told in page
    again = _run(tmp_path, *words, "report.json")
    assert again["layers"] == found["layers"], "remembered"
    report = json.loads((tmp_path / "report.json").read_text())
    points = [output["sketch"].pop("points", None) for output in report["outputs"]]
    assert any(points), "the file has the points of the plots, and the answer has not"
    assert report == found["report"]


@pytest.mark.usefixtures("without_sandbox")
def test_the_server_takes_what_optimising_leaves(trained: Path, tmp_path: Path) -> None:
    conversion = convert(trained, framework="ScikitLearn", output_dir=tmp_path / "out", options=Options(optimize=True))
    model = load_model(conversion.model, 1)
    vectors = read_golden(model)
    assert vectors is not None
    assert check_golden(model, vectors) > 0
    rows = load_breast_cancer().data[:100]
    (label,) = model.run(model.rows(rows.tolist()), ["label"])
    original = joblib.load(trained)
    assert (label == original.predict(rows)).mean() >= 0.99
