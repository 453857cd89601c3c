"""One-hot, ordinal and target encoders by lookup of the category, in the arithmetic of the rest of the model.

skl2onnx's one-hot encoder fails at run time where infrequent categories meet an unknown one; its ordinal encoder gives
another number for missing and for unknown values where that is to be NaN; its target encoder takes no float64. None of
them supports a missing text (https://github.com/onnx/sklearn-onnx/issues/980).
"""

from __future__ import annotations

from typing import Any

from converters.sklearn.recipes.writing.columns import is_missing, lookup, split
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe


def one_hot_encoder(ops: Ops) -> None:
    """Per column, the row of its category in a table of the codes."""
    _answer_from(ops, _one_hot_tables(ops.model))


def ordinal_encoder(ops: Ops) -> None:
    """Per column, the number of its category."""
    _answer_from(ops, _ordinal_tables(ops.model))


def target_encoder(ops: Ops) -> None:
    """Per column and class, the mean of the target that was learnt for the category; of an unknown one, the overall."""
    import numpy as np

    model = ops.model
    count = len(model.classes_) if model.target_type_ == "multiclass" else 1
    overall = np.atleast_1d(np.asarray(model.target_mean_, dtype=float))
    tables = []
    for feature in range(len(model.categories_)):
        means = np.stack(model.encodings_[feature * count : (feature + 1) * count], axis=1)
        tables.append(np.vstack([means, overall[None, :]]))
    _answer_from(ops, tables)


def _answer_from(ops: Ops, tables: list[Any]) -> None:
    """For each column the row of its table for its category, the last one for an unknown one."""
    blocks = [
        ops.add("Gather", table, lookup(ops, column, list(known)), axis=0)
        for column, known, table in zip(split(ops), ops.model.categories_, tables, strict=True)
        if table.shape[1]  # a single category that is dropped leaves nothing
    ]
    ops.answer(0, blocks[0] if len(blocks) == 1 else ops.add("Concat", *blocks, axis=1))


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
        drops = getattr(model, "_drop_idx_after_grouping", model.drop_idx_)
        drop = None if drops is None else drops[feature]
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
    if mapping is None:
        return np.arange(count)
    # OrdinalEncoder leaves out the missing category, always the last, which has a code of its own.
    return np.append(mapping, np.zeros(count - len(mapping), dtype=np.int64))


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
