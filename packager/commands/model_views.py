"""How commands show models."""

from __future__ import annotations

from edgepack.host.console import human
from packager.models.model import Model, Sample, resources_to_json


def model_json(model: Model) -> dict[str, object]:
    """A model as the JSON interface shows it."""
    return {
        "id": model.id,
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
        "files": [{"path": file.path, "size": file.size, "sha256": file.sha256} for file in model.files],
        "layers": [{"digest": str(layer.descriptor.digest), "size": layer.descriptor.size} for layer in model.layers],
        "sample_input": _sample(model.sample),
        "sample_output": _sample(model.sample_output),
        "converted": model.conversion is not None,
    }


def _sample(sample: Sample | None) -> dict[str, object] | None:
    return None if sample is None else {"file": sample.filename, "digest": str(sample.blob.digest)}


def model_row(model: Model) -> dict[str, object]:
    """A model as a line of a table."""
    return {
        "model": model.id,
        "framework": " ".join(filter(None, (model.framework.value, model.framework_version))),
        "files": len(model.files),
        "size": human(model.size),
        "created": model.created,
        "tags": " ".join(f"{key}={value}" for key, value in sorted(model.tags.items())) or None,
    }


def model_rows(model: Model) -> list[dict[str, object]]:
    """A model as a table of its fields; what it does not have is left out."""
    resources = resources_to_json(model.resources) or {}
    fields = {
        "model": model.id,
        "description": model.description,
        "framework": model_row(model)["framework"],
        "created": " by ".join(filter(None, (model.created, model.created_by))),
        "run": "/".join(filter(None, (model.experiment, model.run))),
        "resources": " ".join(f"{key}={value}" for key, value in resources.items()),
        **{f"tag {key}": value for key, value in sorted(model.tags.items())},
        **{f"property {key}": value for key, value in sorted(model.properties.items())},
        **{f"file {file.path}": f"{human(file.size)}  sha256:{file.sha256}" for file in model.files},
        "sample input": None if model.sample is None else model.sample.filename,
        "sample output": None if model.sample_output is None else model.sample_output.filename,
        "converted": "yes" if model.conversion is not None else "no",
    }
    return [{"field": key, "value": value} for key, value in fields.items() if value]
