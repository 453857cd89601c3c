"""``inferenceconfig.json`` and ``.yml``: an inference configuration in a file."""

from __future__ import annotations

from pathlib import Path

from edgepack.documents import Fields, parse_object, raise_all
from packager.environments.azure import from_azure
from packager.environments.files import read_text
from packager.environments.registry import EnvironmentRegistry
from packager.inference.configuration import InferenceConfiguration


def read_configuration(path: Path, environments: EnvironmentRegistry) -> InferenceConfiguration:
    """Read ``path``; raises ``NotFoundError``, ``UsageError``, and ``InvalidDocumentError`` with every violation."""
    violations: list[str] = []
    fields = Fields(parse_object(read_text(path, "inference configuration").encode(), path), "", violations)
    script = fields.take("entryScript", str, required=True)
    folder = fields.take("sourceDirectory", str)
    described = fields.take("environment", dict)
    description = fields.take("description", str)
    fields.finish()
    raise_all(path, violations)
    return InferenceConfiguration(
        script or "",
        Path(folder) if folder is not None else None,
        None if described is None else from_azure(described, path, folder=Path()),
        description=description,
    )
