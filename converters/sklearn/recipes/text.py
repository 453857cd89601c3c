"""Word and character counts of text, without the en_US locale and with all of Unicode.

skl2onnx asks for a locale that slim images lack (https://github.com/onnx/sklearn-onnx/issues/1019) and splits words at
accents (https://github.com/onnx/sklearn-onnx/issues/1144). Here the tokens are found by Python's own word characters,
each counted by its number in the vocabulary; lower case is that of C.UTF-8, which every image with glibc has, and which
is Python's but for two letters: İ, which Python makes two characters of, and the final Σ of a Greek word.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from converters.sklearn.recipes import text_characters
from converters.sklearn.recipes.preprocessing import normalized
from converters.sklearn.recipes.writing.ops import Ops
from converters.sklearn.recipes.writing.registry import Recipe
from converters.sklearn.recipes.writing.tokens import (
    BREAK,
    PAD,
    REMOVED,
    UNKNOWN,
    WHOLE_WORDS,
    encoded,
    interleaved,
    shifted,
    tokenized,
    without_removed,
)
from edgepack.errors import ConversionError

_SPACE = -4
_DOTTED, _DOT = "\u0130", "\u0307"  # İ, and what Python's lower case puts behind its i
_LARGEST = 0x10FFFF


def count_vectorizer(ops: Ops) -> None:
    """How often each term of the vocabulary occurs."""
    ops.answer(0, _counts(ops))


def tfidf_vectorizer(ops: Ops) -> None:
    """The counts, weighted by how rare each term is and scaled to a common length."""
    ops.answer(0, _weighted(ops, _counts(ops)))


def tfidf_transformer(ops: Ops) -> None:
    """Counts, weighted so; skl2onnx's answers NaN for a row without any."""
    ops.answer(0, _weighted(ops, ops.matrix()))


def _weighted(ops: Ops, counts: str) -> str:
    model = ops.model
    if model.sublinear_tf:
        some = ops.add("Greater", counts, 0.0)
        logarithm = ops.add("Add", ops.add("Log", ops.add("Where", some, counts, 1.0)), 1.0)
        counts = ops.add("Where", some, logarithm, 0.0)
    if model.use_idf:
        counts = ops.add("Mul", counts, np.asarray(model.idf_, dtype=float)[None, :])
    return counts if model.norm is None else normalized(ops, counts, model.norm)


def _counts(ops: Ops) -> str:
    model = ops.model
    require_plain(model)
    terms = sorted(model.vocabulary_, key=model.vocabulary_.get)
    if model.analyzer == "word" and (model.strip_accents is not None or model.token_pattern not in WHOLE_WORDS):
        return _of_characters(ops, [tuple(term.split(" ")) for term in terms])
    if model.analyzer == "word":
        parts = [tuple(term.split(" ")) for term in terms]
        numbers = _numbers(parts)
        stop = model.get_stop_words() or ()
        if model.lowercase:
            _require_no_sigma(model, [*numbers, *stop])
        tokens = words_as_found(ops, model)
        ids = encoded(ops, tokens, {**numbers, **dict.fromkeys(stop, REMOVED)})
        if stop and model.ngram_range[1] > 1:
            ids = without_removed(ops, ids)
    else:
        parts = [tuple(term) for term in terms]
        numbers = _numbers(parts)
        ids = _characters(ops, model, numbers)
    low, high = model.ngram_range
    allowed = range(1 if model.analyzer == "char_wb" else low, high + 1)
    counts = _pooled(ops, ids, [[numbers[part] for part in term] for term in parts], allowed)
    return ops.add("Min", counts, 1.0) if model.binary else counts


def _of_characters(ops: Ops, terms: list[tuple[str, ...]]) -> str:
    """The counts of words that are found character by character."""
    model = ops.model
    words = text_characters.words_of(model.token_pattern)
    if words is None:
        raise ConversionError(
            f"{type(model).__name__}(token_pattern={model.token_pattern!r}) is not converted",
            hint=r"use the default token_pattern, r'(?u)\b\w+\b', or a run of one class such as r'[a-z]+'",
        )
    stop = set(model.get_stop_words() or ())
    low, high = model.ngram_range
    if stop and high > 1:
        raise ConversionError(
            f"{type(model).__name__} with stop_words, n-grams and such tokens is not converted",
            hint="use it without stop_words, with ngram_range=(1, 1), or with the default token_pattern and no "
            "strip_accents",
        )
    if model.lowercase and model.strip_accents != "ascii":
        _require_no_sigma(model, [word for term in terms for word in term])
    ids, known = text_characters.encoded_words(ops, model, words, terms)
    never = BREAK - 2  # a term that no text can have
    known = [
        found if low <= len(term) <= high and not stop & {" ".join(term)} else [never - place]
        for place, (term, found) in enumerate(zip(terms, known, strict=True))
    ]
    counts = _pooled(ops, ids, known, range(1, max(map(len, known)) + 1))
    return ops.add("Min", counts, 1.0) if model.binary else counts


