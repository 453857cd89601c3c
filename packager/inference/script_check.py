"""Check an entry script without running it: its syntax, its functions, and what it imports.

Only what is certain to fail is refused. Imports of missing modules that may never run, or may fail, are left alone:
those in branches, in ``try`` with an ``except`` for them, below ``with suppress``, and in functions, but for those of
the script that ``init()`` and ``run()`` come to. What hides a module of the user is certain for every import.
"""

from __future__ import annotations

import ast
import sys
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import PurePosixPath

from converters.source import python_imports
from converters.source.python_imports import Import
from edgepack.errors import UsageError
from packager.inference.added_folders import added_folders
from packager.inference.name_collisions import every_import, who_hides
from packager.inference.own_modules import Absent, absent
from packager.inference.script_form import check_relative, check_run

# Modules that the server gives to scripts: the names of edge_server/compat/azure_names.py.
PROVIDED = frozenset(
    {
        "azureml",
        "azureml.ai",
        "azureml.ai.monitoring",
        "azureml.ai.monitoring.collector",
        "azureml.ai.monitoring.context",
        "azureml.contrib",
        "azureml.contrib.services",
        "azureml.contrib.services.aml_request",
        "azureml.contrib.services.aml_response",
        "azureml.core",
        "azureml.core.model",
        "azureml.core.run",
        "azureml.exceptions",
        "azureml.monitoring",
        "azureml.monitoring.modeldatacollector",
        "azureml.train",
        "azureml.train.automl",
        "azureml_inference_server_http",
        "azureml_inference_server_http.api",
        "azureml_inference_server_http.api.aml_request",
        "azureml_inference_server_http.api.aml_response",
    }
)
_SERVERS = frozenset({"inference_schema", "edge_server"})
_NEVER = "edge_server"
_OLDEST = 11
# What the standard library lost and gained since Python 3.11, which is the oldest that edgepack runs on.
_LOST = {
    12: "asynchat asyncore distutils imp smtpd",
    13: "aifc audioop cgi cgitb chunk crypt imghdr lib2to3 mailcap msilib nis nntplib ossaudiodev pipes sndhdr spwd"
    " sunau telnetlib uu xdrlib",
}
_GAINED = {14: "annotationlib compression"}
# Not those with a tag of an interpreter, which nobody writes by hand.
_MODULE_SUFFIXES = (".py", ".pyc", ".so", ".abi3.so")
_MISSING = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
_Function = ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda


def check_script(
    file: str,
    sources: Mapping[str, Callable[[], bytes]],
    python: str,
    packages: frozenset[str] | None,
    package: str = "",
    beside: Collection[str] = (),
    lacks: Callable[[str], bool] = lambda _: False,
) -> None:
    """Raise ``UsageError`` for a script that cannot start in an image with Python ``python``, such as ``3.11``.

    ``file`` is the script and ``sources`` everything that is shipped, by its path below the source directory, and once
    more below ``package``, the directory's own name, unless something in it has the same. ``packages`` are the modules
    of the image's packages, inner ones by their dotted names; None where they are not known. ``beside`` are modules
    in the script's own folder that are not shipped. ``lacks`` tells which modules of the standard library the base
    does without.
    """
    minor = int(python.partition(".")[2])
    tree = _parsed(file, sources[file](), minor)
    if tree is None:
        return
    names = _bound(tree)
    for name in ("init", "run"):
        if name not in names and "*" not in names:
            raise UsageError(f"has no {name}()", where=file, hint="an entry script must define init() and run()")
    check_run(file, tree)
    check_relative(file, _running(tree, _called(tree)))
    if any(_top(path) == _NEVER for path in sources):
        raise UsageError("has the name of the server's own package", where=_NEVER, hint="rename it")
    added = added_folders(tree, {str(parent) for path in sources for parent in PurePosixPath(path).parents})
    places: dict[str, tuple[str, bool]] = {}  # where files of these folders are, and whether they come first
    for folder, is_first in added.items():
        inner = [path for path in sources if path.startswith(f"{folder}/")]
        places |= {name: (path, is_first) for path in inner if (name := path[len(folder) + 1 :]) not in sources}
    sources = {**sources, **{path: sources[place] for path, (place, _) in places.items()}}
    _check_hidden(file, tree, sources, minor, packages or frozenset(), package, places)
    _check_imports(file, tree, sources, minor, packages, beside, lacks)


