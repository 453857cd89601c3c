"""The environment and the importable packages of an entry script that was written for Azure.

Which package answers to a name:

- ``azureml.contrib.services``, ``azureml_inference_server_http``, ``azureml.monitoring`` and ``azureml.ai.monitoring``:
  always ours. The originals need Flask or the cloud.
- ``inference_schema``: ours (``edge_server.compat.inference_schema``), which builds frames many times as fast and whose
  errors are answers of 400. ``EDGEPACK_INFERENCE_SCHEMA=installed`` takes the installed package, for scripts that use
  its inner parts.
- ``azureml.core`` and ``azureml.exceptions``: the installed package where there is one, with ``Model.get_model_path``
  replaced by ours, since the original looks below the current folder only; else ours, which has what runs without
  the cloud.
- ``azureml.train.automl``: the installed package, else an empty one, since the specification's sample imports it and
  uses nothing of it. Whatever is asked of it then raises an error that says what to install.
- ``sklearn.externals.joblib``: joblib, where scikit-learn has it no more.
- every other name: whatever is installed.

Nothing is imported before the script asks for it. ``azure_names.py`` has the names.
"""

from __future__ import annotations

import importlib
import importlib.machinery
import importlib.util
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import orjson

from edge_server.compat.azure_names import (
    ALWAYS,
    CORE_MODEL,
    INSTALL,
    JOBLIB,
    NO_SPARK,
    OURS,
    SCHEMA,
    SERVER,
    SPARK,
    WHOLE,
)
from edge_server.config.values import Collection, ModelPlace, ServiceConfig

_log = logging.getLogger(__name__)

MODELS = "EDGEPACK_WORKER_MODELS"
COLLECTION = "EDGEPACK_WORKER_COLLECTION"
CHOICE = "EDGEPACK_INFERENCE_SCHEMA"


def environment(config: ServiceConfig) -> dict[str, str]:
    """The variables of a worker's environment beside the server's own.

    ``AZUREML_MODEL_DIR`` is the folder of the only model, or the one that holds ``<name>/<version>`` of all; where
    models are elsewhere, a folder of links below the temporary folder, which is removed when the server ends.
    """
    places = config.models
    models = [
        {"name": p.name, "version": p.version, "folder": str(p.folder), "file": p.file, "is_folder": p.is_folder}
        for p in places
    ]
    collection = config.collection
    values = {
        "AML_APP_ROOT": str(config.root),
        "AZUREML_MODEL_DIR": _model_dir(config.root, places),
        MODELS: orjson.dumps(models).decode(),
    }
    if config.script is not None:
        values["AZUREML_ENTRY_SCRIPT"] = str(config.script.file)
    if collection.folder is not None:
        values[COLLECTION] = _collection(collection, config)
    return values


def _collection(collection: Collection, config: ServiceConfig) -> str:
    settings = {
        "folder": str(collection.folder),
        "quota_bytes": collection.quota_bytes,
        "service": config.identity.name,
        "versions": {place.name: place.version for place in sorted(config.models, key=lambda p: p.version)},
    }
    return orjson.dumps(settings).decode()


def _model_dir(root: Path, places: Sequence[ModelPlace]) -> str:
    if len(places) == 1:
        return str(places[0].folder)
    bases = {_base(place) for place in places}
    if not places:
        return str(root / "azureml-models")
    base = bases.pop()
    if base is not None and not bases:
        return str(base)
    return str(_linked(places))


def _base(place: ModelPlace) -> Path | None:
    """The folder that holds ``<name>/<version>`` of the model; None when its folder has another name."""
    folder = place.folder
    fits = folder.name == str(place.version) and folder.parent.name == place.name
    return folder.parent.parent if fits else None


def _linked(places: Sequence[ModelPlace]) -> Path:
    import atexit
    import shutil
    import tempfile

    base, owner = Path(tempfile.mkdtemp(prefix="edgepack-models-")), os.getpid()

    def remove() -> None:
        if os.getpid() == owner:  # a forked worker must not remove it for the others
            shutil.rmtree(base, ignore_errors=True)

    atexit.register(remove)
    for place in places:
        (base / place.name).mkdir(exist_ok=True)
        (base / place.name / str(place.version)).symlink_to(place.folder)
    return base


