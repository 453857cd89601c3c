"""A real part that is missing is a skip on a workstation, and a failure where parts are required."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

NEEDS_A_PART = """
import pytest

@pytest.fixture(scope="module")
def engine():
    pytest.skip("a fixture of a wider scope speaks first")

@pytest.mark.real("no-such-program")
def test_it(engine):
    pass
"""


@pytest.mark.parametrize(("required", "code", "says"), [("1", 1, "a real part is missing"), ("", 0, "not installed")])
def test_a_missing_part_skips_or_fails_before_any_fixture(tmp_path: Path, required: str, code: int, says: str) -> None:
    for name in ("conftest.py", "sampling_kit.py"):
        shutil.copy(Path(__file__).with_name(name), tmp_path)
    (tmp_path / "test_part.py").write_text(NEEDS_A_PART)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rsfE", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tmp_path)],
        env={**os.environ, "EDGEPACK_REQUIRE_REAL": required}, cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    assert f"{says}: no-such-program" in done.stdout
