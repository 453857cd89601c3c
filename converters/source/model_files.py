"""What a user hands over as a model: which file or folder it is, what belongs to it, and its digest."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from converters.options import Options
from converters.source import kinds, onnx_file, recognition, traces, user_modules
from converters.source.kinds import ENDINGS
from edgepack.errors import NotFoundError, UsageError


@dataclass(frozen=True)
class ModelFiles:
    """``path`` is the file or folder to convert; ``readable`` all that belongs to it; all absolute.

    ``digest`` is the SHA-256 of a single file, else of the sorted relative names and SHA-256 of all its files.
    """

    path: Path
    readable: tuple[Path, ...]
    digest: str


def find(path: Path, framework: str, options: Options) -> ModelFiles:
    """The model of ``framework`` at ``path``, a file, or a folder that is one or holds exactly one.

    Raises ``NotFoundError`` where nothing is, ``UsageError`` where it is not clear which, or a link leads away.
    """
    if not path.exists():
        raise NotFoundError("model file not found", where=path, hint="check its path")
    path = path.resolve()
    if framework == "PyTorch" and options.entry is not None:
        return _with_entry(path, options.entry)
    if framework == "TensorFlow":
        path = _saved_model(path)
    if path.is_dir() and not (framework == "TensorFlow" and kinds.is_saved_model(path)):
        path = _only_file(path, framework)
    if path.is_dir():
        return ModelFiles(path, (path,), _digest_of(path, _files(path)))
    if framework == "PyTorch":
        return _with_classes(path, options.allow_unsafe)
    if framework == "ScikitLearn":
        return _with_functions(path)
    if framework == "Onnx":
        files = [path, *_external(path)]
        return ModelFiles(path, tuple(files), _digest_of(path.parent, files) if len(files) > 1 else digest(path))
    return ModelFiles(path, (path,), digest(path))


def digest(path: Path) -> str:
    """``sha256:`` and the SHA-256 of a file."""
    with path.open("rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def _saved_model(path: Path) -> Path:
    """The SavedModel folder that ``path`` is, belongs to, or holds as its only one."""
    if path.name in (kinds.SAVED_MODEL, kinds.SAVED_MODEL_TEXT) and path.is_file():
        return path.parent
    if path.is_dir() and not kinds.is_saved_model(path):
        inner = kinds.saved_models_in(path)
        if len(inner) == 1:
            return inner[0]
    return path


def _only_file(folder: Path, framework: str) -> Path:
    for endings in ENDINGS[framework]:
        found = sorted(entry for entry in folder.iterdir() if entry.suffix.lower() in endings and entry.is_file())
        if len(found) == 1:
            return found[0].resolve()
        if found:
            break
    else:
        files = sorted(entry for entry in folder.iterdir() if entry.is_file())
        found = [entry for entry in files if recognition.by_content(entry) == framework]
        if len(found) == 1:
            return found[0].resolve()
    known = ", ".join(ending for group in ENDINGS[framework] for ending in group)
    entry = ", or give --entry module:factory for a folder of source and weights" if framework == "PyTorch" else ""
    raise UsageError(
        f"the folder has {len(found)} {framework} model files ({known}), not one",
        where=folder.name,
        hint=f"name the file itself{entry}",
    )


def _with_entry(path: Path, entry: str) -> ModelFiles:
    """Weights together with the source that builds their model, which is in the same folder."""
    folder = path if path.is_dir() else path.parent
    source = entry.partition(":")[0]
    module = source.partition(".")[0]
    modules = user_modules.imported(folder, source)
    # Other modules than these may be installed, with weights of ours beside them.
    if module not in modules and (path.is_file() or user_modules.is_taken(module)):
        raise NotFoundError(
            f"module {module!r} not found beside the weights",
            where=path.name,
            hint=f"put {module}.py into the folder of the weights, and give or register that folder",
        )
    user_modules.require_free_names(folder, modules)
    user_modules.require_none_of_ours(folder)
    if path.is_dir():
        return ModelFiles(path, (path,), _digest_of(path, _files(path)))
    # A folder beside a module of the same name may hold what the module reads.
    both = [place for place in (folder / f"{module}.py", folder / module) if place.exists()]
    return _with_places(path, [*both, *(place for place in modules.values() if place not in both)])


def _with_classes(path: Path, unpickled: bool) -> ModelFiles:
    """A file of PyTorch's, with the source of its classes where it is to be ``unpickled`` by them."""
    classes = traces.of_torch(path)
    user_modules.require_not_named(path, {module.partition(".")[0] for module, _ in classes})
    modules: dict[str, Path] = {}
    if unpickled:
        user_modules.require_not_hidden(path.parent, classes)
        modules = user_modules.imported_by_classes(path.parent, {module for module, _ in classes})
        user_modules.require_free_names(path.parent, modules)
    return _with_places(path, list(modules.values()))


def _with_functions(path: Path) -> ModelFiles:
    """A pickle of scikit-learn's, with the source beside it of the functions and classes that it names."""
    named = traces.pickled_modules(path)
    user_modules.require_not_named(path, named)
    modules = user_modules.imported_by_classes(path.parent, named)
    user_modules.require_free_names(path.parent, modules)
    return _with_places(path, list(modules.values()))


def _with_places(path: Path, places: Sequence[Path]) -> ModelFiles:
    """A model's file with the source files and packages beside it that belong to it."""
    if not places:
        return ModelFiles(path, (path,), digest(path))
    files = [path, *(inner for place in places for inner in (_files(place) if place.is_dir() else [place]))]
    return ModelFiles(path, (path, *places), _digest_of(path.parent, files))


def _files(folder: Path) -> list[Path]:
    """All files below ``folder`` but caches. A link that leads out of it would not be there in the sandbox."""
    found = []
    for base, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name != "__pycache__")
        for path in (Path(base, name) for name in (*names, *folders)):
            if path.is_symlink() and not path.resolve().is_relative_to(folder):
                raise UsageError(
                    "the folder has a link that leads out of it", where=path.name, hint="copy the file there"
                )
            if path.is_file():
                found.append(path)
    return found


def _digest_of(base: Path, files: Iterable[Path]) -> str:
    lines = sorted(f"{path.relative_to(base).as_posix()}\0{digest(path)}\n" for path in files)
    return f"sha256:{hashlib.sha256(''.join(lines).encode()).hexdigest()}"


def _external(model: Path) -> list[Path]:
    """The existing files beside an ONNX model in which it keeps weights; none for a file that is not ONNX."""
    try:
        names = onnx_file.external_files(model)
    except UsageError:
        return []
    folder = model.parent
    found = (folder / name for name in names if name and "\0" not in name)
    return sorted({path for path in found if path.resolve().is_relative_to(folder) and path.is_file()})
