"""How many columns a fitted estimator takes, where it is not the one to keep that number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from converters.proof import samples
from converters.routes import children, passes_on
from converters.ways_out import SCRIPT
from edgepack.errors import ConversionError

DUMMIES = ("DummyClassifier", "DummyRegressor")


def of_estimator(model: Any) -> int | None:
    """The number of columns that ``model`` takes, or a part of it that is given the same; None where none says so.

    Up to scikit-learn 1.5 dummies do not, and a wrapper whose first part is one does not either.
    """
    count = getattr(model, "n_features_in_", None)
    if isinstance(count, int):
        return count
    if hasattr(model, "X_thresholds_"):
        return 1  # isotonic regression is along one axis
    if hasattr(model, "steps"):
        first = _first(model)
        return None if first is None else of_estimator(first)
    if not hasattr(model, "estimators_"):
        return None
    final = getattr(model, "final_estimator_", None)  # which is given what the others answer
    return next((count for part in children(model) if part is not final and (count := of_estimator(part))), None)


def is_free(model: Any) -> bool:
    """Whether ``model`` is a fitted dummy that keeps no number of columns: it takes any."""
    while hasattr(model, "steps") and _first(model) is not None:
        model = _first(model)
    return type(model).__name__ in DUMMIES and hasattr(model, "n_outputs_") and of_estimator(model) is None


def told(model: Any, sample: Path | None) -> tuple[int | None, bool]:
    """The number of columns, from the user's rows where only they say it, and whether the model takes any number."""
    count = of_estimator(model)
    if count is not None:
        return count, False
    free = is_free(model)
    if sample is not None and (free or any(map(is_free, children(model)))):
        return len(samples.read(sample).names), False
    return (1, True) if free else (None, False)


def unknown(model: Any) -> ConversionError:
    """What to say of a model that does not tell its columns."""
    from sklearn.exceptions import NotFittedError
    from sklearn.utils.validation import check_is_fitted

    kind = type(model).__name__
    if kind == "PatchExtractor":
        return ConversionError(
            "the PatchExtractor takes images, not rows of columns", hint="cut the patches before the model"
        )
    try:
        check_is_fitted(model)
    except (NotFittedError, TypeError):
        return ConversionError(
            f"the {kind} does not say how many columns it takes: it is not fitted", hint="save it after fit"
        )
    helps = any(map(is_free, children(model)))
    return ConversionError(
        f"the {kind} does not say how many columns it takes",
        hint="give a sample with some rows of its inputs (--sample FILE)" if helps else SCRIPT,
    )


def _first(model: Any) -> Any:
    return next((step for _, step in model.steps if not passes_on(step)), None)
