"""The page about the Python API does what it says: all its blocks run, in one program."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "python.md"


def test_every_block_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEPACK_WORKSPACE", str(tmp_path / "ws"))
    monkeypatch.setenv("EDGEPACK_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    Path("model.bin").write_bytes(b"weights")
    blocks = re.findall(r"^```python( no-run)?\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, object] = {}
    for skipped, block in blocks:
        compiled = compile(block, str(PAGE), "exec")
        if not skipped:
            exec(compiled, names)  # noqa: S102 - of a page of ours
    assert len([block for skipped, block in blocks if not skipped]) == 5
    assert Path("fetched/model.bin").read_bytes() == b"weights"
