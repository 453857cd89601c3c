"""The runtimes without an engine where only one version of control groups is mounted."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from tests.support.running import finish

ROOT = Path(__file__).parents[2]
GROUPS = "/sys/fs/cgroup"
ONLY = {
    1: f"umount {GROUPS}/unified 2>/dev/null || true",
    2: f"umount --recursive {GROUPS} && mount -t cgroup2 none {GROUPS}",
}
# Version 2 has no memory controller while version 1 holds it, and crun raises a limit that a machine may not allow.
CASES = {
    1: "(crun or runc or process) and (given_of or starts_answers or memory_beyond or memory_is)",
    2: "(runc or process) and (given_of or starts_answers or its_end)",
}


@pytest.mark.whole
@pytest.mark.real("crun", "runc", "mmdebstrap", "unshare")
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
@pytest.mark.parametrize("version", [1, 2])
def test_services_run_with_either_version_of_control_groups_alone(version: int, tmp_path: Path) -> None:
    pytest_argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--basetemp={tmp_path}/tests"]
    pytest_argv += [str(ROOT / "tests/edge_agent/test_runtime_conformance.py"), "-k", CASES[version]]
    done = finish("unshare", "--mount", "sh", "-c", f'{ONLY[version]}; cd "$0" && exec "$@"', str(ROOT), *pytest_argv)
    assert done.code == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
