"""SavedModels and Keras files become ONNX models that answer the same, or are refused with the reason."""

from __future__ import annotations

import json
import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from converters import Options, convert
from converters.package import cache
from converters.software import selection
from edgepack.errors import MissingPartError

PROGRAMS = Path(__file__).resolve().parent / "programs"
CONVERTED = (
    "dense_classifier",
    "binary_sigmoid",
    "several_inputs_and_outputs",
    "cnn_with_batch_norm",
    "lstm",
    "text_embedding",
    "transformer_block",
    "normalized_regression",
    "string_lookup",
    "integer_lookup",
    "counted_lookups",
    "texts_of_every_kind",
    "joined_texts",
    "operators_of_few",
    "states_of_free_steps",
    "categories_and_bins",
    "grey_picture",
    "awkward_names",
    "known_words_only",
    "double_precision",
    "half_precision_accepted",
    "subclassed_with_one_row",
    "raw_default_signature",
    "raw_other_signature",
    "arithmetic",
    "exact_erf",
    "grey_picture_of_a_row",
    "saved_by_tensorflow_1",
    "in_the_text_form",
    "ending_in_capitals",
    "h5_file_allowed",
    "lambda_layer_allowed",
)
REFUSED = (
    "hashing",
    "two_bins_of_unknown_words",
    "half_precision",
    "raw_wrong_signature",
    "no_such_operator_in_onnx",
    "random_answers",
    "ragged_answer",
    "operator_of_an_extension",
    "without_signatures",
    "h5_file",
    "h5_file_of_keras_2",
    "lambda_layer",
    "class_of_the_training_script",
    "file_of_another_keras",
    "broken_file",
)


