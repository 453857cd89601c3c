"""What a fitted model keeps of the columns that it was trained on: ranges, categories, words, thresholds."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from converters.boosters import load as boosters
from converters.companions import asking, frame_steps
from converters.proof.samples import Table
from converters.routes import FittedPart, fitted_parts, takes_documents

# Fitted arrays of shape (anything, n_features) whose columns span the training data.
POINTS = (
    "_fit_X", "X_fit_", "X_train_", "X_", "support_vectors_", "cluster_centers_", "centroids_", "theta_", "means_",
    "components_means_", "subcluster_centers_", "exemplars_",
)  # fmt: skip
THRESHOLDS_KEPT = 400
# Numbers nearer than this to a whole one are it: a way back through a scaler rounds.
WHOLE = 1e-9
# For vectorizers that remember no words.
SOME_WORDS = ("the", "pump", "is", "loud", "and", "leaks", "oil", "Öl", "42", "again")


@dataclass
class Column:
    """Of one input column: the range seen in training, categories, words of texts, values where an answer may jump.

    ``whole``: only whole numbers were seen. ``closed``: an unknown category is refused. ``missing`` is
    what stood for a missing text in training, ``gone`` whether some were missing. Numbers below ``least`` or above
    ``most`` are refused.
    """

    low: float | None = None
    high: float | None = None
    categories: list[Any] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    thresholds: list[float] = field(default_factory=list)
    whole: bool = False
    closed: bool = False
    missing: float | None = float("nan")
    gone: bool = False
    least: float | None = None
    most: float | None = None

    @property
    def is_text(self) -> bool:
        """Whether its values are text."""
        return bool(self.words) or any(isinstance(item, str) for item in self.categories)

    def widen(self, low: float, high: float) -> None:
        """Take in another range, where its ends are finite."""
        if low == low and high == high and abs(low) != float("inf") and abs(high) != float("inf"):
            self.low = low if self.low is None else min(self.low, low)
            self.high = high if self.high is None else max(self.high, high)


def columns(model: Any, names: Sequence[str]) -> list[Column]:
    """One entry an input column, from every part that still sees the columns by themselves."""
    trained = [Column() for _ in names]
    spans: list[tuple[int, float, float]] = []
    if takes_documents(model):
        trained[0].words = list(SOME_WORDS)
    for fitted in fitted_parts(model, names):
        _categories(fitted, trained)
        _learnt(fitted, trained)
        _words(fitted, trained)
        _codes(fitted, trained)
        spans.extend(_spans(fitted))
        _limits(fitted, trained)
        for column, points in (_points(fitted) or {}).items():
            trained[column].whole |= _are_whole(points)
        for feature, value in thresholds(fitted.part):
            route = fitted.routes[feature] if 0 <= feature < len(fitted.routes) else None
            if route is not None:
                trained[route.column].thresholds.append(float(route.back(value)))
    for column, low, high in spans:
        trained[column].widen(low, high)
    for entry in trained:
        # Thresholds lie inside of the training data; what a scaler says of it is better.
        if entry.low is None and entry.thresholds:
            entry.widen(min(entry.thresholds), max(entry.thresholds))
    return trained


def as_trained(sample: Table, trained: Sequence[Column]) -> Table:
    """The user's rows with text where the model has text: a file may write such categories as numbers or flags."""
    import numpy as np

    columns = [
        np.array([None if cell != cell else str(cell) for cell in column.tolist()], dtype=object)
        if entry.is_text and column.dtype.kind != "O"
        else column
        for column, entry in zip(sample.columns, trained, strict=True)
    ]
    return Table(sample.names, tuple(columns))


def _categories(fitted: FittedPart, trained: list[Column]) -> None:
    found = getattr(fitted.part, "categories_", None)
    if hasattr(fitted.part, "category_count_"):  # of naive Bayes: the categories are the numbers from 0
        found = [list(range(counts.shape[1])) for counts in fitted.part.category_count_]
    statistics = getattr(fitted.part, "statistics_", None)  # an unfitted part has none
    if statistics is not None and statistics.dtype.kind == "O":
        found = [[value] for value in statistics]
    if not isinstance(found, list) or len(found) != len(fitted.routes):
        return
    closed = getattr(fitted.part, "handle_unknown", "error") == "error"
    for route, values in zip(fitted.routes, found, strict=True):
        if route is None:
            continue
        listed = [value.item() if hasattr(value, "item") else value for value in values]
        column = trained[route.column]
        column.categories += [value for value in listed if _is_category(value) and value not in column.categories]
        column.closed |= closed
        column.gone |= any(not _is_category(value) for value in listed)
        if any(value is None for value in listed):
            column.missing = None


