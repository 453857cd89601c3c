"""``edge-agent``, killed with SIGKILL at a named point: power_cut_driver.py {before,after} NUMBER LOG WORDS…

The points are the agent's durable writes and its effects, in order; each is written to LOG before it is reached.
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

from edge_agent.commands.main import main
from edge_agent.runtimes.process import ProcessRuntime
from edge_agent.state.database import StateFile

when, number, log = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
sys.argv = ["edge-agent", *sys.argv[4:]]
reached = 0


def watch(owner: type, name: str) -> None:
    real = getattr(owner, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        global reached
        reached += 1
        mine = reached
        with log.open("a") as file:
            file.write(f"{name}\n")
        if mine == number and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        try:
            return real(*args, **kwargs)
        finally:
            if mine == number and when == "after":
                os.kill(os.getpid(), signal.SIGKILL)

    setattr(owner, name, call)


for one in ("begin", "moved", "stopping", "finish", "judge", "accept", "set_goal", "set_stage", "quarantine"):
    watch(StateFile, one)
for one in ("prepare", "start", "stop"):
    watch(ProcessRuntime, one)
main()
