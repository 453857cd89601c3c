"""feature_engine's steps of numbers: imputers, transformers, bins, caps, new and dropped columns.

Most of them refuse missing and infinite numbers, and some further ones; the graph then fails.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from converters.companions import frame_steps
from converters.sklearn.recipes.writing import arithmetic
from converters.sklearn.recipes.writing.frame_plans import (
    Change,
    Columns,
    Given,
    Kinds,
    Plan,
    changed,
    faulty,
    finite,
    is_missing_text,
    number,
    of_column,
)
from converters.sklearn.recipes.writing.ops import Ops
from edgepack.errors import ConversionError

# Imputers


def _imputer(part: Any, kinds: Kinds) -> Plan:
    columns = []
    for place, label in enumerate(frame_steps.labels(part)):
        if label not in part.imputer_dict_ or kinds[place] == "whole":  # nothing is missing among whole numbers
            columns.append(Given(place))
        elif kinds[place] == "text":
            columns.append(_filled_text(part, place, part.imputer_dict_[label]))
        else:
            columns.append(_filled(part, place, part.imputer_dict_[label]))
    return Plan(columns)


def _filled(part: Any, place: int, value: Any) -> Given:
    if isinstance(value, str):
        raise ConversionError(
            f"{type(part).__name__} fills in text where the column holds numbers here",
            hint="give a sample whose columns hold what the model was trained on, or fill numbers with a number",
        )
    return of_column(lambda ops, x: ops.add("Where", ops.add("IsNaN", x), float(value), x), place)


def _filled_text(part: Any, place: int, value: Any) -> Given:
    import numpy as np

    if not isinstance(value, str):
        raise ConversionError(
            f"{type(part).__name__} fills in a number where the column holds text here",
            hint="give a sample whose columns hold what the model was trained on, or fill text with text",
        )
    fill = np.array([[value]], dtype=object)
    return Given(
        text=True,
        write=lambda ops, columns: ops.add(
            "Where", is_missing_text(ops, columns[place]), ops.constant(fill), columns[place].name
        ),
    )


def _missing_indicator(part: Any, kinds: Kinds) -> Plan:
    names = frame_steps.labels(part)

    def flag(place: int) -> Given:
        def write(ops: Ops, columns: Columns) -> str:
            if kinds[place] == "text":
                return ops.cast(is_missing_text(ops, columns[place]))
            return ops.cast(ops.add("IsNaN", number(ops, columns, place)))

        return Given(write=write)

    return Plan([*map(Given, range(len(names))), *(flag(names.index(label)) for label in part.variables_)])


# Transformers of numbers


def _logarithm(base: Any) -> Change:
    if str(base) == "10":
        return lambda ops, x: ops.add("Div", ops.add("Log", x), math.log(10.0))
    return lambda ops, x: ops.add("Log", x)


def _log(part: Any, kinds: Kinds) -> Plan:
    return _log_of(part, kinds, dict.fromkeys(part.variables_, 0.0))


def _log_of_sum(part: Any, kinds: Kinds) -> Plan:
    added = part.C_
    return _log_of(
        part,
        kinds,
        {
            label: float(added[label] if isinstance(added, Mapping) or hasattr(added, "index") else added)
            for label in part.variables_
        },
    )


def _log_of(part: Any, kinds: Kinds, added: Mapping[Any, float]) -> Plan:
    logarithm = _logarithm(part.base)

    def change(constant: float) -> Change:
        return lambda ops, x: logarithm(ops, ops.add("Add", x, constant) if constant else x)

    def wrong(constant: float) -> Change:
        return lambda ops, x: ops.add("LessOrEqual", ops.add("Add", x, constant) if constant else x, 0.0)

    faults = finite(part, list(added), kinds)
    for label, constant in added.items():
        faults += faulty(part, [label], wrong(constant))
    return Plan(changed(part, kinds, {label: change(constant) for label, constant in added.items()}), faults)


def _everywhere(change: Change, wrong: Change | None = None) -> Callable[[Any, Kinds], Plan]:
    """A plan of one change of all the step's variables, which have to be finite."""

    def plan(part: Any, kinds: Kinds) -> Plan:
        faults = finite(part, part.variables_, kinds)
        faults += [] if wrong is None else faulty(part, part.variables_, wrong)
        return Plan(changed(part, kinds, dict.fromkeys(part.variables_, change)), faults)

    return plan


def _power(part: Any, kinds: Kinds) -> Plan:
    exponent = float(part.exp)
    return _everywhere(lambda ops, x: ops.add("Pow", x, exponent))(part, kinds)


