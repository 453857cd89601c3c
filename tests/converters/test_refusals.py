"""What a refusal says and leaves: one cause, a way out that works, and a report of every way that was tried."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from converters import Options
from converters.package.tried import UNFINISHED, Tried, refusal
from converters.proof import parity
from converters.report import render
from edgepack.errors import ConversionError
from edgepack.names import ModelRef
from packager.models.conversion import served
from packager.workspaces.workspace import Workspace

Save = Callable[..., Path]
Convert = Callable[..., Any]
RANDOM = np.random.default_rng(0)
X = RANDOM.normal(size=(60, 3))


@pytest.fixture
def strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """No difference passes: the last digit of a sum of products is enough to refuse a model."""
    monkeypatch.setattr(parity, "RTOL", 0.0)
    monkeypatch.setattr(parity, "ATOL", 0.0)


@pytest.mark.usefixtures("without_sandbox", "strict")
def test_difference_names_a_tolerance_that_is_enough_and_the_rows(save: Save, sklearn_to_onnx: Convert) -> None:
    path = save(MLPRegressor(hidden_layer_sizes=(20, 20), max_iter=20, random_state=0).fit(X, X[:, 0]))
    with pytest.raises(ConversionError, match="does not match predict") as caught:
        sklearn_to_onnx(path)
    named = re.search(r"--tolerance values=(\S+), else serve the original", caught.value.hint or "")
    assert named
    assert caught.value.report is not None
    document = json.loads(caught.value.report.read_text())
    assert [entry["recipe"] for entry in document["attempts"]] == ["float64", "float32", "float32-skl2onnx"]
    first = document["attempts"][0]
    assert (first["output"], first["method"]) == ("values", "predict")
    assert 0 < first["differing"] <= first["rows"]
    row = first["differing_rows"][0]
    assert set(row["inputs"]) == {"x0", "x1", "x2"}
    assert row["original"] != row["onnx"]
    assert row["kind"] in ("generated", "boundary")
    page = render(document, "net:1")
    assert "Refused" in page
    assert "Rows that differ" in page
    done = sklearn_to_onnx(path, options=Options(tolerances={"values": float(named[1])}))
    assert done.parity
    assert done.parity.accepted
    assert not caught.value.report.exists()


@pytest.mark.usefixtures("without_sandbox")
def test_random_original_is_not_offered_a_tolerance(
    save: Save, sklearn_to_onnx: Convert, monkeypatch: pytest.MonkeyPatch
) -> None:
    def moody(model: LogisticRegression, x: Any) -> Any:
        share = np.random.default_rng().random(len(x))
        return np.column_stack([share, 1 - share])

    path = save(LogisticRegression().fit(X, X[:, 0] > 0))
    monkeypatch.setattr(LogisticRegression, "predict_proba", moody)
    with pytest.raises(ConversionError, match="otherwise each time") as caught:
        sklearn_to_onnx(path)
    assert "--tolerance" not in str(caught.value)


def test_conversion_that_is_stopped_leaves_what_it_tried(tmp_path: Path) -> None:
    tried = Tried(tmp_path)
    tried.begin("float64")
    tried.failed(ConversionError("no"))
    tried.begin("float32")
    left = (tmp_path / "tried.json").read_bytes()
    document = refusal(left, ConversionError("stopped", hint="wait"), {}, {})
    assert document["attempts"] == [
        {"recipe": "float64", "outcome": "no"},
        {"recipe": "float32", "outcome": UNFINISHED},
    ]
    assert refusal(left[:20], ConversionError("stopped"), {}, {})["attempts"] == []
    assert refusal(b'{"attempts":[1,{"recipe":"a"}]}', ConversionError("stopped"), {}, {})["attempts"] == []


@pytest.mark.usefixtures("without_sandbox")
def test_report_of_a_registered_model_stays_in_the_workspace(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "w s", tmp_path / "cache")
    path = tmp_path / "steps.joblib"
    joblib.dump(make_pipeline(FunctionTransformer(np.unwrap), LogisticRegression()).fit(X, X[:, 0] > 0), path)
    model = workspace.models.register("steps", path)
    with pytest.raises(ConversionError, match="unwrap") as caught:
        served(workspace.models, model, workspace.cache, refusals=workspace.refusals)
    kept = tmp_path / "w s" / "refusals" / "steps-1.json"
    assert caught.value.report == kept
    assert f"every way that was tried is in {kept}" in str(caught.value)
    assert json.loads(kept.read_text())["attempts"][0]["recipe"] == "float64"
    assert workspace.models.get(ModelRef("steps")).conversion is None
