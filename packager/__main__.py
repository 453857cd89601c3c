"""The ``edgepack`` command, and ``python -m packager``."""

from __future__ import annotations

import sys

from edgepack.errors import MissingPartError, package_errors


def command() -> None:
    """Run ``packager.commands.main``.

    The script is installed with any extra of edgepack, the packages that it needs with one of them.
    """
    try:
        with package_errors("packager"):
            from packager.commands.main import main
    except MissingPartError as error:
        sys.exit(f"edgepack: {error}")
    main()


if __name__ == "__main__":
    command()
