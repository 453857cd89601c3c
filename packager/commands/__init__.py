"""The ``edgepack`` command: nouns in ``main``, one module a verb."""

import sys

try:
    import click  # noqa: F401
except ModuleNotFoundError:
    # The scripts of all commands are installed with any extra.
    sys.exit("edgepack: the Python package click is not installed; run: pip install 'edgepack[packager]'")
