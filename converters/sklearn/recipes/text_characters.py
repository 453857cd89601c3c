"""Words found character by character: for accents that are stripped, and tokens that are runs of a class of characters.

Each character becomes what lower case and the stripping of accents make of it, which both look at it alone. A word is
then a run of numbers between two marks of its own, and a term of the vocabulary such runs one behind the other.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from converters.sklearn.recipes.writing import tokens
from converters.sklearn.recipes.writing.ops import Ops
from edgepack.errors import ConversionError

# A run of one class of characters, at least so many of them.
_RUN = re.compile(r"(?:\(\?u\))?(\[(?:[^\[\]\\]|\\[wdsS.\-])+\]|\\w|\\d|\\S)(?:(\+)|\{(\d+),\})")
_WORDS = {**tokens.WHOLE_WORDS, r"(?u)\b\w{2,}\b": 2, r"\b\w{2,}\b": 2}
# From here on Unicode assigns nothing but a few marks in between: all are as the first.
_FIRST_FREE, _LAST_FREE = 0x40000, 0xE1000


@dataclass(frozen=True)
class Words:
    """What a token is: a run of characters of ``kind``, a regular expression of one, of at least ``shortest``."""

    kind: str
    shortest: int


def words_of(pattern: str) -> Words | None:
    """What a ``token_pattern`` finds, where that is runs of one class of characters."""
    if pattern in _WORDS:
        return Words(r"\w", _WORDS[pattern])
    found = _RUN.fullmatch(pattern)
    return None if found is None else Words(found[1], int(found[3] or 1) or 1)


def made_of(character: str, lowercase: bool, accents: str | None) -> str:
    """What scikit-learn makes of a character before it looks for tokens."""
    text = character.lower() if lowercase else character
    if accents is None:
        return text
    parts = unicodedata.normalize("NFKD", text)
    if accents == "ascii":
        return "".join(part for part in parts if part.isascii())
    return "".join(part for part in parts if not unicodedata.combining(part))


@functools.cache
def _made(lowercase: bool, accents: str | None) -> dict[str, str]:
    codes = (*range(0xD800), *range(0xE000, _FIRST_FREE + 1), *range(0xE0000, _LAST_FREE))
    return {character: made_of(character, lowercase, accents) for character in map(chr, codes)}


def encoded_words(ops: Ops, model: Any, words: Words, terms: Sequence[Sequence[str]]) -> tuple[str, list[list[int]]]:
    """Each text as numbers of its words' characters with a mark around each word, and each term so; (rows, any)."""
    lowercase, accents = bool(model.lowercase), model.strip_accents
    learnt = sorted({part for term in terms for word in term for part in word})
    made = {**_made(lowercase, accents), **{part: made_of(part, lowercase, accents) for part in learnt}}
    # Of hundreds of thousands of characters, each regular expression is asked once, and most are not looked at again.
    inside = set(re.findall(words.kind, "".join(made.values())))
    numbers = {part: number for number, part in enumerate(learnt)}
    mark = len(numbers)

    def numbered(text: str) -> list[int]:
        return [numbers.get(part, tokens.UNKNOWN) if part in inside else tokens.BREAK for part in text]

    parting = {character for character, text in made.items() if text and inside.isdisjoint(text)}
    within_runs = [ord(character) for character in made if character not in parting]
    if chr(_FIRST_FREE) not in parting:
        within_runs += [*range(_FIRST_FREE, 0xE0000), *range(_LAST_FREE, 0x110000)]
    runs = tokens.tokenized(ops, tokenexp=f"{_class(within_runs)}+")
    rows = ops.add("Shape", runs, start=0, end=1)
    characters = tokens.tokenized(ops, ops.reshape(runs, [-1]), separators=[""])
    # Of most characters every one is another unknown one, or in ASCII none at all.
    if model.strip_accents == "ascii":
        default, others = [tokens.REMOVED], {character: text for character, text in made.items() if text}
    else:
        default = [tokens.UNKNOWN]
        others = {character: text for character, text in made.items() if len(text) != 1 or text in numbers}
    kept = {character: numbered(text) for character, text in others.items() if character not in parting}
    kept = {character: found for character, found in kept.items() if (found or [tokens.REMOVED]) != default}
    places = []
    for place in range(max(map(len, kept.values()), default=1) or 1):
        fallback = default[0] if place == 0 else tokens.REMOVED
        keys = {
            character: (found[place] if place < len(found) else tokens.REMOVED) for character, found in kept.items()
        }
        keys = {character: number for character, number in keys.items() if number != fallback}
        places.append(
            tokens.encoded(
                ops, characters, {**keys, tokens.PAD[0]: tokens.BREAK, tokens.PAD: tokens.BREAK}, unknown=fallback
            )
        )
    every = places[0] if len(places) == 1 else tokens.interleaved(ops, places)
    ended = ops.add("Pad", every, [0, 0, 0, 1], _whole(tokens.BREAK))
    shape = ops.add("Concat", rows, [-1], axis=0)
    line = tokens.without_removed(ops, ops.add("Reshape", ended, shape))
    word = ops.cast(ops.add("Greater", line, _whole(tokens.REMOVED)), _INT64)
    before, after = (ops.cast(tokens.shifted(ops, word, by, 0), _BOOL) for by in (1, -1))
    is_word = ops.cast(word, _BOOL)
    starts = ops.add("And", is_word, ops.add("Not", before))
    ends = ops.add("And", is_word, ops.add("Not", after))
    if words.shortest > 1:
        is_word, starts, ends = _long(ops, is_word, starts, ends, words.shortest)
    removed = _whole(tokens.REMOVED)
    parts = [
        ops.add("Where", starts, _whole(mark), removed),
        ops.add("Where", is_word, line, removed),
        ops.add("Where", ends, _whole(mark), removed),
    ]
    known = [[n for w in term for n in (mark, *(numbers[part] for part in w), mark)] for term in terms]
    return tokens.without_removed(ops, tokens.interleaved(ops, parts)), known


def _long(ops: Ops, is_word: str, starts: str, ends: str, shortest: int) -> tuple[str, str, str]:
    """Without the words that are shorter."""
    if shortest > 2:
        raise ConversionError(
            f"a token_pattern of words of at least {shortest} characters is not converted",
            hint=r"use the default token_pattern, r'(?u)\b\w+\b', or a class with '+'",
        )
    single = ops.add("And", starts, ends)
    keep = ops.add("Not", single)
    return tuple(ops.add("And", flags, keep) for flags in (is_word, starts, ends))  # type: ignore[return-value]


def _class(codes: Iterable[int]) -> str:
    """Characters as a class of a regular expression."""
    ranges: list[list[int]] = []
    for code in sorted(set(codes)):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return "[" + "".join(f"\\x{{{first:x}}}-\\x{{{last:x}}}" for first, last in ranges) + "]"


def _whole(value: int) -> Any:
    import numpy as np

    return np.array(value, dtype=np.int64)


_INT64, _BOOL = 7, 9  # TensorProto's
