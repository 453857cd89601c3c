"""The original of a conversion: a fitted scikit-learn estimator, and what it answers."""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from converters import routes
from converters.companions.frame_steps import is_frame_step
from converters.error_text import first_line
from converters.proof.samples import Table
from converters.routes import takes_documents
from converters.sklearn.inputs import Inputs
from edgepack.errors import ConversionError, UsageError

PARTS = (
    "scikit-learn", "skl2onnx", "onnx", "onnxruntime", "numpy", "xgboost", "lightgbm", "catboost",
    "imbalanced-learn", "category-encoders", "feature-engine",
)  # fmt: skip
# The column of a model that takes a plain list of texts.
DOCUMENTS = "text"
# Methods that a converter of ours may answer beside the usual ones, and the names of their outputs.
FURTHER = {"decision_function": "scores", "score_samples": "sample_scores", "transform": "transformed"}


@dataclass(frozen=True)
class Meaning:
    """What an output of a graph means: ``method`` of the original, or item ``part`` of the list it answers."""

    source: str
    name: str
    role: str
    method: str
    part: int | None = None


@dataclass(frozen=True)
class Original:
    """A fitted estimator with its column names (made up where it has none; ``named`` says which).

    ``saved`` is the object in the user's file, for which ``model`` stands. One that is ``free`` takes any number of
    columns, of which one is made up.
    """

    model: Any
    names: tuple[str, ...]
    named: bool
    trained_version: str
    warnings: tuple[str, ...]
    saved: Any = None
    free: bool = False

    @property
    def versions(self) -> dict[str, str]:
        """The parts that took part in the conversion."""
        found = {}
        for part in PARTS:
            try:
                found[part] = importlib.metadata.version(part)
            except importlib.metadata.PackageNotFoundError:
                continue
        return found

    @property
    def is_classifier(self) -> bool:
        """Whether ``predict`` answers with classes."""
        from sklearn.base import is_classifier

        return bool(is_classifier(self.model))

    @property
    def classes(self) -> list[Any] | None:
        """The classes as plain values, in the order of the probabilities; None for several targets."""
        classes = getattr(self.model, "classes_", None) if self.is_classifier else None
        return None if classes is None or isinstance(classes, list) else list(classes.tolist())

    @property
    def by_name(self) -> bool:
        """Whether a part of the model chooses its columns by their names, or takes a data frame column by column."""
        for part in routes.walk(self.model):
            if is_frame_step(part):
                return True
            for _, _, columns in getattr(part, "transformers_", ()):
                chosen = columns if isinstance(columns, list) else [columns]
                if self.named and any(isinstance(column, str) for column in chosen):
                    return True
        return False

    @property
    def additions(self) -> int:
        """How many parts of the largest ensemble in it are added up."""
        parts = (getattr(part, "estimators_", ()) for part in routes.walk(self.model))
        return max((len(found) for found in parts if hasattr(found, "__len__")), default=0)

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
        spelled = {_spelled(name): name for name in sample.names}
        if len(spelled) == len(sample.names) and all(_spelled(name) in spelled for name in self.names):
            order = [sample.names.index(spelled[_spelled(name)]) for name in self.names]
            return Table(self.names, tuple(sample.columns[index] for index in order))
        if self.named:
            what = f"the sample lacks the model's column {missing[0]!r}"
        else:
            what = f"the sample has {len(sample.names)} columns, the model takes {len(self.names)}"
        raise UsageError(what, hint="give the input columns only, without the target")

    def meanings(self, outputs: Sequence[str]) -> list[Meaning]:
        """What the graph's outputs mean, those that have a meaning."""
        usual = self._usual()[: len(outputs)]
        if any(re.fullmatch(r"predict_proba_\d+", source) for source in outputs):
            usual = usual[:1]  # the probabilities come one matrix a target
        found = [Meaning(source, *meaning) for source, meaning in zip(outputs, usual, strict=False)]
        for source in outputs[len(usual) :]:
            further = re.fullmatch(r"(?P<method>[a-z_]+?)_?(?P<part>\d+)?", source)
            if further is None:
                continue
            method, part = further["method"], further["part"]
            if method in FURTHER and self.has(method):
                found.append(Meaning(source, FURTHER[method], _ROLES[method], method))
            elif method == "predict_proba" and part is not None:
                found.append(Meaning(source, f"probabilities_{part}", "probabilities", method, int(part)))
        return list({meaning.name: meaning for meaning in reversed(found)}.values())[::-1]

    def _usual(self) -> list[tuple[str, str, str]]:
        """Name, role and method of the outputs that skl2onnx gives such an estimator, in its order."""
        if not self.has("predict"):
            return [("transformed", "values", "transform")]
        if not self.is_classifier and self._regresses():
            return [("values", "values", "predict")]
        usual = [("label", "label", "predict")]
        if self.has("predict_proba"):
            return [*usual, ("probabilities", "probabilities", "predict_proba")]
        for method in FURTHER:
            if self.has(method):
                return [*usual, (FURTHER[method], _ROLES[method], method)]
        return usual

    def _regresses(self) -> bool:
        from sklearn.base import is_regressor

        others = ("decision_function", "predict_proba", "labels_")
        return bool(is_regressor(self.model)) or not any(map(self.has, others))


