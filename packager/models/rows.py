"""A model as a row of the database, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgepack.errors import EdgepackError
from edgepack.oci.layer import Layer
from packager.models.model import (
    Framework,
    Model,
    ModelFile,
    conversion_from_json,
    resources_from_json,
    resources_to_json,
    sample_from_json,
    sample_to_json,
)


def row_of(model: Model) -> dict[str, Any]:
    """The columns of a new model, which has no conversion yet."""
    return {
        "name": model.name,
        "version": model.version,
        "framework": model.framework.value,
        "framework_version": model.framework_version,
        "created": model.created,
        "created_by": model.created_by,
        "description": model.description,
        "tags": dict(model.tags),
        "properties": dict(model.properties),
        "resources": resources_to_json(model.resources),
        "experiment": model.experiment,
        "run": model.run,
        "size": model.size,
        "files": [[file.path, file.size, file.sha256] for file in model.files],
        "layers": [layer.to_json() for layer in model.layers],
        "sample": sample_to_json(model.sample),
        "sample_output": sample_to_json(model.sample_output),
    }


def model_of(row: Mapping[str, Any]) -> Model:
    """The model in a row; raises ``EdgepackError`` for one that was damaged."""
    try:
        if not (row["files"] and row["layers"] and all(isinstance(row[key], dict) for key in ("tags", "properties"))):
            raise ValueError("a model has files, layers, tags and properties")
        return _read(row)
    except (ValueError, TypeError, KeyError, AttributeError, EdgepackError) as error:
        raise EdgepackError(
            "its record in the workspace's database is damaged", where=f"model {row['name']}:{row['version']}",
            hint="put a copy of the database back",
        ) from error  # fmt: skip


def _read(row: Mapping[str, Any]) -> Model:
    conversion = row["conversion"]
    return Model(
        row["name"],
        row["version"],
        Framework(row["framework"]),
        row["framework_version"],
        row["created"],
        row["tags"],
        tuple(ModelFile(*file) for file in row["files"]),
        tuple(Layer.from_json(layer) for layer in row["layers"]),
        sample_from_json(row["sample"]),
        conversion and conversion_from_json(conversion),
        row["properties"],
        row["description"],
        resources_from_json(row["resources"]),
        row["experiment"],
        row["run"],
        row["created_by"],
        sample_from_json(row["sample_output"]),
    )
