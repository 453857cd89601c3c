"""What a job of the resident agent does from its start to its end, however its process came to be."""

from __future__ import annotations

import importlib
import json
import logging
import os
import sys
from collections.abc import Sequence

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


def run(arguments: Sequence[str]) -> int:
    """Do the job that ``arguments`` name, with what is given on the standard input; the exit code."""
    verb, *words = arguments
    with open(0, "rb", closefd=False) as file:  # not sys.stdin: one who forks has put another there
        given = json.load(file)
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
