"""Rows whose best classes are exactly tied in the original get the original's label from the ONNX model too."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_wine
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier, VotingClassifier
from sklearn.feature_selection import VarianceThreshold
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.svm import SVC

from converters import Conversion
from converters.graph import edits
from converters.graph.session import Session
from converters.proof import parity
from converters.sklearn import labels
from tests.support.http_client import ask, listens
from tests.support.parts import started

ROOT = Path(__file__).parents[2]
Save = Callable[..., Path]
Convert = Callable[..., Conversion]
BREAST_CANCER, WINE = load_breast_cancer(return_X_y=True), load_wine(return_X_y=True)


def _fitted(model: Any, data: tuple[Any, Any], names: list[Any] | None = None) -> Any:
    x, _, y, _ = train_test_split(*data, random_state=1)
    return model.fit(x, y if names is None else np.array(names)[y])


def _lead(model: Any, rows: Any) -> Any:
    ordered = np.sort(model.predict_proba(rows), axis=1)
    return ordered[:, -1] - ordered[:, -2]


def _candidates(x: Any, count: int) -> Any:
    """Real rows, and rows of values that are real column by column."""
    random = np.random.default_rng(5)
    mixed = np.column_stack([column[random.integers(0, len(x), count)] for column in x.T])
    return np.vstack([x, mixed])


def _tied_rows(model: Any, x: Any, count: int = 4000) -> Any:
    rows = _candidates(x, count)
    return rows[_lead(model, rows) == 0]


def _session(conversion: Conversion, threads: int = 1) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    return ort.InferenceSession(str(conversion.model), options, providers=["CPUExecutionProvider"])


def _manifest(conversion: Conversion) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(conversion.manifest.read_text())
    return document


FORESTS: dict[str, tuple[Any, tuple[Any, Any], list[Any] | None]] = {
    "50 trees": (RandomForestClassifier(50, random_state=0), BREAST_CANCER, None),
    "100 trees, text": (RandomForestClassifier(100, random_state=0), BREAST_CANCER, ["malignant", "benign"]),
    "500 trees": (RandomForestClassifier(500, random_state=0), BREAST_CANCER, None),
    "4 trees, three classes": (RandomForestClassifier(4, random_state=0), WINE, None),
    "50 trees, three texts": (RandomForestClassifier(50, random_state=0), WINE, ["ä", "c", "b"]),
    "extra trees": (ExtraTreesClassifier(50, random_state=0), BREAST_CANCER, None),
    "extra trees, odd numbers": (ExtraTreesClassifier(50, random_state=0), WINE, [30, -2, 7]),
    "2 neighbours": (KNeighborsClassifier(2), WINE, None),
    "4 neighbours, text": (KNeighborsClassifier(4), BREAST_CANCER, ["no", "yes"]),
    "pipeline": (make_pipeline(MinMaxScaler(), ExtraTreesClassifier(50, random_state=0)), WINE, ["x", "y", "z"]),
    "search over a pipeline": (
        GridSearchCV(
            make_pipeline(VarianceThreshold(), RandomForestClassifier(50, random_state=0)),
            {"randomforestclassifier__max_features": [2, 4]},
            cv=2,
        ),
        BREAST_CANCER,
        None,
    ),
    "pipeline over a search": (
        make_pipeline(VarianceThreshold(), GridSearchCV(KNeighborsClassifier(), {"n_neighbors": [2, 4]}, cv=2)),
        WINE,
        None,
    ),
}


@pytest.mark.usefixtures("without_sandbox")
@pytest.mark.parametrize(("model", "data", "names"), FORESTS.values(), ids=FORESTS.keys())
def test_tied_rows_are_labelled_like_the_original_whatever_threads_and_batch(
    model: Any, data: tuple[Any, Any], names: list[Any] | None, save: Save, sklearn_to_onnx: Convert
) -> None:
    fitted = _fitted(model, data, names)
    rows = _tied_rows(fitted, data[0])
    assert len(rows) >= 10
    conversion = sklearn_to_onnx(save(fitted))
    expected = fitted.predict(rows)
    for threads in (1, 2, 4):
        session = _session(conversion, threads)
        (answers,) = session.run(["label"], {"X": rows})
        np.testing.assert_array_equal(answers, expected)
        for row, label in list(zip(rows, expected, strict=True))[:50]:
            assert session.run(["label"], {"X": row[None]})[0].tolist() == [label]
    assert conversion.parity is not None
    assert conversion.parity.label_agreement == 1.0
    assert _manifest(conversion)["source"]["recipe"] == "float64, first maximum"
    assert {node.output[0] for node in onnx.load(conversion.model).graph.node} >= {"label", "label__index"}


@pytest.mark.usefixtures("without_sandbox")
def test_ties_in_the_users_own_sample_are_compared_and_never_golden(
    save: Save, sklearn_to_onnx: Convert, tmp_path: Path
) -> None:
    model = _fitted(RandomForestClassifier(50, random_state=0), BREAST_CANCER)
    tied = _tied_rows(model, BREAST_CANCER[0])[:100]
    np.save(tmp_path / "sample.npy", tied)
    conversion = sklearn_to_onnx(save(model), sample=tmp_path / "sample.npy")
    report = json.loads(conversion.report.read_text())
    assert report["outputs"][0]["differing"] == report["outputs"][0]["ties"] == 0
    assert conversion.golden is not None
    golden = json.loads(conversion.golden.read_text())
    assert len(golden["inputs"]["X"]) == 8
    assert _lead(model, np.array(golden["inputs"]["X"])).min() > 0.01


@pytest.mark.usefixtures("without_sandbox")
def test_rows_whose_classes_differ_by_what_an_order_of_additions_leaves_over_are_equal_or_counted(
    save: Save, sklearn_to_onnx: Convert, tmp_path: Path
) -> None:
    random = np.random.default_rng(0)
    x, y = random.integers(0, 3, (400, 4)).astype(float), random.integers(0, 3, 400)
    model = ExtraTreesClassifier(50, random_state=0).fit(x, y)
    rows = random.random((40_000, 4)) * 2.4 - 0.2
    probabilities = model.predict_proba(rows)
    best = probabilities.max(axis=1, keepdims=True)
    # The later class leads by what adding in float64 left over.
    near = rows[(probabilities >= best - 1e-9).argmax(axis=1) != probabilities.argmax(axis=1)]
    assert len(near)
    np.save(tmp_path / "sample.npy", np.vstack([near[:1], x[:20]]))
    conversion = sklearn_to_onnx(save(model), sample=tmp_path / "sample.npy")
    entry = json.loads(conversion.report.read_text())["outputs"][0]
    assert entry["differing"] == entry["ties"]
    assert bool(entry["ties"]) == any("cannot hold" in warning for warning in conversion.warnings)
    assert conversion.golden is not None
    golden = json.loads(conversion.golden.read_text())
    assert near[0].tolist() not in golden["inputs"]["X"]


@pytest.mark.usefixtures("without_sandbox")
@pytest.mark.parametrize(
    ("model", "recipe"),
    [
        (make_pipeline(StandardScaler(), SVC()), "float64"),
        (make_pipeline(StandardScaler(), LogisticRegression()), "float64"),
        (CalibratedClassifierCV(GaussianNB(), ensemble=False), "float64, first maximum"),
        (
            VotingClassifier(
                [("a", RandomForestClassifier(2, random_state=0)), ("b", KNeighborsClassifier(2))],
                voting="soft",
                flatten_transform=False,
            ),
            "float64, first maximum",
        ),
    ],
    ids=["support vectors", "scores", "calibrated", "vote"],
)
def test_models_that_decide_by_scores_keep_their_converters_label(
    model: Any, recipe: str, save: Save, sklearn_to_onnx: Convert
) -> None:
    fitted = _fitted(model, WINE, ["a", "b", "c"])
    conversion = sklearn_to_onnx(save(fitted))
    rows = _candidates(WINE[0], 500)
    (answers,) = _session(conversion).run(["label"], {"X": rows})
    np.testing.assert_array_equal(answers, fitted.predict(rows))
    assert _manifest(conversion)["source"]["recipe"] == recipe


@pytest.mark.usefixtures("without_sandbox")
@pytest.mark.filterwarnings("ignore:The `probability` parameter:FutureWarning")
def test_model_whose_prediction_is_not_its_likeliest_class_keeps_the_converters_label(
    save: Save, sklearn_to_onnx: Convert
) -> None:
    model = _fitted(make_pipeline(StandardScaler(), SVC(probability=True, random_state=0)), BREAST_CANCER)
    rows = _candidates(BREAST_CANCER[0], 500)
    assert (model.predict_proba(rows).argmax(axis=1) != model.predict(rows)).any()
    conversion = sklearn_to_onnx(save(model))
    assert _manifest(conversion)["source"]["recipe"] == "float64"
    (answers,) = _session(conversion).run(["label"], {"X": rows})
    np.testing.assert_array_equal(answers, model.predict(rows))


def test_exact_tie_with_another_label_is_refused_and_a_lead_below_float32_is_a_tie() -> None:
    exact = parity.compare_labels("label", "predict", [0, 1, 1], [0, 1, 0], np.array([0.5, 0.5, 0.0]), 1e-6)
    assert (exact.differing, exact.ties, exact.passed) == (1, 0, False)
    near = parity.compare_labels("label", "predict", [0, 1, 1], [0, 1, 0], np.array([0.5, 0.5, 1e-9]), 1e-6)
    assert (near.differing, near.ties, near.passed) == (1, 1, True)
    clear = parity.compare_labels("label", "predict", [0, 1, 1], [0, 1, 0], np.array([0.5, 0.5, 1e-3]), 1e-6)
    assert (clear.differing, clear.ties, clear.passed) == (1, 0, False)


def test_edited_graph_is_valid_and_keeps_nothing_unused() -> None:
    helper, kind = onnx.helper, onnx.TensorProto
    body = helper.make_graph(
        [
            helper.make_node("Softmax", ["x"], ["p"]),
            helper.make_node("ArgMax", ["x"], ["old"], axis=1, keepdims=0),
            helper.make_node("Gather", ["names", "old"], ["label"]),
        ],
        "g",
        [helper.make_tensor_value_info("x", kind.FLOAT, [None, 3])],
        [
            helper.make_tensor_value_info("label", kind.STRING, [None]),
            helper.make_tensor_value_info("p", kind.FLOAT, [None, 3]),
        ],
        [onnx.numpy_helper.from_array(np.array(["a", "b", "c"], dtype=object), "names")],
    )
    model = helper.make_model(body, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    before = edits.serialize(model)
    changed = labels.maximum(model, "label", "p", ["a", "b", "ç"], 1e-6)
    assert changed is not None
    assert edits.serialize(model) == before
    onnx.checker.check_model(changed, full_check=True)
    assert [output.name for output in changed.graph.output] == ["label", "p"]
    assert "old" not in {name for node in changed.graph.node for name in node.output}
    assert "names" not in {tensor.name for tensor in changed.graph.initializer}
    session = Session(edits.serialize(changed))
    rows = np.array([[1, 1 + 1e-7, 0], [0, 1, 1], [0, 0, 1], [0, 1, 2]], np.float32)
    assert session.run({"x": rows})[0].tolist() == ["a", "b", "ç", "ç"]
    body.output[0].type.tensor_type.elem_type = kind.INT64
    unfit = helper.make_model(body)
    assert labels.maximum(unfit, "label", "p", [0.5, 1, 2], 1e-6) is None


@pytest.mark.parametrize("names", [None, ["malignant", "benign"]], ids=["numbers", "text"])
def test_scoring_server_starts_and_predicts_like_the_original_on_tied_rows(
    names: list[Any] | None, save: Save, sklearn_to_onnx: Convert, free_port: Callable[[], int], tmp_path: Path
) -> None:
    model = _fitted(RandomForestClassifier(n_estimators=50, random_state=0), BREAST_CANCER, names)
    rows = _tied_rows(model, BREAST_CANCER[0])[:40]
    conversion = sklearn_to_onnx(save(model))
    port = free_port()
    argv = [sys.executable, "-m", "edge_server", "--model", str(conversion.model), "--port", str(port)]
    with started(argv, tmp_path / "server.log", lambda: listens(port), cwd=ROOT):
        for batch in (rows, rows[:1]):
            body = json.dumps({"data": batch.tolist(), "method": "predict"})
            answer = ask(port, "POST", "/score", body, {"Content-Type": "application/json"})
            assert answer.status == 200
            assert answer.json == model.predict(batch).tolist()
