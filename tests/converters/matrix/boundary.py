"""Rows on and one unit in the last place beside whatever a fitted model decides by.

Two independent sources: what the fitted attributes say (thresholds, bin edges, knots), and a search that knows
nothing of the model: between two rows that are answered differently it halves the way until two neighbouring
float64 numbers are left, and keeps these where the answer still jumps. The search finds the thresholds of models
behind scalers and inside of ensembles in the units of the input.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np

SEARCHES = 40
HALVINGS = 80
STRUCTURAL = 200
METHODS = ("predict_proba", "decision_function", "transform", "predict", "score_samples")


def boundary_rows(model: Any, train: Any, test: Any, scaler: Any = None, search: bool = False) -> Any:
    """Boundary rows of a model that takes a float64 matrix, shape (rows, features); those that it answers.

    ``scaler`` is the fitted first step behind which the attributes of the rest count. ``search`` has jumps searched for
    also where no attribute tells of any.
    """
    random = np.random.default_rng(7)
    if scaler is None and hasattr(model, "steps") and hasattr(model.steps[0][1], "scale_"):
        scaler = model.steps[0][1]
    made = [_edges(train), _structural(model, test, scaler, random)]
    if search or _has_steps(model):
        made.append(_jumps(model, test, random))
    return only_answered(model, np.vstack([rows for rows in made if len(rows)]))


def only_answered(model: Any, rows: Any) -> Any:
    """The rows that every method of the model answers, one at a time."""
    methods = [getattr(model, name) for name in METHODS if hasattr(model, name)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if _answers(methods, rows):
            return rows
        kept = [index for index in range(len(rows)) if _answers(methods, rows[index : index + 1])]
    return rows.iloc[kept] if hasattr(rows, "iloc") else rows[kept]


def _answers(methods: Any, rows: Any) -> bool:
    try:
        for method in methods:
            method(rows)
    except Exception:  # noqa: BLE001 - the original rejects a row, in whatever way
        return False
    return True


def walk(model: Any) -> Iterator[Any]:
    """The estimator and everything fitted inside it."""
    seen: set[int] = set()
    waiting = [model]
    while waiting:
        part = waiting.pop()
        if id(part) in seen:
            continue
        seen.add(id(part))
        if isinstance(part, dict):
            waiting += part.values()
        elif isinstance(part, list | tuple):
            waiting += part
        elif isinstance(part, np.ndarray):
            waiting += part.ravel().tolist() if part.dtype == object else []
        elif hasattr(part, "get_params") or hasattr(part, "nodes"):
            yield part
            waiting += vars(part).values() if hasattr(part, "__dict__") else []


def _has_steps(model: Any) -> bool:
    """Whether the answer jumps at thresholds. A vote jumps also where one voter is at a tie, which is no threshold."""
    parts = list(walk(model))
    return any(map(_steps, parts)) and not any(getattr(part, "voting", None) == "hard" for part in parts)


def _steps(part: Any) -> bool:
    names = ("tree_", "nodes", "bin_edges_", "quantiles_", "X_thresholds_")
    return any(hasattr(part, name) for name in names) or type(part).__name__ in ("Binarizer", "BernoulliNB")


def _edges(train: Any) -> Any:
    """Least, largest, half way and zero of every feature. Not the mean: there a centred linear model is at a tie."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        low, high = np.nanmin(train, axis=0), np.nanmax(train, axis=0)
    return np.vstack([low, high, low + (high - low) / 2, np.zeros(train.shape[1]), train[0]])


