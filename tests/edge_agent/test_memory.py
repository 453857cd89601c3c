"""What the agent loads: a device is small."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.edge_agent.support.agent import Agent, make_images
from tests.support.ports import free_port
from tests.support.running import finish, python

HEAVY = {
    "numpy", "onnx", "onnxruntime", "sqlalchemy", "docker", "requests", "cryptography", "pandas", "sklearn", "asyncio",
    "packager", "converters", "edge_server",
}  # fmt: skip

# Runs the command that follows, then tells what is loaded and what it took.
TELL = """
import json, sys
from pathlib import Path
from edge_agent.commands.main import main
try:
    main()
except SystemExit as ended:
    assert not ended.code, ended
memory = {}
for line in Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]:
    name, size, *_ = line.split()
    memory[name.rstrip(":")] = int(size) // 1024
loaded = sorted({name.partition(".")[0] for name in sys.modules})
Path(FOUND).write_text(json.dumps({"loaded": loaded, "rss": memory["Rss"], "pss": memory["Pss"]}))
"""


@pytest.fixture
def agent(tmp_path: Path) -> Iterator[Agent]:
    agent = Agent(tmp_path / "device", make_images(tmp_path), free_port())
    agent.take_in("v1")
    assert agent.apply("v1").code == 0
    yield agent
    agent.close()


def test_importing_the_agent_loads_next_to_nothing() -> None:
    code = (
        "import json, sys; before = set(sys.modules); import edge_agent; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    assert json.loads(python(code)) == ["edge_agent"]


def test_status_loads_no_engine_no_database_toolkit_and_no_numbers(agent: Agent, tmp_path: Path) -> None:
    found = tmp_path / "found.json"
    code = TELL.replace("FOUND", repr(str(found)))
    words = ["--state-dir", str(agent.root), "--runtime", "process", "status"]
    done = finish(sys.executable, "-c", code, *words, env=agent.environment())

    assert json.loads(done.stdout)["services"][0]["state"] == "Healthy"
    told = json.loads(found.read_text())
    assert set(told["loaded"]) & HEAVY == set()
    # MiB; a Python with click and sqlite3 alone takes half of this.
    assert told["rss"] < 60, told
