"""scikit-learn models become ONNX that answers alike, or are refused with the reason."""

from __future__ import annotations

import csv
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import jsonschema
import numpy as np
import onnxruntime as ort
import pandas as pd
import pytest
import sklearn
from skl2onnx import update_registered_converter
from skl2onnx.common._registration import get_shape_calculator
from skl2onnx.operator_converters.linear_regressor import convert_sklearn_linear_regressor
from sklearn.cluster import KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris
from sklearn.decomposition import PCA
from sklearn.ensemble import HistGradientBoostingRegressor, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import TunedThresholdClassifierCV
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler
from sklearn.svm import SVC

import converters
from converters import Conversion, Options
from converters.sklearn.convert import convert as convert_in_process
from converters.sklearn.recipes.writing.registry import registries
from edgepack.errors import ConversionError, UsageError

Save = Callable[..., Path]
Convert = Callable[..., Conversion]


def _run(conversion: Conversion, feeds: dict[str, Any]) -> dict[str, Any]:
    session = ort.InferenceSession(str(conversion.model), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(None, feeds), strict=True))


def _manifest(conversion: Conversion) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(conversion.manifest.read_text())
    return document


def test_classifier_answers_like_the_original_and_is_described(save: Save, sklearn_to_onnx: Convert) -> None:
    x, y = load_iris(return_X_y=True, as_frame=True)
    model = LogisticRegression(max_iter=500).fit(x, y)
    conversion = sklearn_to_onnx(save(model))
    answers = _run(conversion, {"X": x.to_numpy()})
    np.testing.assert_array_equal(answers["label"], model.predict(x))
    np.testing.assert_allclose(answers["probabilities"], model.predict_proba(x), rtol=1e-4, atol=1e-5)
    manifest = _manifest(conversion)
    assert manifest["schema"] == "edgepack.model/v1"
    assert manifest["source"]["framework"] == "ScikitLearn"
    assert manifest["source"]["version"] == sklearn.__version__ == conversion.framework_version
    assert manifest["opset"] == {"": 18, "ai.onnx.ml": 3}
    assert manifest["inputs"] == [
        {"name": "X", "graph_name": "X", "dtype": "float64", "shape": [None, 4], "columns": list(x.columns)}
    ]
    assert manifest["methods"] == {
        "default": "predict_proba",
        "predict": ["label"],
        "predict_proba": ["probabilities"],
        "decision_function": ["scores"],
    }
    assert manifest["outputs"][0]["classes"] == [0, 1, 2]
    assert manifest["outputs"][1]["shape"] == [None, 3]
    assert manifest["outputs"][1]["classes"] == [0, 1, 2]
    assert manifest["rejects"] == {"nan": True, "infinity": True, "huge": False, "empty": True}
    schema = json.loads((Path(converters.__file__).parent / "package" / "model.manifest.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(manifest)
    assert conversion.parity is not None
    assert conversion.parity.passed
    assert conversion.parity.rows >= 300
    assert conversion.parity.label_agreement == 1.0


@pytest.mark.usefixtures("without_sandbox")
def test_golden_vectors_are_the_originals_answers(save: Save, sklearn_to_onnx: Convert) -> None:
    x, y = load_iris(return_X_y=True)
    names = load_iris().target_names[y]
    model = RandomForestClassifier(20, random_state=0, n_jobs=2).fit(x, names)
    conversion = sklearn_to_onnx(save(model))
    assert conversion.golden is not None
    golden = json.loads(conversion.golden.read_text())
    rows = np.array(golden["inputs"]["X"])
    assert golden["outputs"]["label"] == model.predict(rows).tolist()
    np.testing.assert_allclose(golden["outputs"]["probabilities"], model.predict_proba(rows), atol=1e-7)
    answers = _run(conversion, {"X": rows})
    assert answers["label"].tolist() == golden["outputs"]["label"]
    np.testing.assert_allclose(answers["probabilities"], golden["outputs"]["probabilities"], rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("without_sandbox")
def test_histogram_boosting_takes_missing_values_as_the_original_does(
    save: Save, sklearn_to_onnx: Convert, tmp_path: Path
) -> None:
    x, y = load_diabetes(return_X_y=True)
    model = HistGradientBoostingRegressor(max_iter=30, random_state=0).fit(x, y)
    np.save(tmp_path / "sample.npy", x)
    conversion = sklearn_to_onnx(save(model), sample=tmp_path / "sample.npy")
    rows = x.copy()
    rows[::3, 2] = np.nan
    answers = _run(conversion, {"X": rows})
    assert answers["values"].shape == (len(x),)  # flat, as predict answers
    assert conversion.parity is not None
    report = json.loads(conversion.report.read_text())
    assert {kind: found["rows"] for kind, found in report["rows"].items()} == {
        "sample": len(x),
        "generated": 512,
        "boundary": 1200,
    }
    assert conversion.parity.rows == len(x) + 512 + 1200
    np.testing.assert_allclose(answers["values"], model.predict(rows), rtol=1e-12)
    assert _manifest(conversion)["rejects"]["nan"] is False


@pytest.mark.usefixtures("without_sandbox")
def test_pipeline_with_support_vectors_has_scores_of_the_right_sign(save: Save, sklearn_to_onnx: Convert) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    model = make_pipeline(StandardScaler(), SVC()).fit(x, y)
    conversion = sklearn_to_onnx(save(model))
    answers = _run(conversion, {"X": x})
    np.testing.assert_array_equal(answers["label"], model.predict(x))
    np.testing.assert_allclose(answers["scores"], model.decision_function(x), rtol=1e-9)
    assert _manifest(conversion)["methods"]["default"] == "predict"


@pytest.mark.usefixtures("without_sandbox")
@pytest.mark.parametrize("model", [PCA(2), KMeans(3, n_init=2, random_state=0)], ids=["transformer", "clusterer"])
def test_model_without_a_target(model: Any, save: Save, sklearn_to_onnx: Convert) -> None:
    x, _ = load_iris(return_X_y=True)
    conversion = sklearn_to_onnx(save(model.fit(x)))
    answers = _run(conversion, {"X": x})
    if isinstance(model, PCA):
        assert _manifest(conversion)["methods"] == {"default": "transform", "transform": ["transformed"]}
        np.testing.assert_allclose(answers["transformed"], model.transform(x), rtol=1e-3, atol=1e-5)
    else:
        np.testing.assert_array_equal(answers["label"], model.predict(x))


def _mixed() -> tuple[pd.DataFrame, Any]:
    x, y = load_iris(return_X_y=True)
    frame = pd.DataFrame(
        {
            "annual income": x[:, 0],
            "age (yrs)": (x[:, 1] * 10).astype(int),
            "city": np.where(x[:, 2] > 3, "Köln", "Bonn").astype(object),
            "unused": x[:, 3],
        }
    )
    columns = ColumnTransformer(
        [
            ("text", OneHotEncoder(handle_unknown="ignore"), ["city"]),
            ("numbers", StandardScaler(), ["annual income", "age (yrs)"]),
        ]
    )
    return frame, make_pipeline(columns, LogisticRegression(max_iter=500)).fit(frame, y)


@pytest.mark.usefixtures("without_sandbox")
def test_columns_of_text_and_numbers_become_inputs_of_their_own(
    save: Save, sklearn_to_onnx: Convert, tmp_path: Path
) -> None:
    frame, model = _mixed()
    sample = tmp_path / "sample.csv"
    with sample.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([list(frame.columns), *frame[::-1].itertuples(index=False)])
    conversion = sklearn_to_onnx(save(model), sample=sample)
    manifest = _manifest(conversion)
    assert manifest["inputs"][2]["categories"] == ["Bonn", "Köln"]
    kinds = {entry["name"]: entry["dtype"] for entry in manifest["inputs"]}
    assert kinds == {"annual income": "float64", "age (yrs)": "float64", "city": "string", "unused": "float64"}
    casts = {"float64": np.float64, "string": object}
    feeds = {
        entry["graph_name"]: frame[entry["name"]].to_numpy().astype(casts[entry["dtype"]]).reshape(-1, 1)
        for entry in manifest["inputs"]
        if "unused" not in entry
    }
    assert "unused" not in feeds, "the model drops that column"
    feeds["city"][0] = "Paris"  # never seen in training
    answers = _run(conversion, feeds)
    frame.loc[0, "city"] = "Paris"
    np.testing.assert_allclose(answers["probabilities"], model.predict_proba(frame), rtol=1e-4, atol=1e-5)


@pytest.mark.usefixtures("without_sandbox")
def test_rows_for_text_are_made_of_the_categories_that_the_model_knows(save: Save, sklearn_to_onnx: Convert) -> None:
    conversion = sklearn_to_onnx(save(_mixed()[1]))
    assert conversion.golden is not None
    golden = json.loads(conversion.golden.read_text())
    assert {cell for row in golden["inputs"]["city"] for cell in row} >= {"Köln", "Bonn"}
    assert conversion.parity is not None
    assert conversion.parity.max_rel < 1e-9


@pytest.mark.usefixtures("without_sandbox")
def test_sample_without_a_column_of_the_model_names_it(save: Save, sklearn_to_onnx: Convert, tmp_path: Path) -> None:
    sample = tmp_path / "sample.json"
    sample.write_text(json.dumps([{"annual income": 1.5, "age (yrs)": 3, "unused": 1.0}]))
    with pytest.raises(UsageError, match="lacks the model's column 'city'"):
        sklearn_to_onnx(save(_mixed()[1]), sample=sample)


def test_same_pickle_gives_the_same_bytes_in_another_folder(
    save: Save, sklearn_to_onnx: Convert, tmp_path: Path
) -> None:
    x, y = load_iris(return_X_y=True)
    path = save(RandomForestClassifier(10, random_state=0, n_jobs=2).fit(x, y))
    other = tmp_path / "elsewhere" / "renamed.pkl"
    other.parent.mkdir()
    other.write_bytes(path.read_bytes())
    first = sklearn_to_onnx(path, output_dir=tmp_path / "a")
    second = sklearn_to_onnx(other, output_dir=tmp_path / "b" / "c")
    assert first.golden is not None
    assert second.golden is not None
    assert first.model.read_bytes() == second.model.read_bytes()
    assert first.manifest.read_bytes() == second.manifest.read_bytes()
    assert first.golden.read_bytes() == second.golden.read_bytes()
    assert str(tmp_path).encode() not in first.model.read_bytes()


@pytest.mark.usefixtures("without_sandbox")
def test_threshold_that_skl2onnx_forgets_is_kept(save: Save, sklearn_to_onnx: Convert) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    model = TunedThresholdClassifierCV(
        make_pipeline(StandardScaler(), LogisticRegression()), scoring="recall", random_state=0
    ).fit(x, y)
    assert model.best_threshold_ < 0.4
    answers = _run(sklearn_to_onnx(save(model)), {"X": x})
    np.testing.assert_array_equal(answers["label"], model.predict(x))


class Backwards(Ridge):
    """What the converter below takes for a ridge regression, and is none."""

    def predict(self, X: Any) -> Any:  # noqa: N803
        return super().predict(-X)


def test_model_that_its_converter_gets_wrong_is_refused_with_the_numbers(tmp_path: Path) -> None:
    """In process, for the sandbox has no class of this file."""
    before = [(registry, dict(registry)) for registry in registries()]
    update_registered_converter(
        Backwards,
        "SklearnLinearRegressor",
        get_shape_calculator("SklearnLinearRegressor"),
        convert_sklearn_linear_regressor,
    )
    try:
        joblib.dump(Backwards().fit(*load_diabetes(return_X_y=True)), tmp_path / "m.joblib")
        with pytest.raises(ConversionError, match=r'output "values" .*: \d+ of \d+ rows differ, by up to \d') as caught:
            convert_in_process(tmp_path / "m.joblib", "sha256:0", Options())
    finally:
        for registry, known in before:
            registry.clear()
            registry.update(known)
    assert caught.value.exit_code == 1


@pytest.mark.usefixtures("without_sandbox")
def test_estimator_without_a_converter_is_named(save: Save, sklearn_to_onnx: Convert, tmp_path: Path) -> None:
    x, _ = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), FunctionTransformer(np.sort)).fit(x)
    with pytest.raises(ConversionError, match=r"FunctionTransformer calls the function 'sort'") as caught:
        sklearn_to_onnx(save(model))
    assert caught.value.hint
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["refusal.json"]


@pytest.mark.usefixtures("without_sandbox")
def test_pickle_of_another_version_is_a_warning_when_it_still_matches(tmp_path: Path, sklearn_to_onnx: Convert) -> None:
    x, y = load_iris(return_X_y=True)
    data = pickle.dumps(StandardScaler().fit(x, y))
    path = tmp_path / "old.pkl"
    path.write_bytes(data.replace(sklearn.__version__.encode(), b"1.0.2"))
    conversion = sklearn_to_onnx(path)
    assert conversion.framework_version == "1.0.2"
    (warning,) = json.loads(conversion.report.read_text())["warnings"]
    assert "trained with scikit-learn 1.0.2" in warning
    assert conversion.warnings == (warning,)


def test_samples_of_every_form_are_read_as_the_model_was_trained(save: Save, tmp_path: Path) -> None:
    """Categories that look like numbers, flags, missing cells, names that a booster spells otherwise."""
    frame = pd.DataFrame(
        {
            "zip code": np.array(["01", "7", "1", None] * 10, dtype=object),
            "on": [True, False] * 20,
            "size": [1.5, np.nan, 3.0, 4.0] * 10,
        }
    )
    columns = ColumnTransformer(
        [
            ("text", OneHotEncoder(handle_unknown="ignore"), ["zip code"]),
            ("numbers", SimpleImputer(), ["size"]),
            ("rest", "passthrough", ["on"]),
        ]
    )
    path = save(make_pipeline(columns, LogisticRegression()).fit(frame, [0, 1, 1, 0] * 10))
    rows = [[None if cell != cell else cell for cell in row] for row in frame.itertuples(index=False)]
    samples = [tmp_path / f"rows.{ending}" for ending in ("csv", "json", "parquet")]
    frame.to_csv(samples[0], index=False)
    samples[1].write_text(json.dumps({"columns": ["zip_code", "on", "size"], "data": rows}))
    frame.to_parquet(samples[2])
    for sample in samples:
        converted = convert_in_process(path, "sha256:0", Options(sample=sample))
        kinds = {entry["name"]: (entry["dtype"], entry.get("missing")) for entry in converted.manifest["inputs"]}
        assert kinds == {"zip code": ("string", "\uffff"), "on": ("bool", None), "size": ("float64", None)}
        assert converted.report["rows"]["sample"]["rows"] == 40
        assert converted.manifest["rejects"]["nan"] is False


def test_large_weights_of_a_smooth_model_take_half_the_bytes(save: Save) -> None:
    x, y = load_breast_cancer(return_X_y=True)
    network = MLPClassifier((300, 300), max_iter=3, random_state=0)
    path = save(make_pipeline(StandardScaler(), network).fit(x, y))
    assert path.stat().st_size > 1 << 20
    converted = convert_in_process(path, "sha256:0", Options())
    assert converted.manifest["source"]["recipe"].startswith("float32")
    assert converted.manifest["inputs"][0]["dtype"] == "float32"
    weights = sum(array.size for array in network.coefs_)
    assert len(converted.model) < weights * 4 * 1.1


def test_a_number_that_is_too_large_only_behind_a_scaler_is_rejected_too(save: Save) -> None:
    x, y = load_iris(return_X_y=True)
    model = make_pipeline(StandardScaler(), RandomForestClassifier(5, random_state=0)).fit(x * 1000, y)
    model.predict([[1e39] * 4])
    with pytest.raises(ValueError, match="too large for dtype"):
        model.predict([[1e300] * 4])
    converted = convert_in_process(save(model), "sha256:0", Options())
    assert converted.report["odd_inputs"]["huge"]["verdict"] == "equal"
    assert converted.report["odd_inputs"]["enormous"]["verdict"] == "rejected"
    assert converted.manifest["rejects"]["huge"] is True
