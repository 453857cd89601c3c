"""Imputers and missing indicators, for numbers in the arithmetic of the model and for text.

skl2onnx's imputer has no float64 kernel, does not support missing text
(https://github.com/onnx/sklearn-onnx/issues/980), and silently drops the columns of ``add_indicator``; its
nearest-neighbour imputer has no float64 kernel either.
"""

from __future__ import annotations

from typing import Any

from converters.sklearn.recipes import ties
from converters.sklearn.recipes.writing.columns import Column, as_text, is_missing, split
from converters.sklearn.recipes.writing.ops import ML, Ops, has_text
from converters.sklearn.recipes.writing.registry import Recipe
from edgepack.errors import ConversionError

# How many rows of each kind to look at for ties, and for how many sums of distances at most.
TIE_ROWS, TIE_WORK = 256, 500_000_000


def simple_imputer(ops: Ops) -> None:
    """A learnt value in place of each missing one, and behind them the indicator's columns."""
    import numpy as np

    model, columns = ops.model, split(ops)
    kept = _kept_by_simple(model)
    if not has_text(ops.operator):
        _require_numbers(model.statistics_)
        x = ops.matrix()
        statistics = _numbers(model, kept)
        filled = ops.add("Where", _missing(ops, x, model.missing_values), statistics[None, :], x)
        _answer_with_indicator(ops, _chosen(ops, filled, kept, len(columns)), x, model)
        return
    if model.add_indicator:
        raise ConversionError(
            "SimpleImputer(add_indicator=True) on text answers text and flags in one table, which ONNX cannot",
            hint="put a MissingIndicator beside the imputer instead",
        )
    blocks = []
    for index in kept:
        column = columns[index]
        if column.kind != "text":
            raise ConversionError(
                "SimpleImputer takes text and numbers at once", hint="give each kind an imputer of its own"
            )
        # The learnt value is a word like any other: only where it is missing itself does the missing text stay.
        fill = ops.constant(np.array([[as_text(model.statistics_[index])]], dtype=object))
        blocks.append(ops.add("Where", _missing_text(ops, column, model.missing_values), fill, column.name))
    result = blocks[0] if len(blocks) == 1 else ops.add("Concat", *blocks, axis=1)
    ops.answer(0, result)


def missing_indicator(ops: Ops) -> None:
    """One where a value is missing, else zero, of the columns that the original reports."""
    model, columns = ops.model, split(ops)
    if not has_text(ops.operator):
        flags = ops.cast(_missing(ops, ops.matrix(), model.missing_values))
        ops.answer(0, _chosen(ops, flags, model.features_.tolist(), len(columns)))
        return
    blocks = []
    for index in model.features_.tolist():
        column = columns[index]
        found = _missing_text if column.kind == "text" else _missing_in_column
        blocks.append(ops.cast(found(ops, column, model.missing_values)))
    ops.answer(0, blocks[0] if len(blocks) == 1 else ops.add("Concat", *blocks, axis=1))


def knn_imputer(ops: Ops) -> None:
    """The mean of the nearest training rows that have the value, by the distance over what both rows have."""
    import numpy as np

    model = ops.model
    if model.metric != "nan_euclidean" or callable(model.weights):
        raise ConversionError(
            "KNNImputer with a function of the user's for metric or weights has no ONNX form",
            hint="use metric='nan_euclidean' and weights 'uniform' or 'distance'",
        )
    _refuse_equally_far_donors(model)
    x = ops.matrix()
    missing = _missing(ops, x, model.missing_values)
    distances = _nan_euclidean(ops, x, missing, model)
    results = []
    kept = np.flatnonzero(model._valid_mask | bool(model.keep_empty_features)).tolist()
    for index in kept:
        column = ops.columns(x, [index])
        if not model._valid_mask[index]:
            results.append(ops.add("Mul", ops.cast(ops.add("IsNaN", column)), 0.0))  # zero, as many as there are rows
            continue
        filled = _mean_of_nearest(ops, distances, model, index)
        results.append(ops.add("Where", ops.columns(missing, [index]), filled, column))
    _answer_with_indicator(ops, results[0] if len(results) == 1 else ops.add("Concat", *results, axis=1), x, model)


