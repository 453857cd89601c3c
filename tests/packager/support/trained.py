"""A small trained classifier, its rows, and its registration."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from packager.models.model import Framework, Model
from packager.workspace import Workspace

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3], [7.7, 2.6, 6.9, 2.3]]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small classifier and rows for it, in files."""
    import joblib
    from sklearn.datasets import load_iris
    from sklearn.linear_model import LogisticRegression

    folder = tmp_path_factory.mktemp("trained")
    data = load_iris()
    joblib.dump(LogisticRegression(max_iter=500).fit(data.data, data.target), folder / "iris.joblib")
    (folder / "rows.json").write_text(json.dumps({"data": ROWS}))
    return folder


def register(workspace: Workspace, trained: Path, sample: bool = True) -> Model:
    return workspace.models.register(
        "iris", trained / "iris.joblib", framework=Framework.SCIKIT_LEARN,
        sample_input=trained / "rows.json" if sample else None,
    )  # fmt: skip
