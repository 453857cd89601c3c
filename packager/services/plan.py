"""What a change of a service needs, decided before anything is done. Nothing here does I/O."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from edgepack.errors import UsageError
from edgepack.names import ModelRef
from packager.services.configuration.rules import Configuration
from packager.services.configuration.values import LocalDeployment
from packager.services.service import Service, Source

if TYPE_CHECKING:
    from packager.images.build import BuildOptions

LOCAL = Configuration(LocalDeployment(), {"computeType": "local"})


@dataclass(frozen=True)
class Request:
    """What is to run: a service of these ``models``, built with ``options`` and run as ``configuration`` says.

    ``where`` is the device, or the context of a Kubernetes' configuration, where that kind of target has several.
    """

    name: str
    models: tuple[ModelRef, ...]
    options: BuildOptions
    configuration: Configuration = LOCAL
    where: str | None = None
    source: Source | None = None
    description: str | None = None
    tags: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Change:
    """What an update says; ``None`` where it says nothing of it, and that stays as it is.

    ``options`` are given with an inference configuration.
    """

    models: tuple[ModelRef, ...] | None = None
    options: BuildOptions | None = None
    source: Source | None = None
    configuration: Configuration | None = None
    description: str | None = None
    tags: Mapping[str, str] | None = None
    properties: Mapping[str, str] | None = None


@dataclass(frozen=True)
class Rebuild:
    """The models and whose options a new package has."""

    models: tuple[ModelRef, ...]
    source: Source | None
    options: BuildOptions | None


def plan_update(service: Service, change: Change) -> Rebuild | None:
    """What is to be built for ``change``; ``None`` where the package stays.

    By the contract's rule: new models without an inference configuration are for a service of one model without code,
    and an inference configuration alone keeps the models. Raises ``UsageError``.
    """
    where = f"service {service.name}"
    if not any(value is not None for value in vars(change).values()):
        raise UsageError("says nothing to change", where=where, hint="give -m, --ic, --dc, --tag or --description")
    kind = None if change.configuration is None else change.configuration.deployment.compute_type
    if kind is not None and kind is not service.compute_type:
        raise UsageError(
            f"runs on {service.compute_type}, and the configuration is for {kind}", where=where,
            hint=f"delete it first, or deploy it under another name: edgepack service delete {service.name}",
        )  # fmt: skip
    if change.models is None and change.options is None:
        return None
    if change.options is not None:
        return Rebuild(change.models or _refs(service.models), change.source, change.options)
    if service.source is not None or len(service.models) != 1:
        raise UsageError(
            "has an entry script, which new models alone do not say how to run", where=where,
            hint="give the inference configuration too, by --ic or --entry-script",
        )  # fmt: skip
    models = change.models or ()
    if len(models) != 1:
        raise UsageError(
            f"serves one model without code, and {len(models)} are given", where=where,
            hint="give one, or an inference configuration with an entry script",
        )  # fmt: skip
    return Rebuild(models, None, None)


def _refs(models: Sequence[str]) -> tuple[ModelRef, ...]:
    return tuple(map(ModelRef.parse, models))


def changed(service: Service, change: Change) -> dict[str, Any]:
    """The fields of the record that ``change`` says, but for the package; properties only grow."""
    found: dict[str, Any] = {}
    if change.configuration is not None:
        deployment = change.configuration.deployment
        found |= {"deployment": change.configuration.written, "auth": deployment.auth}
        if deployment.port_asked is not None:
            found["port"] = deployment.port_asked
    if change.description is not None:
        found["description"] = change.description
    if change.tags is not None:
        found["tags"] = change.tags
    if change.properties is not None:
        found["properties"] = grown(service.properties, change.properties, f"service {service.name}")
    return found


def grown(properties: Mapping[str, str], given: Mapping[str, str], where: str) -> dict[str, str]:
    """``properties`` with those that are ``given``; raises ``UsageError`` for one that has another value already."""
    for name, value in given.items():
        if properties.get(name, value) != value:
            raise UsageError(
                f"property {name!r} is {properties[name]!r} already", where=where,
                hint="properties only grow; use a tag for what changes",
            )  # fmt: skip
    return {**properties, **given}
