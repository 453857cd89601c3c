"""A user's Python modules beside a model: which of them it imports, and that none has a reserved name.

A folder or module beside a script hides the standard library's of that name when Python runs the script. In the process
of a conversion that would be the other way round, silently: what it has loaded already (``types``, ``logging``, our
own packages) would be imported instead of the user's. So these names are refused, and all others import. Nothing of the
source is run here.
"""

from __future__ import annotations

import ast
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from converters.source import python_imports
from edgepack.errors import UsageError

# The packages of ours that are loaded in the process of a conversion.
OURS = ("converters", "edgepack")
# What the process needs besides for a PyTorch model: no user's module can stand in for it.
_NEEDED = frozenset({"google", "numpy", "onnx", "onnxruntime", "onnxscript", "safetensors", "torch"})
_SUFFIXES = tuple(importlib.machinery.all_suffixes())
_IMPORTERS = ("import_module", "__import__")


def imported(folder: Path, module: str) -> dict[str, Path]:
    """By their names at the top of ``folder`` the user's modules that importing ``module`` may import, itself first.

    Imports count wherever they are in the source, in functions too; ``module`` may be a dotted name. A value is a
    package's folder or a module's file, as Python looks for them. Source that is not Python imports nothing here.
    """
    found: dict[str, Path] = {}
    seen: set[Path] = set()
    pending = [module]
    while pending:
        name = pending.pop()
        top = name.partition(".")[0]
        place = _place(folder, top)
        if place is None:
            continue
        found.setdefault(top, place)
        for file, package in _sources(folder, name):
            if file not in seen:
                seen.add(file)
                pending += _imports(file, package)
    return found


def is_taken(name: str) -> bool:
    """Whether a module of that name cannot be a user's in the process of a conversion."""
    return name in OURS or name in sys.stdlib_module_names or name in _NEEDED


def require_free_names(folder: Path, modules: Mapping[str, Path]) -> None:
    """Refuse what the process of a conversion could not import as Python does when it runs a script in ``folder``.

    Raises ``UsageError`` for one of ``modules`` (see ``imported``) that has a name of ours, of the standard library or
    of a package that the process needs.
    """
    for name, place in modules.items():
        if name in OURS:
            raise _taken(folder, place, "the name of one of edgepack's own packages")
        if name in sys.stdlib_module_names and not _is_bare(place):
            raise _taken(folder, place, "the name of a module of Python's standard library")
        if name in _NEEDED and not _is_bare(place):
            raise _taken(folder, place, "the name of a package that the conversion needs")


def require_none_of_ours(folder: Path) -> None:
    """Raise ``UsageError`` for a module or package in ``folder`` that has one of our names, imported or not."""
    for name in OURS:
        place = _place(folder, name)
        if place is not None and (not _is_bare(place) or any(map(_is_module, place.iterdir()))):
            raise _taken(folder, place, "the name of one of edgepack's own packages")


def require_not_named(file: Path, modules: Collection[str]) -> None:
    """Raise ``UsageError`` where ``modules``, those whose classes a pickle ``file`` names, have one of our names."""
    name = next((name for name in OURS if name in modules), None)
    if name is not None:
        raise UsageError(
            f"the file has classes of a package {name!r}, which is the name of one of edgepack's own packages, so that "
            "the conversion cannot import it",
            where=file.name,
            hint="rename the package, and save the model again",
        )


def require_not_loaded(folder: Path, modules: Mapping[str, Path], loaded: Collection[str]) -> None:
    """Refuse one of ``modules`` whose name ``loaded`` has, the names at the top of this process's ``sys.modules``.

    Raises ``UsageError``: it would be imported instead of the user's.
    """
    for name, place in modules.items():
        if name in loaded and not _is_bare(place):
            raise _taken(folder, place, "the name of a package that the conversion has loaded")


class _Finder(importlib.abc.MetaPathFinder):
    """Finds the user's modules in their folder, before any that are installed, and nothing else there.

    The folder is not put at the front of ``sys.path``: then a file that is merely there, such as ``profile.py`` or
    ``onnx.py``, would hide what the conversion itself imports later.
    """

    def __init__(self, folder: Path, modules: Mapping[str, Path]) -> None:
        self._folder = str(folder)
        self._names = frozenset(name for name, place in modules.items() if not _is_bare(place))

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """The module's spec where it is one of the user's; None leaves it to the usual finders."""
        if path is not None or fullname not in self._names:
            return None
        return importlib.machinery.PathFinder.find_spec(fullname, [self._folder])


def make_importable(folder: Path, modules: Mapping[str, Path]) -> None:
    """Let this process import ``modules`` from ``folder``, and what else is there where nothing else has the name."""
    importlib.invalidate_caches()
    sys.meta_path.insert(0, _Finder(folder, modules))
    sys.path.append(str(folder))


def _taken(folder: Path, place: Path, whose: str) -> UsageError:
    return UsageError(
        f"{place.name!r} has {whose}, so that the conversion cannot import it",
        where=f"{folder.name}/{place.name}",
        hint="rename it, and the imports of it",
    )


def _place(folder: Path, name: str) -> Path | None:
    """Where Python finds the module ``name`` in ``folder``: a package, a module, or a folder without ``__init__``."""
    inner = folder / name
    if inner.is_dir() and not _is_bare(inner):
        return inner
    file = next((folder / (name + suffix) for suffix in _SUFFIXES if (folder / (name + suffix)).is_file()), None)
    if file is not None:
        return file
    return inner if inner.is_dir() else None


def _is_bare(place: Path) -> bool:
    """Whether it is a folder without ``__init__``, to which Python prefers any module of that name."""
    return place.is_dir() and not any((place / f"__init__{suffix}").is_file() for suffix in _SUFFIXES)


def _is_module(entry: Path) -> bool:
    return entry.name.endswith(_SUFFIXES) or (entry.is_dir() and not _is_bare(entry))


def _sources(folder: Path, name: str) -> Iterator[tuple[Path, str]]:
    """The source files that run when ``name`` is imported, and the package that each is in."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        inner = folder.joinpath(*parts[:length])
        if (inner / "__init__.py").is_file():
            yield inner / "__init__.py", ".".join(parts[:length])
        elif not inner.is_dir() and inner.with_name(f"{inner.name}.py").is_file():
            yield inner.with_name(f"{inner.name}.py"), ".".join(parts[: length - 1])


def _imports(file: Path, package: str) -> Iterator[str]:
    """The dotted names that a source file imports; what ``from`` takes may be a module too."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return  # importing it says so
    for node in ast.walk(tree):
        for one in python_imports.imports_of(node, package):
            yield from one.candidates()
        if isinstance(node, ast.Call) and node.args and _called(node.func) in _IMPORTERS:
            (first, *_) = node.args
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and not first.value.startswith("."):
                yield first.value


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
