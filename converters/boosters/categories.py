"""Columns of pandas categories, which LightGBM and XGBoost take as codes and whose categories they keep.

A model with such a booster in it is put behind a step that does what the library does to a data frame: a category
becomes its place among those of the training. So a package takes what the user's table holds. Where the
categories cannot be known the model is refused: codes would be taken for values, or values for codes.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from converters.boosters.fitted import is_fitted_booster, trained_on_categories
from converters.routes import Route, after, fitted_parts, walk
from edgepack.errors import ConversionError

Categories = Mapping[int, Sequence[Any]]
MOST_WAYS = 200
ENCODE = (
    "put an OrdinalEncoder for these columns in front of it in a Pipeline, and name them by their places "
    "(XGBoost: feature_types, LightGBM: categorical_feature)"
)
RENAME = "or train it again on categories of ASCII text"


@dataclass(frozen=True)
class Kept:
    """The categories of a booster's columns, by column, and whether it refuses any other value."""

    categories: Categories
    closed: bool


def in_front_of(model: Any) -> Any:
    """``model`` behind its columns of categories, where a booster in it was trained on such; else as it is.

    Raises ``ConversionError`` where they cannot be known, or are not columns of the model's own input.
    """
    columns: dict[int, Sequence[Any]] = {}
    closed = False
    names = _names(model)
    found = list(_boosters(model, names))
    _require_all(model, [booster for booster, _ in found])
    for booster, routes in found:
        kept = of(booster)
        closed |= kept.closed
        for feature, values in kept.categories.items():
            route = routes[feature] if feature < len(routes) else None
            if route is None or route.back(0.5) != 0.5:
                raise ConversionError(
                    f"the {type(booster).__name__} was trained on pandas categories that an earlier step makes "
                    f"(its column {feature})",
                    hint=f"train the pipeline on a table that has them, or {ENCODE}",
                )
            if list(columns.setdefault(route.column, values)) != list(values):
                raise ConversionError(
                    f"parts of the model were trained on different categories of the column {names[route.column]!r}",
                    hint=f"give the column its categories before training, or {ENCODE}",
                )
    if not columns:
        return model
    _require_codes_everywhere(model, names, columns)
    return _behind(model, names, columns, closed=closed)


def _require_all(model: Any, boosters: Sequence[Any]) -> None:
    """Refuse a model that holds a booster, trained on categories, whose columns are not known."""
    known = {
        id(booster.get_booster() if hasattr(booster, "get_booster") else getattr(booster, "booster_", None))
        for booster in boosters
    }
    for booster in trained_on_categories(model):
        if id(booster) not in known:
            raise ConversionError(
                f"a booster inside of the {type(model).__name__} was trained on pandas categories, and which of the "
                "model's columns it is given is not known",
                hint=ENCODE,
            )


def _require_codes_everywhere(model: Any, names: Sequence[str], columns: Categories) -> None:
    """Refuse a model of which another part takes such a column for itself, as it is in the table."""
    parts = list(walk(model))
    finals = [part.final_estimator_ for part in parts if hasattr(part, "final_estimator_")]
    for part in parts:
        if hasattr(part, "final_estimator_") and getattr(part, "passthrough", False):
            _refuse_as_it_is(part.final_estimator_, names[min(columns)])
    for fitted in fitted_parts(model, names):
        part = fitted.part
        if any(part is final for final in finals) or any(map(is_fitted_booster, walk(part))):
            continue
        if not hasattr(part, "n_features_in_") or hasattr(part, "transformers_") or hasattr(part, "transformer_list"):
            continue
        if list(after(part, fitted.routes)) == list(fitted.routes):
            continue  # it passes on what it is given
        taken = next((route.column for route in fitted.routes if route is not None and route.column in columns), None)
        if taken is not None:
            _refuse_as_it_is(part, names[taken])
    for column, values in columns.items():
        texts = [isinstance(value, str) for value in values]
        if any(texts) is not all(texts) or any(not isinstance(value, str | int | float) for value in values):
            _refuse_kind(names[column])
        if any(isinstance(value, bool) for value in values):
            _refuse_kind(names[column])


def _refuse_as_it_is(part: Any, name: str) -> NoReturn:
    raise ConversionError(
        f"the {type(part).__name__} takes the column {name!r} as it is, of which a booster beside it takes pandas "
        "categories",
        hint=ENCODE,
    )


def _refuse_kind(name: str) -> NoReturn:
    raise ConversionError(
        f"the categories of the column {name!r} are neither all text nor all numbers",
        hint="make text of them before training, as with astype(str).astype('category')",
    )


def of(booster: Any) -> Kept:
    """What a trained estimator of a booster keeps. Raises ``ConversionError`` where it forgot some of it."""
    if type(booster).__module__.split(".")[0] == "xgboost":
        return Kept(_of_xgboost(booster), closed=True)
    return Kept(of_lightgbm(booster.booster_) if hasattr(booster, "booster_") else {}, closed=False)


def _boosters(model: Any, names: Sequence[str]) -> Iterator[tuple[Any, Sequence[Route | None]]]:
    for fitted in fitted_parts(model, names):
        if is_fitted_booster(fitted.part):
            yield fitted.part, fitted.routes


def _names(model: Any) -> list[str]:
    """The names of the columns that a model takes; numbers where it has none."""
    names = getattr(model, "feature_names_in_", None)
    if names is None:
        count = getattr(model, "n_features_in_", None)
        names = [f"x{number}" for number in range(count if isinstance(count, int) else 0)]
    return list(map(str, names))


