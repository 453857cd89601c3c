"""Which input column a number inside a pipeline came from, and how to choose the column so that the number is met.

A threshold of a tree behind a scaler is not a value of any input; the route back through the scaler gives the one that
meets it. Where a step mixes columns there is no way back, and the route ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from converters.companions import frame_steps


@dataclass(frozen=True)
class Route:
    """The way back from a feature to input ``column``: a value of the feature is ``back(value)`` there."""

    column: int
    back: Callable[[Any], Any]


Routes = Sequence[Route | None]


@dataclass(frozen=True)
class FittedPart:
    """A fitted part of a model, and the routes of the features that it is given."""

    part: Any
    routes: Routes


def fitted_parts(model: Any, columns: Sequence[str]) -> Iterator[FittedPart]:
    """Every fitted part of ``model`` with what is known of its features; ``columns`` names the model's inputs."""
    yield from _fitted_parts(model, [Route(index, _same) for index in range(len(columns))], tuple(columns), set())


def _fitted_parts(model: Any, routes: Routes, columns: Sequence[str], seen: set[int]) -> Iterator[FittedPart]:
    if id(model) in seen:
        return
    seen.add(id(model))
    if hasattr(model, "steps"):
        for _, step in model.steps:
            if passes_on(step):
                continue
            yield from _fitted_parts(step, routes, columns, seen)
            routes, columns = after(step, routes, columns), ()
        return
    yield FittedPart(model, routes)
    if hasattr(model, "transformers_"):
        for _, part, chosen in model.transformers_:
            if not isinstance(part, str):
                yield from _fitted_parts(part, [routes[i] for i in _positions(chosen, columns, len(routes))], (), seen)
        return
    if frame_steps.is_frame_step(model):  # what is inside sees other values, but for one that is wrapped
        inner = frame_steps.wrapped(model)
        if inner is not None:
            yield from _fitted_parts(inner[0], [routes[i] for i in inner[1] if i < len(routes)], (), seen)
        return
    if getattr(model, "_preprocessor", None) is not None:  # histogram boosting puts its categories first
        yield from _fitted_parts(model._preprocessor, routes, columns, seen)
        routes, columns = after(model._preprocessor, routes, columns), ()
    subsets = getattr(model, "estimators_features_", None)
    for number, child in enumerate(children(model)):
        # A bag's part sees some of the features; any other part that takes as many sees the same.
        if subsets is not None and number < len(subsets):
            chosen = [routes[i] if i < len(routes) else None for i in subsets[number]]  # none behind an encoder
            yield from _fitted_parts(child, chosen, (), seen)
        elif getattr(child, "n_features_in_", len(routes)) == len(routes):
            yield from _fitted_parts(child, routes, columns, seen)


def children(model: Any) -> Iterator[Any]:
    """The fitted estimators that a model keeps, a bag's own in its order first."""
    own = getattr(model, "estimators_", None)
    waiting: list[Any] = list(vars(model).values()) if hasattr(model, "__dict__") else []
    if own is not None:
        waiting = [own, *waiting]
    while waiting:
        value = waiting.pop(0)
        if isinstance(value, dict):
            waiting = [*value.values(), *waiting]
        elif isinstance(value, list | tuple):
            waiting = [*value, *waiting]
        elif type(value).__name__ == "ndarray":
            if value.dtype == object:
                waiting = [*value.ravel().tolist(), *waiting]
        elif is_part(value):
            yield value


def is_part(value: Any) -> bool:
    """Whether a value that a fitted estimator keeps is one, or a piece of one such as a calibrated classifier."""
    if isinstance(value, type):
        return False
    if hasattr(value, "get_params") or hasattr(value, "tree_") or type(value).__name__ == "TreePredictor":
        return True
    ours = type(value).__module__.startswith("sklearn.")
    return ours and (hasattr(value, "predict") or hasattr(value, "predict_proba"))


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
        elif is_part(current):
            yield current
            waiting.extend(getattr(current, "__dict__", {}).values())


