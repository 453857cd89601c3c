"""One-hot, ordinal and target encoders by lookup of the category, in the arithmetic of the rest of the model.

skl2onnx's one-hot encoder fails at run time where infrequent categories meet an unknown one; its ordinal encoder gives
another number for missing and for unknown values where that is to be NaN; its target encoder takes no float64. None of
them knows a missing text (https://github.com/onnx/sklearn-onnx/issues/980).
"""

from __future__ import annotations

from typing import Any

from converters.sklearn.recipes.columns import as_text, is_missing, lookup, split
from converters.sklearn.recipes.ops import Ops
from converters.sklearn.recipes.registry import Recipe


def one_hot_encoder(ops: Ops) -> None:
    """Per column, the row of its category in a table of what the original makes of each category."""
    blocks = [block for block in map(_gathered(ops), zip(split(ops), _one_hot_tables(ops.model), strict=True)) if block]
    ops.answer(0, blocks[0] if len(blocks) == 1 else ops.add("Concat", *blocks, axis=1))


def ordinal_encoder(ops: Ops) -> None:
    """Per column, the number of its category."""
    tables = _ordinal_tables(ops.model)
    blocks = [ops.add("Gather", table, index, axis=0) for table, index in _looked_up(ops, tables)]
    ops.answer(0, blocks[0] if len(blocks) == 1 else ops.add("Concat", *blocks, axis=1))


def target_encoder(ops: Ops) -> None:
    """Per column and class, the mean of the target that was learnt for the category; of an unknown one, the overall."""
    import numpy as np

    model = ops.model
    several = model.target_type_ == "multiclass"
    count = len(model.classes_) if several else 1
    overall = np.atleast_1d(np.asarray(model.target_mean_, dtype=float))
    tables = []
    for feature in range(len(model.categories_)):
        means = np.stack(model.encodings_[feature * count : (feature + 1) * count], axis=1)
        tables.append(np.vstack([means, overall[None, :]]))
    blocks = [ops.add("Gather", table, index, axis=0) for table, index in _looked_up(ops, tables)]
    ops.answer(0, blocks[0] if len(blocks) == 1 else ops.add("Concat", *blocks, axis=1))


def _looked_up(ops: Ops, tables: list[Any]) -> list[tuple[Any, str]]:
    pairs = zip(split(ops), ops.model.categories_, tables, strict=True)
    return [(table, lookup(ops, column, list(known))) for column, known, table in pairs]


def _gathered(ops: Ops) -> Any:
    known = iter(ops.model.categories_)

    def gather(pair: tuple[Any, Any]) -> str | None:
        column, table = pair
        values = list(next(known))
        # A column of one category, which is dropped, leaves nothing.
        return ops.add("Gather", table, lookup(ops, column, values), axis=0) if table.shape[1] else None

    return gather


def _one_hot_tables(model: Any) -> list[Any]:
    """For each column the encoding of each of its categories and, last, of an unknown one."""
    import numpy as np

    tables = []
    for feature, known in enumerate(model.categories_):
        infrequent = _infrequent(model, feature)
        group = _groups(model, feature, len(known))
        width = int(group.max()) + 1
        table = np.zeros((len(known) + 1, width))
        table[np.arange(len(known)), group] = 1.0
        if model.handle_unknown in ("infrequent_if_exist", "warn") and infrequent is not None:
            table[-1, width - 1] = 1.0
        # ``_drop_idx_after_grouping`` counts the infrequent categories as one, as the table's columns do.
        drop = None if model.drop_idx_ is None else model._drop_idx_after_grouping[feature]
        tables.append(table if drop is None else np.delete(table, int(drop), axis=1))
    return tables


def _ordinal_tables(model: Any) -> list[Any]:
    import numpy as np

    tables = []
    for feature, known in enumerate(model.categories_):
        missing = [is_missing(value) for value in known]
        table = np.append(_groups(model, feature, len(known)).astype(float), np.nan)
        for index in np.flatnonzero(missing):
            table[index] = model.encoded_missing_value
        if model.handle_unknown == "use_encoded_value":
            table[-1] = model.unknown_value
        tables.append(table[:, None])
    return tables


def _groups(model: Any, feature: int, count: int) -> Any:
    """For each category its number after the infrequent ones have become one, the last."""
    import numpy as np

    mapping = model._default_to_infrequent_mappings[feature] if getattr(model, "_infrequent_enabled", False) else None
    return np.arange(count) if mapping is None else np.asarray(mapping)


def _infrequent(model: Any, feature: int) -> Any:
    return model.infrequent_categories_[feature] if getattr(model, "_infrequent_enabled", False) else None


def _one_hot_width(model: Any) -> int:
    return sum(table.shape[1] for table in _one_hot_tables(model))


def _target_width(model: Any) -> int:
    return len(model.encodings_)


RECIPES = (
    Recipe(("sklearn.preprocessing.OneHotEncoder",), "transformer", one_hot_encoder, width=_one_hot_width),
    Recipe(
        ("sklearn.preprocessing.OrdinalEncoder",),
        "transformer",
        ordinal_encoder,
        width=lambda model: len(model.categories_),
    ),
    Recipe(("sklearn.preprocessing.TargetEncoder",), "transformer", target_encoder, width=_target_width),
)

__all__ = ["RECIPES", "as_text"]
