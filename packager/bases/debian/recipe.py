"""Recipes of base images and their locks, as they lie in ``dockerfiles/base``."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

import dockerfiles
from edgepack.errors import InvalidDocumentError, NotFoundError, UsageError
from edgepack.host.files import atomic_write
from edgepack.nearness import did_you_mean
from edgepack.oci.descriptor import Platform
from packager.bases.debian.debs import LockedPackage
from packager.bases.debian.rules import Rule, Rules

RECIPES = Path(dockerfiles.__file__).parent / "base"
_RECIPE_SCHEMA = "edgepack.base-recipe/v1"
_LOCK_SCHEMA = "edgepack.base-lock/v1"


@dataclass(frozen=True)
class BaseRecipe:
    """What a base image is made of; ``folder`` holds the recipe and its locks."""

    folder: Path
    name: str
    suite: str
    packages: tuple[str, ...]
    rules: Rules
    platforms: Mapping[str, Mapping[str, Any]]
    env: Mapping[str, str]
    python: str
    python_minor: str
    glibc: str
    user: str
    bytecode: tuple[str, ...]
    folders: Mapping[str, int]
    links: Mapping[str, str]
    files: Mapping[str, str]

    def of_platform(self, platform: Platform) -> Mapping[str, Any]:
        """What differs for ``platform``; raises ``UsageError`` for one that the recipe does not have."""
        if str(platform) not in self.platforms:
            hint = f"choose from {', '.join(self.platforms)}"
            raise UsageError(f"this base cannot be built for {platform}", where=self.name, hint=hint)
        return self.platforms[str(platform)]

    def lacks_module(self, name: str) -> bool:
        """Whether the rules leave module ``name`` of the standard library out."""
        module = f"usr/lib/python{self.python_minor}/{name}"
        return any(self.rules.of_path(path) is not None for path in (f"{module}.py", f"{module}/__init__.py"))


@dataclass(frozen=True)
class Lock:
    """What a recipe gave on the day when it was locked: the whole closure, and the layer's plain tar (bytes)."""

    packages: tuple[LockedPackage, ...]
    diff_id: str
    unpacked_size: int


def recipes() -> list[str]:
    """The names of the recipes that come with edgepack."""
    return sorted(path.parent.name for path in RECIPES.glob("*/recipe.toml"))


@cache
def load_recipe(name: str) -> BaseRecipe:
    """Read recipe ``name``; raises ``NotFoundError`` or ``InvalidDocumentError``."""
    if name not in recipes():
        hint = did_you_mean(name, recipes(), f"choose from {', '.join(recipes())}")
        raise NotFoundError(f"no base recipe is named {name!r}", hint=hint)
    path = RECIPES / name / "recipe.toml"
    try:
        document = tomllib.loads(path.read_text("utf-8"))
        if (schema := document.pop("schema")) != _RECIPE_SCHEMA:
            raise InvalidDocumentError(path, [f"schema is {schema!r}, not {_RECIPE_SCHEMA!r}"])
        rules = Rules(tuple(_rule(rule, fields) for rule, fields in document.pop("rules").items()))
        document |= {key: tuple(document[key]) for key in ("packages", "bytecode")}
        return BaseRecipe(folder=path.parent, rules=rules, **document)
    except (tomllib.TOMLDecodeError, KeyError, TypeError) as error:
        raise InvalidDocumentError(path, [f"is not a base recipe ({error})"]) from error


def _rule(name: str, fields: Mapping[str, Any]) -> Rule:
    lists = {key: tuple(value) for key, value in fields.items() if key != "reason"}
    return Rule(name=name, reason=fields["reason"], **lists)


def lock_path(recipe: BaseRecipe, platform: Platform) -> Path:
    """Where the lock of ``recipe`` for ``platform`` is kept."""
    return recipe.folder / f"lock-{str(platform).replace('/', '-')}.json"


def read_lock(recipe: BaseRecipe, platform: Platform) -> Lock | None:
    """The lock, or ``None`` without one; raises ``InvalidDocumentError`` for one that cannot be read."""
    path = lock_path(recipe, platform)
    try:
        document = json.loads(path.read_bytes())
        if (schema := document.pop("schema")) != _LOCK_SCHEMA:
            raise InvalidDocumentError(path, [f"schema is {schema!r}, not {_LOCK_SCHEMA!r}"])
        return Lock(tuple(LockedPackage(**package) for package in document.pop("packages")), **document)
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidDocumentError(path, [f"is not a lock ({error})"], hint="write it again") from error


def python_release(recipe: BaseRecipe) -> str:
    """The full version of the recipe's Python, such as ``3.11.2``, by its locks; its minor version without one."""
    locks = [lock for name in recipe.platforms if (lock := read_lock(recipe, Platform.parse(name))) is not None]
    return release_of(recipe, locks[0].packages) if locks else recipe.python_minor


def release_of(recipe: BaseRecipe, packages: Iterable[LockedPackage]) -> str:
    """The full version of the recipe's Python among ``packages``; its minor version where they have none."""
    named = [package.version for package in packages if package.name == f"python{recipe.python_minor}-minimal"]
    found = re.match(r"(?:\d+:)?(\d+(?:\.\d+)*)", named[0]) if named else None
    return found[1] if found else recipe.python_minor


def write_lock(recipe: BaseRecipe, platform: Platform, lock: Lock) -> None:
    """Replace the lock of ``recipe`` for ``platform``."""
    text = json.dumps({"schema": _LOCK_SCHEMA, **asdict(lock)}, indent=1) + "\n"
    atomic_write(lock_path(recipe, platform), text.encode())
