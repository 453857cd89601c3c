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
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType

from converters.source import python_imports
from edgepack.errors import UsageError

# The packages of ours that are loaded in the process of a conversion.
OURS = ("converters", "edgepack")
# What may be installed beside them, in a checkout also what lies beside them. A conversion imports none of it.
UNUSED = frozenset(
    ("benchmarks", "dockerfiles", "docs", "edge_agent", "edge_server", "examples", "packager", "scripts", "tests")
)
# What the process needs besides, whatever opens the model: no user's module can stand in for it.
_NEEDED = frozenset({
    "google", "joblib", "numpy", "onnx", "onnxruntime", "onnxscript", "pandas", "safetensors", "scipy", "skl2onnx",
    "sklearn", "torch",
})  # fmt: skip
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


def imported_by_classes(folder: Path, modules: Iterable[str]) -> dict[str, Path]:
    """As ``imported``, for all ``modules`` whose classes a pickle in ``folder`` names, but for those that are taken."""
    found: dict[str, Path] = {}
    for name in sorted(modules):
        if not is_taken(name.partition(".")[0]):
            found |= imported(folder, name)
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


def require_not_hidden(folder: Path, classes: Iterable[tuple[str, str]]) -> None:
    """Refuse a pickle in ``folder`` with a class of the user's that the process of a conversion could not import.

    ``classes`` are the modules and names of what the pickle names. Raises ``UsageError`` where the user's source
    defines one of them in a module whose name is taken: opening the pickle would look for the class elsewhere.
    """
    for module, name in sorted(classes):
        top = module.partition(".")[0]
        place = _place(folder, top)
        if place is not None and is_taken(top) and any(_defines(file, name) for file in _files_of(folder, module)):
            library = top in sys.stdlib_module_names
            whose = "a module of Python's standard library" if library else "a package that the conversion needs"
            raise UsageError(
                f"the class {name} is in {place.name!r}, which has the name of {whose}, so that the conversion cannot "
                "import it",
                where=f"{folder.name}/{place.name}",
                hint="rename it, and save the model again",
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
    ``onnx.py``, would hide what the conversion itself imports later. A folder without ``__init__`` comes after every
    package elsewhere, as always in Python, except after those of ours that no conversion uses.
    """

    def __init__(self, folder: Path, modules: Mapping[str, Path]) -> None:
        self._folder = str(folder)
        own = {name for name, place in modules.items() if not _is_bare(place)}
        self._names = frozenset(own.union(name for name in UNUSED if _place(folder, name) is not None))

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
        place = _place(folder.joinpath(*parts[: length - 1]), parts[length - 1])
        if place is None:
            return
        if not place.is_dir():
            file = place.with_name(f"{parts[length - 1]}.py")
            if file.is_file():
                yield file, ".".join(parts[: length - 1])
            return  # what follows in the name is in the module, not below it
        if (place / "__init__.py").is_file():
            yield place / "__init__.py", ".".join(parts[:length])


def _files_of(folder: Path, module: str) -> list[Path]:
    """The source that ``module`` alone has in ``folder``, without that of the packages which it is in."""
    inner = folder.joinpath(*module.split("."))
    return [file for file in (inner / "__init__.py", inner.with_name(f"{inner.name}.py")) if file.is_file()]


def _defines(file: Path, name: str) -> bool:
    """Whether a source file defines a class, function or variable ``name``."""
    tree = _parsed(file)
    first = name.partition(".")[0]
    for node in ast.walk(tree) if tree is not None else ():
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) and node.name == first:
            return True
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store) and node.id == first:
            return True
    return False


def _parsed(file: Path) -> ast.Module | None:
    """The source of a file, or None where it is not Python; importing it says so."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(file.read_bytes())
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _imports(file: Path, package: str) -> Iterator[str]:
    """The dotted names that a source file imports; what ``from`` takes may be a module too."""
    tree = _parsed(file)
    for node in ast.walk(tree) if tree is not None else ():
        for one in python_imports.imports_of(node, package):
            yield from one.candidates()
        if isinstance(node, ast.Call) and node.args and _called(node.func) in _IMPORTERS:
            (first, *_) = node.args
            if isinstance(first, ast.Constant) and isinstance(first.value, str) and not first.value.startswith("."):
                yield first.value


def _called(function: ast.expr) -> str:
    return function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
