"""The ``edge-agent`` command: one module a verb."""

import sys

try:
    import click  # noqa: F401
except ModuleNotFoundError:
    # The scripts of all commands are installed with any extra.
    sys.exit("edge-agent: the Python package click is not installed; run: pip install 'edgepack[agent]'")
