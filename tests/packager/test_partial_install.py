"""The scripts of all commands are installed with every extra: one that lacks its packages says which extra has them."""

from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("module", "command", "extra"), [
    ("packager.commands.main", "edgepack", "packager"),
    ("edge_agent.commands.main", "edge-agent", "agent"),
])  # fmt: skip
def test_a_command_without_its_packages_names_the_extra(module: str, command: str, extra: str) -> None:
    code = f"import sys; sys.modules['click'] = None; import {module}"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    wanted = f"{command}: the Python package click is not installed; run: pip install 'edgepack[{extra}]'\n"
    assert (done.returncode, done.stderr) == (1, wanted)
