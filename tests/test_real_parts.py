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
    tests = tmp_path / "tests"
    for name in (
        "__init__.py",
        "conftest.py",
        "support/__init__.py",
        "support/late_grammar.py",
        "support/ports.py",
        "support/required.py",
        "support/sampling.py",
        "support/spread.py",
    ):
        (tests / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path(__file__).parent / name, tests / name)
    (tests / "test_part.py").write_text(NEEDS_A_PART)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rsfE", "-p", "no:cacheprovider", "--rootdir", str(tmp_path), str(tests)],
        env={**os.environ, "EDGEPACK_REQUIRE_REAL": required, "EDGEPACK_QUICK": ""},
        cwd=tmp_path, capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout
    assert f"{says}: no-such-program" in done.stdout
