"""A model as MLflow saves it: a folder with a file ``MLmodel``, read without MLflow and without opening the model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from edgepack.errors import InvalidDocumentError, NotFoundError, UsageError
from edgepack.trees.text_file import read_text
from edgepack.trees.yaml_tree import Node, parse_yaml
from packager.models.model import Framework

FILE = "MLmodel"


@dataclass(frozen=True)
class _Flavour:
    """How a flavour is written: what names the model's file or folder, and the version of the library."""

    framework: Framework
    data: str
    version: str


# In the order of preference, for a model may have several; then ``python_function``, which any Python may be.
_FLAVOURS = {
    "onnx": _Flavour(Framework.ONNX, "data", "onnx_version"),
    "sklearn": _Flavour(Framework.SCIKIT_LEARN, "pickled_model", "sklearn_version"),
    "lightgbm": _Flavour(Framework.SCIKIT_LEARN, "data", "lgb_version"),
    "xgboost": _Flavour(Framework.SCIKIT_LEARN, "data", "xgb_version"),
    "catboost": _Flavour(Framework.SCIKIT_LEARN, "data", "catboost_version"),
    "keras": _Flavour(Framework.TENSORFLOW, "data", "keras_version"),
    "tensorflow": _Flavour(Framework.TENSORFLOW, "data", "tensorflow_version"),
    "pytorch": _Flavour(Framework.PYTORCH, "model_data", "pytorch_version"),
}
# Whose own version says which scikit-learn trained nothing.
_BOOSTERS = ("lightgbm", "xgboost", "catboost")


@dataclass(frozen=True)
class MlflowModel:
    """What a folder of MLflow says: the model's file or folder, what trained it, example rows, and all else by name."""

    path: Path
    framework: Framework
    framework_version: str | None
    sample: Path | None
    run: str | None
    properties: Mapping[str, str] = field(default_factory=dict)


def read_model(folder: Path) -> MlflowModel:
    """Read the folder; raises ``NotFoundError``, ``InvalidDocumentError``, ``UsageError`` for paths out of it."""
    path = folder / FILE
    if not path.is_file():
        what = "there is no such folder" if not folder.exists() else f"is not an MLflow model: it has no {FILE}"
        raise NotFoundError(what, where=folder, hint="give the folder that mlflow.<flavour>.save_model wrote")
    tree = parse_yaml(read_text(path, "MLmodel file"), path)
    flavours = tree.fields.get("flavors", Node("map")).fields if tree.kind == "map" else {}
    if not flavours:
        raise InvalidDocumentError(path, ["names no flavour"])
    name = next((name for name in _FLAVOURS if name in flavours), None)
    properties = _properties(tree, flavours)
    if name is None:
        return MlflowModel(folder, Framework.CUSTOM, None, None, _text(tree, "run_id"), properties)
    flavour, said = _FLAVOURS[name], flavours[name]
    data = _text(said, flavour.data) or ("data" if name in ("keras", "tensorflow", "pytorch") else None)
    if data is None:
        raise InvalidDocumentError(path, [f"flavors.{name}.{flavour.data} is missing"])
    version = None if name in _BOOSTERS else _text(said, flavour.version)
    return MlflowModel(
        _inside(folder, data), flavour.framework, version, _sample(folder, tree), _text(tree, "run_id"), properties
    )


def _text(node: Node, key: str) -> str | None:
    found = node.fields.get(key)
    return found.text if found is not None and found.is_text and found.text else None


def _inside(folder: Path, name: str) -> Path:
    pure = PurePosixPath(name)
    if pure.is_absolute() or ".." in pure.parts:
        raise UsageError(f"{name!r} is not a file of the model", where=folder / FILE, hint="save the model again")
    path = folder / pure
    if not path.exists():
        raise NotFoundError(f"its file {name!r} is missing", where=folder, hint="fetch the whole folder")
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UsageError(f"{name!r} leads out of the model", where=folder, hint="put the file itself there")
    return path


def _sample(folder: Path, tree: Node) -> Path | None:
    """The file of example rows, where there is one that holds rows."""
    info = tree.fields.get("saved_input_example_info")
    name = None if info is None else _text(info, "artifact_path")
    if name is None:
        return None
    path = _inside(folder, name)
    return path if path.suffix in (".json", ".csv") else None


def _properties(tree: Node, flavours: Mapping[str, Node]) -> dict[str, str]:
    found = {"mlflow.flavors": ",".join(sorted(flavours))}
    for key in ("mlflow_version", "model_uuid", "utc_time_created"):
        if (text := _text(tree, key)) is not None:
            found[f"mlflow.{key.removeprefix('mlflow_')}"] = text
    for name in _BOOSTERS:
        if name in flavours and (text := _text(flavours[name], _FLAVOURS[name].version)) is not None:
            found[f"mlflow.{name}.version"] = text
    signature = tree.fields.get("signature")
    for key in ("inputs", "outputs") if signature is not None else ():
        if (text := _text(signature or tree, key)) is not None:
            found[f"mlflow.signature.{key}"] = _compact(text)
    return found


def _compact(text: str) -> str:
    try:
        return json.dumps(json.loads(text), separators=(",", ":"), ensure_ascii=False)
    except ValueError:
        return " ".join(text.split())
