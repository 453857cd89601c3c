"""Base images out of Debian's packages, with no image registry: recipe and lock in, layer entries out.

The lock beside a recipe names the packages by their SHA-256; they are downloaded from any mirror and their files read
from the ``.deb`` archives, so that the layer depends on the recipe and the lock and on nothing of the machine. The
packages' scripts never run. ``python -m packager.bases.debian RECIPE`` writes new locks: there ``mmdebstrap`` resolves
and downloads, and apt checks the archive's signatures.
"""

from packager.bases.debian.debs import newest_package
from packager.bases.debian.entries import PACKAGES, base_entries, update_lock
from packager.bases.debian.recipe import BaseRecipe, Lock, load_recipe, lock_path, python_release, read_lock, recipes

__all__ = [
    "PACKAGES", "BaseRecipe", "Lock", "base_entries", "load_recipe", "lock_path", "newest_package",
    "python_release", "read_lock", "recipes", "update_lock",
]  # fmt: skip
