"""What kind of model a file or folder is, by its ending and how it begins; no framework opens it for that.

``recognition`` tells the framework of those whose names say nothing.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Sequence
from pathlib import Path

KERAS_ENDING, KERAS_HDF5_ENDINGS = ".keras", (".h5", ".hdf5")
SAFETENSORS_ENDING = ".safetensors"
# The endings by which each framework's one file in a folder is known; a later group serves where an earlier has none.
ENDINGS: dict[str, Sequence[tuple[str, ...]]] = {
    "ScikitLearn": ((".pkl", ".pickle", ".joblib", ".skops"), (".json", ".ubj", ".txt", ".cbm")),
    "TensorFlow": ((KERAS_ENDING,), KERAS_HDF5_ENDINGS),
    "PyTorch": ((".pt2",), (".pt", ".pth", ".ts", SAFETENSORS_ENDING)),
    "Onnx": ((".onnx",),),
}
# The endings of weights beside the source that an entry point names.
WEIGHTS_ENDINGS = (SAFETENSORS_ENDING, ".pth", ".pt", ".bin", ".ckpt")
# The file that makes a folder a SavedModel, as protobuf or as protobuf's text form.
SAVED_MODEL, SAVED_MODEL_TEXT = "saved_model.pb", "saved_model.pbtxt"
_BY_ENDING = {ending: name for name, groups in ENDINGS.items() for group in groups for ending in group}

# Endings of the boosters' own formats, which no other reader of scikit-learn models reads.
OLD_XGBOOST_ENDINGS = (".model", ".bin", ".deprecated")
BOOSTER_ENDINGS = (".json", ".ubj", ".txt", ".cbm", *OLD_XGBOOST_ENDINGS)
CATBOOST_MAGIC, OLD_XGBOOST_MAGIC = b"CBM1", b"binf"
LIGHTGBM_MAGICS = (b"tree\n", b"tree\r\n")
PICKLE_MAGIC, ZIP_MAGIC, HDF5_MAGIC = b"\x80", b"PK", b"\x89HDF\r\n\x1a\n"
# How the files begin that joblib has packed: gzip, zlib, bzip2, xz, lzma, lz4.
PACKED_MAGICS = (
    *(b"\x1f\x8b", b"\x78\x01", b"\x78\x5e", b"\x78\x9c", b"\x78\xda"),
    *(b"BZh", b"\xfd7zXZ", b"\x5d\x00", b"\x04\x22\x4d\x18"),
)
# Endings that anything may have, so that only what the file holds decides, and how the boosters' text forms begin.
_ANYTHING = (".json", ".txt", ".model")
_BOOSTER_TEXT = re.compile(rb'tree\r?\n|\s*\{.{0,4000}"(learner|model_info|features_info|oblivious_trees)"', re.DOTALL)
_START = 4096


def framework_of(path: Path) -> str | None:
    """The framework that the model at ``path`` is of, as far as a file's name or a folder's files tell, else None."""
    if not path.is_dir():
        return _framework_of_file(path)
    if is_saved_model(path) or len(saved_models_in(path)) == 1:
        return "TensorFlow"
    found = {_framework_of_file(child) for child in path.iterdir() if child.is_file()} - {None}
    return found.pop() if len(found) == 1 else None


def is_saved_model(folder: Path) -> bool:
    """Whether a folder is a SavedModel."""
    return (folder / SAVED_MODEL).is_file() or (folder / SAVED_MODEL_TEXT).is_file()


def saved_models_in(folder: Path) -> list[Path]:
    """The SavedModels that are directly in a folder."""
    return sorted(inner for inner in folder.iterdir() if is_saved_model(inner))


def _framework_of_file(path: Path) -> str | None:
    ending = path.suffix.lower()
    if ending in _ANYTHING and path.is_file():
        return "ScikitLearn" if is_booster_text(_start(path)) else None
    return None if ending in _ANYTHING else _BY_ENDING.get(ending)


def is_booster_text(start: bytes) -> bool:
    """Whether a file that begins so is in a text format of LightGBM, XGBoost or CatBoost."""
    return _BOOSTER_TEXT.match(start) is not None


def is_booster_file(path: Path) -> bool:
    """Whether a scikit-learn model's file is in a booster's own format: by its content, or its ending for no pickle."""
    start = _start(path)[:64].lstrip()
    if start.startswith((CATBOOST_MAGIC, OLD_XGBOOST_MAGIC, *LIGHTGBM_MAGICS, b"{")):
        return True
    others = (PICKLE_MAGIC, ZIP_MAGIC, *PACKED_MAGICS)
    return path.suffix.lower() in BOOSTER_ENDINGS and not start.startswith(others)


def keras_ending(path: Path) -> str | None:
    """The ending that a file of Keras has, or would have by what it holds; None for another kind of file."""
    ending = path.suffix.lower()
    if ending in (KERAS_ENDING, *KERAS_HDF5_ENDINGS):
        return ending
    start = _start(path)
    # What a model in HDF5 has, and weights too: an attribute of the file, in the header at its beginning.
    if start.startswith(HDF5_MAGIC) and (b"keras_version" in start or b"model_config" in start):
        return KERAS_HDF5_ENDINGS[0]
    if not start.startswith(ZIP_MAGIC):
        return None
    try:
        with zipfile.ZipFile(path) as archive:
            return KERAS_ENDING if {"config.json", "model.weights.h5"} <= set(archive.namelist()) else None
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return None


def booster_of(path: Path) -> str | None:
    """The booster (its package's name) in whose own format a file is, None for another file."""
    if not is_booster_file(path):
        return None
    start = _start(path).lstrip()
    if start.startswith(CATBOOST_MAGIC):
        return "catboost"
    if start.startswith(b"{"):
        return "xgboost" if b"learner" in start else "catboost"
    return "lightgbm" if start.startswith(b"tree") else "xgboost"


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(_START)