def is_plain_pattern(pattern: str) -> bool:
    """Whether tokens are whole words, as ``words_as_found`` finds them."""
    return pattern in WHOLE_WORDS


def words_as_found(ops: Ops, model: Any) -> str:
    """The words of each text, filled up to the longest text's number of them; shape (rows, words).

    In lower case where the model has them so, but for a Greek capital sigma, which becomes a small one anywhere.
    """
    shortest = WHOLE_WORDS.get(model.token_pattern)
    if shortest is None:
        raise ConversionError(
            f"{type(model).__name__}(token_pattern={model.token_pattern!r}) is not converted",
            hint=r"use the default token_pattern or r'(?u)\b\w+\b'",
        )
    word = _word_characters(_DOTTED) if model.lowercase else _word_characters("")
    least = f"{word}{{2,}}" if shortest == 2 else f"{word}+"
    # In lower case İ is an i and a dot above, which is not a word character: it ends a word.
    before = "+" if shortest == 2 else "*"
    pattern = f"{word}{before}{_DOTTED}|{least}" if model.lowercase else least
    tokens = tokenized(ops, tokenexp=pattern)
    if not model.lowercase:
        return tokens
    flat = ops.add(
        "StringNormalizer",
        ops.reshape(tokens, [-1]),
        case_change_action="LOWER",
        is_case_sensitive=1,
        locale="C.UTF-8",
    )
    return ops.add("Reshape", flat, ops.add("Shape", tokens))


def _characters(ops: Ops, model: Any, numbers: dict[str, int]) -> str:
    """The characters of each text as numbers, white space as the analyzer has it; shape (rows, characters)."""
    tokens = tokenized(ops, separators=[""])
    keys = dict(numbers)
    dot = numbers.get(_DOT, UNKNOWN)
    if model.lowercase:
        _require_no_sigma(model, list(numbers))
        keys = {}
        for upper in _characters_lowered():
            if upper.lower() in numbers:
                keys[upper] = numbers[upper.lower()]
        keys.update({key: number for key, number in numbers.items() if key.lower() == key})
        keys[_DOTTED] = numbers.get("i", UNKNOWN)
    spaces = [chr(code) for code in range(0x3001) if re.fullmatch(r"\s", chr(code))]
    around = model.analyzer == "char_wb"
    ids = encoded(ops, tokens, keys)
    blank = encoded(ops, tokens, dict.fromkeys([*spaces, *([PAD] if around else [])], 1), unknown=0)
    second = encoded(ops, tokens, {_DOTTED: dot} if model.lowercase else {PAD: REMOVED}, unknown=REMOVED)
    if around:
        # White space before the first and behind the last character, as words have it.
        ids, blank, second = (
            ops.add("Pad", name, [0, 1, 0, 1], np.array(value, dtype=np.int64))
            for name, value in ((ids, UNKNOWN), (blank, 1), (second, REMOVED))
        )
    # Beyond a text's ends is nothing to collapse for the one analyzer, and white space for the other.
    before, after = (shifted(ops, blank, by, int(around)) for by in (1, -1))
    is_blank, had, has = (ops.cast(name, _BOOL) for name in (blank, before, after))
    if not around:
        space = np.array(numbers.get(" ", UNKNOWN), dtype=np.int64)
        run = ops.add("And", is_blank, ops.add("Or", had, has))
        first = ops.add("Where", run, space, ids)
        first = ops.add("Where", ops.add("And", is_blank, had), np.array(REMOVED), first)
        return without_removed(ops, interleaved(ops, [first, second]))
    # A word is between two spaces of its own: what is white becomes the end of one and the start of another.
    space = np.array(numbers.get(" ", UNKNOWN), dtype=np.int64)
    first = ops.add("Where", is_blank, ops.add("Where", had, np.array(REMOVED), space), ids)
    middle = ops.add("Where", is_blank, np.array(BREAK), second)
    last = ops.add("Where", ops.add("Or", has, ops.add("Not", is_blank)), np.array(REMOVED), space)
    return without_removed(ops, interleaved(ops, [first, middle, last]))


