"""Words of text counted by their hashes: those of HashingVectorizer, by onnxruntime's own MurmurHash3.

Both hash the UTF-8 of a word by MurmurHash3_x86_32 with seed 0. No vocabulary limits the words that matter, so that a
text with a Greek capital sigma that may end a word, where its lower case is another letter, is not answered.
"""

from __future__ import annotations

import unicodedata
from typing import Any

import numpy as np

from converters.graph import checks
from converters.sklearn.recipes.preprocessing import normalized
from converters.sklearn.recipes.text import is_plain_pattern, require_plain, words_as_found
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe
from converters.sklearn.recipes.writing.tokens import INT64, PAD, encoded, tokenized
from edgepack.errors import ConversionError

# A column for every hash, all of them written out for every row.
MOST_COLUMNS = 1 << 16
_ENOUGH = 1 << 12
_SIGMA = "\u03a3"


def hashing_vectorizer(ops: Ops) -> None:
    """How often a word falls on each column, with the sign of its hash where ``alternate_sign`` says so."""
    model = ops.model
    _require_possible(model)
    words = words_as_found(ops, model)
    if model.lowercase:
        words = _without_last_sigma(ops, words)
    gone = {PAD: 0, **dict.fromkeys(model.get_stop_words() or (), 0)}
    counted = ops.cast(encoded(ops, words, gone, unknown=1))
    column, sign = _hashed(ops, words)
    totals = ops.add("Mul", sign, counted) if model.alternate_sign and not model.binary else counted
    shape = ops.add("Concat", ops.add("Shape", words, start=0, end=1), np.array([int(model.n_features)]), axis=0)
    zeros = ops.add("Expand", np.zeros((1, 1)), shape)
    counts = ops.add("ScatterElements", zeros, column, totals, axis=1, reduction="add")
    if model.binary:  # also where signs cancel out
        counts = ops.add("Min", counts, 1.0)
    ops.answer(0, counts if model.norm is None else normalized(ops, counts, model.norm))


def _hashed(ops: Ops, terms: str) -> tuple[str, str]:
    """The column that each term falls on, and 1 or -1; of the shape of ``terms``."""
    signed = ops.add("MurmurHash3", terms, domain="com.microsoft", version=1, positive=0, seed=0)
    number = ops.cast(signed, INT64)
    column = ops.add("Mod", ops.add("Abs", number), np.array(int(ops.model.n_features)))
    sign = ops.add("Where", ops.add("Less", number, np.array(0)), -1.0, 1.0)
    return column, sign


def _without_last_sigma(ops: Ops, words: str) -> str:
    """The words again; the run fails where a text has the letter whose lower case depends on what is around it.

    Before a letter that has cases its lower case is the usual one.
    """
    tokens = tokenized(ops, tokenexp=f"{_SIGMA}(?:[^{_followers()}]|$)")
    found = ops.add("Squeeze", ops.add("Shape", tokens, start=1, end=2))
    return checks.passed(ops, words, ops.add("Greater", found, np.array(1)))  # one column is there without any


def _followers() -> str:
    """Latin and Greek letters that have cases."""
    codes = (*range(0x41, 0x250), *range(0x370, 0x400), *range(0x1F00, 0x2000))
    return "".join(f"\\x{{{code:x}}}" for code in codes if unicodedata.category(chr(code)) in ("Lu", "Ll", "Lt"))


def _require_possible(model: Any) -> None:
    """Raise ``ConversionError`` for what has no exact or no practical form."""
    require_plain(model)
    plain = model.analyzer == "word" and model.strip_accents is None and tuple(model.ngram_range) == (1, 1)
    if not plain or not is_plain_pattern(model.token_pattern):
        raise ConversionError(
            "HashingVectorizer is converted for single words only, without strip_accents and with a usual "
            "token_pattern",
            hint=r"use analyzer='word', ngram_range=(1, 1), strip_accents=None and token_pattern=r'(?u)\b\w\w+\b', or "
            "use TfidfVectorizer, whose columns are the terms of training",
        )
    if model.n_features > MOST_COLUMNS:
        raise ConversionError(
            f"HashingVectorizer(n_features={model.n_features}) is not converted: every row would be written out with "
            "so many columns",
            hint=f"train it with n_features={_ENOUGH} (at most {MOST_COLUMNS}), or use TfidfVectorizer, whose columns "
            "are the words of training",
        )


RECIPES = (
    Recipe(
        ("sklearn.feature_extraction.text.HashingVectorizer",),
        "transformer",
        hashing_vectorizer,
        width=lambda model: int(model.n_features),
    ),
)
