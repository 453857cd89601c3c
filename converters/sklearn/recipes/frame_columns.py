"""feature_engine's steps that make columns of others, or drop some."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from converters.companions import frame_steps
from converters.sklearn.recipes.writing.frame_plans import (
    Change,
    Columns,
    Given,
    Kinds,
    Plan,
    faulty,
    finite,
    number,
    of_column,
)
from converters.sklearn.recipes.writing.ops import Ops
from edgepack.errors import ConversionError


def _dropped(part: Any, kinds: Kinds) -> Plan:
    return Plan(
        [Given(place) for place, label in enumerate(frame_steps.labels(part)) if label not in part.features_to_drop_]
    )


def _without(part: Any, labels: Sequence[Any]) -> list[Given]:
    gone = set(labels) if part.drop_original else set()
    return [Given(place) for place, label in enumerate(frame_steps.labels(part)) if label not in gone]


def _cycles(part: Any, kinds: Kinds) -> Plan:
    columns = _without(part, part.variables_)
    for label in part.variables_:
        factor = 2.0 * math.pi / float(part.max_values_[label])
        for operator in ("Sin", "Cos"):
            columns.append(of_column(_cycle(operator, factor), frame_steps.labels(part).index(label)))
    return Plan(columns, finite(part, part.variables_, kinds))


def _cycle(operator: str, factor: float) -> Change:
    return lambda ops, x: ops.add(operator, ops.add("Mul", x, factor))


_SUMMARIES: dict[str, Callable[[Ops, str, int], str]] = {
    "sum": lambda ops, x, count: ops.sum(x, 1, keepdims=True),
    "mean": lambda ops, x, count: ops.add("Div", ops.sum(x, 1, keepdims=True), float(count)),
    "min": lambda ops, x, count: ops.add("ReduceMin", x, [1], keepdims=1),
    "max": lambda ops, x, count: ops.add("ReduceMax", x, [1], keepdims=1),
    "prod": lambda ops, x, count: _product(ops, x, count),
    "var": lambda ops, x, count: _variance(ops, x, count),
    "std": lambda ops, x, count: ops.add("Sqrt", _variance(ops, x, count)),
}


def _product(ops: Ops, x: str, count: int) -> str:
    result = ops.columns(x, [0])
    for place in range(1, count):
        result = ops.add("Mul", result, ops.columns(x, [place]))
    return result


def _variance(ops: Ops, x: str, count: int) -> str:
    mean = ops.add("Div", ops.sum(x, 1, keepdims=True), float(count))
    off = ops.add("Sub", x, mean)
    return ops.add("Div", ops.sum(ops.add("Mul", off, off), 1, keepdims=True), float(count - 1))


def _summaries(part: Any, kinds: Kinds) -> Plan:
    wanted = [part.func] if isinstance(part.func, str) or callable(part.func) else list(part.func)
    unknown = [function for function in wanted if function not in _SUMMARIES]
    if unknown or part.missing_values != "raise":
        raise ConversionError(
            "MathFeatures is converted with missing_values='raise' and the functions "
            f"{', '.join(map(repr, _SUMMARIES))} only",
            hint="use these, or make the column before the model",
        )
    places = [frame_steps.labels(part).index(label) for label in part.variables]
    columns = _without(part, part.variables)
    for function in wanted:
        columns.append(_summary(_SUMMARIES[function], places))
    return Plan(columns, finite(part, part.variables_, kinds))


def _summary(function: Callable[[Ops, str, int], str], places: Sequence[int]) -> Given:
    def write(ops: Ops, columns: Columns) -> str:
        listed = [number(ops, columns, place) for place in places]
        return function(ops, ops.add("Concat", *listed, axis=1), len(listed))

    return Given(write=write)


_OPERATORS = {"add": "Add", "sub": "Sub", "mul": "Mul", "div": "Div", "truediv": "Div", "pow": "Pow"}
_DIVISIONS = ("div", "truediv")


def _relations(part: Any, kinds: Kinds) -> Plan:
    if any(function not in _OPERATORS for function in part.func):
        raise ConversionError(
            f"RelativeFeatures is converted with {', '.join(map(repr, _OPERATORS))} only",
            hint="use these, or make the column before the model",
        )
    names, fill = frame_steps.labels(part), getattr(part, "fill_value", None)
    columns = _without(part, [*part.variables, *part.reference])
    for function in part.func:
        for reference in part.reference:
            for label in part.variables:
                divided = function in _DIVISIONS and fill is not None
                columns.append(
                    _relation(
                        _OPERATORS[function], names.index(label), names.index(reference), fill if divided else None
                    )
                )
    faults = finite(part, [*part.variables_, *part.reference], kinds) if part.missing_values == "raise" else []
    if fill is None and any(function in _DIVISIONS for function in part.func):
        faults += faulty(part, part.reference, lambda ops, x: ops.add("Equal", x, 0.0))
    return Plan(columns, faults)


def _relation(operator: str, left: int, right: int, at_zero: float | None) -> Given:
    def write(ops: Ops, columns: Columns) -> str:
        other = number(ops, columns, right)
        found = ops.add(operator, number(ops, columns, left), other)
        return found if at_zero is None else ops.add("Where", ops.add("Equal", other, 0.0), float(at_zero), found)

    return Given(write=write)


_SELECTIONS = (
    "DropConstantFeatures", "DropCorrelatedFeatures", "DropDuplicateFeatures", "DropFeatures", "DropHighPSIFeatures",
    "MRMR", "ProbeFeatureSelection", "RecursiveFeatureAddition", "RecursiveFeatureElimination",
    "SelectByInformationValue", "SelectByShuffling", "SelectBySingleFeaturePerformance",
    "SelectByTargetMeanPerformance", "SmartCorrelatedSelection",
)  # fmt: skip

PLANS: dict[str, Callable[[Any, Kinds], Plan]] = {
    "feature_engine.creation.CyclicalFeatures": _cycles,
    "feature_engine.creation.MathFeatures": _summaries,
    "feature_engine.creation.RelativeFeatures": _relations,
    **{f"feature_engine.selection.{name}": _dropped for name in _SELECTIONS},
}
