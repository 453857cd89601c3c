"""Ends the first job of the resident agent by SIGKILL at a point that the environment names."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

_given = os.environ.get("EDGEPACK_KILLED_JOB")
if _given and {"edge_agent.jobs", "edge_agent.daemon"} & {*sys.orig_argv}:  # a job as a program, or where it is forked
    from edge_agent.jobs import main
    from tests.edge_agent.support.points import Points

    _at, _root, _log = _given.split(":", 2)
    _run = main.run

    def _killed(arguments: Sequence[str]) -> int:
        if arguments[0] == "bring" and not Path(_log).exists():
            Path(_log).touch()
            Points(Path(_root), int(_at), Path(_log)).install()
        return _run(arguments)

    main.run = _killed
