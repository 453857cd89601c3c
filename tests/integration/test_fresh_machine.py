"""The demo on a machine that has nothing but Python, git and make; `make fresh` runs it on every one."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FRESH = ROOT / "scripts/fresh.py"


@pytest.mark.whole
@pytest.mark.real("mmdebstrap", "unshare")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_the_demo_runs_on_a_minimal_debian_13_as_a_plain_user(tmp_path: Path) -> None:
    command = [sys.executable, FRESH, "--suite", "trixie", "--as", "user", "--folder", tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3600)
    log = tmp_path / "trixie-user.log"
    assert done.returncode == 0, f"{done.stdout}{done.stderr}{log.read_text() if log.exists() else ''}"
    assert "by process" in log.read_text()


def test_of_this_machines_settings_only_those_of_the_network_are_taken_along(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A folder of wheels of this machine would let the demo pass where no user has it."""
    (tmp_path / "pip.conf").write_text(
        "[global]\nindex-url = https://index.example/simple\n"
        "extra-index-url = file:///opt/wheels https://more.example/simple\nfind-links = /opt/wheels\n"
    )
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_", "SSL_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", str(tmp_path / "pip.conf"))
    found = runpy.run_path(str(FRESH))["network_settings"](
        {"https_proxy": "http://proxy.example", "UV_FIND_LINKS": "/opt/wheels", "HOME": "/root", "LANG": "C"}
    )
    assert found["https_proxy"] == "http://proxy.example"
    assert found["PIP_INDEX_URL"] == "https://index.example/simple"
    assert found["PIP_EXTRA_INDEX_URL"] == "https://more.example/simple"
    assert not {"PIP_FIND_LINKS", "UV_FIND_LINKS", "HOME", "LANG"} & set(found)
