"""A small trained classifier, for tests that register and convert one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.packager.support.trained import ROWS
from tests.support.unsandboxed import convert_here


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


@pytest.fixture
def without_sandbox(monkeypatch: pytest.MonkeyPatch) -> None:
    """See ``convert_here``."""
    convert_here(monkeypatch)
