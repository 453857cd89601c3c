"""Packages of Azure's that the scoring server stands in for, so that an image does without them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class ServerPackage:
    """``reason`` says what has its place; the real one ``can_stay`` where the server steps back by ``variables``."""

    reason: str
    can_stay: bool = False
    variables: tuple[tuple[str, str], ...] = ()


_SERVER = "the scoring server of edgepack has its place"
_MODULES = "the scoring server brings the modules that entry scripts import of it"

# By normalised name.
SERVER_PACKAGES: Mapping[str, ServerPackage] = {
    "azureml-defaults": ServerPackage(_SERVER),
    "azureml-inference-server-http": ServerPackage(_SERVER),
    "azureml-contrib-services": ServerPackage(_MODULES),
    "azureml-monitoring": ServerPackage(_MODULES),
    "azureml-ai-monitoring": ServerPackage(_MODULES),
    "azureml-model-management-sdk": ServerPackage(_SERVER),
    "inference-schema": ServerPackage(
        "the scoring server brings its own form of it (the real one: --keep inference-schema)",
        can_stay=True,
        variables=(("EDGEPACK_INFERENCE_SCHEMA", "installed"),),
    ),
}


def kept_packages(names: Iterable[str]) -> tuple[frozenset[str], tuple[str, ...]]:
    """Of what a user keeps, the packages that stay although the server has its own form; and the names of rules."""
    listing = tuple(names)
    packages = {name for name in listing if name in SERVER_PACKAGES and SERVER_PACKAGES[name].can_stay}
    return frozenset(packages), tuple(name for name in listing if name not in packages)
