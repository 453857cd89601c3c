"""The support matrix: its page is complete, and what it says of a sample of models is so."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from sklearn.utils import all_estimators

from tests.converters.matrix.cases import SAMPLE
from tests.converters.matrix.page import line

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "reference" / "converters.md"


def _lines() -> dict[str, str]:
    """The page's table rows by their first cell."""
    rows = [line for line in PAGE.read_text().splitlines() if line.startswith("| ")]
    return {row.split(" | ")[0].removeprefix("| "): row for row in rows}


EXPERIMENTAL = ("HalvingGridSearchCV", "HalvingRandomSearchCV", "IterativeImputer")


def test_page_names_every_estimator_of_scikit_learn() -> None:
    # Experimental ones are known only where something has switched them on.
    known = {name for name, kind in all_estimators() if kind.__name__ not in EXPERIMENTAL}
    assert not known - _lines().keys()


def test_page_tells_of_nothing_that_is_delivered_and_wrong() -> None:
    lines = _lines()
    assert len(lines) > 400
    assert [name for name, line in lines.items() if "| WRONG |" in line] == []


@pytest.mark.timeout(240)
def test_sample_converts_as_the_page_says(tmp_path: Path) -> None:
    # Without the sandbox, which has tests of its own: each of its processes imports scikit-learn and skl2onnx anew.
    command = [sys.executable, str(ROOT / "scripts" / "matrix.py"), "--sample", "--in-process", "--processes", "1"]
    command += ["--results", str(tmp_path)]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}, check=False
    )
    assert done.returncode == 0, done.stderr
    results = {result["name"]: result for result in json.loads((tmp_path / "results.json").read_text())}
    assert sorted(results) == sorted(SAMPLE)
    page = _lines()
    said = {name: _to_rounding(page[name]) for name in SAMPLE}
    found = {name: _to_rounding(f"| {' | '.join(line(result))} |") for name, result in results.items()}
    assert found == said


def _to_rounding(row: str) -> str:
    """The row for any processor: one sums in another order than the next, and is exact where that is off by a bit."""
    return row.replace("| exact |", "| < 1e-12 |")


def test_judge_finds_a_threshold_that_is_moved_by_one_unit_in_the_last_place(tmp_path: Path) -> None:
    """The boundary rows and the judge are what the page rests on: a package that is off by one ulp must not pass."""
    import numpy as np
    import onnx

    from tests.converters.matrix import judge, run
    from tests.converters.matrix.cases import find

    fitted = find("Binarizer", tmp_path).fit()
    made = run.make(fitted, tmp_path)
    verdicts = []
    for threshold in (0.0, float(np.nextafter(0.0, 1.0))):
        folder = tmp_path / f"package-{len(verdicts)}"
        folder.mkdir()
        _binarizer(threshold, folder)
        verdicts.append(judge.judge(made, folder))
    right, wrong = verdicts
    assert onnx.load(tmp_path / "package-0" / "model.onnx").graph.node
    assert right.problems == []
    assert right.clean == 400
    assert any("boundary rows: transform differs" in problem for problem in wrong.problems)


def _binarizer(threshold: float, folder: Path) -> None:
    from onnx import TensorProto, helper

    graph = helper.make_graph(
        [
            helper.make_node("Greater", ["X", "limit"], ["above"]),
            helper.make_node("Cast", ["above"], ["transformed"], to=TensorProto.DOUBLE),
        ],
        "g",
        [helper.make_tensor_value_info("X", TensorProto.DOUBLE, [None, 6])],
        [helper.make_tensor_value_info("transformed", TensorProto.DOUBLE, [None, 6])],
        [helper.make_tensor("limit", TensorProto.DOUBLE, [], [threshold])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    (folder / "model.onnx").write_bytes(model.SerializeToString())
    document = {
        "source": {"recipe": "by hand"},
        "inputs": [{"name": "X", "graph_name": "X", "dtype": "float64", "shape": [None, 6], "columns": None}],
        "outputs": [{"name": "transformed", "graph_name": "transformed", "role": "values"}],
        "methods": {"default": "transform", "transform": ["transformed"]},
        "rejects": {"nan": False, "infinity": False},
    }
    (folder / "model.manifest.json").write_text(json.dumps(document))
