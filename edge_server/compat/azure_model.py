"""``azureml.core.model`` without the cloud: finds a model's files."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from typing import Any

import orjson


class AzureMLException(Exception):  # noqa: N818 - the name that scripts import
    """The root of azureml.exceptions."""

    def __init__(self, exception_message: str, **kwargs: Any) -> None:
        super().__init__(exception_message)
        self.message = exception_message


class WebserviceException(AzureMLException):
    """A wrong version, or a folder in which the model is ambiguous."""


class ModelNotFoundException(AzureMLException):
    """There is no model of that name."""


def get_model_path(model_name: str, version: int | None = None, _workspace: Any = None) -> str:
    """Return the path of a model's file or folder.

    Without a version the latest one: of the models that the service has, a file or the folder that was given to it;
    then ``azureml-models/<name>/<version>`` below the application's root and the current folder, each version's folder
    holding exactly one entry; then
    ``./<name>``. Raises ``azureml.exceptions.ModelNotFoundException`` when there is none of that name,
    ``WebserviceException`` for a version that is missing or not an int, and for a folder of more or fewer entries.
    """
    if not model_name:
        raise _error("WebserviceException", f"model_name is {model_name!r}; give the name of a model")
    if version is not None and (not isinstance(version, int) or isinstance(version, bool)):
        raise _error("WebserviceException", f"version should be an int, not {version!r}")
    found = _configured(model_name, version) or _cached(model_name, version)
    if found is not None:
        return found
    if version is None and Path(model_name).exists():
        return model_name
    known = ", ".join(f"{model['name']}:{model['version']}" for model in _models()) or "none"
    wanted = model_name if version is None else f"{model_name} of version {version}"
    kind = "ModelNotFoundException" if version is None else "WebserviceException"
    raise _error(kind, f"Model {wanted} not found among the service's models ({known}) or in {Path.cwd()}")


class Model:
    """What a script needs of azureml.core.model.Model: the path of a registered model."""

    get_model_path = staticmethod(get_model_path)


def _error(kind: str, message: str) -> Exception:
    """An error of the installed azureml.exceptions, or of ours; scripts catch whichever they can import."""
    error: Exception = getattr(importlib.import_module("azureml.exceptions"), kind)(message)
    return error


def _models() -> list[dict[str, Any]]:
    models: list[dict[str, Any]] = orjson.loads(os.environ.get("EDGEPACK_WORKER_MODELS", "[]"))
    return models


def _configured(name: str, version: int | None) -> str | None:
    found = [model for model in _models() if model["name"] == name and version in (None, model["version"])]
    if not found:
        return None
    model = max(found, key=lambda one: one["version"])
    folder = Path(model["folder"])
    if model["file"]:
        return str(folder / model["file"])
    return str(folder) if model["is_folder"] else _only_entry(folder)


def _cached(name: str, version: int | None) -> str | None:
    roots = (Path(os.environ.get("AML_APP_ROOT", "")), Path())
    for versions in (root / "azureml-models" / name for root in roots):
        if not versions.is_dir():
            continue
        numbers = sorted(int(entry.name) for entry in versions.iterdir() if entry.name.isdecimal())
        if numbers and version in (None, *numbers):
            return _only_entry(versions / str(numbers[-1] if version is None else version))
    return None


def _only_entry(folder: Path) -> str:
    entries = sorted(entry.name for entry in folder.iterdir()) if folder.is_dir() else []
    if len(entries) != 1:
        raise _error("WebserviceException", f"Dir {folder} can contain only 1 file or folder. Found {entries}")
    return str(folder / entries[0])
