"""Checks a service.json without a server, its packages or its files: ``python -m edge_server.config.check FILE``.

The standard library is enough. Violations are printed as a JSON list of texts, each beginning with its field.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from edge_server.config.service_file import load_config
from edge_server.errors import ConfigurationError


def main(arguments: Sequence[str]) -> int:
    """Print the violations of the file that is named; 0 when there are none, 2 otherwise."""
    found: tuple[str, ...] = ()
    try:
        load_config(Path(arguments[0]))
    except ConfigurationError as error:
        found = error.violations
    sys.stdout.write(json.dumps(found))
    return 2 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
