"""Generated rows: inputs like those a model was trained on, as far as the fitted model tells.

Each maker is a function from what is known to a ``Table``; the same model always gets the same rows. Makers of
harder rows (on thresholds, on category edges) stand beside these.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from converters.samples import Table

GENERATED_ROWS = 512
SEED = 20_240_517
# Fitted arrays of shape (anything, n_features) whose columns span the training data.
POINTS = ("_fit_X", "X_fit_", "X_train_", "support_vectors_", "cluster_centers_", "centroids_", "theta_", "means_")


def generate(model: Any, names: tuple[str, ...]) -> Table:
    """Rows drawn evenly from the range that the model knows of each column; standard normal where it knows none."""
    import numpy as np

    random = np.random.default_rng(SEED)
    known = feature_ranges(model, len(names))
    columns = []
    for index in range(len(names)):
        normal = random.standard_normal(GENERATED_ROWS)
        even = random.random(GENERATED_ROWS)
        if index in known:
            low, high = known[index]
            margin = (high - low) * 0.1 or max(abs(low), 1.0) * 0.5
            columns.append(low - margin + even * (high - low + 2 * margin))
        else:
            columns.append(normal)
    return Table(names, tuple(columns))


def resample(sample: Table) -> Table:
    """Rows whose columns are drawn on their own from a sample: its values, and for fractions anything between."""
    import numpy as np

    random = np.random.default_rng(SEED)
    columns = []
    for column in sample.columns:
        drawn = column[random.integers(0, len(sample), GENERATED_ROWS)]
        if column.dtype.kind == "f" and np.isfinite(column).any():
            finite = column[np.isfinite(column)]
            even = finite.min() + random.random(GENERATED_ROWS) * (finite.max() - finite.min())
            drawn = np.where(random.random(GENERATED_ROWS) < 0.5, even, drawn)
        columns.append(drawn)
    return Table(sample.names, tuple(columns))


def with_odd_values(table: Table, value: float) -> Table | None:
    """Up to 64 of the rows with ``value`` in a tenth of the fractional cells, at least one a row; None if none are."""
    import numpy as np

    fractional = [index for index, column in enumerate(table.columns) if column.dtype.kind == "f"]
    if not fractional:
        return None
    random = np.random.default_rng(SEED)
    odd = table.take(slice(0, 64))
    chosen = random.random((len(odd), len(fractional))) < 0.1
    chosen[np.arange(len(odd)), random.integers(0, len(fractional), len(odd))] = True
    for place, index in enumerate(fractional):
        odd = odd.replaced(index, np.where(chosen[:, place], value, odd.columns[index]))
    return odd


def feature_ranges(model: Any, width: int) -> dict[int, tuple[float, float]]:
    """The smallest and largest training value of a column, as far as fitted attributes show them."""
    first = _first_step(model)
    for source in (_from_scaler, _from_points, _from_thresholds):
        ranges = source(first, width)
        if ranges:
            return ranges
    return {}


def walk(model: Any) -> Iterator[Any]:
    """The estimator and every fitted one inside it, each once."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        current = waiting.pop()
        if id(current) in seen or isinstance(current, str | bytes | int | float | type(None)):
            continue
        seen.add(id(current))
        if isinstance(current, dict):
            waiting.extend(current.values())
        elif isinstance(current, list | tuple):
            waiting.extend(current)
        elif type(current).__name__ == "ndarray":
            if current.dtype == object:
                waiting.extend(current.ravel().tolist())
        elif hasattr(current, "get_params") or hasattr(current, "tree_"):
            yield current
            waiting.extend(vars(current).values())
        elif type(current).__name__ == "TreePredictor":
            yield current


def _first_step(model: Any) -> Any:
    while hasattr(model, "steps"):
        steps = [step for _, step in model.steps if step is not None and step != "passthrough"]
        if not steps:
            return model
        model = steps[0]
    return model


def _from_scaler(model: Any, width: int) -> dict[int, tuple[float, float]]:
    import numpy as np

    low, high = getattr(model, "data_min_", None), getattr(model, "data_max_", None)
    if low is None or high is None:
        middle = next((getattr(model, name) for name in ("mean_", "center_") if hasattr(model, name)), None)
        spread = getattr(model, "scale_", None)
        if middle is None:
            return {}
        low, high = (np.asarray(middle) + side * (1.0 if spread is None else np.asarray(spread)) for side in (-3, 3))
    if np.shape(low) != (width,):
        return {}
    return {index: (float(low[index]), float(high[index])) for index in range(width)}


def _from_points(model: Any, width: int) -> dict[int, tuple[float, float]]:
    import numpy as np

    for name in POINTS:
        points = getattr(model, name, None)
        if isinstance(points, np.ndarray) and points.dtype.kind == "f" and points.shape[1:] == (width,):
            low, high = points.min(axis=0), points.max(axis=0)
            return {index: (float(low[index]), float(high[index])) for index in range(width)}
    return {}


def _from_thresholds(model: Any, width: int) -> dict[int, tuple[float, float]]:
    ranges: dict[int, tuple[float, float]] = {}
    finders: dict[str, Callable[[Any], Any]] = {"tree_": _tree_splits, "nodes": _histogram_splits}
    for part in walk(model):
        for attribute, finder in finders.items():
            if not hasattr(part, attribute):
                continue
            for feature, threshold in finder(part):
                low, high = ranges.get(feature, (threshold, threshold))
                ranges[feature] = (min(low, threshold), max(high, threshold))
    return {index: found for index, found in ranges.items() if 0 <= index < width}


def _tree_splits(part: Any) -> Iterator[tuple[int, float]]:
    features, thresholds = part.tree_.feature, part.tree_.threshold
    inner = features >= 0
    return zip(features[inner].tolist(), thresholds[inner].tolist(), strict=True)


def _histogram_splits(part: Any) -> Iterator[tuple[int, float]]:
    import numpy as np

    nodes = part.nodes
    inner = (nodes["is_leaf"] == 0) & (nodes["is_categorical"] == 0) & np.isfinite(nodes["num_threshold"])
    return zip(nodes["feature_idx"][inner].tolist(), nodes["num_threshold"][inner].tolist(), strict=True)
