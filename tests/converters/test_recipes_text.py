"""Words and characters are counted as scikit-learn does, in every script and without a locale but C.UTF-8."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import joblib
import numpy as np
import onnxruntime as ort
import pytest
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfTransformer, TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, make_pipeline

from converters import Options
from converters.sklearn.convert import convert
from edgepack.errors import ConversionError
from tests.converters.support.predictor_answers import to_onnx
from tests.converters.support.transformer_answers import require_same_matrix, require_same_texts

WORDS = [
    *("été", "naïve", "Straße", "iPhone", "the", "a", "of", "cat", "dog", "istanbul", "stanbul", "don't", "x_1", "½n"),
    *("北京", "Москва", "ПРИВЕТ", "привет", "hello", "HELLO", "über"),
]
GAPS = [" ", "  ", "\n", "\t \n", ", ", ". ", "-", "\xa0", "'"]
# Letters that lower case makes longer, marks that are no letters, letters beyond 16 bits.
CHARACTERS = list("abcİIıéÉ ß\n  \t½²_1-'\u0307\u0301\u200d北𝔸𐐀𐐨ǅ")


def texts() -> list[str]:
    choose = np.random.default_rng(0)
    gapped = [word + gap for word in WORDS for gap in GAPS]
    sentences = ["".join(choose.choice(gapped, size)) for size in choose.integers(0, 20, 60)]
    jumbles = ["".join(choose.choice(CHARACTERS, size)) for size in choose.integers(1, 40, 120)]
    special = ["", "   ", " a ", "İSTANBUL istanbul İ Aİb", "a\x1cb\x85c", "ﬁ ﬂ DŽ ǅ"]
    return [str(text) for text in (*sentences, *special, *jumbles)]


TEXTS = texts()

OPTIONS: list[dict[str, Any]] = [
    {},
    {"ngram_range": (1, 3)},
    {"ngram_range": (2, 2), "binary": True},
    {"stop_words": ["the", "a", "of", "été"], "ngram_range": (1, 2)},
    {"stop_words": "english"},
    {"lowercase": False},
    {"token_pattern": r"(?u)\b\w+\b", "min_df": 2},
    {"max_features": 20, "ngram_range": (1, 2)},
    {"vocabulary": ["cat", "dog", "hello hello", "zz"], "ngram_range": (1, 1)},
    {"analyzer": "char"},
    {"analyzer": "char", "ngram_range": (1, 3)},
    {"analyzer": "char", "ngram_range": (2, 4), "lowercase": False},
    {"analyzer": "char_wb", "ngram_range": (1, 3)},
    {"analyzer": "char_wb", "ngram_range": (4, 6)},
    {"analyzer": "char_wb", "ngram_range": (3, 3), "lowercase": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_counts_of_words_and_characters(options: dict[str, Any]) -> None:
    require_same_texts(CountVectorizer(**options).fit(TEXTS[::2]), TEXTS)


@pytest.mark.parametrize(
    "options",
    [{}, {"sublinear_tf": True, "ngram_range": (1, 2)}, {"norm": "l1"}, {"norm": None, "use_idf": False}],
    ids=str,
)
def test_weights_of_words(options: dict[str, Any]) -> None:
    require_same_texts(TfidfVectorizer(**options).fit(TEXTS), TEXTS)


@pytest.mark.parametrize("analyzer", ["word", "char", "char_wb"])
def test_texts_without_a_token_count_nothing(analyzer: str) -> None:
    require_same_texts(CountVectorizer(analyzer=analyzer).fit(TEXTS), ["", "", ""])


@pytest.mark.parametrize("options", [{}, {"sublinear_tf": True}, {"norm": "l1"}, {"use_idf": False}], ids=str)
def test_counts_of_nothing_weigh_nothing(options: dict[str, Any]) -> None:
    counts = np.random.default_rng(0).poisson(1.0, (30, 5)).astype(float)
    counts[3] = 0
    require_same_matrix(TfidfTransformer(**options).fit(counts), counts)


def test_every_letter_is_lowered_as_python_does() -> None:
    letters = [chr(code) for code in (*range(0xD800), *range(0xE000, 0x20000)) if chr(code).isalpha()]
    pairs = [f"x{letter}y" for letter in letters if letter not in "Σσς"]
    rows = [" ".join(pairs[start : start + 2000]) for start in range(0, len(pairs), 2000)]
    require_same_texts(CountVectorizer(max_features=4000).fit([row.lower() for row in rows]), rows)


ACCENTED = [
    *("Café CAFE cafe\u0301", "naïve ½ ﬁne", "ＦＵＬＬ width", "한국 hangul 中a", "㏂ x㎯y \U00050000 a\U000e0101b"),
    *("Ö o\u0308 ø İ", "Straße STRASSE"),
]


@pytest.mark.parametrize(
    "options",
    [
        {"strip_accents": "unicode"},
        {"strip_accents": "ascii"},
        {"strip_accents": "unicode", "ngram_range": (1, 2), "token_pattern": r"(?u)\b\w+\b"},
        {"strip_accents": "ascii", "lowercase": False, "binary": True},
        {"strip_accents": "unicode", "stop_words": ["the", "cafe"]},
        {"token_pattern": r"[a-z]+"},
        {"token_pattern": r"[a-zA-Z0-9_]{2,}", "lowercase": False, "ngram_range": (1, 2)},
        {"token_pattern": r"\S+"},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_words_without_accents_and_of_other_characters(options: dict[str, Any]) -> None:
    every = [*ACCENTED, *TEXTS]
    require_same_texts(CountVectorizer(**options).fit(every[::2]), every)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"strip_accents": "ascii", "analyzer": "char"}, "strip_accents"),
        ({"strip_accents": str.upper}, "strip_accents"),
        ({"tokenizer": str.split, "token_pattern": None}, "tokenizer"),
        ({"preprocessor": str.lower}, "preprocessor"),
        ({"analyzer": str.split}, "analyzer"),
        ({"token_pattern": "[a-z]+(?:-[a-z]+)*"}, "token_pattern"),
    ],
    ids=str,
)
def test_what_has_no_exact_form_is_refused_by_name(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConversionError, match=named):
        require_same_texts(CountVectorizer(**options).fit(TEXTS), TEXTS)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"norm": "l1"},
        {"norm": None},
        {"norm": None, "alternate_sign": False},
        {"n_features": 2, "binary": True, "norm": None},
        {"n_features": 1},
        {"lowercase": False},
        {"stop_words": ["the", "a", "été"], "token_pattern": r"(?u)\b\w+\b"},
    ],
    ids=str,
)
def test_hashes_of_words(options: dict[str, Any]) -> None:
    long = ["x" * 50_000 + " the cat", "again " * 300, "\U0001d518\U0001d52b ab abc abcd abcde"]
    require_same_texts(HashingVectorizer(**{"n_features": 97, **options}), [*TEXTS, *ACCENTED, *long])


def test_hashes_of_every_letter_in_lower_case() -> None:
    letters = [chr(code) for code in (*range(0xD800), *range(0xE000, 0x20000)) if chr(code).isalpha()]
    pairs = [f"x{letter}y" for letter in letters if letter != "\u03a3"]
    rows = [" ".join(pairs[start : start + 500]) for start in range(0, len(pairs), 500)]
    require_same_texts(HashingVectorizer(n_features=4099, norm=None), rows)


def test_hashes_of_texts_whose_capital_sigma_may_be_the_last_letter_are_not_answered() -> None:
    from skl2onnx.common.data_types import StringTensorType

    model = HashingVectorizer(n_features=4099, norm=None, token_pattern=r"(?u)\b\w+\b")
    session = to_onnx(model, [("X", StringTensorType([None, 1]))])
    for last in ("ΟΔΟΣ", "ΟΔΟΣ.", "ΟΔΟΣ Α", "ΟΔΟΣ'Α", "Σ", "ΑΣ\u0345Α", "ΑΣ1"):
        with pytest.raises(ConversionError):
            session.run({"X": np.array([["plain"], [last]], object)})
    inside = ["ΣΟΦΙΑ ΑΣΑ", "οδος", "ΑΣα x", "\u0345ΣΑ.ΣΑ", "ΣςΣά ΑΣὰ"]
    require_same_texts(model, inside)
    require_same_texts(HashingVectorizer(n_features=16, lowercase=False), ["ΟΔΟΣ", "οδος"])


@pytest.mark.parametrize(
    ("options", "way_out"),
    [
        ({}, "n_features=4096"),
        ({"n_features": 16, "ngram_range": (1, 2)}, "TfidfVectorizer"),
        ({"n_features": 16, "analyzer": "char"}, "TfidfVectorizer"),
        ({"n_features": 16, "strip_accents": "unicode"}, "strip_accents=None"),
    ],
    ids=str,
)
def test_hashes_without_a_practical_form_are_refused(options: dict[str, Any], way_out: str) -> None:
    with pytest.raises(ConversionError, match="HashingVectorizer") as caught:
        require_same_texts(HashingVectorizer(**options), TEXTS)
    assert way_out in (caught.value.hint or "")


def test_greek_in_lower_case_is_refused_for_its_final_sigma() -> None:
    with pytest.raises(ConversionError, match="sigma"):
        require_same_texts(CountVectorizer().fit(["οδος"]), ["ΟΔΟΣ"])
    require_same_texts(CountVectorizer(lowercase=False).fit(["οδος ΟΔΟΣ"]), ["ΟΔΟΣ", "οδος"])


@pytest.mark.parametrize("second", [CountVectorizer(analyzer="char", ngram_range=(1, 2)), "drop"])
def test_a_union_of_vectorizers_takes_texts(second: Any, tmp_path: Path) -> None:
    texts = ["red cat", "blue dog", "green cat", "red dog"] * 10
    union = FeatureUnion([("words", make_pipeline(CountVectorizer(), TfidfTransformer())), ("second", second)])
    model = make_pipeline(union, LogisticRegression()).fit(texts, [0, 1, 1, 0] * 10)
    joblib.dump(model, tmp_path / "m.joblib")
    converted = convert(tmp_path / "m.joblib", "sha256:" + "0" * 64, Options())
    (name,) = [entry["graph_name"] for entry in converted.manifest["inputs"]]
    rows = [*texts[:4], "a new blue cat", "Dog"]
    (found,) = ort.InferenceSession(converted.model).run(["probabilities"], {name: np.array(rows, object)[:, None]})
    assert found == pytest.approx(model.predict_proba(rows), abs=1e-5)
