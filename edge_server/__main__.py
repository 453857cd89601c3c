"""The ``edge-server`` command, and ``python -m edge_server``."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

from edge_server.main import main


def command() -> NoReturn:
    """Run ``main`` and end the process with its exit code."""
    code = main()
    logging.shutdown()
    sys.stderr.flush()
    # At once: a thread may be in a run that nothing stops, and a second signal would take the exit code away.
    os._exit(code)


if __name__ == "__main__":
    command()
