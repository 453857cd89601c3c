"""PyTorch models of every form become ONNX at every batch size, or are refused with the reason.

torch lives in an environment of its own: models are made, and most are converted, in one process of its Python.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from converters import Conversion, Options, convert
from converters.package import cache
from converters.software import selection

PROGRAMS = Path(__file__).parent / "programs"
ROOT = Path(__file__).parents[2]
# One of each form and each kind of trouble; ``make matrix`` runs them all.
CASES = (
    "mlp program", "lstm program", "parts program", "choice program", "lstm scripted", "transformer scripted",
    "transformer traced", "parts scripted", "branch scripted", "branch traced", "loop scripted", "loop traced",
    "cnn entry", "gru entry", "text entry", "branch entry", "packed entry",
    "others",
)  # fmt: skip
PROVEN = [name for name in CASES if name not in ("others", "branch traced")]

Result = dict[str, Any]


def _python(arguments: list[str]) -> None:
    software = selection.choose("PyTorch", Path("model.pt2"))
    environment = {
        "PYTHONPATH": f"{ROOT}{os.pathsep}{PROGRAMS}",
        "OMP_NUM_THREADS": "1",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PATH": os.environ["PATH"],
    }
    done = subprocess.run(
        [str(software.interpreter(cache.default_cache()).python), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pytorch") / "models"
    _python([str(PROGRAMS / "pytorch_run.py"), str(folder), str(folder.parent / "out"), *CASES])
    return folder


@pytest.fixture(scope="module")
def results(models: Path) -> dict[str, Result]:
    found: dict[str, Result] = json.loads((models.parent / "out" / "results.json").read_text())
    return found


def test_every_case_is_as_expected(models: Path, results: dict[str, Result]) -> None:
    index = json.loads((models / "index.json").read_text())
    wrong = {
        case["name"]: results[case["name"]].get("error")
        for case in index
        if ("error" in results[case["name"]]) != (case["expect"] == "refused")
    }
    assert not wrong
    assert len(index) == len(results) > len(CASES)


@pytest.mark.parametrize("name", PROVEN)
def test_answers_are_those_of_the_module_at_any_batch_size(name: str, results: dict[str, Result]) -> None:
    assert results[name]["difference"] < 1e-5
    (first, *_) = results[name]["manifest"]["inputs"]
    assert first["shape"][0] == (3 if name == "loop traced" else None)


def test_flags_and_remainders_are_those_of_torch_and_fixed_arguments_are_told(
    models: Path, results: dict[str, Result]
) -> None:
    name = "program of flags and remainders"
    session = ort.InferenceSession(str(models.parent / "out" / f"{name}.onnx"), providers=["CPUExecutionProvider"])
    x = np.zeros((9, 12, 4), np.float32)  # more rows than were declared
    x[:, 0] = [1.4, 2.1, -1.4, 3.5]  # multiples of 0.7, of which some quotients round to whole numbers
    flags = np.zeros((9, 12), bool)
    flags[1, :2] = True
    attended, rest, whole, count = session.run(None, {"x": x, "flags": flags})
    assert not attended[0].any()  # no flag at all
    np.testing.assert_allclose(attended[1, 2], x[1, :2].mean(0) * 2, rtol=1e-6)
    np.testing.assert_allclose(rest[0, 0], [0, 0, 0, -0.7], rtol=1e-5, atol=1e-6)  # what torch 2.13 answers
    assert whole[0, 0].tolist() == [2, 2, -2, 5]
    assert count.tolist() == [0, 1] + [0] * 7
    assert results[name]["report"]["warnings"][0] == "its input 'times' is 2, as it was exported"
    for kind, way in (("complex64", "torch.complex"), ("bfloat16", r"model\.float\(\)")):
        error = results[f"program of torch.{kind}"]["error"]
        assert re.search(f"is {kind}", error["what"])
        assert re.search(way, error["hint"])


def test_what_a_trace_lost_is_said(results: dict[str, Result]) -> None:
    assert results["branch traced"]["difference"] > 0.01
    assert "fixed when it was traced" in results["branch traced"]["report"]["warnings"][0]
    assert not any("traced" in warning for warning in results["branch scripted"]["report"]["warnings"])


def test_names_are_those_that_the_user_knows(results: dict[str, Result]) -> None:
    for name in ("parts program", "parts scripted"):
        manifest = results[name]["manifest"]
        assert [(entry["name"], entry["dtype"]) for entry in manifest["inputs"]] == [
            ("numbers", "float32"),
            ("category", "int64"),
        ]
        assert [(entry["name"], entry["role"]) for entry in manifest["outputs"]] == [
            ("price", "values"),
            ("risk", "probabilities"),
        ]
    outputs = results["gru entry"]["manifest"]["outputs"]
    assert [entry["name"] for entry in outputs] == ["output_0", "output_1"]
    mixed = results["program of mixed dtypes"]["manifest"]
    assert [(entry["name"], entry["dtype"]) for entry in mixed["inputs"]] == [("x", "float16"), ("count", "int64")]
    assert [(entry["name"], entry["dtype"]) for entry in mixed["outputs"]] == [
        ("scaled_0", "float64"),
        ("scaled_1", "float64"),
        ("count_out", "int64"),
    ]


def test_open_axes_bear_plain_names(models: Path, results: dict[str, Result]) -> None:
    assert "manifest" in results["program of any length"]
    model = onnx.load(models.parent / "out" / "program of any length.onnx")
    axes = {value.name: [axis.dim_param for axis in value.type.tensor_type.shape.dim] for value in model.graph.input}
    assert axes == {"tokens": ["batch", "length"], "mask": ["batch", "length"]}
    (output,) = model.graph.output
    assert [axis.dim_param or axis.dim_value for axis in output.type.tensor_type.shape.dim] == ["batch", 4]


@pytest.mark.parametrize("name", ["program of scalars", "archive of a scalar"])
def test_scalars_are_tensors_without_axes(name: str, models: Path, results: dict[str, Result]) -> None:
    manifest = results[name]["manifest"]
    assert manifest["parity"]["passed"]
    assert (manifest["inputs"][-1]["shape"], manifest["outputs"][-1]["shape"]) == ([], [])
    graph = onnx.load(models.parent / "out" / f"{name}.onnx").graph
    assert all(value.type.tensor_type.HasField("shape") for value in (*graph.input, *graph.output))


def test_lengths_of_packed_sequences_are_bounded_by_what_the_model_takes(results: dict[str, Result]) -> None:
    tokens, lengths = results["packed entry"]["manifest"]["inputs"]
    assert (lengths["minimum"], lengths["maximum"]) == (1, 7)
    assert (tokens["minimum"], tokens["maximum"]) == (0, 49)


def test_fixed_batch_is_said(results: dict[str, Result]) -> None:
    result = results["static program"]
    assert result["manifest"]["inputs"][0]["shape"] == [3, 8]
    assert any("batches of 3 rows" in text and "Dim.DYNAMIC" in text for text in result["report"]["warnings"])


def test_recurrent_models_reject_an_empty_batch(results: dict[str, Result]) -> None:
    # onnxruntime would end the whole process on it.
    for name in ("lstm program", "gru entry"):
        assert results[name]["manifest"]["rejects"]["empty"] is True


def test_graphs_hold_no_paths_or_traces(models: Path, results: dict[str, Result]) -> None:
    for name, result in results.items():
        if "manifest" in result:
            data = (models.parent / "out" / f"{name}.onnx").read_bytes()
            assert not [word for word in (b".py", b"stack_trace", b"pkg.torch", str(ROOT).encode()) if word in data]


@pytest.mark.parametrize(
    ("name", "sentence", "hint"),
    [
        ("operator without ONNX form", "its operator .*bessel_j0.* has no ONNX form", "operators that ONNX has"),
        ("archive without a sample", "what shape its input 'sequence' has", "--sample with a .npz"),
        ("state dict", "weights only", "--entry module:factory"),
        ("pickled module", "pickle of pytorch_modules.Mlp", "torch.export.save"),
        ("entry without its function", "no function 'nothing'", "--entry module:factory"),
        ("weights of another module", r"weights\.pt does not fit the module: it lacks", "the factory makes the module"),
        ("pickle that runs code", "pickle of posix.mkdir", "torch.export.save"),
        ("cut program", "damaged", "copy or export it again"),
        (
            "program of a newer torch",
            r"exported by torch 9\.9\.0 .* which torch 2\.\d+.* cannot read",
            "export it with",
        ),
    ],
)
def test_refusal_is_one_sentence_with_a_hint(name: str, sentence: str, hint: str, results: dict[str, Result]) -> None:
    error = results[name]["error"]
    assert re.search(sentence, error["what"])
    assert hint in error["hint"]
    assert "\n" not in error["what"] + error["hint"]


def test_pickle_was_not_run(models: Path, results: dict[str, Result]) -> None:
    assert results
    assert not (models / "was-run").exists()


def _convert(path: Path, out: Path, **options: Any) -> Conversion:
    return convert(path, framework="PyTorch", output_dir=out, options=Options(**options))


def test_program_converts_in_the_sandbox(models: Path, tmp_path: Path) -> None:
    conversion = _convert(models / "mlp.pt2", tmp_path / "out")
    assert conversion.parity is not None
    assert conversion.parity.passed
    session = ort.InferenceSession(str(conversion.model), providers=["CPUExecutionProvider"])
    golden = json.loads((conversion.golden or Path()).read_text())
    (answer,) = session.run(None, {"features": np.array(golden["inputs"]["features"], dtype=np.float32)})
    np.testing.assert_allclose(answer, golden["outputs"]["output"], rtol=1e-4, atol=1e-5)


def test_entry_point_runs_in_the_sandbox_only(models: Path, tmp_path: Path) -> None:
    folder, mark = tmp_path / "model", tmp_path / "mark"
    folder.mkdir()
    for file in (models / "branch-entry").glob("*.*"):
        shutil.copy(file, folder)
    with (folder / "pytorch_modules.py").open("a") as file:
        file.write(
            "def example_inputs():\n    return torch.ones(4, 5)\n"
            "def escaping():\n"
            f"    try:\n        open({str(mark)!r}, 'w').close()\n    except OSError:\n        pass\n"
            "    return Branch()\n"
        )
    conversion = _convert(folder, tmp_path / "out", entry="pytorch_modules:escaping")
    assert json.loads(conversion.manifest.read_text())["inputs"][0]["shape"] == [None, 5]
    if json.loads(conversion.report.read_text())["isolation"]["kind"] == "namespaces":
        assert not mark.exists()


def test_pickled_module_is_opened_by_the_source_beside_it(models: Path, tmp_path: Path) -> None:
    conversion = _convert(models / "whole.pt", tmp_path / "out", allow_unsafe=True, sample=models / "mlp.npz")
    assert conversion.parity is not None
    assert conversion.parity.passed