def _of_xgboost(estimator: Any) -> Categories:
    """By column, the categories that XGBoost keeps since 3.1; none for a model that was trained on codes.

    A data frame gives its columns names, and codes are announced by ``feature_types``.
    """
    booster = estimator.get_booster()
    types = booster.feature_types or []
    categorical = [index for index, kind in enumerate(types) if kind == "c"]
    if not categorical:
        return {}
    model = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]
    model = model.get("gbtree", model).get("model", {})
    found: dict[int, Sequence[Any]] = {}
    for column, entry in enumerate(model.get("cats", {}).get("enc", ())):
        values = entry["values"]
        if "offsets" in entry:
            if any(not 0 <= value < 128 for value in values):
                # It counts characters and keeps bytes, so that the end is cut off.
                raise ConversionError(
                    f"XGBoost does not keep categories whose text is not ASCII ({_named(booster, [column])})",
                    hint=f"{ENCODE}, {RENAME}",
                )
            ends, text = entry["offsets"], bytes(values)
            values = [text[start:end].decode() for start, end in itertools.pairwise(ends)]
        if values:
            found[column] = values
    if not found and booster.feature_names is not None and estimator.feature_types is None:
        raise ConversionError(
            f"the model was trained on pandas categories ({_named(booster, categorical)}), which XGBoost before 3.1 "
            "does not keep",
            hint=f"train it again with XGBoost 3.1 or later, or {ENCODE}",
        )
    return found


def _named(booster: Any, columns: Sequence[int]) -> str:
    names = booster.feature_names or []
    listed = [repr(names[column]) if column < len(names) else f"column {column}" for column in columns]
    return ", ".join(listed[:5]) + (", …" if len(listed) > 5 else "")


def of_lightgbm(booster: Any) -> Categories:
    """By column, the categories that a ``lightgbm.Booster`` keeps; none for a model that was trained on codes.

    It keeps them in the order of the categorical columns, but not which columns those are: these have a list of codes
    in its text, but for those that it found of no use. Raises ``ConversionError`` where that leaves a choice.
    """
    remembered = booster.pandas_categorical or []
    if not remembered:
        return {}
    noted = re.search(r"^feature_infos=(.*)$", booster.model_to_string(num_iteration=1), re.MULTILINE)
    infos = noted[1].split() if noted else []
    ways = list(itertools.islice(_matches(infos, remembered, 0, 0, {}), MOST_WAYS))
    used = [{column: values for column, values in way.items() if infos[column] != "none"} for way in ways]
    if len(ways) in (0, MOST_WAYS) or any(way != used[0] for way in used):
        raise ConversionError(
            "LightGBM does not keep which columns have which of the pandas categories that the model was trained on",
            hint="leave out columns of one category only, make ordered categories unordered (cat.as_unordered()) and "
            "every one of categorical_feature a pandas category, or "
            f"{ENCODE}",
        )
    return {column: values for column, values in ways[0].items() if all(way.get(column) == values for way in ways)}


def _matches(
    infos: Sequence[str], remembered: Sequence[Any], column: int, place: int, chosen: Categories
) -> Iterator[Categories]:
    """The ways to give the categorical columns their categories in order; a column of no use may have some or none.

    So may one of numbers whose range is that of codes: an ordered category is a number to LightGBM, its code.
    """
    if column == len(infos):
        if place == len(remembered):
            yield chosen
        return
    info = infos[column]
    number = info.startswith("[")
    codes = [] if info == "none" else _ends(info) if number else list(map(int, info.split(":")))
    if number or not codes:
        yield from _matches(infos, remembered, column + 1, place, chosen)
    are_codes = not number or all(code >= 0 and code == int(code) for code in codes)
    if are_codes and place < len(remembered) and max(codes, default=-1) < len(remembered[place]):
        yield from _matches(infos, remembered, column + 1, place + 1, {**chosen, column: remembered[place]})


def _ends(info: str) -> list[float]:
    """The least and the largest number of a column, ``[low:high]``."""
    return [float(end) for end in info.strip("[]").split(":")]


def _behind(model: Any, names: Sequence[str], categories: Categories, *, closed: bool) -> Any:
    """A pipeline of the columns' types and ``model``, which takes columns ``names`` as the user has them."""
    import numpy as np
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    from converters.boosters.typed_columns import TypedColumns

    rows = max(len(values) for values in categories.values()) + 1
    table: dict[str, Any] = {}
    steps: list[tuple[str, Any, list[str]]] = []
    for column, name in enumerate(names):
        values = categories.get(column)
        if values is None:
            steps.append((f"column {column}", "passthrough", [name]))
            table[name] = np.zeros(rows)
            continue
        text = isinstance(values[0], str)
        # In a closed column only a missing text is missing: the library refuses what else it does not know.
        known = np.array([*values, *([np.nan] if closed and text else [])], dtype=object if text else None)
        unknown: dict[str, Any] = {"handle_unknown": "use_encoded_value", "unknown_value": np.nan}
        encoder = OrdinalEncoder(categories=[known], **({} if closed else unknown))
        steps.append((f"column {column}", encoder, [name]))
        table[name] = np.resize(known, rows)
    coder = ColumnTransformer(steps)
    coder.fit(pd.DataFrame(table))
    kept = {names[column]: list(values) for column, values in categories.items()}
    return Pipeline([("columns", TypedColumns(coder, kept, closed=closed)), ("model", model)])
