"""What a case of the support matrix is, and the data that the cases are fitted on.

Training and test rows come from one seeded generator, so that every run of the matrix judges the same models.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

TRAIN_ROWS = 300
TEST_ROWS = 400
FEATURES = 6
SEED = 20_240_601


@dataclass(frozen=True)
class Fitted:
    """A fitted original with the rows that it is judged on.

    ``rows`` and ``boundary`` are what its methods take: a float64 matrix, a data frame, or a list of texts.
    ``boundary`` holds rows on and one unit in the last place beside whatever the model decides by.
    """

    model: Any
    rows: Any
    boundary: Any


@dataclass(frozen=True)
class Case:
    """One line of the matrix.

    ``name`` is unique; ``family`` names the table of the page; ``fit`` trains the model. ``estimator`` is the class
    of scikit-learn that the case answers for in the count of all estimators, None for a further case.
    """

    name: str
    family: str
    fit: Callable[[], Fitted | Made]
    estimator: str | None = None
    kind: str = ""


@dataclass(frozen=True)
class Made:
    """A model file on disk with its rows and answers, made in this process or in another environment.

    ``answers`` maps a method to what the original answers on all rows, in order; a list of arrays where it has
    several outputs. ``clean`` of the rows come first, the rest are boundary rows. Models of named tensors have
    ``batches`` instead, each with the arrays ``in`` and ``out`` by name. ``refusable`` models are to be refused.
    ``ask`` answers a batch by itself, where the original's answer to a row depends on the other rows of the batch.
    """

    path: Path
    framework: str
    rows: Any
    clean: int
    answers: Mapping[str, Any]
    required: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    batches: tuple[Mapping[str, Any], ...] = ()
    refusable: bool = False
    ask: Callable[[Any], Mapping[str, Any]] | None = None


@dataclass(frozen=True)
class Data:
    """Rows of one kind: train and test matrices, with a target for each way to learn."""

    train: Any
    test: Any
    classes: Any
    binary: Any
    number: Any
    positive: Any

    @property
    def several_numbers(self) -> Any:
        """Three targets to regress on, shape (rows, 3)."""
        return np.column_stack([self.number, self.number[::-1] * 0.5 + self.train[:, 0], self.positive])

    @property
    def several_classes(self) -> Any:
        """Two targets to classify, of three and two classes, shape (rows, 2)."""
        return np.column_stack([self.classes, self.binary])

    @property
    def several_flags(self) -> Any:
        """Three flags, shape (rows, 3)."""
        return np.column_stack([self.binary, (self.train[:, 1] > 0).astype(np.int64), (self.classes == 2).astype(int)])


@cache
def numbers() -> Data:
    """Six correlated features of mixed scale, float64."""
    random = np.random.default_rng(SEED)
    latent = random.standard_normal((TRAIN_ROWS + TEST_ROWS, FEATURES))
    mixing = random.standard_normal((FEATURES, FEATURES)) * 0.4 + np.eye(FEATURES)
    scale = np.array([1.0, 3.0, 0.5, 1.0, 2.0, 1.0])
    matrix = (latent @ mixing + np.array([0.0, 1.0, 0.0, -2.0, 0.5, 0.0])) * scale
    return _with_targets(matrix, latent, random)


@cache
def positives() -> Data:
    """Non-negative features."""
    data = numbers()
    random = np.random.default_rng(SEED)
    every = np.exp(np.vstack([data.train, data.test]) * 0.3)
    return _with_targets(every, np.log(every), random)


@cache
def counts() -> Data:
    """Whole non-negative numbers, as float64."""
    data = positives()
    random = np.random.default_rng(SEED)
    every = np.floor(np.vstack([data.train, data.test]) * 2)
    return _with_targets(every, every - every.mean(axis=0), random)


@cache
def categories() -> Data:
    """Codes 0 to 3 in every feature, all of them in training, as float64."""
    random = np.random.default_rng(SEED)
    every = random.integers(0, 4, (TRAIN_ROWS + TEST_ROWS, FEATURES)).astype(np.float64)
    every[:4] = np.arange(4.0)[:, None]
    return _with_targets(every, every - 1.5, random)


@cache
def with_missing() -> Data:
    """The numbers with a tenth of the values missing in the first three features."""
    data = numbers()
    random = np.random.default_rng(SEED + 1)
    train, test = data.train.copy(), data.test.copy()
    for matrix in (train, test):
        holes = random.random((len(matrix), 3)) < 0.1
        matrix[:, :3][holes] = np.nan
    return Data(train, test, data.classes, data.binary, data.number, data.positive)


def rounded(data: Data) -> Data:
    """The same rows as float32 holds them, still as float64."""
    train, test = (matrix.astype(np.float32).astype(np.float64) for matrix in (data.train, data.test))
    return Data(train, test, data.classes, data.binary, data.number, data.positive)


@cache
def fine() -> Data:
    """Features that only float64 tells apart: a timestamp, a large identifier, a price, a ratio, two plain ones."""
    random = np.random.default_rng(SEED + 2)
    rows = TRAIN_ROWS + TEST_ROWS
    latent = random.standard_normal((rows, FEATURES))
    matrix = np.column_stack(
        [
            1.7e9 + latent[:, 0] * 40.0,
            np.floor(1e12 + latent[:, 1] * 5e4),
            np.round(np.exp(latent[:, 2]) * 100, 2),
            random.random(rows) / 3,
            latent[:, 4],
            latent[:, 5] * 1e-3,
        ]
    )
    return _with_targets(matrix, latent, random)


def _with_targets(matrix: Any, latent: Any, random: Any) -> Data:
    latent = (latent - latent.mean(axis=0)) / latent.std(axis=0)
    noise = random.standard_normal(len(matrix)) * 0.3
    signal = latent[:, 0] + 0.7 * latent[:, 1] * latent[:, 2] - 0.5 * np.abs(latent[:, 3]) + noise
    signal = signal[:TRAIN_ROWS]
    low, high = np.quantile(signal, [0.35, 0.7])
    return Data(
        train=matrix[:TRAIN_ROWS],
        test=matrix[TRAIN_ROWS:],
        classes=((signal > low).astype(np.int64) + (signal > high)),
        binary=(signal > np.median(signal)).astype(np.int64),
        number=signal * 10 + 3,
        positive=np.exp(signal * 0.5),
    )


@cache
def texts() -> tuple[list[str], list[str], Any]:
    """Short plain texts: to train on, to test on, and the class of each that is trained on."""
    random = np.random.default_rng(SEED)
    words = (
        "red green blue fast slow engine wheel door window price cheap dear old new the a of and with it's e-mail 42"
    )
    vocabulary = np.array(words.split())

    def sentence(topic: int) -> str:
        weights = np.ones(len(vocabulary))
        weights[topic * 5 : topic * 5 + 5] = 6
        return " ".join(random.choice(vocabulary, random.integers(4, 14), p=weights / weights.sum()))

    topics = random.integers(0, 3, TRAIN_ROWS + TEST_ROWS)
    every = [sentence(int(topic)) for topic in topics]
    return every[:TRAIN_ROWS], every[TRAIN_ROWS:], topics[:TRAIN_ROWS]


def words_table(rows: int, seed: int = SEED) -> Any:
    """Text categories in three columns, shape (rows, 3), dtype object."""
    random = np.random.default_rng(seed)
    choices = (["red", "green", "blue"], ["Bonn", "Köln", "Ulm", "Aachen"], ["S", "M", "L"])
    return np.column_stack([random.choice(np.array(names, dtype=object), rows) for names in choices])
