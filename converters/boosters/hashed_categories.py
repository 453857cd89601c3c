"""CatBoost's categorical columns, of which a model keeps hashes only: the texts come from the user's sample.

A value's hash is asked of the library itself. Where the sample has a value for every hash that the model compares, any
other value is one that the training did not have, and counts as such; else other values are refused. Runs inside the
sandbox only.
"""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from converters.boosters import catboost
from converters.boosters.typed_columns import TypedColumns
from converters.proof import samples
from edgepack.errors import ConversionError

SAMPLE = (
    "give a sample of rows that has every category (model register --sample-input ROWS), or encode these columns "
    "before the model, as with OneHotEncoder or TargetEncoder in a Pipeline"
)
ATTRIBUTE = "edgepack_categories"  # on the estimator, for what reads it later


@dataclass(frozen=True)
class Column:
    """A categorical column: its ``values`` as tables hold them, in the order of their codes, and their hashes.

    ``complete`` says that the model tells no other value from an unknown one.
    """

    name: str
    values: Sequence[Any]
    hashes: Sequence[int]
    complete: bool = True


def in_front_of(model: Any, sample: Path | None, notes: list[str]) -> Any:
    """A CatBoost estimator behind its categorical columns, whose values are those in the sample.

    Raises ``ConversionError`` where there is no sample, or the model combines columns in a way that has no form.
    """
    found = catboost.document(model)
    features = found["features_info"]["categorical_features"]
    names = [str(name) for name in model.feature_names_]
    if sample is None:
        raise ConversionError(
            f"of what its categorical columns ({catboost.named(features)}) hold, a CatBoost model keeps only hashes",
            hint=SAMPLE,
        )
    table = samples.read(sample)
    columns = {}
    for feature in features:
        place = int(feature["flat_feature_index"])
        columns[place] = _column(table, names, place)
    hashes = {place: column.hashes for place, column in columns.items()}
    setattr(model, ATTRIBUTE, hashes)
    catboost.read(model)  # raises for what has no form
    lacking = catboost.unknown_to(found, hashes)
    columns = {place: replace(column, complete=place not in lacking) for place, column in columns.items()}
    for column in columns.values():
        if not column.complete:
            notes.append(
                f"the sample lacks some of the categories of the column {column.name!r}, of which the model keeps only "
                "hashes: the package takes those of the sample and rejects all others"
            )
    return _behind(model, names, columns)


def _column(table: samples.Table, names: Sequence[str], place: int) -> Column:
    """The column's values in the sample."""
    if names[place] in table.names:
        cells = table.columns[table.names.index(names[place])]
    elif len(table.columns) == len(names):
        cells = table.columns[place]
    else:
        raise ConversionError(f"the sample has no column {names[place]!r}, which the model takes", hint=SAMPLE)
    if cells.dtype.kind == "f":
        kept = cells[cells == cells]  # without missing ones, which CatBoost refuses
        if (kept != kept.round()).any():
            raise ConversionError(
                f"the sample's column {names[place]!r} holds fractions, which CatBoost takes for no category",
                hint="give the rows as they were in training, with whole numbers or text there",
            )
        cells = kept.astype("int64")
    values = sorted({value for value in cells.tolist() if value is not None and value == value}, key=str)
    if not values or len({type(value) for value in values}) != 1 or isinstance(values[0], bool):
        raise ConversionError(
            f"the sample's column {names[place]!r} is neither all text nor all whole numbers",
            hint="give the rows as they were in training, with whole numbers or text there",
        )
    hashes = _hashes([str(value) for value in values])
    return Column(names[place], values, [hashes[str(value)] for value in values])


def _hashes(texts: Sequence[str]) -> Mapping[str, int]:
    """By text the hash that CatBoost has of it, from what the library writes beside a model of these texts."""
    import catboost as library
    import pandas as pd

    filled = [*texts, *(text for text in ("a", "b") if text not in texts)]
    pool = library.Pool(pd.DataFrame({"c": filled}), label=list(range(len(filled))), cat_features=["c"])
    model = library.CatBoostRegressor(iterations=1, depth=1, verbose=0, allow_writing_files=False, thread_count=1)
    model.fit(pool)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "m.py")
        model.save_model(str(file), format="python", pool=pool)
        written = file.read_bytes()
    entries = re.findall(rb'^    ("(?:[^"\\]|\\.)*"): (-?\d+),$', written, re.MULTILINE)
    found = {ast.literal_eval("b" + text.decode("latin-1")).decode(): int(number) for text, number in entries}
    if set(found) != set(filled):
        raise ConversionError("CatBoost does not write the hashes of the sample's categories", hint=SAMPLE)
    return found


class HashedColumns(TypedColumns):
    """``TypedColumns`` for CatBoost, which refuses nothing but missing values: what is not known is refused here."""

    def transform(self, x: Any) -> Any:
        """As the base; raises ``ValueError`` for another value in a column of which not all categories are known."""
        import numpy as np

        typed = super().transform(x)
        for column, values in self.categories.items():
            if column in self.coder.strict and not np.isin(typed[column].astype(object), list(values)).all():
                raise ValueError(f"a category of {column!r} is not known")
        return typed


def _behind(model: Any, names: Sequence[str], columns: Mapping[int, Column]) -> Any:
    """A pipeline of the columns' types and ``model``; in a graph a value becomes its place, an unknown one NaN."""
    import numpy as np
    import pandas as pd
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import OrdinalEncoder

    rows = max(len(column.values) for column in columns.values())
    table: dict[str, Any] = {}
    steps: list[tuple[str, Any, list[str]]] = []
    for place, name in enumerate(names):
        column = columns.get(place)
        if column is None:
            steps.append((f"column {place}", "passthrough", [name]))
            table[name] = np.zeros(rows)
            continue
        known = np.array(column.values, dtype=object if isinstance(column.values[0], str) else None)
        unknown: dict[str, Any] = {"handle_unknown": "use_encoded_value", "unknown_value": np.nan}
        steps.append(
            (f"column {place}", OrdinalEncoder(categories=[known], **(unknown if column.complete else {})), [name])
        )
        table[name] = np.resize(known, rows)
    coder = ColumnTransformer(steps)
    coder.fit(pd.DataFrame(table))
    coder.strict = {column.name for column in columns.values() if not column.complete}
    kept = {column.name: list(column.values) for column in columns.values()}
    return Pipeline([("columns", HashedColumns(coder, kept, closed=True)), ("model", model)])