def standard_library(minor: int) -> frozenset[str]:
    """The modules at the top of the standard library of Python 3.``minor``."""
    lost = {version: frozenset(names.split()) for version, names in _LOST.items()}
    gained = {version: frozenset(names.split()) for version, names in _GAINED.items()}
    found = sys.stdlib_module_names | frozenset[str]().union(*lost.values(), *gained.values())
    found -= frozenset[str]().union(*(names for version, names in lost.items() if version <= minor))
    return found - frozenset[str]().union(*(names for version, names in gained.items() if version > minor))


def _imports(tree: ast.Module, package: str, functions: frozenset[str]) -> Iterator[Import]:
    """The imports that run when the module is imported, and when its ``functions`` are called.

    ``package`` is what relative imports start from, "" for a script. See the module's docstring for what is left out.
    """
    for node in _running(tree, functions):
        yield from python_imports.imports_of(node, package)


def _parsed(file: str, source: bytes, minor: int) -> ast.Module | None:
    """The syntax tree; None for the source of a newer Python than this one, of whose syntax nothing is known."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return ast.parse(source, file, feature_version=(3, minor))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        if minor > sys.version_info.minor:
            return None
        line = f" line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else ""
        said = error.msg if isinstance(error, SyntaxError) else str(error) or "too deep"
        raise UsageError(f"not Python ({said})", where=f"{file}{line}", hint="correct it") from None


def _bound(tree: ast.Module) -> set[str]:
    """The names that the module may have once it was imported, "*" for those that another module decides."""
    found: set[str] = set()
    pending: list[ast.AST] = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found |= {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        if not isinstance(node, _Function | ast.ClassDef):
            pending += ast.iter_child_nodes(node)
    return found | {name for node in ast.walk(tree) if isinstance(node, ast.Global) for name in node.names}


def _called(tree: ast.Module) -> frozenset[str]:
    """The functions of the script that run: ``init``, ``run``, and those that these or the script itself mention."""
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    pending: list[ast.AST] = [node for node in tree.body if not isinstance(node, _Function | ast.If)]
    pending += [functions[name] for name in ("init", "run") if name in functions]
    found = {"init", "run"}
    while pending:
        names = {node.id for node in ast.walk(pending.pop()) if isinstance(node, ast.Name)}
        fresh = names & functions.keys() - found
        found |= fresh
        pending += [functions[name] for name in fresh]
    return frozenset(found)


def _running(node: ast.AST, functions: frozenset[str]) -> Iterator[ast.AST]:
    """The statements below ``node`` that run for sure, those of ``functions`` among them."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr | ast.If | ast.ExceptHandler | ast.match_case):
            continue
        if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) and child.name not in functions:
            continue
        if isinstance(child, ast.With) and any(_name(item.context_expr) == "suppress" for item in child.items):
            continue
        if isinstance(child, ast.Try | ast.TryStar) and any(_catches(handler) for handler in child.handlers):
            child = ast.Module(child.finalbody, [])
        yield child
        yield from _running(child, functions)


