"""Where a script's imports are looked for, so that a user's modules and the server's never meet.

The script's folder comes first, as for any program that Python runs, and the folder above it last. Beyond that:

- A module of the standard library is never replaced by one of the folder. What Python and the server have imported
  before the script would stay what it is in any case, and the packages of an image need the rest.
- The same holds for ``edge_server`` and what it has imported, and for the names that it gives to scripts.
- On a laptop the other rooms of edgepack may be installed too (``packager``, ``converters`` and so on): the user's
  modules of these names win, in the folder and in what the script has put into ``sys.path`` of it, such as ``src``.
- Every other name is left to Python: a module or package of the folder wins, a folder without ``__init__.py`` does
  not.

A module that is hidden by these rules is refused by name as soon as the user's code imports it: hidden_modules.py.
One that is not imported is not reported, except for ``edge_server``.
"""

from __future__ import annotations

import importlib.machinery
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

import edge_server
from edge_server.scripts.hidden_modules import (
    AN_INSTALLED,
    SERVER,
    SUFFIXES,
    THE_SERVERS,
    THE_STANDARD_LIBRARYS,
    Guard,
    Hidden,
    HiddenModuleError,
    users_entries,
)

# What may be installed beside the server on a laptop, and what is beside it in a checkout.
_BESIDE = frozenset(("benchmarks", "converters", "dockerfiles", "edge_agent", "edgepack", "packager", "tests"))


def set_up(script: Path, folder: Path, root: str, provided: Sequence[str]) -> Guard:
    """Search for the script's imports in ``folder`` first and in ``root`` last; to be called once.

    ``provided`` are modules that the server gives to scripts whatever is installed; inner ones by their dotted names.
    Raises HiddenModuleError when the folder has an ``edge_server`` of its own. Returns the guard that checks every
    import.
    """
    others = list(sys.path)
    own = _modules_in(folder)
    at = own.pop(SERVER, None)
    if at is not None and not at.samefile(Path(edge_server.__file__).parent):
        raise HiddenModuleError(f"{at} has the name of the server's own package; rename it")
    found = {name: _who_hides(name, others, is_first=_wins(place)) for name, place in own.items()}
    if own.get(script.stem) == script:
        del found[script.stem]  # the server opens it by its path
    if folder.name not in own:
        found[folder.name] = _who_hides(folder.name, others, is_first=False)
    hidden = {name: one for name, one in found.items() if one is not None}
    places = dict.fromkeys(hidden, others)
    sys.path.insert(0, str(folder))
    sys.path.append(root)
    if places:
        sys.meta_path.insert(0, _FoundIn(places))
    sys.meta_path.insert(0, _Beside(folder))
    # The folder itself may be a package. The folder above is not added to sys.path for that: it may hold anything.
    sys.meta_path.append(_FoundIn({folder.name: [str(folder.parent)]}))
    hidden |= {name: Hidden(THE_SERVERS, surely=True) for name in provided if name.partition(".")[0] in own}
    guard = Guard(folder, hidden, provided)
    guard.install()
    return guard


def is_free(name: str, file: Path, folder: Path) -> bool:
    """Whether the script in ``file`` may be the module of that name: no other module of its folder has it."""
    spec = PathFinder.find_spec(name, [str(folder)])
    return spec is None or spec.loader is None or spec.origin == str(file)


def _modules_in(folder: Path) -> dict[str, Path]:
    """The modules, packages and folders of a folder, by the names that import them."""
    found: dict[str, Path] = {}
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return found
    for entry in entries:
        name, dot, _ = entry.name.partition(".")
        is_module = not dot if entry.is_dir() else entry.name.endswith(SUFFIXES)
        place = folder / entry.name
        # A package comes before a module, and that before a folder without __init__.
        if not is_module or not name.isidentifier():
            continue
        if name not in found or (_wins(place) and (entry.is_dir() or not _wins(found[name]))):
            found[name] = place
    return found


def _who_hides(name: str, others: Sequence[str], *, is_first: bool) -> Hidden | None:
    """What hides the folder's module of that name, if anything does.

    ``is_first`` says that Python finds the folder's before those in ``others``.
    """
    if name in _BESIDE or name == "__main__":
        return None
    if name in sys.stdlib_module_names:
        # Some are for other systems, or not installed.
        there = name in sys.modules or name in sys.builtin_module_names or _is_found(name, others)
        return Hidden(THE_STANDARD_LIBRARYS, is_first) if there else None
    if name in sys.modules:
        return Hidden(THE_SERVERS, is_first or not _is_found(name, others))
    return Hidden(AN_INSTALLED, surely=False) if not is_first and _is_found(name, others) else None


def _is_found(name: str, places: Sequence[str]) -> bool:
    spec = PathFinder.find_spec(name, list(places))
    return spec is not None and spec.loader is not None


def _wins(place: Path) -> bool:
    """Whether it is a module or a package; a folder without ``__init__`` comes after every package elsewhere."""
    return not place.is_dir() or any((place / f"__init__{suffix}").is_file() for suffix in SUFFIXES)


class _FoundIn:
    """Finds some modules in given folders."""

    def __init__(self, places: Mapping[str, Sequence[str]]) -> None:
        self._places = places

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the module's spec, or None to let other finders look."""
        places = self._places.get(name)
        return None if places is None else PathFinder.find_spec(name, list(places))


class _Beside:
    """Finds modules with names of our other rooms in the user's entries of the current ``sys.path`` first."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the spec of the user's module, or None to let other finders look."""
        if name not in _BESIDE:
            return None
        spec = PathFinder.find_spec(name, users_entries(str(self._folder)))
        if spec is None and name == self._folder.name:
            spec = PathFinder.find_spec(name, [str(self._folder.parent)])
        return spec
