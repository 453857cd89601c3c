"""Runs code of a test while the files that the trim rules leave out are refused: ``python -m … JSON``.

What is refused: modules, by a finder in front of all others; and files that Python opens, by an audit hook.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

from packager.layers.rules import path_pattern
from packager.wheels.trim import RULES

_SUFFIXES = (".py", *importlib.machinery.EXTENSION_SUFFIXES, "/__init__.py")


def main() -> None:
    """Execute the values of the first argument, a JSON object of code by name."""
    left_out = path_pattern(
        path for rule in RULES if not rule.shortens and not rule.while_only_for for path in rule.paths
    )
    roots = [str(Path(path)) + "/" for path in sys.path if path.endswith("site-packages")]
    assert roots, sys.path

    class Refusing(importlib.abc.MetaPathFinder):
        def find_spec(
            self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
        ) -> importlib.machinery.ModuleSpec | None:
            inner = fullname.replace(".", "/")
            if any(left_out.fullmatch(inner + suffix) for suffix in _SUFFIXES):
                raise ModuleNotFoundError(f"the rules leave {fullname} out", name=fullname)
            return None

    def refuse(event: str, arguments: tuple[object, ...]) -> None:
        if event != "open" or not isinstance(arguments[0], str):
            return
        for root in roots:
            if arguments[0].startswith(root) and left_out.fullmatch(arguments[0][len(root) :]):
                raise FileNotFoundError(f"the rules leave {arguments[0]} out")

    sys.meta_path.insert(0, Refusing())
    sys.addaudithook(refuse)
    for name, code in json.loads(sys.argv[1]).items():
        exec(compile(code, f"code for {name}", "exec"), {"__name__": "__main__"})  # noqa: S102
        sys.stdout.write(f"{name} predicts\n")


main()
