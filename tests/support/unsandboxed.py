"""Conversion without the sandbox."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import pytest

from converters.sandbox import launch, worker


def convert_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Convert in this process, where a test is of what comes out: each process of the sandbox imports for 2 s."""

    def here(module: str, job: Mapping[str, object], *, folder: Path, **_: object) -> launch.Outcome:
        with warnings.catch_warnings():
            worker.respond(folder, job)
        return launch.Outcome(0, "", False)

    monkeypatch.setattr(launch, "run", here)
