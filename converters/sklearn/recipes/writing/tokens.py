"""Texts taken apart into tokens, and tokens as numbers, a row of them for each text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.sklearn.recipes.writing.ops import ML, Ops

PAD = "\uffff\uffff"  # no word character, and no single one: nothing that a text is cut into
UNKNOWN, REMOVED, BREAK = -1, -2, -3
INT64 = 7  # TensorProto's
# The patterns of tokens that are whole words, and of how many characters a word has at least.
WHOLE_WORDS = {
    r"(?u)\b\w\w+\b": 2,
    r"\b\w\w+\b": 2,
    r"(?u)\b\w+\b": 1,
    r"\b\w+\b": 1,
    r"(?u)\w+": 1,
    r"\w+": 1,
}


def tokenized(ops: Ops, text: str = "", **attributes: Any) -> str:
    """Tokens of each text, filled up with ``PAD``, and one more of it, so that there is always a column."""
    text = text or ops.reshape(ops.operator.inputs[0].full_name, [-1])
    tokens = ops.add(
        "Tokenizer", text, domain="com.microsoft", version=1, mark=0, mincharnum=1, pad_value=PAD, **attributes
    )
    rows = ops.add("Concat", ops.add("Shape", text), [1], axis=0)
    end = ops.add("Expand", ops.constant(np.array([[PAD]], dtype=object)), rows)
    return ops.add("Concat", tokens, end, axis=1)


def encoded(ops: Ops, tokens: str, keys: dict[str, int], unknown: int = UNKNOWN) -> str:
    return ops.add(
        "LabelEncoder",
        tokens,
        domain=ML,
        keys_strings=list(keys) or [PAD],
        values_int64s=list(keys.values()) or [unknown],
        default_int64=unknown,
    )


def without_removed(ops: Ops, ids: str) -> str:
    """The numbers of each row with those that are removed moved behind the others, which keep their order."""
    gone = ops.cast(ops.add("Equal", ids, np.array(REMOVED)), INT64)
    place = ops.add("CumSum", ops.add("Add", ops.add("Mul", gone, 0), np.array(1)), np.array(1))
    count = ops.add("Shape", ids, start=1, end=2)
    key = ops.add("Add", place, ops.add("Mul", gone, ops.add("Add", count, 1)))
    _, order = ops.add_many("TopK", key, count, outputs=2, axis=1, largest=0, sorted=1)
    return ops.add("GatherElements", ids, order, axis=1)


def shifted(ops: Ops, name: str, by: int, edge: int) -> str:
    """A matrix moved by one column to the right or the left, ``edge`` where nothing comes from."""
    filled = ops.add("Pad", name, [0, 1, 0, 0] if by > 0 else [0, 0, 0, 1], np.array(edge, dtype=np.int64))
    start, end = (0, -1) if by > 0 else (1, np.iinfo(np.int64).max)
    return ops.add("Slice", filled, [start], [end], [1])


def interleaved(ops: Ops, names: Sequence[str]) -> str:
    """Several matrices of one shape, of each place one value after the other."""
    stacked = ops.add("Concat", *(ops.add("Unsqueeze", name, [2]) for name in names), axis=2)
    return ops.reshape(stacked, [0, -1])
