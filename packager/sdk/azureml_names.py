"""The names below ``azureml`` as ours, for one process: scripts written for Azure's SDK run without a change.

Nothing is installed. What exists only in Azure is refused by its name when a script imports it.
"""

from __future__ import annotations

import importlib
import logging
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

from edgepack import __version__
from edgepack.nearness import nearest

_log = logging.getLogger(__name__)
# The processes that a script spawns get its path, and by that this finder.
_SPAWNED = Path(__file__).parent / "spawned"
# Module of Azure's SDK -> module of ours; None for packages that only hold others.
MODULES: dict[str, str | None] = {
    "azureml": None,
    "azureml.core": "packager",
    "azureml.core.authentication": "packager.sdk.authentication",
    "azureml.core.compute": "packager.compute",
    "azureml.core.compute_target": "packager.compute",
    "azureml.core.conda_dependencies": "packager.conda_dependencies",
    "azureml.core.container_registry": "packager.container_registry",
    "azureml.core.environment": "packager.environment",
    "azureml.core.experiment": "packager.experiment",
    "azureml.core.model": "packager.model",
    "azureml.core.resource_configuration": "packager.resource_configuration",
    "azureml.core.run": "packager.run",
    "azureml.core.webservice": "packager.webservice",
    "azureml.core.workspace": "packager.workspace",
    "azureml.exceptions": "packager.exceptions",
    "azureml.train": None,
    "azureml.train.automl": "packager.automl",
    "azureml.train.automl.run": "packager.automl",
}
# What no machine of one's own has, and the way that there is instead.
CLOUD_ONLY = {
    "AmlCompute": "train where you are, and log with Experiment.start_logging()",
    "KubernetesCompute": "attach a cluster by AksCompute.attach_configuration, whatever made it",
    "DEFAULT_CPU_IMAGE": "leave docker.base_image out, and edgepack's own base is taken",
    "DEFAULT_GPU_IMAGE": "name an image of yours in docker.base_image",
    "Keyvault": "keep secrets where the program that needs them finds them",
    "PrivateEndPoint": "a team's database and registry are its own: edgepack workspace init",
    "ScriptRunConfig": "run the script itself, and log with Experiment.start_logging()",
    "ScriptRun": "run the script itself, and log with Experiment.start_logging()",
    "RunConfiguration": "run the script itself, and log with Experiment.start_logging()",
}
_CLOUD_MODULES = ("keyvault", "private_endpoint", "runconfig", "script_run_config", "script_run")


def install() -> None:
    """Let imports of ``azureml`` find ours, before any real ones that are installed."""
    if not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        for name in [name for name in sys.modules if name.partition(".")[0] == "azureml"]:
            del sys.modules[name]
        sys.meta_path.insert(0, _Finder())
        if str(_SPAWNED) not in sys.path:
            sys.path.insert(0, str(_SPAWNED))


class _Finder(MetaPathFinder):
    """Finds every module below ``azureml``: one of ours, or one that refuses."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname.partition(".")[0] != "azureml":
            return None
        if fullname not in MODULES:
            _refuse(fullname)
        return ModuleSpec(fullname, _Loader(), is_package=True)


class _Loader(Loader):
    """Makes the module that stands for one of Azure's."""

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return _Stand(spec.name)

    def exec_module(self, module: ModuleType) -> None:
        """Its names are looked up when they are asked for."""


class _Stand(ModuleType):
    """A module of Azure's, whose names are those of one of ours."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        ours = MODULES[self.__name__]
        if name == "VERSION" and ours == "packager":  # which many scripts print first
            return f"edgepack {__version__}"
        if ours is not None:
            found = getattr(importlib.import_module(ours), name, None)
            if found is not None:
                return found
        below = f"{self.__name__}.{name}"
        if below in MODULES:
            return importlib.import_module(below)
        raise ImportError(f"{below} {_why(name, _names_of(ours))}", name=below)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *_names_of(MODULES[self.__name__])})


def _names_of(ours: str | None) -> list[str]:
    return [] if ours is None else [*getattr(importlib.import_module(ours), "__all__", [])]


def _why(name: str, known: Sequence[str]) -> str:
    if name in CLOUD_ONLY:
        return f"exists only in Azure; {CLOUD_ONLY[name]}"
    near = nearest(name, known)
    if near is not None:
        return f"has no counterpart in edgepack; did you mean {near!r}?"
    return f"has no counterpart in edgepack{'; there are ' + ', '.join(known) if known else ''}"


def _refuse(fullname: str) -> None:
    last = fullname.rpartition(".")[2]
    if last in _CLOUD_MODULES:
        hint = CLOUD_ONLY["ScriptRunConfig"]
        raise ModuleNotFoundError(f"{fullname} exists only in Azure; {hint}", name=fullname)
    names = sorted(name for name, ours in MODULES.items() if ours is not None)
    raise ModuleNotFoundError(f"{fullname} has no counterpart in edgepack; there are {', '.join(names)}", name=fullname)