def _pooled(ops: Ops, ids: str, terms: list[list[int]], allowed: range) -> str:
    """How often each term, a list of numbers, occurs in a row of them; of ``dtype``, shape (rows, terms)."""
    longest = max(len(term) for term in terms)
    never = _SPACE - 1  # a term of a length that is not counted: no number of a token
    pools: list[list[int]] = [[] for _ in range(longest)]
    indexes: list[list[int]] = [[] for _ in range(longest)]
    for index, term in enumerate(terms):
        pools[len(term) - 1] += term if len(term) in allowed else [never - index] * len(term)
        indexes[len(term) - 1].append(index)
    starts = np.cumsum([0, *(len(pool) for pool in pools)])[:-1]
    least = next(size for size, pool in enumerate(pools, 1) if pool)
    counts = ops.add(
        "TfIdfVectorizer",
        ids,
        mode="TF",
        min_gram_length=least,
        max_gram_length=longest,
        max_skip_count=0,
        ngram_counts=starts.tolist(),
        ngram_indexes=[index for group in indexes for index in group],
        pool_int64s=[number for pool in pools for number in pool],
    )
    return ops.cast(counts)


def _numbers(parts: Sequence[Sequence[str]]) -> dict[str, int]:
    """A number for each token of the vocabulary."""
    tokens = dict.fromkeys(token for term in parts for token in term)
    return {token: number for number, token in enumerate(tokens)}


@functools.cache
def _word_characters(without: str) -> str:
    """Python's word characters but for some, as a class of a regular expression."""
    every = "".join(map(chr, (*range(0xD800), *range(0xE000, _LARGEST + 1))))
    ranges = []
    for found in re.finditer(r"\w+", every.replace(without, " ") if without else every):
        first, last = ord(found[0][0]), ord(found[0][-1])
        ranges.append(f"\\x{{{first:x}}}-\\x{{{last:x}}}")
    return f"[{''.join(ranges)}]"


@functools.cache
def _characters_lowered() -> tuple[str, ...]:
    """The characters that lower case changes."""
    codes = (*range(0xD800), *range(0xE000, _LARGEST + 1))
    return tuple(character for character in map(chr, codes) if character.lower() != character)


def require_plain(model: Any) -> None:
    """Raise ``ConversionError`` for what runs Python code or has no form in ONNX."""
    kind = type(model).__name__
    for name in ("preprocessor", "tokenizer"):
        if getattr(model, name) is not None and not (name == "tokenizer" and model.analyzer != "word"):
            raise ConversionError(
                f"{kind} has a {name} of its own, Python code that cannot be put in an ONNX model",
                hint="use the built-in one, or do this step before the model",
            )
    if model.analyzer not in ("word", "char", "char_wb"):
        raise ConversionError(
            f"{kind} has an analyzer of its own, Python code that cannot be put in an ONNX model",
            hint="use analyzer='word', 'char' or 'char_wb'",
        )
    if callable(model.strip_accents) or (model.strip_accents is not None and model.analyzer != "word"):
        raise ConversionError(
            f"{kind}(strip_accents={model.strip_accents!r}) is converted for words only, by 'ascii' or 'unicode'",
            hint="use analyzer='word' with one of these, or strip the accents before the model",
        )


def _require_no_sigma(model: Any, known: Sequence[str]) -> None:
    if any("σ" in token or "ς" in token for token in known):
        raise ConversionError(
            f"{type(model).__name__}(lowercase=True) has learnt Greek words, whose final sigma ONNX does not lower",
            hint="lower the text before the model, and train with lowercase=False",
        )


_INT64, _BOOL = 7, 9  # TensorProto's

_MODULE = "sklearn.feature_extraction.text."

RECIPES = (
    Recipe(
        (_MODULE + "CountVectorizer",),
        "transformer",
        count_vectorizer,
        width=lambda model: len(model.vocabulary_),
    ),
    Recipe(
        (_MODULE + "TfidfVectorizer",),
        "transformer",
        tfidf_vectorizer,
        width=lambda model: len(model.vocabulary_),
    ),
    Recipe(
        (_MODULE + "TfidfTransformer",),
        "transformer",
        tfidf_transformer,
        width=lambda model: getattr(model, "n_features_in_", None),
    ),
)
