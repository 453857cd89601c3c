"""``python -m edge_agent.jobs VERB``: a job of the resident agent."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys

from edge_agent.config.document import from_json
from edge_agent.jobs.task import Task
from edgepack.errors import EdgepackError
from edgepack.text import printable

# Verb -> its module.
VERBS = {
    "accept": "accept",
    "bring": "bring",
    "collect": "collect",
    "command": "command",
    "configuration": "configuration",
    "import": "import_",
    "mend": "mend",
    "recover": "recover",
    "route": "route",
    "settle": "settle",
    "share": "share",
    "upgrade": "upgrade",
}


def main() -> int:
    """Do the job; the exit code."""
    verb, *words = sys.argv[1:]
    given = json.load(sys.stdin)
    logging.basicConfig(format="edge-agent: %(message)s", level=logging.INFO, stream=sys.stderr)
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    # Jobs of one agent wait for each other all the time, which is nothing to tell of.
    logging.getLogger("edge_agent.device").setLevel(logging.WARNING)
    os.umask(0o022)  # as the command: what must be private gets its mode by name
    task = Task(from_json(given["configuration"]), tuple(words), given)
    task.end_with_the_agent()
    try:
        importlib.import_module(f"edge_agent.jobs.{VERBS[verb]}").run(task)
    except EdgepackError as error:
        sys.stderr.write(f"edge-agent: {printable(' '.join(str(error).splitlines()))}\n")
        task.tell(error=str(error), code=error.exit_code)
        return error.exit_code
    except OSError as error:
        sys.stderr.write(f"edge-agent: {error.filename or 'the system'}: {error.strerror or error}\n")
        task.tell(error=str(error), code=1)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
