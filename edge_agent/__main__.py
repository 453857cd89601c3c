"""The ``edge-agent`` command, and ``python -m edge_agent``."""

from __future__ import annotations

import sys

from edgepack.errors import MissingPartError, package_errors


def command() -> None:
    """Run ``edge_agent.commands.main``.

    The script is installed with any extra of edgepack, the packages that it needs with one of them.
    """
    try:
        with package_errors("agent"):
            from edge_agent.commands.main import main
    except MissingPartError as error:
        sys.exit(f"edge-agent: {error}")
    main()


if __name__ == "__main__":
    command()
