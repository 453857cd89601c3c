"""Which folders of a source directory a script puts into ``sys.path`` itself, such as ``src``, as its text tells."""

from __future__ import annotations

import ast
import posixpath
from collections.abc import Collection


def added_folders(tree: ast.Module, folders: Collection[str]) -> dict[str, bool]:
    """Those of ``folders`` that are added, each with whether it comes first.

    Only paths that are written down are seen: literals in the call, or in what is assigned to the names in it.
    """
    assigned: dict[str, list[ast.expr]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign):
            for target in node.targets:
                if isinstance(target, ast.Name):
                    assigned.setdefault(target.id, []).append(node.value)
    found: dict[str, bool] = {}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not node.args or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr in ("append", "insert") and ast.unparse(node.func.value) in ("sys.path", "path"):
            is_first = node.func.attr == "insert" and ast.unparse(node.args[0]) == "0"
            folder = _path_of(node.args[-1], assigned)
            if folder in folders:
                found[folder] = found.get(folder, False) or is_first
    return found


def _path_of(value: ast.expr, assigned: dict[str, list[ast.expr]]) -> str:
    """The literals of a path joined; names stand for what is assigned to them, once."""
    leaves = [node for node in ast.walk(value) if isinstance(node, ast.Constant | ast.Name)]
    parts = []
    for leaf in sorted(leaves, key=lambda leaf: (leaf.lineno, leaf.col_offset)):
        if isinstance(leaf, ast.Constant):
            parts.append(leaf.value if isinstance(leaf.value, str) else "")
        elif leaf.id in assigned:
            rest = {name: values for name, values in assigned.items() if name != leaf.id}
            parts.append(_path_of(assigned[leaf.id][-1], rest))
    return posixpath.normpath("/".join(part.strip("/") for part in parts if part.strip("/")) or ".")
