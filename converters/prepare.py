"""``python -m converters.prepare [NAME...]``: make the environments of conversions in advance, for offline use.

A name is a framework's (``TensorFlow``, ``sklearn``: all of its series) or a lock's in ``converters/software/locks``
(``sklearn-1.5``); without one all are made. The folder of each is written to stdout.
"""

from __future__ import annotations

import argparse
import logging
import sys
from collections.abc import Sequence
from typing import NoReturn

from converters.package import cache
from converters.software import selection
from edgepack.errors import EdgepackError

PROGRAM = "python -m converters.prepare"


def main(arguments: Sequence[str]) -> int:
    """Make the environments named, or all; 0, or the error's exit code."""
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    try:
        if options.list:
            sys.stdout.writelines(f"{name}\n" for name in selection.lock_names())
            return 0
        for folder in selection.prepare(options.names, cache.default_cache()):
            sys.stdout.write(f"{folder}\n")
    except EdgepackError as error:
        sys.stderr.write(f"error: {error}\n")
        return error.exit_code
    return 0


class _CommandLine(argparse.ArgumentParser):
    """Its errors are one sentence, as those of the other commands are."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see: {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _CommandLine(
        prog=PROGRAM,
        allow_abbrev=False,
        description="Make the environments in which models are converted, in advance: conversions then need no network."
        " Prints the folder of each.",
        epilog=f"The environments are {', '.join(selection.lock_names())}.",
    )
    parser.add_argument(
        "names",
        nargs="*",
        metavar="NAME",
        help="an environment, or a framework for all of its environments, such as sklearn or pytorch (default: all)",
    )
    parser.add_argument("--list", action="store_true", help="list the environments, and make none")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
