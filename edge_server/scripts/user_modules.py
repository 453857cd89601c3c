"""Where a script's imports are looked for, so that a user's modules and the server's never meet.

The script's folder comes first, as for any program that Python runs, and the folder above it last. Beyond that:

- A module of the standard library is never replaced by one of the folder. What Python and the server have imported
  before the script would stay what it is in any case, and the packages of an image need the rest.
- The same holds for ``edge_server`` and what it has imported, and for the names that it gives to scripts.
- On a laptop the other parts of edgepack may be installed too (``packager``, ``converters`` and so on): the user's
  modules of these names win.
- Every other name is left to Python: a module or package of the folder wins, a folder without ``__init__.py`` does
  not.

A module that is hidden by these rules is refused by name as soon as the user's code imports it. Nothing is said of one
that nobody imports, except for ``edge_server``.
"""

from __future__ import annotations

import builtins
import importlib.machinery
import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

import edge_server

# What may be installed beside the server on a laptop, in a checkout also what lies beside it.
_BESIDE = frozenset(("benchmarks", "converters", "edge_agent", "edgepack", "packager", "tests"))
_SERVER = "edge_server"
_SUFFIXES = tuple(importlib.machinery.all_suffixes())
_INSTALLED = {"site-packages", "dist-packages"}

_THE_SERVERS = "the server's"
_THE_STANDARD_LIBRARYS = "the standard library's"
_AN_INSTALLED = "an installed package's"


class HiddenModuleError(ImportError):
    """A module of the user cannot be imported, because another one has its name: one sentence, with what to do."""


def set_up(script: Path, folder: Path, root: str, provided: Sequence[str]) -> None:
    """Let the script's imports be looked for in ``folder`` first and in ``root`` last; to be called once.

    ``provided`` are modules that the server gives to scripts whatever is installed; inner ones by their dotted names.
    Raises HiddenModuleError when the folder has an ``edge_server`` of its own.
    """
    others = list(sys.path)
    own = _modules_in(folder)
    at = own.pop(_SERVER, None)
    if at is not None and not at.samefile(Path(edge_server.__file__).parent):
        raise HiddenModuleError(f"{at} has the name of the server's own package; rename it")
    hidden = {name: _who_hides(name, others, is_first=_wins(place)) for name, place in own.items()}
    if own.get(script.stem) == script:
        del hidden[script.stem]  # the server opens it by its path
    if folder.name not in own:
        hidden[folder.name] = _who_hides(folder.name, others, is_first=False)
    hidden = {name: whose for name, whose in hidden.items() if whose}
    places = dict.fromkeys(hidden, others)
    places |= {name: [str(folder)] for name in _BESIDE.intersection(own)}
    if folder.name in _BESIDE - own.keys():
        places[folder.name] = [str(folder.parent)]
    sys.path.insert(0, str(folder))
    sys.path.append(root)
    if places:
        sys.meta_path.insert(0, _Places(places))
    # The folder itself may be a package. The folder above is not in sys.path for that: it may hold anything.
    sys.meta_path.append(_Places({folder.name: [str(folder.parent)]}))
    hidden |= {name: _THE_SERVERS for name in provided if name.partition(".")[0] in own}
    if hidden:
        _Guard(folder, hidden).install()


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
        is_module = not dot if entry.is_dir() else entry.name.endswith(_SUFFIXES)
        if is_module and name.isidentifier() and (name not in found or entry.is_dir()):
            found[name] = folder / entry.name
    return found


def _who_hides(name: str, others: Sequence[str], *, is_first: bool) -> str:
    """Whose module of that name is imported instead of the folder's; "" for nobody's.

    ``is_first`` says that Python finds the folder's before those in ``others``.
    """
    if name in _BESIDE:
        return ""
    if name in sys.modules and name not in sys.stdlib_module_names:
        return _THE_SERVERS
    if name in sys.stdlib_module_names:
        # Some are of other systems, or not installed.
        there = name in sys.modules or name in sys.builtin_module_names or _is_found(name, others)
        return _THE_STANDARD_LIBRARYS if there else ""
    return _AN_INSTALLED if not is_first and _is_found(name, others) else ""


def _is_found(name: str, places: Sequence[str]) -> bool:
    spec = PathFinder.find_spec(name, list(places))
    return spec is not None and spec.loader is not None


def _wins(place: Path) -> bool:
    """Whether it is a module or a package; a folder without ``__init__`` comes after every package elsewhere."""
    return not place.is_dir() or any((place / f"__init__{suffix}").is_file() for suffix in _SUFFIXES)


class _Places:
    """Looks for some modules in places of their own."""

    def __init__(self, places: Mapping[str, Sequence[str]]) -> None:
        self._places = places

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the module's spec, or None to let other finders look."""
        places = self._places.get(name)
        return None if places is None else PathFinder.find_spec(name, list(places))


class _Guard:
    """Wraps ``__import__``, since finders are not asked for a module that is imported already."""

    def __init__(self, folder: Path, hidden: Mapping[str, str]) -> None:
        self._folder = folder
        self._hidden = hidden
        self._tops = {name.partition(".")[0] for name in hidden}
        self._import = builtins.__import__

    def install(self) -> None:
        """Look at every import from here on."""
        builtins.__import__ = self._checked

    def _checked(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - as the function that it stands for
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        if level == 0 and globals is not None and name.partition(".")[0] in self._tops:
            by = globals.get("__file__")
            if isinstance(by, str) and self._is_users(by):
                self._refuse(name, fromlist or (), by, sys._getframe(1).f_lineno)
        return self._import(name, globals, locals, fromlist, level)

    def _is_users(self, file: str) -> bool:
        return file.startswith(f"{self._folder}{os.sep}") and not _INSTALLED.intersection(Path(file).parts)

    def _refuse(self, name: str, fromlist: Sequence[str], by: str, line: int) -> None:
        for module in [name, *(f"{name}.{inner}" for inner in fromlist)]:
            whose = self._whose(module)
            at = self._reached(module) if whose else None
            if at is not None:
                top = name.partition(".")[0]
                raise HiddenModuleError(
                    f"{at} cannot be imported in {by}, line {line}: {whose} module {top} has its name; rename it"
                )

    def _whose(self, module: str) -> str:
        parts = module.split(".")
        names = (".".join(parts[:length]) for length in range(1, len(parts) + 1))
        return next((self._hidden[name] for name in names if name in self._hidden), "")

    def _reached(self, module: str) -> Path | None:
        """The user's file or package that the import would run, were it not hidden."""
        parts = module.split(".")
        places = [self._folder.joinpath(*parts[:length]) for length in range(1, len(parts) + 1)]
        if parts[0] == self._folder.name:
            places += [self._folder.joinpath(*parts[1:length]) for length in range(2, len(parts) + 1)]
        for at in places:
            inits = (at / f"__init__{suffix}" for suffix in _SUFFIXES)
            files = (at.with_name(f"{at.name}{suffix}") for suffix in _SUFFIXES)
            found = next((file for file in (*inits, *files) if file.is_file()), None)
            if found is not None:
                return found
        return None