def dense(answer: Any) -> Any:
    """An answer as a numpy array, where it may be a sparse matrix."""
    import numpy as np

    return np.asarray(answer.toarray() if hasattr(answer, "toarray") else answer)


def joined(answer: Any) -> Any:
    """An answer as one array, where it may be a list of them for several targets."""
    import numpy as np

    if not isinstance(answer, list):
        return dense(answer)
    return np.concatenate([np.reshape(dense(part), (len(part), -1)) for part in answer], axis=1)


def _spelled(name: str) -> str:
    """A column's name as LightGBM keeps it, which has no spaces."""
    return re.sub(r"\W", "_", name)


_ROLES = {"decision_function": "scores", "score_samples": "scores", "transform": "values"}


@dataclass(frozen=True)
class Expected:
    """What an original answers to the rows of one table; each method is called once."""

    original: Original
    inputs: Inputs
    table: Table
    _answers: dict[str, Any] = field(default_factory=dict, repr=False)

    def answer(self, method: str, part: int | None = None) -> Any:
        """The answer as a numpy array, rows first; ``part`` picks from a list of them.

        Raises ``ConversionError`` when the original refuses the rows.
        """
        if method not in self._answers:
            self._answers[method] = self._ask(method)
        found = self._answers[method]
        return found if part is None else found[part]

    def part(self, rows: slice) -> Expected:
        """Some of the rows, with what was answered to all of them."""
        answers = {
            method: [part[rows] for part in found] if isinstance(found, list) else found[rows]
            for method, found in self._answers.items()
        }
        return Expected(self.original, self.inputs, self.table.take(rows), answers)

    def _ask(self, method: str) -> Any:
        import numpy as np

        try:
            result = getattr(self.original.model, method)(self._given())
        except Exception as error:  # an estimator, possibly the user's own, may raise anything
            raise ConversionError(
                f"the original fails on the rows it was to be compared on ({first_line(error)})",
                hint="give a sample with some rows of its inputs",
            ) from error
        if isinstance(result, list):  # one for each of several targets
            return [np.asarray(one) for one in result]
        found = dense(result)
        # SparsePCA loses the axis of the rows where there is one row.
        return found[None, :] if method == "transform" and len(self.table) == 1 and found.ndim == 1 else found

    def _given(self) -> Any:
        """The rows in the form that the model was trained on."""
        import numpy as np

        table = self.inputs.given(self.table)
        if takes_documents(self.original.model):
            return list(table.columns[0])
        if self.inputs.layout == "texts" or (self.inputs.layout == "columns" and not self.original.named):
            return np.column_stack([column.astype(object) for column in table.columns])
        return table.frame() if self.inputs.layout == "columns" else table.matrix()

    def margin(self) -> Any | None:
        """For each row, how far the best class is ahead of the next; None where the model does not say."""
        import numpy as np

        for method in ("predict_proba", "decision_function"):
            if self.original.is_classifier and self.original.has(method):
                scores = self.answer(method)
                if isinstance(scores, list):
                    return None
                if scores.ndim == 1:
                    return scores
                ordered = np.sort(scores, axis=1)
                return ordered[:, -1] - ordered[:, -2] if scores.shape[1] > 1 else None
        return None


@dataclass(frozen=True)
class Questions:
    """One method of an original, to be asked of one table after the other, and about the same one again."""

    original: Original
    inputs: Inputs
    method: str

    def answer(self, table: Table) -> dict[str, Any]:
        """The answer by the method's name. Raises ``ConversionError`` when the original refuses the rows."""
        found = Expected(self.original, self.inputs, table).answer(self.method)
        return {self.method: found} if not isinstance(found, list) else {str(n): part for n, part in enumerate(found)}
