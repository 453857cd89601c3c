"""``python -m packager.bases.debian RECIPE``: write the locks of a recipe anew."""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path

from edgepack.oci.descriptor import Platform
from packager.bases.debian import load_recipe, recipes, update_lock
from packager.layers.compiler import Compiler, compiler_in

_log = logging.getLogger(__name__)


def main() -> None:
    """Write the locks of a recipe anew."""
    parser = argparse.ArgumentParser(prog="python -m packager.bases.debian", description=main.__doc__)
    parser.add_argument("recipe", choices=recipes())
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    recipe = load_recipe(parser.parse_args().recipe)
    host = Platform.host()
    # This machine's first: its Python makes the bytecode of the others.
    platforms = sorted(map(Platform.parse, recipe.platforms), key=lambda platform: (platform != host, str(platform)))
    compiler: Compiler | None = None
    with tempfile.TemporaryDirectory() as workdir:
        for platform in platforms:
            folder = Path(workdir, platform.architecture)
            lock = update_lock(recipe, platform, folder, compiler=compiler)
            if platform == host:
                compiler = compiler_in(folder / "tree", recipe.python)
            _log.info("%s: %s, %.1f MB", platform, lock.diff_id, lock.unpacked_size / 1e6)


if __name__ == "__main__":
    main()