def after(step: Any, routes: Routes, columns: Sequence[str] = ()) -> Routes:
    """The routes of what a transformer gives; empty where the origin of its columns is unknown."""
    if passes_on(step):
        return routes
    if isinstance(step, str):
        return ()
    if hasattr(step, "steps"):
        for _, inner in step.steps:
            routes, columns = after(inner, routes, columns), ()
        return routes
    if hasattr(step, "transformers_") and hasattr(step, "output_indices_"):
        return _after_columns(step, routes, columns)
    if frame_steps.is_frame_step(step):
        found = frame_steps.origins(step)
        return [None if place is None or place >= len(routes) else routes[place] for place in found]
    affine = _affine(step, len(routes))
    if affine is not None:
        return [
            None if route is None else Route(route.column, _chain(route.back, *pair))
            for route, pair in zip(routes, affine, strict=True)
        ]
    name = type(step).__name__
    if name == "FunctionTransformer" and _changes_nothing(step.func):
        return routes
    if name in ("SimpleImputer", "KNNImputer", "IterativeImputer"):
        indicator = getattr(step, "indicator_", None)
        return [*routes, *([None] * (0 if indicator is None else len(indicator.features_)))]
    if hasattr(step, "get_support") and len(support := step.get_support()) == len(routes):
        return [route for route, kept in zip(routes, support, strict=True) if kept]
    return ()


def passes_on(step: Any) -> bool:
    """Whether a step of a pipeline gives rows on as they are: none, 'passthrough', or a sampler.

    A sampler of imblearn's changes the rows that are trained on, and none that are predicted.
    """
    if isinstance(step, str) or step is None:
        return step != "drop"
    return hasattr(step, "fit_resample") and not hasattr(step, "transform") and not hasattr(step, "steps")


def _changes_nothing(function: Any) -> bool:
    """Whether a transformer's function is None, or the check by which histogram boosting passes its numbers on."""
    return function is None or getattr(getattr(function, "func", None), "__name__", None) == "check_array"


def _after_columns(step: Any, routes: Routes, columns: Sequence[str]) -> Routes:
    width = max((piece.stop for piece in step.output_indices_.values()), default=0)
    result: list[Route | None] = [None] * width
    for name, part, chosen in step.transformers_:
        piece = step.output_indices_.get(name)
        if piece is None or (isinstance(part, str) and part == "drop"):
            continue
        inner = after(part, [routes[i] for i in _positions(chosen, columns, len(routes))])
        if len(inner) == piece.stop - piece.start:
            result[piece] = inner
    return result


def _positions(chosen: Any, columns: Sequence[str], width: int) -> list[int]:
    """The positions of the columns that a ColumnTransformer's entry chooses: names, numbers, a mask or a slice."""
    if isinstance(chosen, slice):
        return list(range(width))[chosen] if not isinstance(chosen.start, str) else []
    listed = [chosen] if isinstance(chosen, str | int) else list(chosen)
    if listed and all(type(item).__name__ in ("bool", "bool_") for item in listed):
        return [index for index, kept in enumerate(listed) if kept]
    found = [columns.index(item) if isinstance(item, str) and item in columns else item for item in listed]
    return [int(item) for item in found if not isinstance(item, str) and int(item) < width]


def _affine(step: Any, width: int) -> list[tuple[float, float]] | None:
    """For each column the factor and the shift that undo a scaler; None for another transformer."""
    import numpy as np

    name = type(step).__name__
    ones, zeros = np.ones(width), np.zeros(width)

    def of(attribute: str, absent: Any) -> Any:
        value = getattr(step, attribute, None)
        return absent if value is None else np.asarray(value, dtype=np.float64)

    if name == "StandardScaler":
        factor, shift = of("scale_", ones), of("mean_", zeros)
    elif name == "RobustScaler":
        factor, shift = of("scale_", ones), of("center_", zeros)
    elif name == "MaxAbsScaler":
        factor, shift = of("scale_", ones), zeros
    elif name == "MinMaxScaler":
        factor = 1 / of("scale_", ones)
        shift = -of("min_", zeros) * factor
    else:
        return None
    if factor.shape != (width,) or shift.shape != (width,):
        return None
    return list(zip(factor.tolist(), shift.tolist(), strict=True))


def _chain(back: Callable[[Any], Any], factor: float, shift: float) -> Callable[[Any], Any]:
    return lambda value: back(value * factor + shift)


def _same(value: Any) -> Any:
    return value


def takes_documents(model: Any) -> bool:
    """Whether a model takes a plain list of texts, as a vectorizer does."""
    while hasattr(model, "steps"):
        model = next((step for _, step in model.steps if not passes_on(step)), None)
    if hasattr(model, "transformer_list"):  # a union gives the same to all of its parts
        parts = [part for _, part in model.transformer_list if not isinstance(part, str)]
        return bool(parts) and all(map(takes_documents, parts))
    return not hasattr(model, "n_features_in_") and hasattr(model, "build_analyzer")
