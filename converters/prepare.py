"""``python -m converters.prepare [NAME...]``: make the environments of conversions in advance, for offline use.

A name is a framework's (``TensorFlow``, ``sklearn``: all of its series) or a lock's in ``converters/software/locks``
(``sklearn-1.5``); without one all are made. The folder of each is written to stdout.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from converters.package import cache
from converters.software import selection
from edgepack.errors import EdgepackError


def main(arguments: Sequence[str]) -> int:
    """Make the environments named, or all; 0, or the error's exit code."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        for folder in selection.prepare(arguments, cache.default_cache()):
            sys.stdout.write(f"{folder}\n")
    except EdgepackError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
