"""Fitted steps that take a data frame and give one: which of its columns they change, and what they know of them.

Columns are counted from 0, as the step was given them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

# Up to here float64 holds every whole number, and up to there int64.
EXACT, LARGEST = 2**53, 2**63
LIBRARIES = ("category_encoders", "feature_engine")
# Of feature_engine: these change numbers where they leave a column its name.
_CHANGING = ("transformation", "discretisation", "scaling")


def is_frame_step(part: Any) -> bool:
    """Whether a part of a model is a fitted step of one of these libraries."""
    library = type(part).__module__.partition(".")[0]
    return library in LIBRARIES and hasattr(part, "transform") and not hasattr(part, "steps") and bool(labels(part))


def labels(part: Any) -> list[Any]:
    """The names of the columns that a step was given; whole numbers where they had none."""
    found = getattr(part, "feature_names_in_", None)
    return [] if found is None else list(found)


def known(part: Any) -> dict[int, list[Any]]:
    """By column the values that an encoder has learnt, NaN among them where it has learnt what is missing."""
    places = {label: place for place, label in enumerate(labels(part))}
    found: dict[int, dict[Any, None]] = {}
    for label, values in (*_categories(part), *_lumped(part)):
        if label in places:
            listed = found.setdefault(places[label], {})
            listed.update(dict.fromkeys(value.item() if hasattr(value, "item") else value for value in values))
    return {place: _one_missing(_whole(values)) for place, values in found.items()}


def is_missing(value: Any) -> bool:
    """Whether a learnt value means a missing one: None, NaN or pandas' NA."""
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (value != value) is True


def origins(part: Any) -> list[int | None]:
    """For every column that a step gives the column whose values it has; None where it has others."""
    names = labels(part)
    changed = {names[place] for place in known(part)} if type(part).__name__ != "RareLabelEncoder" else set()
    if type(part).__module__.split(".")[:2] in (["feature_engine", package] for package in _CHANGING):
        changed |= set(getattr(part, "variables_", ()))
    return [
        names.index(name) if name in names and name not in changed else None
        for name in list(part.get_feature_names_out())
    ]


def wrapped(part: Any) -> tuple[Any, list[int]] | None:
    """The transformer of scikit-learn that a step is around, and the columns that this is given."""
    inner = getattr(part, "transformer_", None)
    return None if inner is None else (inner, [labels(part).index(label) for label in part.variables_])


def thresholds(part: Any) -> Iterator[tuple[int, float]]:
    """Column and value of every place at which a step's answer jumps or bends: edges of bins, and caps."""
    if not is_frame_step(part):
        return
    places = {label: place for place, label in enumerate(labels(part))}
    for attribute in ("binner_dict_", "right_tail_caps_", "left_tail_caps_"):
        found = getattr(part, attribute, None)
        for label, values in found.items() if isinstance(found, Mapping) else ():
            listed = values if isinstance(values, list | tuple) else [values]
            yield from ((places[label], float(value)) for value in listed if isinstance(value, int | float))


def _whole(values: Iterable[Any]) -> list[Any]:
    """Numbers that stand as floats beside a missing one, and are too large for that, as the whole numbers they are."""
    listed = list(values)
    floats = [value for value in listed if isinstance(value, float) and value == value]
    if not any(EXACT < abs(value) < LARGEST for value in floats) or not all(value.is_integer() for value in floats):
        return listed
    return [int(value) if isinstance(value, float) and value == value else value for value in listed]


def _one_missing(values: Iterable[Any]) -> list[Any]:
    listed = list(values)
    present = [value for value in listed if not is_missing(value)]
    return [*present, float("nan")] if len(present) < len(listed) else present


def _categories(part: Any) -> Iterator[tuple[Any, Iterable[Any]]]:
    if type(part).__module__.partition(".")[0] == "feature_engine":
        found = getattr(part, "encoder_dict_", None)
        yield from found.items() if isinstance(found, dict) else ()
        return
    ordinal = getattr(part, "ordinal_encoder", None)
    mapping = getattr(part if ordinal is None else ordinal, "mapping", None)
    if isinstance(mapping, list):
        yield from ((entry["col"], entry["mapping"].index) for entry in mapping)
    elif isinstance(mapping, dict):
        yield from ((label, values.index) for label, values in mapping.items())


def _lumped(part: Any) -> Iterator[tuple[Any, Iterable[Any]]]:
    """Categories that were too few for one of their own, and became one."""
    for attribute in ("min_group_lumping_", "_min_group_categories"):
        found = getattr(part, attribute, None)
        yield from found.items() if isinstance(found, dict) else ()
