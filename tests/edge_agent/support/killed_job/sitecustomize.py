"""Ends the first job of the resident agent by SIGKILL at a point that the environment names."""

import os
import sys
from pathlib import Path

_given = os.environ.get("EDGEPACK_KILLED_JOB")
if _given and "edge_agent.jobs" in sys.orig_argv and "bring" in sys.orig_argv:
    from tests.edge_agent.support.points import Points

    _at, _root, _log = _given.split(":", 2)
    if not Path(_log).exists():
        Path(_log).touch()
        Points(Path(_root), int(_at), Path(_log)).install()
