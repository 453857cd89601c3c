"""Converters of ours where skl2onnx has none, or one that answers wrongly: one file a subject.

Each module beside this one names its converters in ``RECIPES``; ``register`` hands them to skl2onnx by its own
mechanism, so that they also serve inside of pipelines and ensembles that skl2onnx itself converts.
"""

from __future__ import annotations

import contextlib
import functools
import importlib
import operator
import pkgutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from converters.sklearn.recipes.writing import guards
from converters.sklearn.recipes.writing.registry import Recipe, add, needed_modules, registries


@functools.cache
def _modules() -> tuple[str, ...]:
    return tuple(sorted(entry.name for entry in pkgutil.iter_modules(__path__)))


def all_recipes() -> Iterator[Recipe]:
    """Every converter of ours, module by module."""
    for module in _modules():
        yield from getattr(importlib.import_module(f"{__name__}.{module}"), "RECIPES", ())


@dataclass(frozen=True)
class _Added:
    """What registering ``recipes`` added to each of skl2onnx's registries when these modules were imported."""

    recipes: tuple[Recipe, ...]
    modules: tuple[object, ...]
    entries: tuple[dict[Any, Any], ...]

    def is_of(self, recipes: tuple[Recipe, ...], modules: tuple[object, ...]) -> bool:
        """Whether registering these would add the same again."""
        pairs = ((self.recipes, recipes), (self.modules, modules))
        return all(len(one) == len(other) and all(map(operator.is_, one, other)) for one, other in pairs)


_last_added: _Added | None = None


def register() -> None:
    """Let skl2onnx use our converters from here on, in this process.

    It inspects every function that it is given, which takes a tenth of a second for all of ours: once, and not in each
    of the attempts that a conversion makes.
    """
    global _last_added
    recipes = tuple(all_recipes())
    modules = tuple(sys.modules.get(name) for recipe in recipes for name in needed_modules(recipe))
    if _last_added is None or not _last_added.is_of(recipes, modules):
        before = [dict(registry) for registry in registries()]
        for recipe in recipes:
            add(recipe)
        entries = tuple(
            {key: value for key, value in registry.items() if known.get(key) is not value}
            for registry, known in zip(registries(), before, strict=True)
        )
        # A module that was imported meanwhile is another one than before.
        modules = tuple(sys.modules.get(name) for recipe in recipes for name in needed_modules(recipe))
        _last_added = _Added(recipes, modules, entries)
        return
    for registry, added in zip(registries(), _last_added.entries, strict=True):
        registry.update(added)


@contextlib.contextmanager
def registered(*, ours: bool, ties_accepted: bool = False, guarded: bool = False) -> Iterator[None]:
    """skl2onnx with our converters or without; afterwards it is as it was before.

    ``ties_accepted`` lets through what only differs where training rows are equally far. ``guarded`` lets the graph
    fail where a part of the model refuses the numbers that it is given.
    """
    from converters.sklearn.recipes import ties

    token = ties.ACCEPTED.set(ties_accepted)
    known = [(registry, dict(registry)) for registry in registries()]
    try:
        if ours:
            register()
        if guarded:
            converters = registries()[0]
            converters.update({kind: guards.guarded(convert) for kind, convert in converters.items()})
        yield
    finally:
        ties.ACCEPTED.reset(token)
        for registry, before in known:
            registry.clear()
            registry.update(before)