def _inverse_hyperbolic_sine(part: Any, kinds: Kinds) -> Plan:
    from converters.sklearn.recipes.writing.functions import FUNCTIONS

    sine, loc, scale = FUNCTIONS["arcsinh"], float(part.loc), float(part.scale)
    return _everywhere(lambda ops, x: sine(ops, ops.add("Div", ops.add("Sub", x, loc), scale)))(part, kinds)


def _box_cox(part: Any, kinds: Kinds) -> Plan:
    changes = {label: _box_cox_of(float(power)) for label, power in part.lambda_dict_.items()}
    faults = finite(part, part.variables_, kinds)
    faults += faulty(part, part.variables_, lambda ops, x: ops.add("LessOrEqual", x, 0.0))
    return Plan(changed(part, kinds, changes), faults)


def _box_cox_of(power: float) -> Change:
    def change(ops: Ops, x: str) -> str:
        logarithm = ops.add("Log", x)
        if abs(power) < 1e-19:
            return logarithm
        return ops.add("Div", arithmetic.expm1(ops, ops.add("Mul", logarithm, power)), power)

    return change


def _yeo_johnson(part: Any, kinds: Kinds) -> Plan:
    changes = {label: _yeo_johnson_of(float(power)) for label, power in part.lambda_dict_.items()}
    return Plan(changed(part, kinds, changes), finite(part, part.variables_, kinds))


def _yeo_johnson_of(power: float) -> Change:
    def powered(ops: Ops, logarithm: str, exponent: float) -> str:
        if abs(exponent) < 2.220446049250313e-16:
            return logarithm
        return ops.add("Div", arithmetic.expm1(ops, ops.add("Mul", logarithm, exponent)), exponent)

    def change(ops: Ops, x: str) -> str:
        # Each branch is worked out on its own side of zero, so that neither makes NaN of the other's numbers.
        above = powered(ops, arithmetic.log1p(ops, ops.add("Max", x, 0.0)), power)
        low = ops.add("Neg", ops.add("Min", x, 0.0))
        below = ops.add("Neg", powered(ops, arithmetic.log1p(ops, low), 2.0 - power))
        return ops.add("Where", ops.add("GreaterOrEqual", x, 0.0), above, below)

    return change


def _mean_normalization(part: Any, kinds: Kinds) -> Plan:
    def change(mean: float, spread: float) -> Change:
        return lambda ops, x: ops.add("Div", ops.add("Sub", x, mean), spread)

    changes = {label: change(float(part.mean_[label]), float(part.range_[label])) for label in part.variables_}
    return Plan(changed(part, kinds, changes), finite(part, part.variables_, kinds))


# Bins and caps


def _bins(part: Any, kinds: Kinds) -> Plan:
    import numpy as np

    if getattr(part, "bin_output", "") == "prediction":
        return _leaves(part, kinds)
    if getattr(part, "return_boundaries", False) or getattr(part, "bin_output", "") == "boundaries":
        raise ConversionError(
            f"{type(part).__name__} is converted only where it gives the numbers of bins",
            hint="train it with return_boundaries=False, or bin_output='bin_number'",
        )

    def change(edges: Any) -> Change:
        def of(ops: Ops, x: str) -> str:
            below = ops.reshape(arithmetic.count_at_most(ops, x, edges, strictly=True), [-1, 1])
            place = ops.add("Sub", ops.cast(below), 1.0)
            # The first bin has its lower edge too.
            place = ops.add("Where", ops.add("Equal", x, float(edges[0])), 0.0, place)
            outside = ops.add("Or", ops.add("Less", x, float(edges[0])), ops.add("Greater", x, float(edges[-1])))
            return ops.add("Where", outside, math.nan, place)

        return of

    bins = {label: np.asarray(edges, dtype=np.float64) for label, edges in part.binner_dict_.items()}
    faults = finite(part, part.variables_, kinds)
    if getattr(part, "errors", "ignore") == "raise":
        for label, edges in bins.items():
            faults += faulty(part, [label], _outside(float(edges[0]), float(edges[-1])))
    return Plan(changed(part, kinds, {label: change(edges) for label, edges in bins.items()}), faults)


