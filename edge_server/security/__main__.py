"""``python -m edge_server.security``"""

from __future__ import annotations

import sys

from edge_server.errors import ScoringError, package_errors


def main() -> int:
    """Run ``edge_server.security.command``; the exit code."""
    try:
        with package_errors():
            from edge_server.security import command

            return command.main()
    except ScoringError as error:
        sys.stderr.write(f"edge_server.security: {error}\n")
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main())