def _catches(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(_name(kind) in _MISSING for kind in kinds)


def _name(node: ast.expr) -> str:
    """The last part of a dotted name, or of what is called."""
    if isinstance(node, ast.Call):
        return _name(node.func)
    return node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""


def _changes_path(tree: ast.Module) -> bool:
    """Whether the module has to do with ``sys.path``, so that imports may find what cannot be seen here."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and (node.attr == "addsitedir" or ast.unparse(node) == "sys.path"):
            return True
        if isinstance(node, ast.ImportFrom) and node.module == "sys" and "path" in {one.name for one in node.names}:
            return True
    return False


def _check_imports(
    file: str,
    tree: ast.Module,
    sources: Mapping[str, Callable[[], bytes]],
    minor: int,
    packages: frozenset[str] | None,
    beside: Collection[str],
    lacks: Callable[[str], bool],
) -> None:
    """Raise ``UsageError`` for the first import that runs for sure of a module, or a name in one, that is missing."""
    everywhere = has_packages = packages is not None
    path_is_fixed = True
    packages = packages or frozenset()
    own = {top for path in sources if (top := _top(path))}
    missing: list[tuple[str, Import]] = []
    lacking: list[tuple[str, int, Absent]] = []
    standard = standard_library(minor)
    others = {name for name in standard if not lacks(name)} | _SERVERS | packages
    if "setuptools" in packages:
        others.add("distutils")  # which importing setuptools brings
    known = own | others

    def bound(path: str) -> set[str] | None:
        tree = _parsed(path, sources[path](), minor)
        return None if tree is None else _bound(tree)

    seen, pending = {file}, [(file, tree, _called(tree))]
    while pending:
        path, tree, functions = pending.pop(0)
        if _changes_path(tree):
            everywhere, path_is_fixed = False, False
        for one in _imports(tree, _package(path) if path != file else "", functions):
            top = one.module.partition(".")[0]
            if top in own:
                fresh = [module for module in _modules(one, sources) if module not in seen]
                seen.update(fresh)
                parsed = [(module, _parsed(module, sources[module](), minor)) for module in fresh]
                pending += [(module, inner, frozenset()) for module, inner in parsed if inner is not None]
                # A folder without source of its own may be a package's of the base, whose content is not known.
                is_own = has_packages or f"{top}.py" in sources or f"{top}/__init__.py" in sources
                gone = absent(one, sources, bound) if is_own and top not in others else None
                lacking += [] if gone is None else [(path, one.line, gone)]
            elif top not in known and one.module not in PROVIDED:
                missing.append((path, one))
    if lacking and path_is_fixed:
        path, line, gone = lacking[0]
        hint = "check the name, and that the file is in the source directory"
        raise UsageError(
            f"{path} line {line} imports {gone.what}, which the source directory does not have",
            hint=hint if gone.nearest is None else f"did you mean {gone.nearest!r}? {hint}",
        )
    if missing and everywhere:
        path, one = missing[0]
        module = one.module if one.module.startswith("azureml.") else one.module.partition(".")[0]
        way = "" if module.startswith("azureml.") else "; list its package in the environment"
        has = f"it has {_listed(sorted(name for name in packages if '.' not in name))}{way}"
        if module in standard_library(_OLDEST) | standard:
            has = f"write it without {module}, or give --base an image that has it, such as docker://python:3.{minor}-slim"
            if module not in standard:
                has = f"Python 3.{minor} has it no more: {has.replace(f':3.{minor}-', f':3.{_OLDEST}-')}"
        if module in beside:
            has = "it is beside the script: ship its folder too, with --source-directory"
        raise UsageError(f"{path} line {one.line} imports {module}, which the image does not have", hint=has)


def _check_hidden(
    file: str,
    tree: ast.Module,
    sources: Mapping[str, Callable[[], bytes]],
    minor: int,
    packages: frozenset[str],
    package: str,
    places: Mapping[str, tuple[str, bool]],
) -> None:
    """Raise ``UsageError`` for the first import of a module of the source directory that another of its name hides."""
    own = {top for path in sources if (top := _top(path))}
    standard = standard_library(minor)
    seen, pending = {file}, [(file, tree)]
    while pending:
        path, tree = pending.pop(0)
        for one in every_import(tree, _package(path) if path != file else ""):
            top = one.module.partition(".")[0]
            # What is imported is another module, where the source directory only has a folder of its name.
            reached = next(_modules(one, sources, _MODULE_SUFFIXES), None) if top in own else None
            if reached is None:
                continue
            if one != Import(package, (), one.line):  # else the directory's own name, which nobody imports alone
                place, is_first = places.get(reached, (reached, top != package))
                whose = who_hides(one, reached, standard, packages, is_last=not is_first)
                if whose is not None:
                    by = places.get(path, (path,))[0]
                    raise UsageError(
                        f"cannot be imported in {by} line {one.line}: {whose} module {top} has its name",
                        where=place,
                        hint="rename it",
                    )
            fresh = [module for module in _modules(one, sources) if module not in seen]
            seen.update(fresh)
            for module in fresh:
                with suppress(UsageError):  # it may never be imported
                    inner = _parsed(module, sources[module](), minor)
                    pending += [(module, inner)] if inner is not None else []


def _top(path: str) -> str:
    """The name by which the file at ``path``, or the folder at its top, is imported; "" for what is not a module."""
    top, slash, _ = path.partition("/")
    return top if slash else top.partition(".")[0] if top.endswith((".py", ".pyc", ".so")) else ""


def _package(path: str) -> str:
    """The package that the module in ``path`` is in, as relative imports see it."""
    return ".".join(PurePosixPath(path).parent.parts)


def _modules(
    one: Import, sources: Mapping[str, Callable[[], bytes]], suffixes: tuple[str, ...] = (".py",)
) -> Iterator[str]:
    """The files of the source directory that run for this import: the packages on the way, and the module."""
    parts = one.module.split(".")
    names = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
    for name in [*names, *(f"{names[-1]}/{inner}" for inner in one.names)]:
        paths = (f"{path}{suffix}" for path in (f"{name}/__init__", name) for suffix in suffixes)
        found = next((path for path in paths if path in sources), None)
        if found is not None:
            yield found


def _listed(names: list[str]) -> str:
    if not names:
        return "the standard library alone"
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
