"""Converters of ours where skl2onnx has none, or one that answers wrongly: one file a subject.

Each module beside this one names its converters in ``RECIPES``; ``register`` hands them to skl2onnx by its own
mechanism, so that they also serve inside of pipelines and ensembles that skl2onnx itself converts.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
from collections.abc import Iterator

from converters.sklearn.recipes.writing import guards
from converters.sklearn.recipes.writing.registry import Recipe, add, registries


def all_recipes() -> Iterator[Recipe]:
    """Every converter of ours, module by module."""
    for module in sorted(entry.name for entry in pkgutil.iter_modules(__path__)):
        yield from getattr(importlib.import_module(f"{__name__}.{module}"), "RECIPES", ())


def register() -> None:
    """Let skl2onnx use our converters from here on, in this process."""
    for recipe in all_recipes():
        add(recipe)


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
