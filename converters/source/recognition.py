"""The framework of a model whose name does not tell: by what the file holds, where that is certain.

Nothing of a file is run or built. Only its beginning is read, and the outermost fields of what may be ONNX.
"""

from __future__ import annotations

import json
import re
import zipfile
import zlib
from pathlib import Path

from converters.source import kinds, onnx_file, traces
from edgepack.errors import UsageError

_START = 4096
# scikit-learn's own, what models of its interface are often made with, and what makes pickles of either.
_SKLEARN = frozenset({"sklearn", "imblearn", "category_encoders", "feature_engine", "skops", *traces.BOOSTERS})
_XGBOOST_UBJ = re.compile(rb"\{L.{8}learner", re.DOTALL)
_MOST_HEADER = 1 << 20


def framework_of(path: Path) -> str | None:
    """The framework that the model at ``path`` is of, by a name or a folder's files, else by content, else None."""
    if not path.is_dir():
        return kinds.framework_of(path) or by_content(path)
    named = kinds.framework_of(path)
    if named is not None:
        return named
    files = [child for child in path.iterdir() if child.is_file()]
    if any(kinds.framework_of(child) for child in files):  # of several frameworks
        return None
    found = {by_content(child) for child in files} - {None}
    return found.pop() if len(found) == 1 else None


def by_content(path: Path) -> str | None:
    """The framework of a model's file by its content alone; None where that is not certain, or it cannot be read."""
    try:
        return _by_content(path) if path.is_file() else None
    except OSError:  # told by what reads the file next
        return None


def _by_content(path: Path) -> str | None:
    with path.open("rb") as file:
        start = file.read(_START)
    if kinds.keras_ending(path) is not None:
        return "TensorFlow"
    if start.startswith(kinds.ZIP_MAGIC):
        return _of_zip(path)
    if is_booster(start):
        return "ScikitLearn"
    if is_safetensors(path):
        return "PyTorch"
    modules = traces.pickled_modules(path)
    if "torch" in modules:
        return "PyTorch"
    if modules & _SKLEARN:
        return "ScikitLearn"
    return "Onnx" if _is_onnx(path) else None


def is_booster(start: bytes) -> bool:
    """Whether a file that begins so is certainly in a booster's own format, binary or text."""
    magics = (kinds.CATBOOST_MAGIC, kinds.OLD_XGBOOST_MAGIC)
    return start.startswith(magics) or _XGBOOST_UBJ.match(start) is not None or kinds.is_booster_text(start)


def is_safetensors(path: Path) -> bool:
    """Whether a file is of safetensors: the length of a header in JSON, the header, which names types and offsets."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MOST_HEADER, path.stat().st_size - 8):
            return False
        try:
            header = json.loads(file.read(length))
        except (ValueError, RecursionError):
            return False
    entries = [entry for name, entry in header.items() if name != "__metadata__"] if isinstance(header, dict) else []
    return bool(entries) and all(isinstance(entry, dict) and "data_offsets" in entry for entry in entries)


def _of_zip(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            names = set(archive.namelist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError, zlib.error):
        return None
    inner = {name.partition("/")[2] for name in names}
    if "schema.json" in names:
        return "ScikitLearn" if traces.read(path).skops else None
    programs = any(name.startswith("models/") and name.endswith(".json") for name in inner)
    return "PyTorch" if programs or "data.pkl" in inner or "serialized_exported_program.json" in names else None


def _is_onnx(path: Path) -> bool:
    try:
        onnx_file.check_onnx(path)
    except UsageError:
        return False
    return True
