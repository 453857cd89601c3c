"""Imports of a source directory's own modules that another module of the same name hides in an image.

Every import is looked at, in functions and branches and ``try`` too: whether it runs or not, it never gets the user's
module. Where plain Python takes the other module as well, as it does before a folder without ``__init__.py``, the
import is refused only when the other one does not have what is imported: then the user's was meant.
"""

from __future__ import annotations

import ast
import importlib
import sys
import sysconfig
from collections.abc import Iterator
from importlib.machinery import ModuleSpec, PathFinder

from converters.source import python_imports
from converters.source.python_imports import Import

# What a worker of the server has, whatever the source directory has: edge_server/scripts/user_modules.py.
_KEPT = (
    "inference_schema", "edge_server", "orjson", "azureml.contrib.services", "azureml.monitoring",
    "azureml.ai.monitoring", "azureml_inference_server_http",
)  # fmt: skip
# Modules of the standard library of other systems.
_ELSEWHERE = frozenset({"msilib", "msvcrt", "nt", "ossaudiodev", "winreg", "winsound"})


def every_import(tree: ast.Module, package: str) -> Iterator[Import]:
    """All imports of a module, but for those that never run in an image: of type checkers, and of the main program.

    ``package`` is what relative imports start from. Modules that ``import_module`` names by a literal are among them.
    """
    pending: list[ast.AST] = [tree]
    while pending:
        node = pending.pop(0)
        yield from python_imports.imports_of(node, package)
        if isinstance(node, ast.Call):
            yield from _imported_by_call(node)
        never = isinstance(node, ast.If) and _never_holds(node.test)
        pending += node.orelse if never and isinstance(node, ast.If) else ast.iter_child_nodes(node)


def who_hides(
    one: Import, reached: str, standard: frozenset[str], packages: frozenset[str], *, is_last: bool
) -> str | None:
    """Whose module is imported instead of ``reached``, the first file of the source directory that was meant to run.

    ``standard`` are the modules of the standard library, ``packages`` those that the image has, with their inner ones.
    ``is_last`` says that plain Python looks for it after all others: in the folder above, or at the end of sys.path.
    """
    top = one.module.partition(".")[0]
    yields = is_last or not reached.startswith((f"{top}.", f"{top}/__init__."))
    if top in standard - _ELSEWHERE:
        return None if yields and _standard_has(one) else "the standard library's"
    if any(f"{name}.".startswith(f"{kept}.") for name in one.candidates() for kept in _KEPT):
        return "the server's"
    if top in packages and yields and not _installed_may_have(one, packages):
        return "an installed package's"
    return None


def _imported_by_call(node: ast.Call) -> Iterator[Import]:
    called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
    if called in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
        name = node.args[0].value
        if isinstance(name, str) and all(part.isidentifier() for part in name.split(".")):
            yield Import(name, (), node.lineno)


def _never_holds(test: ast.expr) -> bool:
    return ast.unparse(test) in ("TYPE_CHECKING", "typing.TYPE_CHECKING", "__name__ == '__main__'")


def _installed_may_have(one: Import, packages: frozenset[str]) -> bool:
    """Whether the installed package has the module; of the names that it has, nothing is known."""
    return one.module in packages and bool(one.names or "." in one.module)


def _standard_has(one: Import) -> bool:
    """Whether this Python's standard library has all that is imported; also where that cannot be told."""
    spec = _standard_module(one.module)
    if spec is None:
        return one.module in sys.modules or _standard_module(one.module.partition(".")[0]) is None
    bound = _names_of(spec)
    return "*" in bound or all(name in bound or _inner(spec, name) for name in one.names)


def _standard_module(module: str) -> ModuleSpec | None:
    top, *parts = module.split(".")
    paths = sysconfig.get_paths()
    spec = PathFinder.find_spec(top, [paths["stdlib"], paths["platstdlib"], f"{paths['platstdlib']}/lib-dynload"])
    if spec is None and top in sys.builtin_module_names:
        spec = importlib.import_module(top).__spec__
    for part in parts:
        spec = None if spec is None else _inner(spec, part)
    return spec


def _inner(spec: ModuleSpec, name: str) -> ModuleSpec | None:
    places = spec.submodule_search_locations
    return None if places is None else PathFinder.find_spec(f"{spec.name}.{name}", list(places))


def _names_of(spec: ModuleSpec) -> set[str]:
    """The names that a module of the standard library may bind, "*" among them where others decide."""
    source = getattr(spec.loader, "get_source", lambda _: None)(spec.name)
    if source is None:
        return set(dir(importlib.import_module(spec.name)))
    tree = ast.parse(source)
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    if "__getattr__" in found:
        return {"*"}
    if "globals" in used or "*" in found:
        try:
            return set(dir(importlib.import_module(spec.name)))
        except ImportError:  # a part of the standard library that is not installed, such as tkinter
            return {"*"}
    return found
