"""Which model of a registry a script means: by name and version, by id, or by tags, properties, run and framework."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from edgepack.errors import NotFoundError, UsageError
from edgepack.names import ModelRef
from packager.models.model import Model
from packager.models.query import ModelQuery
from packager.sdk.arguments import filters_of, framework_of
from packager.sdk.owner import Owner


def find_model(
    workspace: Owner,
    name: str | None,
    identity: str | None,
    tags: Sequence[Any] | None,
    properties: Sequence[Any] | None,
    version: int | str | None,
    run_id: str | None,
    framework: str | None,
) -> Model:
    """The model; raises ``NotFoundError``, ``UsageError`` for arguments that contradict each other."""
    models = workspace.parts.models
    if identity is not None:
        ref = ModelRef.parse(identity)
        if (name, version) not in ((None, None), (ref.name, None)):
            raise UsageError("an id says name and version already", where=f"id {identity!r}", hint="leave them out")
        return models.get(ref)
    if version is not None:
        if name is None:
            raise UsageError("a version needs a name", hint="give name too")
        return models.get(ModelRef.parse(f"{name}:{version}"))
    filters = filters_of(tags, "tags"), filters_of(properties, "properties")
    query = ModelQuery(name, *filters, framework_of(framework), run_id)
    if query == ModelQuery():
        raise UsageError("which model is not said", where="Model", hint="give its name or id")
    if query == ModelQuery(name) and name is not None:
        return models.get(ModelRef(name))
    found = models.list(query)
    if not found:
        raise NotFoundError("no model is like that", where="model registry", hint="see: Model.list(workspace)")
    return max(found, key=lambda record: (record.created, record.version))
