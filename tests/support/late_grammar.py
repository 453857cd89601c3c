"""The grammar of IRIs, read when a schema asks for one: jsonschema imports it at once, which takes two seconds."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from importlib.util import find_spec
from types import ModuleType
from typing import Any

NAME = "rfc3987_syntax"


class _Later(ModuleType):
    """What jsonschema takes of it."""

    @staticmethod
    def is_valid_syntax(term: str, value: str) -> bool:
        return bool(_grammar().is_valid_syntax(term, value))


@cache
def _grammar() -> Any:
    sys.modules.pop(NAME, None)
    return importlib.import_module(NAME)


def install() -> None:
    """Before anything imports jsonschema."""
    if NAME not in sys.modules and find_spec(NAME) is not None:
        sys.modules[NAME] = _Later(NAME)
