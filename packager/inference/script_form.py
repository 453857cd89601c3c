"""What the scoring server wants of an entry script's own form: a run() with an argument, and no relative imports."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import PurePosixPath

from edgepack.errors import UsageError

_HEADERS = "request_headers"  # which the server fills


def check_run(file: str, tree: ast.Module) -> None:
    """Raise ``UsageError`` for a plain ``def run`` that the server refuses when it starts.

    Where run() is decorated, or may be another one when the script has run, nothing is known of its arguments.
    """
    run = _only_run(tree)
    if run is None:
        return
    where, given = f"{file} line {run.lineno}", run.args
    if given.posonlyargs or given.vararg or given.kwarg:
        raise UsageError(
            "run() must not take positional-only arguments, *args or **kwargs", where=where, hint="name each one"
        )
    if not {one.arg for one in (*given.args, *given.kwonlyargs)} - {_HEADERS}:
        raise UsageError("run() takes no argument for the input data", where=where, hint="write: def run(data)")


def check_relative(file: str, statements: Iterable[ast.AST]) -> None:
    """Raise ``UsageError`` for a relative import among the ``statements`` that run: a script is in no package."""
    for node in statements:
        if isinstance(node, ast.ImportFrom) and node.level:
            folders = PurePosixPath(file).parent.parts
            above = folders[: max(0, len(folders) - node.level + 1)]
            module = ".".join([*above, *([node.module] if node.module else [])])
            names = ", ".join(alias.name for alias in node.names)
            raise UsageError(
                f"{file} line {node.lineno} imports from {'.' * node.level}{node.module or ''}, "
                "which only a module of a package can",
                hint=f"write: from {module} import {names}" if module else f"write: import {names}",
            )


def _only_run(tree: ast.Module) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """The function ``run`` of the module, where it has no decorator and nothing else can have the name."""
    bound: list[ast.AST] = []
    for node in ast.walk(tree):
        match node:
            case ast.FunctionDef(name="run") | ast.AsyncFunctionDef(name="run") | ast.ClassDef(name="run"):
                bound.append(node)
            case ast.Name(id="run", ctx=ast.Store()):
                bound.append(node)
            case ast.Import() | ast.ImportFrom():
                bound += [node for alias in node.names if (alias.asname or alias.name) in ("run", "*")]
    if len(bound) != 1 or bound[0] not in tree.body:
        return None
    run = bound[0]
    return run if isinstance(run, ast.FunctionDef | ast.AsyncFunctionDef) and not run.decorator_list else None
