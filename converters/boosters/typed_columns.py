"""What a data frame does to columns of categories on its way into a booster."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class TypedColumns:
    """A step in front of a model that was trained on a data frame with columns of categories.

    Asked here it gives the model the frame as its user does, with these columns of pandas' type for categories, so that
    the library itself finds their codes. In a graph it is ``coder``, a fitted ``ColumnTransformer`` that gives the
    codes. A value that is not among the categories is a missing one, or where ``closed`` left for the library
    to refuse.
    """

    def __init__(self, coder: Any, categories: Mapping[str, Sequence[Any]], *, closed: bool) -> None:
        self.coder = coder
        self.categories = categories
        self.closed = closed

    def __getattr__(self, name: str) -> Any:
        """What is known of the columns is known of the coder."""
        if name.startswith("__") or name in ("coder", "best_estimator_"):
            raise AttributeError(name)
        return getattr(self.coder, name)

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """What it was made of, without what is inside."""
        return {"coder": self.coder, "categories": self.categories, "closed": self.closed}

    def fit(self, x: Any, y: Any = None) -> TypedColumns:
        """Not to be called: scikit-learn takes for a transformer only what has this method."""
        raise NotImplementedError("the columns are known")

    def transform(self, x: Any) -> Any:
        """The rows as a data frame with the types of the training; shape as given."""
        import pandas as pd

        names = list(self.coder.feature_names_in_)
        frame = x if isinstance(x, pd.DataFrame) else pd.DataFrame(x, columns=names)
        typed = {}
        for name in names:
            column = frame[name]
            if (known := self.categories.get(name)) is not None:
                further = [value for value in column.dropna().unique().tolist() if self.closed and value not in known]
                column = pd.Categorical(column, categories=[*known, *further])
            elif column.dtype == object:
                column = column.astype(float)  # a matrix that holds text too
            typed[name] = column
        return pd.DataFrame(typed, index=frame.index)

    def __sklearn_is_fitted__(self) -> bool:
        return True

    def __sklearn_tags__(self) -> Any:
        return self.coder.__sklearn_tags__()
