"""Columns of pandas categories, which LightGBM and XGBoost take as codes and whose categories they keep.

Such a model is put behind a ``ColumnTransformer`` that does what the library does to a data frame: a category becomes
its place among those of the training, anything else a missing value. So a package takes what the user's table holds.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

Categories = Mapping[int, Sequence[Any]]


def of_xgboost(booster: Any) -> Categories:
    """By column, the categories that an ``xgboost.Booster`` keeps (since 3.1).

    Empty where it does not keep all of them intact; such a model takes codes.
    """
    model = json.loads(bytes(booster.save_raw("json")))["learner"]["gradient_booster"]
    model = model.get("gbtree", model).get("model", {})
    found: dict[int, Sequence[Any]] = {}
    for column, entry in enumerate(model.get("cats", {}).get("enc", ())):
        values = entry["values"]
        if "offsets" in entry:
            if any(not 0 <= value < 128 for value in values):
                return {}  # 3.2 cuts off text that is not ASCII: it counts characters and keeps bytes
            ends, text = entry["offsets"], bytes(values)
            values = [text[start:end].decode() for start, end in itertools.pairwise(ends)]
        if values:
            found[column] = values
    return found


def of_lightgbm(booster: Any) -> Categories:
    """By column, the categories that a ``lightgbm.Booster`` keeps.

    It keeps them in the order of the categorical columns, but not which columns those are: these have a list of codes
    in its text. Empty where the two do not match.
    """
    remembered = booster.pandas_categorical or []
    noted = re.search(r"^feature_infos=(.*)$", booster.model_to_string(num_iteration=1), re.MULTILINE)
    infos = noted[1].split() if noted else []
    columns = [column for column, info in enumerate(infos) if info != "none" and not info.startswith("[")]
    if len(columns) != len(remembered):
        return {}
    found = dict(zip(columns, remembered, strict=True))
    fits = all(max(map(int, infos[column].split(":"))) < len(values) for column, values in found.items())
    return found if fits else {}


def in_front(model: Any, names: Sequence[str], categories: Categories) -> Any:
    """A pipeline of the codes and ``model``, which takes columns ``names`` as the user has them."""
    import numpy as np
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    rows = max(len(values) for values in categories.values())
    table: dict[str, Any] = {}
    steps: list[tuple[str, Any, list[str]]] = []
    for column, name in enumerate(names):
        values = categories.get(column)
        if values is None:
            steps.append((name, "passthrough", [name]))
            table[name] = np.zeros(rows)
            continue
        kind = object if isinstance(values[0], str) else None
        known = np.array(values, dtype=kind)
        encoder = OrdinalEncoder(categories=[known], handle_unknown="use_encoded_value", unknown_value=np.nan)
        steps.append((name, encoder, [name]))
        table[name] = np.resize(known, rows)
    coder = ColumnTransformer([(f"column {number}", *step[1:]) for number, step in enumerate(steps)])
    coder.fit(pd.DataFrame(table))
    return Pipeline([("codes", coder), ("model", model)])
