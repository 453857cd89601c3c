"""Settings of pip and uv, for tests that give their own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def forget_indexes(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let no setting of this machine say where packages are; uv's cache is below ``folder``."""
    for name in list(os.environ):
        if name.startswith(("UV_", "PIP_")) or name.lower() in ("all_proxy", "http_proxy", "https_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_CACHE_DIR", str(folder / "uv-cache"))
    monkeypatch.setenv("UV_NO_CONFIG", "1")
