"""A small trained classifier, its rows, and its registration."""

from __future__ import annotations

from pathlib import Path

from packager.models.details import ModelDetails
from packager.models.model import Framework, Model
from packager.workspaces.workspace import Workspace

ROWS = [[5.1, 3.5, 1.4, 0.2], [6.2, 2.9, 4.3, 1.3], [7.7, 2.6, 6.9, 2.3]]


def register(workspace: Workspace, trained: Path, sample: bool = True) -> Model:
    return workspace.models.register(
        "iris", trained / "iris.joblib", ModelDetails(Framework.SCIKIT_LEARN),
        sample_input=trained / "rows.json" if sample else None,
    )  # fmt: skip
