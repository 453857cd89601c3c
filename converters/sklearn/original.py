"""The original of a conversion: a fitted scikit-learn estimator from a file, and what it answers.

Runs inside the sandbox only: ``load`` unpickles, which runs whatever the file says.
"""

from __future__ import annotations

import importlib.metadata
import pickle
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from converters.graph import first_line
from converters.samples import Table
from converters.sklearn import rows
from edgepack.errors import ConversionError, UsageError

ONNX_WAY_OUT = "export ONNX yourself and register that with --framework Onnx"
PARTS = ("scikit-learn", "skl2onnx", "onnx", "onnxruntime", "numpy")


@dataclass(frozen=True)
class Original:
    """A fitted estimator with its column names (made up where it has none; ``named`` says which)."""

    model: Any
    names: tuple[str, ...]
    named: bool
    trained_version: str
    warnings: tuple[str, ...]

    @property
    def versions(self) -> dict[str, str]:
        """The parts that took part in the conversion."""
        return {part: importlib.metadata.version(part) for part in PARTS}

    @property
    def is_classifier(self) -> bool:
        """Whether ``predict`` answers with classes."""
        from sklearn.base import is_classifier

        return bool(is_classifier(self.model))

    @property
    def classes(self) -> list[Any] | None:
        """The classes as plain values, in the order of the probabilities."""
        classes = getattr(self.model, "classes_", None) if self.is_classifier else None
        return None if classes is None else list(classes.tolist())

    @property
    def by_name(self) -> bool:
        """Whether a part of the model chooses its columns by their names."""
        for part in rows.walk(self.model):
            for _, _, columns in getattr(part, "transformers_", ()):
                chosen = columns if isinstance(columns, list) else [columns]
                if self.named and any(isinstance(column, str) for column in chosen):
                    return True
        return False

    @property
    def takes_text(self) -> bool:
        """Whether a part of the model has learnt categories or words that are text."""
        for part in rows.walk(self.model):
            if hasattr(part, "vocabulary_"):
                return True
            if any(found.dtype.kind in "OU" for found in _categories(part)):
                return True
        return False

    @property
    def resolution(self) -> float:
        """By how much two probabilities must differ at least for float32 to tell them apart.

        Each addition of an ensemble's parts may round off 2**-25, in the worst case all in one direction; of forests
        up to 2000 trees, classes that were tied came out at most 2**-27 for each tree apart. This is twice that.
        """
        parts = (getattr(part, "estimators_", ()) for part in rows.walk(self.model))
        additions = max((len(found) for found in parts if hasattr(found, "__len__")), default=0)
        return max(2.0**-21, additions * 2.0**-26)

    def has(self, method: str) -> bool:
        """Whether the model, as it was fitted, has a method."""
        return hasattr(self.model, method)

    def select(self, sample: Table) -> Table:
        """The sample's columns that the model takes, in its order. Raises ``UsageError`` naming those missing."""
        missing = [name for name in self.names if name not in sample.names]
        if not missing:
            order = [sample.names.index(name) for name in self.names]
            return Table(self.names, tuple(sample.columns[index] for index in order))
        if len(sample.names) == len(self.names) and (not self.named or sample.names[0] == "x0"):
            return Table(self.names if self.named else sample.names, sample.columns)
        if self.named:
            what = f"the sample lacks the model's column {missing[0]!r}"
        else:
            what = f"the sample has {len(sample.names)} columns, the model takes {len(self.names)}"
        raise UsageError(what, hint="give the input columns only, without the target")

    def answer(self, method: str, table: Table, by_column: bool) -> Any:
        """What the original says, as a numpy array. Raises ``ConversionError`` when it refuses the rows."""
        import numpy as np

        given = table.frame() if by_column else table.matrix()
        try:
            result = getattr(self.model, method)(given)
        except Exception as error:  # an estimator, possibly the user's own, may raise anything
            raise ConversionError(
                f"the original fails on the rows it was to be compared on ({first_line(error)})",
                hint="give --sample-input with some rows of its inputs",
            ) from error
        if isinstance(result, list):
            raise ConversionError(
                "the model predicts several targets at once, which this version does not convert",
                hint="train a model for each target, or register an ONNX export",
            )
        return np.asarray(result.toarray() if hasattr(result, "toarray") else result)

    def margin(self, table: Table, by_column: bool) -> Any | None:
        """For each row, how far the best class is ahead of the next; None where the model does not say."""
        import numpy as np

        for method in ("predict_proba", "decision_function"):
            if self.is_classifier and self.has(method):
                scores = self.answer(method, table, by_column)
                if scores.ndim == 1:
                    return scores
                ordered = np.sort(scores, axis=1)
                return ordered[:, -1] - ordered[:, -2] if scores.shape[1] > 1 else None
        return None

    def pair(self, outputs: Sequence[str]) -> list[tuple[str, str, str, str]]:
        """For each graph output that has a meaning: it, its new name, its role, the method that it stands for."""
        if not self.has("predict"):
            return [(outputs[0], "transformed", "values", "transform")]
        if self.is_classifier:
            pairs = [(outputs[0], "label", "label", "predict")]
            if len(outputs) > 1 and self.has("predict_proba"):
                pairs.append((outputs[1], "probabilities", "probabilities", "predict_proba"))
            elif len(outputs) > 1 and self.has("decision_function"):
                pairs.append((outputs[1], "scores", "scores", "decision_function"))
            return pairs
        if len(outputs) == 1:
            return [(outputs[0], "values", "values", "predict")]
        pairs = [(outputs[0], "label", "label", "predict")]
        if self.has("decision_function"):
            pairs.append((outputs[1], "scores", "scores", "decision_function"))
        elif self.has("transform"):
            pairs.append((outputs[1], "transformed", "values", "transform"))
        return pairs


