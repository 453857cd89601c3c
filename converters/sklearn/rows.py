"""Generated rows: inputs like those a model was trained on, and the hard ones, as far as the fitted model shows.

Each maker is a function from what is known to a ``Table``; the same model always gets the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from converters.proof.samples import Table
from converters.sklearn.training_columns import Column

GENERATED_ROWS = 512
EDGE_ROWS = 1200
SEED = 20_240_517
UNSEEN_SHARE = 0.1
UNSEEN_TEXT = "unseen elsewhere"
TEXT_WORDS = 12


def candidates(trained: Sequence[Column], names: tuple[str, ...]) -> Iterator[Table]:
    """Rows to try on a model, the likeliest first: from the known ranges, then only such as a strict model accepts.

    Last come rows without unknown categories and missing texts: a part inside may refuse what is made of these.
    """
    for known in (trained, [replace(column, closed=True, gone=False) for column in trained]):
        table = generate(known, names)
        yield table
        if any(column.least is not None for column in trained):
            yield _limited(table, trained)
        yield _numbers(table, abs)
        yield _numbers(table, lambda column: abs(column) / (abs(column).max() or 1.0))
        yield _numbers(table, lambda column: abs(column).round())
        if not any(column.categories for column in trained):
            return


def generate(trained: Sequence[Column], names: tuple[str, ...]) -> Table:
    """Rows drawn evenly from the range that is known of each column; standard normal where none is."""
    import numpy as np

    random = np.random.default_rng(SEED)
    return Table(names, tuple(_column(column, random) for column in trained))


def _column(trained: Column, random: Any) -> Any:
    import numpy as np

    normal, even = random.standard_normal(GENERATED_ROWS), random.random(GENERATED_ROWS)
    if trained.words:
        return _texts(trained.words, random)
    if trained.categories:
        return _drawn(trained, random)
    if trained.low is None or trained.high is None:
        return normal
    if trained.whole:
        return np.asarray(np.round(trained.low - 1 + even * (trained.high - trained.low + 2)))
    margin = (trained.high - trained.low) * 0.1 or max(abs(trained.low), 1.0) * 0.5
    low = trained.low - margin
    if trained.low >= 0:  # a column of amounts or counts
        low = max(low, 0.0)
    return np.asarray(low + even * (trained.high + margin - low))


def _drawn(trained: Column, random: Any) -> Any:
    """Categories, and now and then an unseen one, or a missing text where some were missing in training."""
    import numpy as np

    values: list[Any] = list(trained.categories)
    text = trained.is_text
    if not trained.closed:
        values.append(UNSEEN_TEXT if text else max(values) + 1)
    weights = np.ones(len(values))
    if not trained.closed and len(values) > 1:
        weights *= (1 - UNSEEN_SHARE) / (len(values) - 1)
        weights[-1] = UNSEEN_SHARE
    picked = [values[index] for index in random.choice(len(values), GENERATED_ROWS, p=weights / weights.sum())]
    if text:
        gone = random.random(GENERATED_ROWS) < (UNSEEN_SHARE if trained.gone else 0)
        texts = [None if missing else str(value) for value, missing in zip(picked, gone, strict=True)]
        return np.array(texts, dtype=object)
    return np.array(picked, dtype=np.float64 if any(isinstance(value, float) for value in values) else np.int64)


def _texts(words: Sequence[str], random: Any) -> Any:
    import numpy as np

    vocabulary = [*words, "unseen", "Elsewhere"]
    texts = []
    for _ in range(GENERATED_ROWS):
        chosen = [vocabulary[index] for index in random.integers(0, len(vocabulary), random.integers(1, TEXT_WORDS))]
        texts.append(" ".join(word.upper() if random.random() < UNSEEN_SHARE else word for word in chosen))
    return np.array(texts, dtype=object)


def _limited(table: Table, trained: Sequence[Column]) -> Table:
    """The rows with numbers that are refused moved evenly to such that are not."""
    import numpy as np

    random = np.random.default_rng(SEED)
    for index, column in enumerate(trained):
        if column.least is None or column.most is None or table.columns[index].dtype.kind != "f":
            continue
        values = table.columns[index]
        inside = column.least + random.random(len(values)) * (column.most - column.least)
        beyond = (values < column.least) | (values > column.most)
        table = table.replaced(index, np.where(beyond, inside, values))
    return table


def _numbers(table: Table, change: Any) -> Table:
    columns = tuple(change(column) if column.dtype.kind == "f" else column for column in table.columns)
    return Table(table.names, columns)


def resample(sample: Table) -> Table:
    """Rows whose columns are drawn on their own from a sample: its values, and for fractions anything between."""
    import numpy as np

    random = np.random.default_rng(SEED)
    columns = []
    for column in sample.columns:
        drawn = column[random.integers(0, len(sample), GENERATED_ROWS)]
        if column.dtype.kind == "f" and np.isfinite(column).any():
            finite = column[np.isfinite(column)]
            even = finite.min() + random.random(GENERATED_ROWS) * (finite.max() - finite.min())
            drawn = np.where(random.random(GENERATED_ROWS) < 0.5, even, drawn)
        columns.append(drawn)
    return Table(sample.names, tuple(columns))


def edges(trained: Sequence[Column], base: Table) -> Table | None:
    """Rows of ``base`` with one cell moved onto a value at which the answer may jump, or one step beside it.

    A step is the next float64, and the next float32. None where no such value is known.
    """
    import numpy as np

    thresholds = [
        (index, threshold)
        for index, column in enumerate(trained)
        if base.columns[index].dtype.kind == "f"
        for threshold in dict.fromkeys(column.thresholds)
        if np.isfinite(threshold)
    ]
    if not thresholds:
        return None
    random = np.random.default_rng(SEED)
    if len(thresholds) > EDGE_ROWS:  # each gives several rows, of which a part is taken
        thresholds = [thresholds[index] for index in np.sort(random.choice(len(thresholds), EDGE_ROWS, replace=False))]
    cells = [(index, value) for index, threshold in thresholds for value in around(threshold)]
    if len(cells) > EDGE_ROWS:
        cells = [cells[index] for index in np.sort(random.choice(len(cells), EDGE_ROWS, replace=False))]
    table = base.take(random.integers(0, len(base), len(cells)))
    columns = [column.copy() for column in table.columns]
    for row, (index, value) in enumerate(cells):
        columns[index][row] = value
    return Table(base.names, tuple(columns))


def around(threshold: float) -> list[float]:
    """A value and its neighbours in float64 and float32, finite ones only."""
    import numpy as np

    with np.errstate(over="ignore"):
        single = np.float32(threshold)
    values = [
        threshold,
        np.nextafter(threshold, -np.inf),
        np.nextafter(threshold, np.inf),
        single,
        np.nextafter(single, np.float32(-np.inf)),
        np.nextafter(single, np.float32(np.inf)),
    ]
    return [float(value) for value in values if np.isfinite(value)]


def unseen(table: Table, index: int, trained: Column) -> Table:
    """Up to 16 of the rows with an unseen category in one column."""
    import numpy as np

    few = table.take(slice(0, 16))
    column = few.columns[index]
    value: Any = UNSEEN_TEXT if column.dtype.kind == "O" else max(trained.categories) + 1
    return few.replaced(index, np.full(len(few), value, dtype=column.dtype))


def missing(table: Table, index: int) -> Table:
    """Up to 16 of the rows without a text in one column."""
    import numpy as np

    few = table.take(slice(0, 16))
    return few.replaced(index, np.full(len(few), None, dtype=object))


def with_unusual_values(table: Table, value: float, only: Sequence[int] | None = None) -> Table | None:
    """Up to 64 of the rows with ``value`` in a tenth of the fractional cells, at least one a row; None if none are.

    ``only`` names the columns to change.
    """
    import numpy as np

    fractional = [
        index
        for index, column in enumerate(table.columns)
        if column.dtype.kind == "f" and (only is None or index in only)
    ]
    if not fractional:
        return None
    random = np.random.default_rng(SEED)
    unusual = table.take(slice(0, 64))
    chosen = random.random((len(unusual), len(fractional))) < 0.1
    chosen[np.arange(len(unusual)), random.integers(0, len(fractional), len(unusual))] = True
    for position, index in enumerate(fractional):
        unusual = unusual.replaced(index, np.where(chosen[:, position], value, unusual.columns[index]))
    return unusual
