"""``python -m edge_agent.jobs VERB``: a job of the resident agent as a program."""

from __future__ import annotations

import sys

from edge_agent.jobs.main import run

if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
