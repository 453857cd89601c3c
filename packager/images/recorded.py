"""What the provenance of an image says that was asked for, read again, so that it can be built again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from edgepack.errors import EdgepackError, InvalidDocumentError
from edgepack.names import ModelRef
from edgepack.oci.descriptor import Platform
from edgepack.oci.digest import Digest


@dataclass(frozen=True)
class Recorded:
    """What the provenance of an image says that was asked for; ``steps`` of a Dockerfile were executed by an engine."""

    platform: Platform
    models: tuple[ModelRef, ...]
    base: str | None
    base_digest: Digest
    extras: tuple[str, ...]
    rules_off: tuple[str, ...]
    variables: tuple[str, ...]
    script: Mapping[str, Any] | None
    settings: Mapping[str, Any] | None
    description: str | None
    environment: str | None
    model_layers: tuple[Digest, ...]
    tools: Mapping[str, str] = field(default_factory=dict)
    steps: str = ""


def recorded(statement: Mapping[str, Any], where: str) -> Recorded:
    """Read a statement of provenance; raises ``InvalidDocumentError`` for one by which nothing can be built."""
    try:
        definition = statement["predicate"]["buildDefinition"]
        external, listed = definition["externalParameters"], definition["resolvedDependencies"]
        named = [(one.get("name"), Digest.parse(f"sha256:{one['digest']['sha256']}")) for one in listed]
        return Recorded(
            platform=Platform.parse(external["platform"]),
            models=tuple(map(ModelRef.parse, external["models"])),
            base=_text(external["base"]),
            base_digest=next(digest for name, digest in named if name == "base"),
            extras=tuple(external["extras"]),
            rules_off=tuple(external["rulesOff"]),
            variables=tuple(external["variables"]),
            script=_object(external["entryScript"]),
            settings=_object(external["serviceConfig"]),
            description=_text(external["description"]),
            environment=_text(external["environment"]),
            model_layers=tuple(digest for name, digest in named if name == "layer model"),
            tools=dict(statement["predicate"]["runDetails"]["builder"]["version"]),
            steps=_text(external.get("dockerfileSteps")) or "",
        )
    except (KeyError, TypeError, AttributeError, StopIteration, ValueError, EdgepackError) as error:
        raise InvalidDocumentError(where, [f"is not one by which to build again ({error})"]) from error


def _text(value: object) -> str | None:
    if isinstance(value, str | None):
        return value
    raise TypeError(f"{value!r} is not text")


def _object(value: object) -> Mapping[str, Any] | None:
    if isinstance(value, dict | None):
        return value
    raise TypeError(f"{value!r} is not an object")