def install() -> None:
    """Make the modules of the table above importable. Called in the worker before the script is imported."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


def always_ours() -> tuple[str, ...]:
    """The modules that are ours whatever is installed or beside the script."""
    return WHOLE if _takes_installed_schema() else (*WHOLE, SCHEMA)


def _takes_installed_schema() -> bool:
    return os.environ.get(CHOICE) == "installed"


class _Finder:
    """Finds our modules, and patched modules of installed packages, before any other finder."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Return the module's spec, or None to let other finders look.

        Raises ModuleNotFoundError for a name that a module of ours lacks, with the names that it has.
        """
        head = name.partition(".")[0]
        if head in ("azureml", SERVER):
            return self._azureml(name, path)
        if head == SCHEMA and not _takes_installed_schema():
            ours = f"edge_server.compat.{name}"
            if name == SPARK:
                raise ModuleNotFoundError(NO_SPARK)
            return _spec(name, _Alias(ours)) if importlib.util.find_spec(ours) else None
        if name == JOBLIB and self._installed(name, path) is None and importlib.util.find_spec("joblib"):
            return _spec(name, _Alias("joblib"))
        return None

    def _azureml(self, name: str, path: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
        if name in ALWAYS:
            return _spec(name, _Table(OURS[name]))
        found = self._installed(name, path)
        if found is not None:
            if name == CORE_MODEL and found.loader is not None:
                patched: Any = _Patched(found.loader)
                found.loader = patched
            return found
        if name in OURS:
            if name in INSTALL:
                _log.warning("%s is not installed: an empty module stands in for it", name)
            return _spec(name, _Table(OURS[name]))
        parent, _, last = name.rpartition(".")
        module = sys.modules.get(parent)
        if module is not None and isinstance(module.__loader__, _Table):
            # Without `name`, `from parent import name` shows this message instead of its own.
            raise ModuleNotFoundError(_offer(parent, last))
        return None

    def _installed(self, name: str, path: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
        for finder in sys.meta_path:
            if finder is not self and (found := finder.find_spec(name, path)) is not None:
                return found
        return None


def _spec(name: str, loader: Any) -> importlib.machinery.ModuleSpec:
    return importlib.machinery.ModuleSpec(name, loader, origin="edgepack", is_package=isinstance(loader, _Table))


def _offer(module: str, name: str) -> str:
    """The error text for a name that a module of ours lacks."""
    if (package := INSTALL.get(module)) is not None:
        return f"{module} is not installed, so that there is no {name}; add {package} to the dependencies"
    inner = [f"{other.rpartition('.')[2]}" for other in OURS if other.rpartition(".")[0] == module]
    offers = ", ".join(sorted({*OURS[module], *inner})) or "nothing"
    return (
        f"edgepack's {module} has no {name}, it offers {offers}; what needs the cloud must be left out of a script, "
        "or its package installed"
    )


class _Alias:
    """Loads a module as an alias of another one."""

    def __init__(self, other: str) -> None:
        self.other = other

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Let the import system make the module that exec_module replaces."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Replace this module by the other one."""
        sys.modules[module.__name__] = importlib.import_module(self.other)


class _Table:
    """Loads a module whose names are looked up when they are used."""

    def __init__(self, names: dict[str, str]) -> None:
        self.names = names

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType | None:
        """Let the import system make the module."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its names."""
        names, own = self.names, module.__name__

        def find(name: str) -> Any:
            if name not in names:
                raise AttributeError(_offer(own, name) if not name.startswith("__") else name)
            where, _, attribute = names[name].partition(":")
            value = getattr(importlib.import_module(where), attribute)
            setattr(module, name, value)
            return value

        module.__dict__.update(__getattr__=find, __dir__=lambda: sorted(names), __all__=list(names))


class _Patched:
    """Loads the installed azureml.core.model, and replaces what would look for models below the current folder."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, then replace ``Model.get_model_path``; the original is called when there is a workspace."""
        from edge_server.compat.azure_model import get_model_path

        self._loader.exec_module(module)
        original = module.Model.get_model_path

        def either(model_name: str, version: int | None = None, _workspace: Any = None) -> str:
            if _workspace is not None:
                return str(original(model_name, version, _workspace))
            return get_model_path(model_name, version)

        module.Model.get_model_path = staticmethod(either)