def iterative_imputer(ops: Ops) -> None:
    """The learnt sequence of regressions, each of which fills one column from the others."""
    model, x = ops.model, ops.matrix()
    if model.sample_posterior:
        raise ConversionError(
            "IterativeImputer(sample_posterior=True) draws at random at every call",
            hint="train it with sample_posterior=False",
        )
    initial = model.initial_imputer_
    kept = _kept_by_iterative(model)
    every = _missing(ops, x, model.missing_values)
    filled = ops.add("Where", every, _numbers(initial, kept)[None, :], x)
    filled = _chosen(ops, filled, kept, int(model.n_features_in_))
    missing = _chosen(ops, every, kept, int(model.n_features_in_))
    columns = [ops.columns(filled, [index]) for index in range(len(kept))]
    flags = [ops.columns(missing, [index]) for index in range(len(kept))]
    for step in model.imputation_sequence_ if model.n_iter_ else []:
        target, others = int(step.feat_idx), [int(index) for index in step.neighbor_feat_idx]
        given = ops.add("Concat", *(columns[index] for index in others), axis=1)
        guess = _predicted(ops, step.estimator, given, len(others))
        low, high = float(model._min_value[target]), float(model._max_value[target])
        guess = ops.add("Min", ops.add("Max", guess, low), high)
        columns[target] = ops.add("Where", flags[target], guess, columns[target])
    result = columns[0] if len(columns) == 1 else ops.add("Concat", *columns, axis=1)
    # As in the original, rows without any value keep the first filling where all rows of the batch are such.
    known = ops.add("Sub", 1.0, ops.cast(missing))
    nothing = ops.add("Equal", ops.add("ReduceSum", known, [0, 1], keepdims=1), 0.0)
    _answer_with_indicator(ops, ops.add("Where", nothing, filled, result), x, model)


def _predicted(ops: Ops, estimator: Any, given: str, width: int) -> str:
    """A regression's answer, shape (rows, 1); the linear ones are written out, as there may be hundreds of them."""
    import numpy as np

    if type(estimator).__name__ in ("BayesianRidge", "Ridge", "LinearRegression", "RidgeCV", "ARDRegression"):
        product = ops.add("MatMul", given, np.asarray(estimator.coef_, dtype=float).reshape(-1, 1))
        return ops.add("Add", product, float(np.ravel(estimator.intercept_)[0]))
    (result,) = ops.call(estimator, given, width, "regressor")[:1]
    return ops.reshape(ops.cast(result), [-1, 1])


def _nan_euclidean(ops: Ops, x: str, missing: str, model: Any) -> str:
    """Distances (rows, training rows) over the values that both have, scaled up to all; infinite where there are none.

    As ``sklearn.metrics.nan_euclidean_distances`` calculates it, so that rows that it calls equally far are so here.
    """
    import numpy as np

    fitted_missing = np.asarray(model._mask_fit_X, dtype=bool)
    fitted = np.where(fitted_missing, 0.0, model._fit_X).astype(float)
    here = ops.add("Where", missing, 0.0, x)
    gone = ops.cast(missing)
    squares = ops.add("Mul", here, here)
    cross = ops.add("MatMul", here, fitted.T.copy())
    total = ops.add("Add", ops.sum(squares, 1, keepdims=True), (fitted**2).sum(axis=1)[None, :])
    distance = ops.add("Max", ops.add("Sub", total, ops.add("Mul", cross, 2.0)), 0.0)
    distance = ops.add("Sub", distance, ops.add("MatMul", squares, fitted_missing.T.astype(float)))
    distance = ops.add("Sub", distance, ops.add("MatMul", gone, (fitted**2).T.copy()))
    distance = ops.add("Max", distance, 0.0)
    shared = ops.add("MatMul", ops.add("Sub", 1.0, gone), (~fitted_missing).T.astype(float))
    scaled = ops.add("Div", ops.add("Mul", distance, float(fitted.shape[1])), ops.add("Max", shared, 1.0))
    return ops.add("Where", ops.add("Equal", shared, 0.0), np.inf, ops.add("Sqrt", scaled))


