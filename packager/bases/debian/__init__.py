"""Base images out of Debian's packages, with no image registry: recipe and lock in, layer entries out.

``mmdebstrap`` resolves and downloads, and apt checks the archive's signatures; the packages' scripts never run. The
files are then read from the ``.deb`` archives, whose SHA-256 the lock names, so that the layer depends on the recipe
and the lock and on nothing of the machine. ``python -m packager.bases.debian RECIPE`` writes new locks.
"""

from packager.bases.debian.entries import base_entries, update_lock
from packager.bases.debian.recipe import BaseRecipe, Lock, load_recipe, lock_path, read_lock, recipes

__all__ = ["BaseRecipe", "Lock", "base_entries", "load_recipe", "lock_path", "read_lock", "recipes", "update_lock"]
