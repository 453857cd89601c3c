"""Models as components of CycloneDX: their files by hash, and a model card of what the files themselves say.

Only what can be checked against bytes is filled in (docs/how-to/packages.md, "What is in a package").
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from packager.layers.paths import MODELS_ROOT
from packager.models.model import Model, ModelFile

# What the original refuses, by the manifest's words (docs/reference/manifest.md, "rejects").
_REJECTS = {
    "nan": "missing numbers (NaN)",
    "infinity": "infinite numbers",
    "huge": "numbers larger than float32 can hold",
    "empty": "requests without rows",
}


@dataclass(frozen=True)
class ModelInImage:
    """A model in an image: its name and version, its files, its manifest, and its record where there is one."""

    name: str
    version: str
    files: tuple[ModelFile, ...]
    manifest: str = ""
    record: Model | None = None

    @property
    def ref(self) -> str:
        """What the document calls it."""
        return f"model:{self.name}:{self.version}"


def model_component(model: ModelInImage) -> dict[str, Any]:
    """The component of a model, with its files, the original that it was made from, and its card."""
    files = model.files
    manifest = _manifest(model)
    served = [file for file in files if manifest and file.path.endswith(f"/{manifest.get('file')}")]
    folder = f"{MODELS_ROOT}/{model.name}/{model.version}/"
    found: dict[str, Any] = {
        "type": "machine-learning-model",
        "bom-ref": model.ref,
        "name": model.name,
        "version": model.version,
        "hashes": [sha256(served[0].sha256 if served else digest_of(files))],
        "properties": properties(
            {
                "edgepack:path": f"/{folder}",
                "edgepack:hash-of": "the served file" if served else "the list of its files",
                **_recorded(model.record),
            }
        ),
        "components": [_file(model.ref, file, folder, manifest) for file in files],
    }
    if manifest:
        found["modelCard"] = _card(model.ref, manifest)
        if model.record is not None:
            found["pedigree"] = {"ancestors": [_original(model.record)], "notes": "converted to ONNX"}
    return found


def digest_of(files: Sequence[ModelFile]) -> str:
    """One hash over a list of files: of the lines ``<sha256>  <path>``, which is what ``sha256sum`` writes."""
    lines = "".join(f"{file.sha256}  {file.path}\n" for file in sorted(files, key=lambda file: file.path))
    return hashlib.sha256(lines.encode()).hexdigest()


def sha256(value: str) -> dict[str, str]:
    """A hash as CycloneDX has it."""
    return {"alg": "SHA-256", "content": value}


def properties(values: Mapping[str, str | None]) -> list[dict[str, str]]:
    """Properties as CycloneDX has them, those that have a value."""
    return [{"name": name, "value": value} for name, value in sorted(values.items()) if value]


def _recorded(record: Model | None) -> dict[str, str | None]:
    """Of the record what never changes: tags and descriptions may, and the document is to be the same then."""
    if record is None:
        return {}
    return {"edgepack:framework": record.framework.value, "edgepack:framework-version": record.framework_version}


def _manifest(model: ModelInImage) -> Mapping[str, Any] | None:
    """The model's manifest; ``None`` for a model without one, or with one that is not readable."""
    try:
        value = json.loads(model.manifest) if model.manifest else None
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) and value.get("schema") == "edgepack.model/v1" else None


def _file(ref: str, file: ModelFile, folder: str, manifest: Mapping[str, Any] | None) -> dict[str, Any]:
    name = file.path.removeprefix(folder)
    golden = (manifest or {}).get("golden")
    is_golden = isinstance(golden, dict) and golden.get("file") == name
    found: dict[str, Any] = {
        "type": "data" if is_golden else "file",
        "bom-ref": f"{ref}/{name}",
        "name": name,
        "hashes": [sha256(file.sha256)],
    }
    if is_golden:
        found["data"] = [
            {"type": "dataset", "name": name, "description": "Recorded inputs and answers of the original"}
        ]
    return found


def _original(record: Model) -> dict[str, Any]:
    return {
        "type": "machine-learning-model",
        "name": record.name,
        "version": str(record.version),
        "hashes": [sha256(digest_of(record.files))],
        "properties": properties(_recorded(record)),
        "components": [
            {"type": "file", "name": file.path, "hashes": [sha256(file.sha256)]}
            for file in sorted(record.files, key=lambda file: file.path)
        ],
    }


def _card(ref: str, manifest: Mapping[str, Any]) -> dict[str, Any]:
    card: dict[str, Any] = {"bom-ref": f"{ref}/card", "modelParameters": _parameters(manifest)}
    if metrics := _metrics(manifest.get("parity")):
        card["quantitativeAnalysis"] = {"performanceMetrics": metrics}
    if limitations := _limitations(manifest):
        card["considerations"] = {"technicalLimitations": limitations}
    source = _object(manifest.get("source"))
    opsets = _object(manifest.get("opset"))
    card["properties"] = properties(
        {
            "edgepack:source:framework": _text(source.get("framework")),
            "edgepack:source:version": _text(source.get("version")),
            "edgepack:source:digest": _text(source.get("digest")),
            "edgepack:source:recipe": _text(source.get("recipe")),
            "edgepack:minimum-runtime": _text(manifest.get("minimum_runtime")),
            **{f"edgepack:opset:{domain or 'ai.onnx'}": str(number) for domain, number in opsets.items()},
        }
    )
    return card


def _parameters(manifest: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for side in ("inputs", "outputs"):
        ports = _objects(manifest.get(side))
        if ports:
            found[side] = [{"format": _format(port)} for port in ports]
    return found


def _format(port: Mapping[str, Any]) -> str:
    shape = port.get("shape")
    axes = "any" if not isinstance(shape, list) else ", ".join("any" if axis is None else str(axis) for axis in shape)
    role = f" ({port['role']})" if port.get("role") else ""
    return f"{port.get('name')}: {port.get('dtype')}[{axes}]{role}"


def _metrics(parity: object) -> list[dict[str, str]]:
    """The comparison with the original, as the manifest summarises it."""
    if not isinstance(parity, dict):
        return []
    rows = f"{parity.get('rows')} rows compared with the original"
    names = {
        "max_abs": "largest absolute difference from the original",
        "max_rel": "largest relative difference from the original",
        "label_agreement": "share of labels equal to the original's",
    }
    found = [
        {"type": text, "value": json.dumps(parity[name]), "slice": rows}
        for name, text in names.items()
        if isinstance(parity.get(name), int | float)
    ]
    accepted = _object(parity.get("accepted"))
    return found + [
        {"type": "relative difference that the user accepted", "value": json.dumps(accepted[name]), "slice": str(name)}
        for name in sorted(accepted)
    ]


def _limitations(manifest: Mapping[str, Any]) -> list[str]:
    rejects = _object(manifest.get("rejects"))
    found = [f"rejects {_REJECTS.get(name, name)}" for name in sorted(rejects) if rejects[name]]
    for port in _objects(manifest.get("inputs")):
        if port.get("closed"):
            found.append(f"rejects values of {port.get('name')} that were not seen in training")
    if manifest.get("row_wise") is False:
        found.append("the answer to a row depends on the other rows of the request")
    if manifest.get("parity") is None:
        found.append("was not compared with the original")
    return found


def _object(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _objects(value: object) -> list[Mapping[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