def _refuse_equally_far_donors(model: Any) -> None:
    """Raise ``ConversionError`` where training rows with another value are equally far, at the last of the places.

    The original then takes whichever its partition leaves there. Looked for among the training rows, and such as mix
    their values, each column of which is taken for missing in turn.
    """
    import numpy as np
    from sklearn.metrics import nan_euclidean_distances

    gone = np.asarray(model._mask_fit_X, dtype=bool)
    points = np.where(gone, np.nan, model._fit_X).astype(float)
    cells = TIE_WORK // max(1, points.size * points.shape[1])
    count = max(1, min(TIE_ROWS, cells))
    rows = ties.like(points, count)
    own, mixed = np.split(rows, [min(count, len(points))])
    fewer = np.where(np.random.default_rng(ties.SEED).random(own.shape) < 0.2, np.nan, own)
    rows = np.vstack([own, fewer, mixed])
    for index in np.flatnonzero(model._valid_mask).tolist():
        donors = np.flatnonzero(~gone[:, index])
        holed = rows.copy()
        holed[:, index] = np.nan
        away = nan_euclidean_distances(holed, points[donors])
        values = points[donors][:, [index]]
        # Of the training rows only: others, mixed of their values, are at none from many that have just one of those.
        of_own, largest = away[: 2 * len(own)], float(np.nanmax(np.abs(points)))
        if model.weights == "distance" and _several_at_no_distance(of_own, values[:, 0], largest):
            raise ConversionError(
                "for some rows several training rows are at no distance from them and hold another value in column "
                f"{index}; how KNNImputer(weights='distance') weights those is decided by rounding",
                hint="train it with weights='uniform'",
            )
        split = ties.splits(np.where(np.isnan(away), np.inf, away), values, int(model.n_neighbors))
        if split:
            raise ConversionError(
                f"for {split} of {len(rows)} rows like those that the KNNImputer was trained on, training rows that "
                f"are equally far and hold another value in column {index} compete for the last of the "
                f"{model.n_neighbors} places; which of them the original takes is not defined",
                hint="train it with n_neighbors equal to the number of training rows, or use SimpleImputer or "
                "IterativeImputer",
            )


def _several_at_no_distance(away: Any, values: Any, largest: float) -> bool:
    """Whether a row of ``away`` (rows, donors) has two donors of different ``values`` no farther than rounding goes."""
    import numpy as np

    at = away <= 1e-7 * largest  # a difference of squares is good to half of the digits
    low = np.where(at, values, np.inf).min(axis=1)
    high = np.where(at, values, -np.inf).max(axis=1)
    return bool((high > low).any())


def _mean_of_nearest(ops: Ops, distances: str, model: Any, index: int) -> str:
    import numpy as np

    donors = np.flatnonzero(~np.asarray(model._mask_fit_X)[:, index])
    values = np.asarray(model._fit_X, dtype=float)[donors, index]
    count = min(int(model.n_neighbors), len(donors))
    near, place = ops.add_many("TopK", ops.columns(distances, donors.tolist()), [count], outputs=2, axis=1, largest=0)
    defined = ops.cast(ops.add("Less", near, np.inf))
    weights = defined
    if model.weights == "distance":
        # Rows at no distance take all the weight, as sklearn.neighbors has it.
        zero = ops.cast(ops.add("Equal", near, 0.0))
        any_zero = ops.add("Greater", ops.sum(zero, 1, keepdims=True), 0.0)
        inverse = ops.add(
            "Mul", defined, ops.add("Reciprocal", ops.add("Where", ops.add("Equal", near, 0.0), 1.0, near))
        )
        weights = ops.add("Where", any_zero, zero, inverse)
    total = ops.sum(weights, 1, keepdims=True)
    summed = ops.sum(ops.add("Mul", ops.add("Gather", values, place), weights), 1, keepdims=True)
    # A row that shares no value with any training row gets the column's mean.
    none = ops.add("Equal", total, 0.0)
    mean = ops.add("Div", summed, ops.add("Where", none, 1.0, total))
    return ops.add("Where", none, float(values.mean()), mean)


