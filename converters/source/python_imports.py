"""Which modules an ``import`` or ``from`` statement of Python names, by their absolute names."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass


@dataclass(frozen=True)
class Import:
    """One imported module, by its absolute name; ``names`` are what ``from`` takes out of it."""

    module: str
    names: tuple[str, ...]
    line: int

    def candidates(self) -> list[str]:
        """The dotted names that may be modules: the module, and each of ``names`` below it; ``*`` is not one."""
        return [self.module, *(f"{self.module}.{name}" for name in self.names if name != "*")]


def imports_of(statement: ast.AST, package: str) -> Iterator[Import]:
    """The imports of a statement of a module in ``package``, "" for a script; of another statement, none.

    A relative import that leads above the top package fails when it runs, or is of a package whose name is not known
    here; it is left out.
    """
    if isinstance(statement, ast.Import):
        yield from (Import(alias.name, (), statement.lineno) for alias in statement.names)
    elif isinstance(statement, ast.ImportFrom):
        parts = package.split(".") if package else []
        if statement.level > len(parts):
            return
        above = parts[: len(parts) - statement.level + 1] if statement.level else []
        module = ".".join([*above, *([statement.module] if statement.module else [])])
        yield Import(module, tuple(alias.name for alias in statement.names), statement.lineno)
