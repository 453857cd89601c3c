"""Trees, forests, boosting and dummies of older series of scikit-learn, in the environments that convert them."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import pytest

from converters.package import cache
from converters.software import environments, selection

PROGRAM = Path(__file__).parent / "programs" / "old_series.py"
ROOT = Path(__file__).parents[2]


@pytest.mark.timeout(300)
@pytest.mark.parametrize("series", ["1.2", "1.3", "1.4", "1.5"] if os.environ.get("EDGEPACK_WHOLE") == "1" else ["1.2"])
def test_trees_of_an_older_series_answer_as_it_does(series: str, tmp_path: Path) -> None:
    """Up to 1.3 a tree keeps counts and no branch for missing numbers; up to 1.5 AdaBoost adds up logarithms."""
    required = os.environ.get("EDGEPACK_REQUIRE_REAL") == "1" or os.environ.get("EDGEPACK_WHOLE") == "1"
    if not required and not list((cache.default_cache() / environments.FOLDER).glob(f"sklearn-{series}-*")):
        pytest.skip(f"the environment of scikit-learn {series} is not prepared")
    folder = environments.ready(selection.LOCKS / f"sklearn-{series}.txt", cache.default_cache())
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [str(folder / "bin" / "python"), str(PROGRAM), str(tmp_path)],
        env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    results = json.loads(done.stdout)
    assert len(results) == 26
    assert results == dict.fromkeys(results, 0)
