"""The provenance of an image: SLSA's statement of what it was built of and how (slsa.dev/spec/v1.0/provenance).

It has no times, so that a build that is repeated gives the same statement; ``rebuild`` builds by it again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgepack import __version__
from edgepack.documents import canonical_json
from edgepack.oci import mediatypes
from edgepack.oci.descriptor import Descriptor
from edgepack.oci.digest import Digest
from edgepack.signing.rules import STATEMENT_TYPE
from packager.bases.find import is_recipe
from packager.images.attachments import Attachment, of_kind
from packager.images.plan import OWN_ENV, LayerPlan, ReadyLayer
from packager.inference.entry_script import EntryScript
from packager.inference.service_settings import ServiceSettings
from packager.layers.compressors import compressor_name
from packager.models.model import Model, ModelFile
from packager.sbom.models import digest_of
from packager.wheels.groups import WheelGroup
from packager.wheels.trim import RULES, TrimRule

KIND = "provenance"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
BUILD_TYPE = "https://edgepack.dev/build/v1"
BUILDER = "https://edgepack.dev/builder/v1"
# BuildKit's annotation of an attestation's layer, by which other tools tell predicates apart.
_PREDICATE = "in-toto.io/predicate-type"


@dataclass(frozen=True)
class Request:
    """What a user asked of a build, besides models and platform."""

    rules: tuple[TrimRule, ...] = RULES
    extras: tuple[str, ...] = ()
    script: EntryScript | None = None
    settings: ServiceSettings | None = None
    environment: str | None = None
    description: str | None = None


def provenance_attachment(data: bytes) -> Attachment:
    """The statement as it is attached to its image."""
    made = of_kind(KIND, mediatypes.IN_TOTO, mediatypes.IN_TOTO, data)
    return Attachment(made.artifact_type, made.media_type, made.data, {**made.annotations, _PREDICATE: PREDICATE_TYPE})


def provenance(
    plan: LayerPlan,
    image: Descriptor,
    request: Request,
    records: Mapping[str, Model],
    code: Sequence[ModelFile],
    bytecode: str | None,
) -> bytes:
    """The statement on ``image``, built of ``plan`` with ``request``; ``records`` are of its models, by their ids.

    ``code`` are the user's files, ``bytecode`` is the minor version of Python whose bytecode is in it.
    """
    return canonical_json(
        {
            "_type": STATEMENT_TYPE,
            "subject": [{"name": str(plan.platform), "digest": {"sha256": image.digest.hex}}],
            "predicateType": PREDICATE_TYPE,
            "predicate": {
                "buildDefinition": {
                    "buildType": BUILD_TYPE,
                    "externalParameters": _asked(plan, request, records, code),
                    "internalParameters": {"bytecode": bytecode, "created": plan.created},
                    "resolvedDependencies": _dependencies(plan, records),
                },
                "runDetails": {
                    "builder": {
                        "id": BUILDER,
                        "version": {"edgepack": __version__, "compressor": compressor_name()},
                    }
                },
            },
        }
    )


def _asked(
    plan: LayerPlan, request: Request, records: Mapping[str, Model], code: Sequence[ModelFile]
) -> dict[str, Any]:
    """What its user asked for; names of this machine's files and folders are no part of it."""
    kept = {rule.name for rule in request.rules}
    found: dict[str, Any] = {
        "models": list(records),
        "platform": str(plan.platform),
        "base": plan.base.name if is_recipe(plan.base.name) else plan.base.reference,
        "extras": sorted(request.extras),
        "rulesOff": sorted(rule.name for rule in RULES if rule.name not in kept),
        "entryScript": None,
        "serviceConfig": None if request.settings is None else dict(request.settings.values),
        "variables": _variables(plan),
        "description": request.description,
        "lock": {"sha256": Digest.of(plan.lock.encode()).hex} if plan.lock else None,
        "environment": request.environment,
    }
    if plan.steps:
        found["dockerfileSteps"] = plan.steps
    if request.script is not None:
        found["entryScript"] = {
            "file": request.script.file,
            "folder": f"/{request.script.folder}",
            "files": {"sha256": digest_of(code)},
        }
    return found


def _variables(plan: LayerPlan) -> list[str]:
    """The variables that an environment sets, in their order: those of neither the base nor the build."""
    there = plan.base.config.env
    return [f"{name}={value}" for name, value in plan.env.items() if name not in OWN_ENV and there.get(name) != value]


def _dependencies(plan: LayerPlan, records: Mapping[str, Model]) -> list[dict[str, Any]]:
    base: dict[str, Any] = {"name": "base", "digest": {"sha256": plan.base.descriptor.digest.hex}}
    if plan.base.reference is not None:
        base["uri"] = f"edgepack:base:{plan.base.name}" if is_recipe(plan.base.name) else plan.base.reference
    wheels = sorted(
        (wheel for group in plan.layers if isinstance(group, WheelGroup) for wheel in group.wheels),
        key=lambda wheel: (wheel.name, wheel.digest),
    )
    return [
        base,
        *(
            {
                "name": wheel.filename,
                "uri": f"pkg:pypi/{wheel.name}@{wheel.version}",
                "digest": {"sha256": wheel.digest.hex},
            }
            for wheel in wheels
        ),
        *(
            {"name": f"{name}/{file.path}", "uri": f"edgepack:model:{name}", "digest": {"sha256": file.sha256}}
            for name, model in records.items()
            for file in sorted(model.files, key=lambda file: file.path)
        ),
        *({"name": f"layer {layer.kind}", "digest": {"sha256": digest}} for layer, digest in _ready(plan)),
    ]


def _ready(plan: LayerPlan) -> Sequence[tuple[Any, str]]:
    """The layers of models, which a conversion made before, by the digests of their plain tars."""
    return [(layer, layer.layer.diff_id.hex) for layer in plan.layers if isinstance(layer, ReadyLayer)]
