"""CatBoost's statistics of categorical columns ("online CTRs"), which a model keeps as tables of hashes.

A statistic is of one column, or of several at once: categories, whether a number is above a border, whether a category
is a certain one. As in catboost/libs/model/static_ctr_provider.cpp, ctr_provider.h and online_ctr.h at 1.2.10; counted
in float32.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from converters.boosters.boosted import Lookup, Part
from edgepack.errors import ConversionError

LARGEST = 1 << 16  # categories, or combinations of them, of one statistic
_MULTIPLIER, _MASK = 0x4906BA494954CB65, (1 << 64) - 1
_EMPTY = _MASK  # of a place in a table that holds nothing
_OF_TOTALS = ("Counter", "FeatureFreq")
_OF_MEANS = ("BinarizedTargetMeanValue", "FloatTargetMeanValue")

Hashes = Mapping[int, Sequence[int]]


@dataclass(frozen=True, eq=False)
class Counter:
    """A statistic: a number for each combination of what its ``elements`` hold, as the JSON has them."""

    elements: Sequence[Mapping[str, Any]]
    kind: str
    table: Mapping[int, Sequence[float]]
    denominator: float
    numerator_prior: float
    denominator_prior: float
    shift: float
    scale: float
    target: int

    def value(self, combination: int | None) -> float:
        """What the trees compare of a combination's hash; None is one that the training did not have."""
        import numpy as np

        counts = () if combination is None else self.table.get(combination, ())
        if self.kind in _OF_TOTALS:
            good, total = (counts[0] if counts else 0), self.denominator
        elif not counts:
            good, total = 0, 0
        elif self.kind in _OF_MEANS:
            good, total = counts
        else:
            above = counts[self.target + 1 :] if self.kind == "Borders" else counts[self.target : self.target + 1]
            good, total = sum(above), sum(counts)
        single = np.float32
        share = (single(good) + single(self.numerator_prior)) / (single(total) + single(self.denominator_prior))
        return float((share + single(self.shift)) * single(self.scale))


def of(found: Mapping[str, Any]) -> dict[int, Counter]:
    """The statistics in a model's JSON, by the numbers of the splits that compare them."""
    information = found["features_info"]
    number = sum(len(entry.get("borders") or ()) for entry in information.get("float_features", ()))
    number += sum(len(entry.get("values") or ()) for entry in information.get("categorical_features", ()))
    counters: dict[int, Counter] = {}
    for entry in information.get("ctrs", ()):
        borders = len(entry["borders"])
        counter = _counter(entry, found["ctr_data"][entry["identifier"]])
        counters |= dict.fromkeys(range(number, number + borders), counter)
        number += borders
    return counters


def lookup(counter: Counter, found: Mapping[str, Any], hashes: Hashes) -> Lookup:
    """The statistic as a table of the codes; ``hashes`` has those of each categorical column's codes, by column.

    Raises ``ConversionError`` where it would have more than ``LARGEST`` entries.
    """
    parts = tuple(_part(element, found, hashes) for element in counter.elements)
    count = math.prod(part.size for part in parts)
    if count > LARGEST:
        raise ConversionError(
            f"CatBoost's statistics are of {count} combinations of categories, too many for a table in ONNX",
            hint="train it with max_ctr_complexity=1, or encode these columns before the model, as with TargetEncoder "
            "in a Pipeline",
        )
    values = [counter.value(combination) for combination in combinations(counter, found, hashes)]
    return Lookup(parts, (*values, counter.value(None)))


def combinations(counter: Counter, found: Mapping[str, Any], hashes: Hashes) -> Iterator[int]:
    """The hashes by which the statistic's table knows the combinations of the codes, the last element's fastest."""
    for chosen in itertools.product(*(_keys(element, found, hashes) for element in counter.elements)):
        total = 0
        for key in chosen:
            total = _MULTIPLIER * (total + _MULTIPLIER * (key & _MASK)) & _MASK
        yield total


def places(counter: Counter, found: Mapping[str, Any]) -> list[int]:
    """The categorical columns that the statistic is of."""
    return [_place(element, found) for element in counter.elements if "cat_feature_index" in element]


def _keys(element: Mapping[str, Any], found: Mapping[str, Any], hashes: Hashes) -> Sequence[int]:
    whole = element["combination_element"] == "cat_feature_value"
    return hashes[_place(element, found)] if whole else (0, 1)


def _place(element: Mapping[str, Any], found: Mapping[str, Any]) -> int:
    feature = found["features_info"]["categorical_features"][int(element["cat_feature_index"])]
    return int(feature["flat_feature_index"])


def _part(element: Mapping[str, Any], found: Mapping[str, Any], hashes: Hashes) -> Part:
    kind = element["combination_element"]
    if kind == "float_feature":
        feature = found["features_info"]["float_features"][int(element["float_feature_index"])]
        missing = feature["nan_value_treatment"] == "AsTrue"
        return Part(int(feature["flat_feature_index"]), 2, border=float(element["border"]), missing_above=missing)
    place = _place(element, found)
    if kind == "cat_feature_value":
        return Part(place, len(hashes[place]))
    value = int(element["value"])
    code = hashes[place].index(value) if value in hashes[place] else -1
    return Part(place, 2, equal=code)


def _counter(entry: Mapping[str, Any], data: Mapping[str, Any]) -> Counter:
    flat, stride = data["hash_map"], int(data["hash_stride"])
    rows = [flat[start : start + stride] for start in range(0, len(flat), stride)]
    return Counter(
        elements=entry["elements"],
        kind=str(entry["ctr_type"]),
        table={int(row[0]): [float(count) for count in row[1:]] for row in rows if int(row[0]) != _EMPTY},
        denominator=float(data.get("counter_denominator", 0)),
        numerator_prior=float(entry["prior_numerator"]),
        denominator_prior=float(entry["prior_denomerator"]),
        shift=float(entry["shift"]),
        scale=float(entry["scale"]),
        target=int(entry["target_border_idx"]),
    )
