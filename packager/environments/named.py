"""The environment that one word of a command names: a file, an MLflow model's folder, or one that is registered."""

from __future__ import annotations

from pathlib import Path

from edgepack.errors import NotFoundError
from edgepack.names import EnvironmentRef
from packager.environments.environment import Environment
from packager.environments.registry import EnvironmentRegistry
from packager.environments.sources import from_file, from_mlflow

_MLMODEL = "MLmodel"
_FILES = (".yml", ".yaml", ".txt", ".in", ".json")


def find_environment(text: str, registry: EnvironmentRegistry) -> Environment:
    """The environment ``text``; what is in a file has no version.

    Raises ``NotFoundError`` for a file or environment that there is not, and what is wrong with a file.
    """
    path = Path(text)
    if (path / _MLMODEL).exists():
        return from_mlflow(path, path.resolve().name)
    if "/" in text or path.suffix.lower() in _FILES:
        return from_file(path, _name_of(path))
    try:
        return registry.get(EnvironmentRef.parse(text))
    except NotFoundError:
        if path.exists():
            return from_file(path, _name_of(path))
        raise


def _name_of(path: Path) -> str:
    """A name for what is in the file; it is shown, and no registry sees it."""
    name = "".join(char if char.isalnum() and char.isascii() else "-" for char in path.resolve().stem).strip("-")
    return name or "environment"
