"""Opening a file that holds a fitted estimator: joblib, pickle, skops, or a booster's own format.

Runs inside the sandbox only: unpickling runs whatever the file says.
"""

from __future__ import annotations

import importlib.util
import pickle
import re
import struct
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

from converters import routes
from converters.error_text import first_line
from converters.routes import takes_documents
from converters.sklearn import sparse_input, widths
from converters.sklearn.original import DOCUMENTS, Original
from converters.source import traces, user_modules
from converters.source.kinds import is_booster_file
from edgepack.errors import ConversionError

# How a frame of LZ4 begins, as joblib writes it.
LZ4 = b"\x04\x22\x4d\x18"


def load(path: Path, sample: Path | None = None) -> Original:
    """The fitted estimator in a file; ``sample`` has what it may not keep of its columns.

    Raises ``ConversionError`` for a file that is broken, needs missing code, or holds something else.
    """
    notes: list[str] = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of versions that differ, which become a note below
        saved, model = _open(path, notes, sample)
    # After the file: what is refused needs none of the seconds that this takes.
    import sklearn

    version = traces.read(path).version or sklearn.__version__
    if version != sklearn.__version__:
        notes.append(
            f"the model was trained with scikit-learn {version} and read with {sklearn.__version__}; "
            "the comparison is with what it answers here"
        )
    sparse_input.note(model)
    _one_thread(model)
    names, named, free = _columns(model, sample)
    return Original(model, names, named, version, tuple(notes), saved, free)


def _open(path: Path, notes: list[str], sample: Path | None) -> tuple[Any, Any]:
    """The object in the file as its user opens it, and the estimator that stands for it."""
    from converters.boosters.load import adapt, load_native, open_native

    if is_booster_file(path):
        model = load_native(path, notes, sample)
        return open_native(path), model
    saved = _open_skops(path) if zipfile.is_zipfile(path) else _unpickle(path)
    return saved, adapt(_unwrapped(saved), notes, sample)


def _open_skops(path: Path) -> Any:
    try:
        from skops import io
    except ModuleNotFoundError as error:
        raise ConversionError(
            "the file is in skops' format, and skops is not installed", hint="install it, or save with joblib.dump"
        ) from error
    try:
        # What it constructs is as untrusted as a pickle; the sandbox confines both.
        return io.load(path, trusted=io.get_untrusted_types(file=path))
    except Exception as error:  # a damaged or hostile file may fail anywhere
        raise ConversionError(
            f"the file cannot be read as a skops file ({type(error).__name__}: {first_line(error)})",
            hint="save it again with skops.io.dump or joblib.dump",
        ) from error


def _unpickle(path: Path) -> Any:
    import joblib

    hint = "save it again with joblib.dump"
    _require_lz4(path)
    modules = user_modules.imported_by_classes(path.parent, traces.pickled_modules(path))
    user_modules.require_not_loaded(path.parent, modules, {name.partition(".")[0] for name in sys.modules})
    user_modules.make_importable(path.parent, modules)
    try:
        return joblib.load(path)
    except ModuleNotFoundError as error:
        name = error.name or ""
        user_modules.require_not_named(path, {name.partition(".")[0]})
        raise ConversionError(
            f"the model needs the Python module {name!r}, which is not installed here",
            hint=f"put {name.partition('.')[0]}.py beside the model file and register the folder of both, or install "
            "the package that has it beside edgepack",
        ) from error
    except AttributeError as error:
        raise ConversionError(
            f"the model needs a class or function that is missing ({_without_paths(first_line(error))})",
            hint="move it from the training script to a module of its own, and register the folder that has both the "
            "module and the model file; or use the version of scikit-learn that it was trained with",
        ) from error
    except (pickle.UnpicklingError, EOFError, KeyError, IndexError, UnicodeDecodeError, struct.error) as error:
        # A byte that is not an instruction raises KeyError of its number.
        why = "it does not begin as one" if isinstance(error, KeyError) else first_line(error)
        raise ConversionError(
            f"the file is not a whole pickle or joblib file ({why})", hint=f"copy it again, {hint}"
        ) from error
    except MemoryError as error:
        raise ConversionError(
            "the model does not fit in the memory limit", hint="raise the limit (--memory GIB)"
        ) from error
    except Exception as error:  # a pickle runs code of its own, which may raise anything
        raise ConversionError(
            f"the file cannot be unpickled ({type(error).__name__}: {first_line(error)})",
            hint=f"use the version of scikit-learn that it was trained with, {hint}",
        ) from error


def _require_lz4(path: Path) -> None:
    """Raise ``ConversionError`` for a file that joblib cannot unpack here, whatever the version of scikit-learn."""
    with path.open("rb") as file:
        compressed = file.read(len(LZ4)) == LZ4
    if compressed and importlib.util.find_spec("lz4") is None:
        raise ConversionError(
            "the file is compressed with LZ4, which is not installed here",
            hint="save it again with another compression: joblib.dump(model, 'model.joblib', compress=3)",
        )


def _without_paths(text: str) -> str:
    """The text without the paths of modules, which must not leave this machine."""
    return re.sub(r" (from [^>]*(?=>)|at 0x[0-9a-f]+|\(\S*[/\\][^)]*\))", "", text)


def _unwrapped(model: Any) -> Any:
    """The fitted estimator itself: a search answers by its best one."""
    if not (hasattr(model, "predict") or hasattr(model, "transform")):
        raise ConversionError(
            f"the file holds a {type(model).__name__}, which neither predicts nor transforms rows",
            hint="save the fitted estimator or pipeline itself",
        )
    if isinstance(model, type):
        raise ConversionError("the file holds a class, not a fitted estimator", hint="save the fitted estimator")
    return _without_empty_steps(getattr(model, "best_estimator_", model))


def _without_empty_steps(model: Any) -> Any:
    """A pipeline without first steps that do nothing, which know nothing of the columns."""
    while len(getattr(model, "steps", ())) > 1 and model.steps[0][1] in (None, "passthrough"):
        model = model[1:]
    return model


def _one_thread(model: Any) -> None:
    """Sums in one order give one result; a forest on several threads adds in the order in which they end."""
    for part in routes.walk(model):
        if getattr(part, "n_jobs", None) is not None:
            part.n_jobs = None


def _columns(model: Any, sample: Path | None) -> tuple[tuple[str, ...], bool, bool]:
    """The columns' names, whether the model has them, and whether it takes any number of columns."""
    from converters.boosters.load import columns

    of_booster = columns(model)
    if of_booster is not None:
        return (*of_booster, False)
    names = getattr(model, "feature_names_in_", None)
    if names is not None and all(isinstance(name, str) for name in names):  # some libraries number them
        return tuple(map(str, names)), True, False
    count, free = widths.told(model, sample)
    if count is not None and count >= 1:
        return tuple(f"x{index}" for index in range(count)), False, free
    if takes_documents(model):
        return (DOCUMENTS,), False, False
    if hasattr(model, "classes_") and not hasattr(model, "predict"):
        raise ConversionError(
            f"the {type(model).__name__} transforms labels, not rows",
            hint="save the model that is to answer; labels are written by it as they were given",
        )
    raise widths.unknown(model)