def _learnt(fitted: FittedPart, trained: list[Column]) -> None:
    """The categories of an encoder of data frames, and what else it takes."""
    if not frame_steps.is_frame_step(fitted.part):
        return
    for place, found in asking.lookups(fitted.part).items():
        route = fitted.routes[place] if place < len(fitted.routes) else None
        if route is None:
            continue
        column, values = trained[route.column], list(found.known[:-1])
        exact = all(isinstance(value, int | float) and abs(value) <= frame_steps.EXACT for value in values)
        if exact and not found.refuses_missing:  # whole numbers of which some are missing are floats to a data frame
            values = list(map(float, values))
        column.categories += [value for value in values if _is_category(value) and value not in column.categories]
        column.closed |= found.refuses_unknown
        column.gone |= not found.refuses_missing


def _is_category(value: Any) -> bool:
    return isinstance(value, str | int | bool) or (isinstance(value, float) and value == value)


def _words(fitted: FittedPart, trained: list[Column]) -> None:
    vocabulary = getattr(fitted.part, "vocabulary_", None)
    if isinstance(vocabulary, dict) and len(fitted.routes) == 1 and fitted.routes[0] is not None:
        trained[fitted.routes[0].column].words += sorted(map(str, vocabulary))


def _codes(fitted: FittedPart, trained: list[Column]) -> None:
    """The whole numbers that a booster takes for categories."""
    for feature, codes in boosters.codes(fitted.part).items():
        route = fitted.routes[feature] if feature < len(fitted.routes) else None
        if route is not None and not trained[route.column].categories:
            trained[route.column].categories = [int(code) for code in codes]


def _limits(fitted: FittedPart, trained: list[Column]) -> None:
    """The outermost knots of splines that refuse what is beyond; a little less, since a way back rounds."""
    if getattr(fitted.part, "extrapolation", None) != "error" or not hasattr(fitted.part, "bsplines_"):
        return
    for route, spline in zip(fitted.routes, fitted.part.bsplines_, strict=False):
        if route is None:
            continue
        ends = sorted(float(route.back(spline.t[place])) for place in (spline.k, len(spline.t) - spline.k - 1))
        inward = (ends[1] - ends[0]) * WHOLE
        column = trained[route.column]
        column.least = max(ends[0] + inward, ends[0] if column.least is None else column.least)
        column.most = min(ends[1] - inward, ends[1] if column.most is None else column.most)


def _spans(fitted: FittedPart) -> Iterator[tuple[int, float, float]]:
    """Ranges of input columns, as a scaler or stored training points show them."""
    import numpy as np

    for source in (_of_scaler, _of_points):
        found = source(fitted.part, len(fitted.routes))
        if found is None:
            continue
        for route, low, high in zip(fitted.routes, *found, strict=True):
            if route is not None:
                ends = sorted(float(np.asarray(route.back(value))) for value in (low, high))
                yield route.column, ends[0], ends[1]
        return


def _of_scaler(part: Any, width: int) -> tuple[Any, Any] | None:
    import numpy as np

    low, high = getattr(part, "data_min_", None), getattr(part, "data_max_", None)
    if low is None or high is None:
        middle = next((getattr(part, n) for n in ("mean_", "center_") if getattr(part, n, None) is not None), None)
        spread = getattr(part, "scale_", None)
        if middle is None or np.shape(middle) != (width,):
            return None
        spread = 1.0 if spread is None or np.shape(spread) != (width,) else np.asarray(spread)
        low, high = np.asarray(middle) - 3 * spread, np.asarray(middle) + 3 * spread
    return (low, high) if np.shape(low) == np.shape(high) == (width,) else None


def _of_points(part: Any, width: int) -> tuple[Any, Any] | None:
    import numpy as np

    points = _kept_points(part, width)
    if points is None or np.isnan(points).all(axis=0).any():
        return None
    return np.nanmin(points, axis=0), np.nanmax(points, axis=0)