def _structural(model: Any, test: Any, scaler: Any, random: Any) -> Any:
    width = test.shape[1]
    pairs = sorted(
        {pair for part in walk(model) for pair in _thresholds(part) if 0 <= pair[0] < width and np.isfinite(pair[1])}
    )
    if len(pairs) > STRUCTURAL // 3:
        pairs = [pairs[index] for index in sorted(random.choice(len(pairs), STRUCTURAL // 3, replace=False))]
    rows = []
    for feature, value in pairs:
        row = test[random.integers(len(test))].copy()
        if scaler is not None:
            row = scaler.transform(row[None])[0]
        row[feature] = value
        if scaler is not None:
            row = scaler.inverse_transform(row[None])[0]
        for toward in (None, np.inf, -np.inf):
            beside = row.copy()
            if toward is not None:
                beside[feature] = np.nextafter(row[feature], toward)
            rows.append(beside)
    return np.array(rows).reshape(-1, width)


def _thresholds(part: Any) -> Iterator[tuple[int, float]]:
    """Feature and value wherever a part compares the one with the other."""
    if hasattr(getattr(part, "tree_", None), "threshold"):
        inner = part.tree_.feature >= 0
        yield from zip(part.tree_.feature[inner].tolist(), part.tree_.threshold[inner].tolist(), strict=True)
    if hasattr(part, "nodes") and getattr(part.nodes, "dtype", None) is not None and part.nodes.dtype.names:
        inner = (part.nodes["is_leaf"] == 0) & (part.nodes["is_categorical"] == 0)
        features, values = part.nodes["feature_idx"][inner], part.nodes["num_threshold"][inner]
        yield from ((int(feature), float(value)) for feature, value in zip(features, values, strict=True))
    for feature, edges in enumerate(getattr(part, "bin_edges_", ())):
        if np.ndim(edges):
            yield from ((feature, float(edge)) for edge in edges)
    if hasattr(part, "quantiles_"):
        yield from ((j, float(value)) for j in range(part.quantiles_.shape[1]) for value in part.quantiles_[:, j])
    for feature, spline in enumerate(getattr(part, "bsplines_", ())):
        yield from ((feature, float(knot)) for knot in spline.t)
    if type(part).__name__ in ("Binarizer", "BernoulliNB"):
        value = float(getattr(part, "threshold", getattr(part, "binarize", 0.0)))
        yield from ((feature, value) for feature in range(getattr(part, "n_features_in_", 0)))


def _jumps(model: Any, test: Any, random: Any) -> Any:
    """Rows between whose neighbouring float64 numbers, in one feature, the model's answer jumps; and one beyond."""
    rows = test[random.integers(len(test), size=SEARCHES)].copy()
    features = random.integers(test.shape[1], size=SEARCHES)
    others = test[random.integers(len(test), size=SEARCHES), features]

    def placed(values: Any, chosen: Any = slice(None)) -> Any:
        changed = rows[chosen].copy()
        changed[np.arange(len(changed)), features[chosen]] = values
        return changed

    starts = rows[np.arange(SEARCHES), features]
    found = _halved(lambda values: _answer(model, placed(values)), starts, others)
    return np.vstack([placed(values[at], at) for at, values in found]) if found else np.empty((0, test.shape[1]))


def frame_jumps(model: Any, frame: Any, column: str) -> Any:
    """As for a matrix, in one column of fractions of a data frame; the rows as a frame, or None where nothing jumps."""
    import pandas as pd

    if not _has_steps(model):
        return None
    random = np.random.default_rng(7)
    rows = frame.iloc[random.integers(len(frame), size=SEARCHES)].reset_index(drop=True)
    others = frame[column].to_numpy()[random.integers(len(frame), size=SEARCHES)]
    found = _halved(lambda values: _answer(model, rows.assign(**{column: values})), rows[column].to_numpy(), others)
    made = [rows.iloc[at].assign(**{column: values[at]}) for at, values in found]
    return pd.concat(made, ignore_index=True) if made else None


def _halved(answer: Any, starts: Any, ends: Any) -> list[tuple[Any, Any]]:
    """Where the answer jumps, as (places, values): either side of the jump, and the next number beyond each side."""
    whole = np.isfinite(starts) & np.isfinite(ends)
    starts, ends = np.where(whole, starts, 0.0), np.where(whole, ends, 0.0)
    try:
        low, high = answer(starts), answer(ends)
        for _ in range(HALVINGS):
            middles = starts + (ends - starts) / 2
            answers = answer(middles)
            first = np.abs(answers - low).max(axis=1) >= np.abs(high - answers).max(axis=1)
            ends, high = np.where(first, middles, ends), np.where(first[:, None], answers, high)
            starts, low = np.where(first, starts, middles), np.where(first[:, None], low, answers)
    except Exception:  # noqa: BLE001 - a model whose domain the way between two rows leaves has no such rows
        return []
    at = np.flatnonzero(whole & (np.abs(high - low).max(axis=1) > 1e-6) & (starts != ends))
    beyond = np.nextafter(starts, starts - (ends - starts)), np.nextafter(ends, ends + (ends - starts))
    return [(at, values) for values in (starts, ends, *beyond)] if len(at) else []


def _answer(model: Any, rows: Any) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        name = next(method for method in METHODS if hasattr(model, method))
        answer = getattr(model, name)(rows)
    if isinstance(answer, list):
        answer = np.hstack(answer)
    answer = answer.toarray() if hasattr(answer, "toarray") else np.asarray(answer)
    if answer.dtype.kind in "OUS":
        answer = np.unique(answer, return_inverse=True)[1]
    return np.nan_to_num(answer.astype(np.float64).reshape(len(rows), -1))