def load(path: Path) -> Original:
    """Unpickle a fitted estimator from a joblib or pickle file.

    Raises ``ConversionError`` for a file that is broken, needs code that is not here, or holds something else.
    """
    import sklearn

    trained = sklearn.__version__
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = _unpickle(path)
    notes = []
    for warning in caught:
        version = getattr(warning.message, "original_sklearn_version", None)
        if version is not None and version != trained:
            trained = str(version)
            notes.append(
                f"the model was trained with scikit-learn {version} and read with {sklearn.__version__}; "
                "the comparison is with what it answers here"
            )
    model = _unwrapped(model)
    _one_thread(model)
    names, named = _columns(model)
    return Original(model, names, named, trained, tuple(dict.fromkeys(notes)))


def _unpickle(path: Path) -> Any:
    import joblib

    way_out = "save it again with joblib.dump, or register an ONNX export"
    try:
        return joblib.load(path)
    except ModuleNotFoundError as error:
        raise ConversionError(
            f"the model needs the Python module {error.name!r}, which is not installed here",
            hint=f"install the package that has it beside edgepack, or {way_out}",
        ) from error
    except AttributeError as error:
        raise ConversionError(
            f"the model needs a class or function that is not there ({first_line(error)})",
            hint="move it from the training script to an installed package, use the training version of "
            "scikit-learn, or register an ONNX export",
        ) from error
    except (pickle.UnpicklingError, EOFError, KeyError, IndexError, UnicodeDecodeError) as error:
        raise ConversionError(
            f"the file is not a whole pickle or joblib file ({first_line(error)})", hint=f"copy it again, {way_out}"
        ) from error
    except MemoryError as error:
        raise ConversionError("the model does not fit in the memory limit", hint="raise the limit") from error
    except Exception as error:  # a pickle runs code of its own, which may raise anything
        raise ConversionError(
            f"the file cannot be unpickled ({type(error).__name__}: {first_line(error)})",
            hint=f"use the version of scikit-learn that it was trained with, {way_out}",
        ) from error


def _unwrapped(model: Any) -> Any:
    """The fitted estimator itself: a search answers by its best one."""
    if not (hasattr(model, "predict") or hasattr(model, "transform")):
        raise ConversionError(
            f"the file holds a {type(model).__name__}, not a scikit-learn estimator",
            hint="save the fitted estimator or pipeline itself",
        )
    if isinstance(model, type):
        raise ConversionError("the file holds a class, not a fitted estimator", hint="save the fitted estimator")
    return getattr(model, "best_estimator_", model)


def _one_thread(model: Any) -> None:
    """Sums in one order give one result; a forest on several threads adds in the order in which they end."""
    for part in rows.walk(model):
        if getattr(part, "n_jobs", None) is not None:
            part.n_jobs = None


def _columns(model: Any) -> tuple[tuple[str, ...], bool]:
    count = getattr(model, "n_features_in_", None)
    if not isinstance(count, int) or count < 1:
        raise ConversionError(
            f"the {type(model).__name__} does not say how many columns it takes: it is not fitted, or takes text",
            hint="save it after fit, or register an ONNX export",
        )
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        return tuple(f"x{index}" for index in range(count)), False
    return tuple(map(str, names)), True


def _categories(part: Any) -> list[Any]:
    categories = getattr(part, "categories_", None)
    return [found for found in categories if hasattr(found, "dtype")] if isinstance(categories, list | tuple) else []