def _leaves(part: Any, kinds: Kinds) -> Plan:
    """What a tree of one column predicts: found by asking it in every interval between its thresholds."""
    import numpy as np

    def change(thresholds: Any, values: Any) -> Change:
        def of(ops: Ops, x: str) -> str:
            # A tree compares what float32 holds of a number.
            read = ops.cast(ops.cast(x, _FLOAT), _DOUBLE)
            bounds = ops.constant(thresholds[None, :], np.float64)
            below = ops.sum(ops.cast(ops.add("Less", bounds, read), _INT64), 1)
            return ops.reshape(ops.add("Gather", values, below), [-1, 1])

        return of

    changes = {}
    for label, search in part.binner_dict_.items():
        tree = search.best_estimator_.tree_
        thresholds = np.unique(tree.threshold[tree.feature >= 0])
        inside = [float(_below(threshold)) for threshold in thresholds]
        rows = [
            *inside,
            float(np.nextafter(np.float32(thresholds[-1]), np.float32(np.inf))) if len(thresholds) else 0.0,
        ]
        changes[label] = change(thresholds, np.array(_predicted(part, label, rows), dtype=np.float64))
    return Plan(changed(part, kinds, changes), finite(part, part.variables_, kinds))


def _below(threshold: float) -> Any:
    """The largest value of float32 that is at most ``threshold``."""
    import numpy as np

    found = np.float32(threshold)
    return found if float(found) <= threshold else np.nextafter(found, np.float32(-np.inf))


def _predicted(part: Any, label: Any, rows: Sequence[float]) -> list[float]:
    import pandas as pd  # type: ignore[import-untyped, unused-ignore]

    table = {name: [1.0] * len(rows) for name in frame_steps.labels(part)}
    answer = part.transform(pd.DataFrame({**table, label: list(rows)}))
    return [float(value) for value in answer[label]]


def _outside(low: float, high: float) -> Change:
    return lambda ops, x: ops.add("Or", ops.add("Less", x, low), ops.add("Greater", x, high))


def _caps(part: Any, kinds: Kinds) -> Plan:
    low, high = part.left_tail_caps_, part.right_tail_caps_

    def change(label: Any) -> Change:
        def of(ops: Ops, x: str) -> str:
            if label in high:
                x = ops.add("Where", ops.add("Greater", x, float(high[label])), float(high[label]), x)
            if label in low:
                x = ops.add("Where", ops.add("Less", x, float(low[label])), float(low[label]), x)
            return x

        return of

    capped = [label for label in frame_steps.labels(part) if label in low or label in high]
    columns = changed(part, kinds, {label: change(label) for label in capped})
    for label in part.variables_ if getattr(part, "add_indicators", False) else ():
        place = frame_steps.labels(part).index(label)
        for tail, operator in (("left", "Greater"), ("right", "Less")):
            if part.tail in (tail, "both"):
                columns.append(of_column(_indicator(change(label), operator), place))
    checked = finite(part, part.variables_, kinds) if part.missing_values == "raise" else []
    return Plan(columns, checked)


def _indicator(change: Change, operator: str) -> Change:
    return lambda ops, x: ops.cast(ops.add(operator, change(ops, x), x))


def _zero(ops: Ops, x: str) -> str:
    return ops.add("Equal", x, 0.0)


_FLOAT, _INT64, _DOUBLE = 1, 7, 11  # TensorProto's

PLANS: dict[str, Callable[[Any, Kinds], Plan]] = {
    **{
        f"feature_engine.imputation.{name}": _imputer
        for name in ("ArbitraryNumberImputer", "CategoricalImputer", "EndTailImputer", "MeanMedianImputer")
    },
    "feature_engine.imputation.AddMissingIndicator": _missing_indicator,
    "feature_engine.transformation.ArcSinhTransformer": _inverse_hyperbolic_sine,
    "feature_engine.transformation.BoxCoxTransformer": _box_cox,
    "feature_engine.transformation.LogCpTransformer": _log_of_sum,
    "feature_engine.transformation.LogTransformer": _log,
    "feature_engine.transformation.PowerTransformer": _power,
    "feature_engine.transformation.ReciprocalTransformer": _everywhere(
        lambda ops, x: ops.add("Reciprocal", x), _zero
    ),
    "feature_engine.transformation.YeoJohnsonTransformer": _yeo_johnson,
    "feature_engine.scaling.MeanNormalizationScaler": _mean_normalization,
    **{
        f"feature_engine.discretisation.{name}": _bins
        for name in (
            "ArbitraryDiscretiser", "DecisionTreeDiscretiser", "EqualFrequencyDiscretiser", "EqualWidthDiscretiser",
            "GeometricWidthDiscretiser",
        )
    },
    "feature_engine.outliers.ArbitraryOutlierCapper": _caps,
    "feature_engine.outliers.Winsorizer": _caps,
}  # fmt: skip