@dataclass(frozen=True)
class Made:
    """The models that the script wrote, and what became of them."""

    models: Path
    out: Path

    def entry(self, name: str) -> dict[str, Any]:
        index = json.loads((self.models / "index.json").read_text())
        return next(entry for entry in index if entry["name"] == name)

    def read(self, name: str, document: str) -> Any:
        return json.loads((self.out / name / f"{document}.json").read_text())

    def onnx(self, name: str) -> ort.InferenceSession:
        return ort.InferenceSession(str(self.out / name / "model.onnx"), providers=["CPUExecutionProvider"])

    def run(self, name: str, **feeds: Any) -> dict[str, Any]:
        session = self.onnx(name)
        return dict(zip([port.name for port in session.get_outputs()], session.run(None, feeds), strict=True))


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("tensorflow")
    try:
        interpreter = selection.choose("TensorFlow", folder).interpreter(cache.default_cache())
    except MissingPartError as error:
        if os.environ.get("EDGEPACK_REQUIRE_REAL") == "1":
            raise
        pytest.skip(str(error))
    models, out = folder / "models", folder / "out"
    environment = {**os.environ, "PYTHONPATH": str(PROGRAMS.parents[2]), "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}
    command = [interpreter.python, PROGRAMS / "tensorflow_conversions.py", models, out, *CONVERTED, *REFUSED]
    done = subprocess.run(list(map(str, command)), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return Made(models, out)


def _arrays(values: dict[str, Any], manifest: dict[str, Any], ports: str) -> dict[str, Any]:
    kinds = {port["name"]: object if port["dtype"] == "string" else port["dtype"] for port in manifest[ports]}
    return {name: np.array(value, dtype=kinds[name]) for name, value in values.items()}


@pytest.mark.parametrize("name", CONVERTED)
def test_model_converts_and_answers_the_same(made: Made, name: str) -> None:
    error = made.out / name / "error.json"
    assert not error.exists(), error.read_text()
    onnx.checker.check_model(str(made.out / name / "model.onnx"))
    manifest, golden, report = (made.read(name, part) for part in ("manifest", "golden", "report"))
    assert report["summary"]["passed"]
    assert report["summary"]["rows"] >= 256
    answers = made.run(name, **_arrays(golden["inputs"], manifest, "inputs"))
    rtol = max([1e-4, *manifest["parity"]["accepted"].values()])
    for output, expected in _arrays(golden["outputs"], manifest, "outputs").items():
        if expected.dtype.kind == "f":
            np.testing.assert_allclose(answers[output], expected, rtol=rtol, atol=1e-5)
        else:
            np.testing.assert_array_equal(answers[output], expected)
    expected_rows = made.models / name / "expected.npz"
    if expected_rows.exists():  # what Keras itself answered, in another process
        saved = dict(np.load(expected_rows))
        named = [saved.pop(f"answer_{number}") for number in range(len(manifest["outputs"]))]
        answers = made.run(name, **saved)
        for expected in named:
            assert any(
                answer.shape == expected.shape and np.allclose(answer, expected, rtol=1e-4, atol=1e-5)
                for answer in answers.values()
            )


# Of the models that are refused, those with another type of error than ``ConversionError`` itself.
KINDS = {"raw_wrong_signature": "UsageError", "half_precision": "MismatchError"}


@pytest.mark.parametrize("name", REFUSED)
def test_model_without_a_way_is_refused_with_the_reason(made: Made, name: str) -> None:
    error = made.read(name, "error")
    assert re.search(made.entry(name)["reason"], error["text"])
    assert error["kind"] == KINDS.get(name, "ConversionError")
    assert "\n" not in error["text"]


def test_inputs_and_outputs_have_the_names_that_users_know(made: Made) -> None:
    manifest = made.read("awkward_names", "manifest")
    ports = {port["name"]: (port["dtype"], port["shape"]) for port in manifest["inputs"]}
    assert ports == {"annual income (k€)": ("float32", [None, 1]), "is it?": ("bool", [None, 2])}
    assert [port["name"] for port in manifest["outputs"]] == ["left", "right"]
    assert manifest["methods"] == {"default": "predict", "predict": ["left", "right"]}
    assert {port.name for port in made.onnx("awkward_names").get_inputs()} == set(ports)


def test_signature_is_chosen_by_name(made: Made) -> None:
    first, second = (made.read(name, "manifest") for name in ("raw_default_signature", "raw_other_signature"))
    assert {port["name"] for port in first["inputs"]} == {"x"}
    assert {port["name"]: port["shape"] for port in second["inputs"]} == {"a": [None, 3], "power": []}
    answer = made.run("raw_other_signature", a=np.array([[1, -2, 3]], np.float32), power=np.array(2, np.float32))
    np.testing.assert_allclose(answer["powers"], [[1, 4, 9]], rtol=1e-6)


def test_only_declared_probabilities_are_called_so(made: Made) -> None:
    def roles(name: str) -> dict[str, str]:
        return {port["name"]: port["role"] for port in made.read(name, "manifest")["outputs"]}

    assert roles("several_inputs_and_outputs") == {"kind": "probabilities", "price": "values"}
    assert set(roles("dense_classifier").values()) == {"probabilities"}
    assert set(roles("binary_sigmoid").values()) == {"values"}  # one column stays as the model gives it


def test_normalization_keeps_its_one_input(made: Made) -> None:
    assert [port.name for port in made.onnx("normalized_regression").get_inputs()] == ["house"]


def test_tables_tell_known_from_unknown(made: Made) -> None:
    words = np.array([["Zürich"], ["Oslo"], ["nowhere"], [""]], dtype=object)
    (answers,) = made.run("string_lookup", city=words).values()
    assert not np.allclose(answers[0], answers[1])
    np.testing.assert_array_equal(answers[2], answers[3])
    (answers,) = made.run("integer_lookup", code=np.array([[1138], [12], [5], [-7]], np.int64)).values()
    assert not np.allclose(answers[0], answers[1])
    np.testing.assert_array_equal(answers[2], answers[3])


@pytest.mark.parametrize("rows", [1, 2])
def test_lookups_are_counted_by_row_and_answer_by_their_keys(rows: int, made: Made) -> None:
    words = np.array([["a", "c", "c", "?"], ["b", "b", "b", "b"]], dtype=object)[:rows]
    codes = np.array([[5, 5, 8], [-1, -2, 7]], np.int64)[:rows]
    answers = made.run("counted_lookups", words=words, codes=codes)
    assert answers["tags"].tolist() == [[1, 1, 0, 1], [0, 0, 1, 0]][:rows]
    assert answers["counts"].tolist() == [[1, 2, 0], [2, 0, 1]][:rows]
    assert answers["bins"].tolist() == [[3, 3, 2], [2, 1, 4]][:rows]


def test_text_is_cut_and_counted_as_the_original_does(made: Made) -> None:
    texts = [["Good film, DON'T!"], ["film"], [""], ["good\u00a0bad  bad\tÄ"]]
    wanted = {
        "cut": [[2, 4, 5], [4, 0, 0], [0, 0, 0], [1, 3, 1]],
        "free": [[2, 1, 1], [4, 0, 0], [0, 0, 0], [1, 3, 1]],
        "hot": [[1, 0, 0, 1, 0, 0], [0, 0, 0, 1, 0, 0], [0] * 6, [1, 0, 1, 0, 0, 0]],
        "counts": [[1, 1, 0, 1, 1, 1], [0, 0, 0, 1, 0, 0], [0] * 6, [4, 0, 1, 0, 0, 0]],
        "pairs": [[6, 1], [0, 0], [0, 0], [1, 1]],
        "whole": [[1, 0, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0], [0] * 6, [1, 0, 0, 0, 0, 0]],
        "masked": [[1], [4], [0], [1]],
    }
    together = made.run("texts_of_every_kind", text=np.array(texts, dtype=object))
    alone = made.run("texts_of_every_kind", text=np.array(texts[2:3], dtype=object))  # no word in the whole request
    for name, rows in wanted.items():
        assert together[name].tolist() == rows
        assert alone[name].tolist() == ([[]] if name == "free" else rows[2:3])


def test_text_is_joined_and_matched(made: Made) -> None:
    answers = made.run("joined_texts", text=np.array(["ab", "A b", ""], dtype=object))
    assert answers["joined"].tolist() == ["ab-x-ab", "A b-x-A b", "-x-"]
    assert answers["letters"].tolist() == [True, False, False]


def test_states_are_outputs_of_their_own_at_any_number_of_steps(made: Made) -> None:
    ports = {port["name"]: port["shape"] for port in made.read("states_of_free_steps", "manifest")["outputs"]}
    assert ports == {"memory": [None, 4], "memory_1": [None, 4], "memory_2": [None, 4]}
    for steps in (1, 3, 9):
        answers = made.run("states_of_free_steps", steps=np.ones((2, steps, 6, 2), np.float32))
        assert {answer.shape for answer in answers.values()} == {(2, 4)}
        np.testing.assert_array_equal(answers["memory"], answers["memory_1"])


def test_batch_of_one_that_was_baked_in_is_opened(made: Made) -> None:
    manifest, report = (made.read("subclassed_with_one_row", part) for part in ("manifest", "report"))
    assert manifest["inputs"][0]["shape"] == [None, 5]
    assert manifest["source"]["recipe"] == "tensorflow-saved-model-any-batch"
    assert any("row by row" in warning for warning in report["warnings"])
    rows = np.random.default_rng(0).standard_normal((9, 5)).astype(np.float32)
    (together,) = made.run("subclassed_with_one_row", inputs=rows).values()
    alone = [made.run("subclassed_with_one_row", inputs=row[None]) for row in rows]
    np.testing.assert_allclose(together, np.concatenate([answer["output_0"] for answer in alone]), rtol=1e-5)


def test_graph_that_the_optimiser_breaks_is_delivered_without_it(made: Made) -> None:
    assert made.read("grey_picture_of_a_row", "manifest")["source"]["recipe"] == "tensorflow-saved-model-plain"
    assert made.read("arithmetic", "manifest")["source"]["recipe"] == "tensorflow-saved-model"


def test_what_the_original_refuses_is_recorded(made: Made) -> None:
    assert made.read("lstm", "manifest")["rejects"]["nan"] is True  # answered otherwise
    assert made.read("dense_classifier", "manifest")["rejects"]["nan"] is False
    known = made.read("known_words_only", "manifest")
    assert known["rejects"]["unknown"] is True
    assert sorted(known["inputs"][0]["categories"]) == ["large", "medium", "small"]
    assert made.read("text_embedding", "report")["ranges"] == {"tokens": [0, 99]}


def test_accepted_difference_is_recorded(made: Made) -> None:
    parity = made.read("half_precision_accepted", "manifest")["parity"]
    assert parity["accepted"] == {"out": 0.05}
    assert 1e-4 < parity["max_rel"] < 0.05


@pytest.mark.parametrize("name", CONVERTED)
def test_nothing_of_where_and_when_is_left(made: Made, name: str) -> None:
    data = (made.out / name / "model.onnx").read_bytes()
    assert b"unk__" not in data
    assert not re.search(rb"/tmp/|/home/|/root/|site-packages|\.py\b", data)
    assert not re.search(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}", data)  # names of tables are random
    model = onnx.load_model_from_string(data)
    assert (model.producer_name, model.ir_version) == (
        "edgepack",
        9 if name in ("texts_of_every_kind", "joined_texts") else 8,
    )
    assert not any(node.doc_string for node in model.graph.node)


def test_sandboxed_conversion_is_the_same_each_time_and_takes_pictures_as_a_sample(made: Made, tmp_path: Path) -> None:
    path = made.models / made.entry("cnn_with_batch_norm")["path"]
    plain = convert(path, framework="TensorFlow", output_dir=tmp_path / "plain")
    pictures = np.random.default_rng(1).standard_normal((40, 16, 16, 3)).astype(np.float32)
    np.savez(tmp_path / "s.npz", input_layer=pictures)
    options = Options(sample=tmp_path / "s.npz")
    sampled = convert(path, framework="TensorFlow", output_dir=tmp_path / "sampled", options=options)
    assert plain.model.read_bytes() == sampled.model.read_bytes()
    report = json.loads(sampled.report.read_text())
    assert report["rows"]["sample"] == 40
    assert 40 in report["batches"]
    assert sampled.golden is not None
    first = np.array(json.loads(sampled.golden.read_text())["inputs"]["input_layer"], np.float32)
    np.testing.assert_allclose(first, pictures[: len(first)], rtol=1e-6)
    assert json.loads(plain.manifest.read_text())["source"]["version"] == report["versions"]["tensorflow"]
