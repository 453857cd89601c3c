"""The wheel and the source distribution, built from this checkout."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.support.running import run

ROOT = Path(__file__).resolve().parents[2]


def build(folder: Path, target: str) -> Path:
    """Build ``wheel`` or ``sdist`` into ``folder``; the file."""
    run(sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", folder, cwd=ROOT)
    (built,) = folder.glob("*.whl" if target == "wheel" else "*.tar.gz")
    return built