def _missing(ops: Ops, x: str, marker: Any) -> str:
    """Whether each number is missing: it is NaN, or the number that means missing."""
    if is_missing(marker):
        return ops.add("IsNaN", x)
    if isinstance(marker, str):
        raise ConversionError(
            f"numbers cannot be the missing value {marker!r}",
            hint="give a sample whose columns are text where the model's are",
        )
    return ops.add("Equal", x, float(marker))


def _missing_text(ops: Ops, column: Column, marker: Any) -> str:
    """Whether each text is missing, shape (rows, 1)."""
    from onnx import TensorProto

    flag = ops.add(
        "LabelEncoder",
        column.name,
        domain=ML,
        keys_strings=[as_text(marker)],
        values_int64s=[1],
        default_int64=0,
    )
    return ops.cast(flag, int(TensorProto.BOOL))


def _missing_in_column(ops: Ops, column: Column, marker: Any) -> str:
    return _missing(ops, column.name if column.kind == "number" else ops.cast(column.name), marker)


def _answer_with_indicator(ops: Ops, filled: str, x: str, model: Any) -> None:
    indicator = model.indicator_ if model.add_indicator else None
    if indicator is not None and len(indicator.features_):
        flags = ops.cast(_missing(ops, x, model.missing_values))
        filled = ops.add("Concat", filled, ops.columns(flags, indicator.features_.tolist()), axis=1)
    ops.answer(0, filled)


def _chosen(ops: Ops, name: str, indices: list[int], width: int) -> str:
    return name if indices == list(range(width)) else ops.columns(name, indices)


def _kept_by_simple(model: Any) -> list[int]:
    """The columns that a SimpleImputer answers with: those that had a value in training, unless it keeps all."""
    return [at for at, value in enumerate(model.statistics_) if model.keep_empty_features or not is_missing(value)]


def _kept_by_iterative(model: Any) -> list[int]:
    return [at for at, empty in enumerate(model._is_empty_feature) if model.keep_empty_features or not empty]


def _numbers(model: Any, kept: list[int]) -> Any:
    import numpy as np

    values = [float(value) if at in kept else 0.0 for at, value in enumerate(model.statistics_)]
    return np.array(values, dtype=float)


def _require_numbers(statistics: Any) -> None:
    if any(isinstance(value, str) for value in statistics):
        raise ConversionError(
            "SimpleImputer fills in text where the sample holds numbers",
            hint="give a sample whose columns hold what the model was trained on",
        )


def _indicated(model: Any) -> int:
    return len(model.indicator_.features_) if model.add_indicator else 0


RECIPES = (
    Recipe(
        ("sklearn.impute.SimpleImputer",),
        "transformer",
        simple_imputer,
        width=lambda model: len(_kept_by_simple(model)) + _indicated(model),
        keeps_text=True,
    ),
    Recipe(
        ("sklearn.impute.MissingIndicator",),
        "transformer",
        missing_indicator,
        width=lambda model: len(model.features_),
    ),
    Recipe(
        ("sklearn.impute.KNNImputer",),
        "transformer",
        knn_imputer,
        width=lambda model: (
            (len(model._valid_mask) if model.keep_empty_features else int(model._valid_mask.sum())) + _indicated(model)
        ),
    ),
    Recipe(
        ("sklearn.impute._iterative.IterativeImputer",),
        "transformer",
        iterative_imputer,
        width=lambda model: len(_kept_by_iterative(model)) + _indicated(model),
    ),
)
