"""The ``edge-server`` command, and ``python -m edge_server``."""

from __future__ import annotations

import logging
import os
import sys
from typing import NoReturn

from edge_server.errors import ScoringError, package_errors


def command() -> NoReturn:
    """Run ``edge_server.main`` and end the process with its exit code."""
    try:
        with package_errors():
            from edge_server.main import main
    except ScoringError as error:
        sys.exit(f"edge-server: {error}")
    code = main()
    logging.shutdown()
    sys.stderr.flush()
    # At once: a thread may be in a run that cannot be stopped, and a second signal would change the exit code.
    os._exit(code)


if __name__ == "__main__":
    command()
