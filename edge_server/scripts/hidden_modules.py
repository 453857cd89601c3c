"""Refuses by name an import of a user's module that cannot work, because another module has its name.

Where plain Python would import the user's module, the import is refused. Where plain Python takes the other one too,
as it does before a folder without ``__init__.py``, the import is left to it, and refused only when the other one does
not have what is imported: then the user's was meant.
"""

from __future__ import annotations

import builtins
import importlib
import importlib.machinery
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

SUFFIXES = tuple(importlib.machinery.all_suffixes())
SERVER = "edge_server"
THE_SERVERS = "the server's"
THE_STANDARD_LIBRARYS = "the standard library's"
AN_INSTALLED = "an installed package's"
_INSTALLED = {"site-packages", "dist-packages"}
# The checkout or the site-packages that the server itself is in.
_ROOT = str(Path(__file__).parents[2])


class HiddenModuleError(BaseException):
    """A module of the user cannot be imported, because another one has its name: one sentence, with what to do.

    Neither an ImportError nor an Exception: a script that catches those would silently go on with another module.
    """


@dataclass(frozen=True)
class Hidden:
    """Whose module hides one of the user's; ``surely`` where plain Python would import the user's."""

    whose: str
    surely: bool


@cache
def is_in(place: str, folder: str) -> bool:
    """Whether a file or folder is the user's: below ``folder``, or the folder itself.

    Installed packages are not, nor is a whole Python that is installed below the folder, such as an environment.
    """
    for at, top in ((place, folder), (os.path.realpath(place), os.path.realpath(folder))):
        if at == top:
            return True
        if at.startswith(f"{top}{os.sep}") and at != _ROOT:
            pythons = [place for place in (sys.prefix, sys.base_prefix) if place.startswith(f"{top}{os.sep}")]
            if any(at.startswith(f"{python}{os.sep}") for python in pythons):
                return False
            return not _INSTALLED.intersection(Path(at[len(top) :]).parts)
    return False


def users_entries(folder: str) -> list[str]:
    """The entries of ``sys.path``, as it is now, that are the user's."""
    found = [(place, os.path.abspath(place)) for place in sys.path if isinstance(place, str)]  # noqa: PTH100 - keeps links
    return [place for place, at in found if is_in(at, folder)]


class Guard:
    """Wraps ``__import__`` and ``import_module``, since finders are not asked for a module that is imported already.

    ``refused`` is the first import that was refused: a script may catch everything and go on.
    """

    def __init__(self, folder: Path, hidden: Mapping[str, Hidden], provided: Sequence[str]) -> None:
        self.refused: HiddenModuleError | None = None
        self._folder = folder
        self._hidden = hidden
        self._provided = frozenset(provided)
        # Modules that Python and the server imported before the script stay as they are.
        self._kept = {name.partition(".")[0] for name in (*sys.modules, *provided, *hidden)} - {"__main__"}
        self._kept |= sys.stdlib_module_names
        self._import = builtins.__import__
        self._import_module = importlib.import_module

    def install(self) -> None:
        """Check every import from here on."""
        builtins.__import__ = self._checked_import
        importlib.import_module = self._checked_import_module

    def _checked_import(
        self,
        name: str,
        globals: Mapping[str, Any] | None = None,  # noqa: A002 - as the function that it stands for
        locals: Mapping[str, Any] | None = None,  # noqa: A002
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> ModuleType:
        def run() -> ModuleType:
            return self._import(name, globals, locals, fromlist, level)

        if level or globals is None or name.partition(".")[0] not in self._kept:
            return run()
        return self._checked(name, fromlist or (), globals, sys._getframe(1).f_lineno, run)

    def _checked_import_module(self, name: str, package: str | None = None) -> ModuleType:
        frame = sys._getframe(1)
        return self._checked(name, (), frame.f_globals, frame.f_lineno, lambda: self._import_module(name, package))

    def _checked(
        self, name: str, inner: Sequence[str], caller: Mapping[str, Any], line: int, run: Callable[[], ModuleType]
    ) -> ModuleType:
        by = caller.get("__file__")
        if not isinstance(by, str) or not is_in(by, str(self._folder)):
            return run()
        modules = [name, *(f"{name}.{one}" for one in inner)]
        found = self._collision(modules)
        if found is None:
            return run()
        at, hidden = found
        if not hidden.surely:
            try:
                module = run()
            except ImportError as error:
                if not f"{name}.".startswith(f"{error.name}."):
                    raise
            else:
                # A missing module is only noticed after this function.
                if all(one == "*" or hasattr(module, one) for one in inner):
                    return module
        top = name.partition(".")[0]
        refusal = HiddenModuleError(
            f"{at} cannot be imported in {by}, line {line}: {hidden.whose} module {top} has its name; rename it"
        )
        self.refused = self.refused or refusal
        raise refusal

    def _collision(self, modules: list[str]) -> tuple[Path, Hidden] | None:
        """The first of the user's files or packages that the import of these modules will not run."""
        folder = str(self._folder)
        added = [place for place in users_entries(folder) if place != folder]
        for module in modules:
            hidden = next((self._hidden[name] for name in _names(module) if name in self._hidden), None)
            at = self._reached(module) if hidden else None
            if hidden is not None and at is not None:
                return at, hidden
            for place in added:
                at = _file_of(module, Path(place))
                hidden = self._who_hides(module) if at else None
                if hidden is not None and at is not None:
                    return at, hidden
        return None

    def _who_hides(self, module: str) -> Hidden | None:
        """The module that hides one of a folder that the script has added to ``sys.path``."""
        top = module.partition(".")[0]
        if top == SERVER or self._provided.intersection(_names(module)):
            return Hidden(THE_SERVERS, surely=True)
        spec = PathFinder.find_spec(top)
        surely = self._is_users(spec)
        loaded = sys.modules.get(top)
        if loaded is None and top not in sys.builtin_module_names:
            return None if surely or spec is None or spec.loader is None else Hidden(_whose(top), surely=False)
        return None if self._is_users(getattr(loaded, "__spec__", None)) else Hidden(_whose(top), surely)

    def _is_users(self, spec: importlib.machinery.ModuleSpec | None) -> bool:
        # Built-in and frozen modules have no location.
        return spec is not None and spec.has_location and is_in(str(spec.origin), str(self._folder))

    def _reached(self, module: str) -> Path | None:
        """The file or package of the script's folder that the import would run, were it not hidden."""
        found = _file_of(module, self._folder)
        top, _, inner = module.partition(".")
        return _file_of(inner, self._folder) if found is None and inner and top == self._folder.name else found


def _names(module: str) -> list[str]:
    """The packages that a module is in, the outermost first, and the module."""
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _file_of(module: str, folder: Path) -> Path | None:
    """The first file of ``folder`` that the import of the module would run."""
    for name in _names(module):
        at = folder.joinpath(*name.split("."))
        inits = (at / f"__init__{suffix}" for suffix in SUFFIXES)
        files = (at.with_name(f"{at.name}{suffix}") for suffix in SUFFIXES)
        found = next((file for file in (*inits, *files) if file.is_file()), None)
        if found is not None:
            return found
    return None


def _whose(top: str) -> str:
    return THE_STANDARD_LIBRARYS if top in sys.stdlib_module_names else AN_INSTALLED
