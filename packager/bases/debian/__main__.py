"""``python -m packager.bases.debian RECIPE``: write the locks of a recipe anew."""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

from edgepack.oci.descriptor import Platform
from packager.bases.debian import load_recipe, recipes, update_lock

_log = logging.getLogger(__name__)


def main() -> None:
    """Write the locks of a recipe anew."""
    parser = argparse.ArgumentParser(prog="python -m packager.bases.debian", description=main.__doc__)
    parser.add_argument("recipe", choices=recipes())
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = load_recipe(parser.parse_args().recipe)
    for name in recipe.platforms:
        platform = Platform.parse(name)
        with tempfile.TemporaryDirectory() as workdir:
            lock = update_lock(recipe, platform, Path(workdir))
        _log.info("%s: %s, %.1f MB", platform, lock.diff_id, lock.unpacked_size / 1e6)


if __name__ == "__main__":
    main()