def _kept_points(part: Any, width: int) -> Any | None:
    """Training rows, or points among them, that a part keeps, shape (points, width)."""
    import numpy as np

    for name in POINTS:
        points = getattr(part, name, None)
        if not isinstance(points, np.ndarray) or points.dtype.kind not in "fi":
            continue
        if points.shape[1:] == (width,) and len(points):
            return points.astype(np.float64)
    return None


def _points(fitted: FittedPart) -> dict[int, Any] | None:
    """The values of input columns at the points that a part keeps, by column; None where it keeps none."""
    points = _kept_points(fitted.part, len(fitted.routes))
    if points is None:
        return None
    return {
        route.column: route.back(points[:, feature]) for feature, route in enumerate(fitted.routes) if route is not None
    }


def _are_whole(values: Any) -> bool:
    import numpy as np

    finite = values[np.isfinite(values)]
    return bool(finite.size) and bool((np.abs(finite - np.round(finite)) < WHOLE).all())


def training(model: Any, names: Sequence[str], count: int) -> Table | None:
    """Up to ``count`` rows of the training data, where a part that sees every column keeps them."""
    import numpy as np

    for fitted in fitted_parts(model, names):
        found = _points(fitted)
        if found is None or len(found) < len(names):
            continue
        length = len(found[0])
        picked = np.unique(np.linspace(0, length - 1, min(count, length)).astype(int))
        values = [found[index][picked] for index in range(len(names))]
        near = [np.where(np.abs(v - np.round(v)) < WHOLE, np.round(v), v) for v in values]
        return Table(tuple(names), tuple(near))
    return None


def thresholds(part: Any) -> Iterator[tuple[int, float]]:
    """Feature and value of every place at which the answer of ``part`` may jump or bend, at most a few hundred."""
    for attribute, finder in _FINDERS.items():
        if getattr(part, attribute, None) is not None:
            yield from _thinned(finder(part))
    yield from _thinned(iter(boosters.thresholds(part)))
    yield from _thinned(frame_steps.thresholds(part))


def _thinned(found: Iterator[tuple[int, float]]) -> Iterator[tuple[int, float]]:
    every = list(found)
    return iter(every[:: max(1, -(-len(every) // THRESHOLDS_KEPT))])


def _tree(part: Any) -> Iterator[tuple[int, float]]:
    features, thresholds = part.tree_.feature, part.tree_.threshold
    inner = features >= 0
    return zip(features[inner].tolist(), thresholds[inner].tolist(), strict=True)


def _histogram(part: Any) -> Iterator[tuple[int, float]]:
    import numpy as np

    nodes = part.nodes
    if nodes.dtype.names is None or "num_threshold" not in nodes.dtype.names:
        return iter(())
    inner = (nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0) & np.isfinite(nodes["num_threshold"])
    return zip(nodes["feature_idx"][inner].tolist(), nodes["num_threshold"][inner].tolist(), strict=True)


def _per_feature(attribute: str) -> Callable[[Any], Iterator[tuple[int, float]]]:
    def find(part: Any) -> Iterator[tuple[int, float]]:
        for feature, values in enumerate(getattr(part, attribute)):
            for value in values:
                yield feature, float(value)

    return find


def _knots(part: Any) -> Iterator[tuple[int, float]]:
    for feature, spline in enumerate(part.bsplines_):
        for value in spline.t:
            yield feature, float(value)


def _quantiles(part: Any) -> Iterator[tuple[int, float]]:
    for feature in range(part.quantiles_.shape[1]):
        for value in part.quantiles_[:, feature]:
            yield feature, float(value)


def _isotonic(part: Any) -> Iterator[tuple[int, float]]:
    for value in part.X_thresholds_:
        yield 0, float(value)


def _binarizer(part: Any) -> Iterator[tuple[int, float]]:
    if type(part).__name__ == "Binarizer":
        for feature in range(getattr(part, "n_features_in_", 0)):
            yield feature, float(part.threshold)


_FINDERS: dict[str, Callable[[Any], Iterator[tuple[int, float]]]] = {
    "tree_": _tree,
    "nodes": _histogram,
    "bin_edges_": _per_feature("bin_edges_"),
    "bsplines_": _knots,
    "quantiles_": _quantiles,
    "X_thresholds_": _isotonic,
    "threshold": _binarizer,
}
